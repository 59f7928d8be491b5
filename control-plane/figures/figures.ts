import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import type { Job } from '../jobs/job.js';

/** A UTC day at a glance. Money is of what was booked that day. */
export interface DayFigures {
  day: string;
  new_users: bigint;
  new_buyers: bigint;
  active_providers: bigint;
  active_buyers: bigint;
  sessions_completed: bigint;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
  earned_micros: bigint;
  referral_micros: bigint;
  revenue_micros: bigint;
  topup_micros: bigint;
  payouts_completed: bigint;
  payout_micros: bigint;
}

const FIGURES = [
  'new_users',
  'new_buyers',
  'active_providers',
  'active_buyers',
  'sessions_completed',
  'bytes_up',
  'bytes_down',
  'charged_micros',
  'earned_micros',
  'referral_micros',
  'revenue_micros',
  'topup_micros',
  'payouts_completed',
  'payout_micros',
] as const satisfies readonly (keyof DayFigures)[];

/** Days that charts may show, so days that are filled in when they are missing. */
export const DAYS_MAX = 400;

/**
 * The day's figures from the record itself. Each part is found by an index over the day: users, buyers and payouts by
 * their times, sums of traffic by day, the ledger by its block ranges.
 */
export async function computeDay(db: Queryable, day: string): Promise<DayFigures> {
  const { rows } = await db.query<DayFigures>(
    `WITH bounds AS (
       SELECT $1::date AS day, $1::date::timestamp AT TIME ZONE 'UTC' AS since,
              ($1::date + 1)::timestamp AT TIME ZONE 'UTC' AS until),
     used AS (
       SELECT count(DISTINCT buyer_id) AS buyers, coalesce(sum(bytes_up), 0)::bigint AS up,
              coalesce(sum(bytes_down), 0)::bigint AS down
         FROM usage_daily_buyer WHERE day = $1::date AND bytes_up + bytes_down > 0),
     entries AS (
       SELECT coalesce(-sum(e.amount_micros) FILTER (WHERE e.kind = 'traffic_charge'), 0)::bigint AS charged,
              coalesce(sum(e.amount_micros) FILTER (WHERE e.kind = 'traffic_earning'), 0)::bigint AS earned,
              coalesce(sum(e.amount_micros) FILTER (WHERE e.kind = 'referral_bonus'), 0)::bigint AS referral,
              coalesce(sum(e.amount_micros) FILTER (
                WHERE e.account_id = (SELECT id FROM ledger_accounts WHERE kind = 'platform_revenue')), 0)::bigint
                AS revenue,
              coalesce(sum(e.amount_micros) FILTER (WHERE e.kind = 'topup' AND e.amount_micros > 0), 0)::bigint
                AS topup
         FROM ledger_entries e, bounds b WHERE e.created_at >= b.since AND e.created_at < b.until),
     paid AS (
       SELECT count(*) AS count, coalesce(sum(amount_micros), 0)::bigint AS micros FROM payouts p, bounds b
        WHERE p.ended_at >= b.since AND p.ended_at < b.until AND p.status = 'completed')
     SELECT b.day,
            (SELECT count(*) FROM users WHERE created_at >= b.since AND created_at < b.until) AS new_users,
            (SELECT count(*) FROM buyers WHERE created_at >= b.since AND created_at < b.until) AS new_buyers,
            (SELECT count(*) FROM usage_daily_provider WHERE day = b.day AND bytes_up + bytes_down > 0)
              AS active_providers,
            used.buyers AS active_buyers,
            (SELECT count(*) FROM traffic_sessions WHERE completed_at >= b.since AND completed_at < b.until)
              AS sessions_completed,
            used.up AS bytes_up, used.down AS bytes_down, entries.charged AS charged_micros,
            entries.earned AS earned_micros, entries.referral AS referral_micros, entries.revenue AS revenue_micros,
            entries.topup AS topup_micros, paid.count AS payouts_completed, paid.micros AS payout_micros
       FROM bounds b, used, entries, paid`,
    [day],
  );
  return rows[0] as DayFigures;
}

async function writeDay(db: Queryable, figures: DayFigures): Promise<void> {
  await db.query(
    `INSERT INTO daily_figures (day, ${FIGURES.join(', ')})
     VALUES ($1, ${FIGURES.map((_, i) => `$${i + 2}`).join(', ')})
     ON CONFLICT (day) DO UPDATE
       SET ${FIGURES.map((name) => `${name} = EXCLUDED.${name}`).join(', ')}, computed_at = now()`,
    [figures.day, ...FIGURES.map((name) => figures[name])],
  );
}

/**
 * Brings the table up to date: today and yesterday anew, days before that are missing (the first run, an outage) once.
 * Days are Postgres's, in UTC. Resolves to how many days were written.
 */
export async function materialiseDays(pool: pg.Pool, signal: AbortSignal): Promise<number> {
  const { rows } = await pool.query<{ day: string }>(
    `SELECT d::date AS day
       FROM generate_series(
              greatest((SELECT min(created_at) AT TIME ZONE 'UTC' FROM users)::date, utc_day() - ${DAYS_MAX}),
              utc_day(), interval '1 day') AS d
      WHERE d::date >= utc_day() - 1 OR NOT EXISTS (SELECT 1 FROM daily_figures f WHERE f.day = d::date)
      ORDER BY d DESC`,
  );
  for (const { day } of rows) {
    signal.throwIfAborted();
    await writeDay(pool, await computeDay(pool, day));
  }
  return rows.length;
}

/** How old today's figures may be where somebody looks at them, seconds. */
const TODAY_AGE_S_MAX = 60;

/**
 * What charts ask before they read days: adds up today anew when that is long ago, once for all who ask meanwhile. In an
 * hour between two runs of the job nobody would see what they do.
 */
export class Today {
  #underWay: Promise<void> | null = null;

  constructor(readonly pool: pg.Pool) {}

  async bringUpToDate(): Promise<void> {
    this.#underWay ??= this.#addUp().finally(() => {
      this.#underWay = null;
    });
    await this.#underWay;
  }

  async #addUp(): Promise<void> {
    const { rows } = await this.pool.query<{ day: string }>(
      `SELECT utc_day() AS day WHERE NOT EXISTS (
         SELECT 1 FROM daily_figures WHERE day = utc_day() AND computed_at > now() - make_interval(secs => $1))`,
      [TODAY_AGE_S_MAX],
    );
    for (const { day } of rows) await writeDay(this.pool, await computeDay(this.pool, day));
  }
}

/** The job `stats`. */
export function statsJob(pool: pg.Pool): Job {
  return {
    name: 'stats',
    description: 'Adds up the figures of the last two days, for charts and reports.',
    schedule: '7 * * * *',
    atStart: true,
    run: async ({ signal }) => ({ days: await materialiseDays(pool, signal) }),
  };
}

/** The last `days` days up to today, oldest first; a day that was not added up yet is all zero. */
export async function readDays(
  db: Queryable,
  days: number,
): Promise<(DayFigures & { computed_at: Date | null })[]> {
  const { rows } = await db.query<DayFigures & { computed_at: Date | null }>(
    `SELECT d::date AS day, f.computed_at, ${FIGURES.map((name) => `coalesce(f.${name}, 0) AS ${name}`).join(', ')}
       FROM generate_series(utc_day() - ($1::int - 1), utc_day(), interval '1 day') AS d
       LEFT JOIN daily_figures f ON f.day = d::date ORDER BY d`,
    [days],
  );
  return rows;
}

export interface CountryDay {
  day: string;
  country: string;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
}

/** Traffic by day and exit country of the last `days` days, oldest day first, busiest country first. */
export async function readCountryDays(db: Queryable, days: number): Promise<CountryDay[]> {
  const { rows } = await db.query<CountryDay>(
    `SELECT day, country, sum(bytes_up)::bigint AS bytes_up, sum(bytes_down)::bigint AS bytes_down,
            sum(charged_micros)::bigint AS charged_micros
       FROM usage_daily_buyer WHERE day > utc_day() - $1::int AND day <= utc_day()
      GROUP BY day, country ORDER BY day, sum(bytes_up + bytes_down) DESC, country`,
    [days],
  );
  return rows;
}

export interface BuyerDay {
  buyer_id: string;
  account: string;
  name: string;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
}

/** Each buyer's traffic of one day, busiest first. */
export async function readBuyersOfDay(db: Queryable, day: string): Promise<BuyerDay[]> {
  const { rows } = await db.query<BuyerDay>(
    `SELECT b.id AS buyer_id, b.account, b.name, u.bytes_up, u.bytes_down, u.charged_micros
       FROM (SELECT buyer_id, sum(bytes_up)::bigint AS bytes_up, sum(bytes_down)::bigint AS bytes_down,
                    sum(charged_micros)::bigint AS charged_micros
               FROM usage_daily_buyer WHERE day = $1::date GROUP BY buyer_id) u
       JOIN buyers b ON b.id = u.buyer_id
      ORDER BY u.bytes_up + u.bytes_down DESC, b.account`,
    [day],
  );
  return rows;
}

export interface Totals {
  users: bigint;
  users_banned: bigint;
  buyers: bigint;
  buyers_active: bigint;
  devices: bigint;
  sessions_active: bigint;
  payouts_pending: bigint;
  payouts_pending_micros: bigint;
  flags_open: bigint;
  today: string;
}

/** How things stand now. */
export async function readTotals(db: Queryable): Promise<Totals> {
  const { rows } = await db.query<Totals>(
    `SELECT u.users, u.banned AS users_banned, b.buyers, b.active AS buyers_active,
            (SELECT count(*) FROM devices WHERE removed_at IS NULL) AS devices,
            (SELECT count(*) FROM traffic_sessions WHERE status = 'active') AS sessions_active,
            p.count AS payouts_pending, p.micros AS payouts_pending_micros,
            (SELECT count(*) FROM reconciliation_flags WHERE resolved_at IS NULL) AS flags_open, utc_day() AS today
       FROM (SELECT count(*) FILTER (WHERE status <> 'deleted') AS users,
                    count(*) FILTER (WHERE status = 'banned') AS banned FROM users) u,
            (SELECT count(*) FILTER (WHERE status <> 'closed') AS buyers,
                    count(*) FILTER (WHERE status = 'active') AS active FROM buyers) b,
            (SELECT count(*), coalesce(sum(amount_micros), 0)::bigint AS micros FROM payouts
              WHERE status IN ('pending', 'processing')) p`,
  );
  return rows[0] as Totals;
}
