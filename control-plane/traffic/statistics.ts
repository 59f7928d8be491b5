import { type Static, Type } from 'typebox';
import type { Queryable } from '../db/pool.js';
import { Bytes, jsonBytes, Money } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';

const figures = {
  bytes_up: Bytes,
  bytes_down: Bytes,
  bytes: Bytes,
  gb: Type.Number({ description: '10^9 bytes, for reading; count with bytes' }),
  sessions: Type.Integer({ description: 'traffic sessions started in this time' }),
  earned: Money,
};
export const FiguresSchema = Type.Object(figures);
export const PointSchema = Type.Object({
  from: Type.String({ format: 'date', description: 'first day, UTC' }),
  ...figures,
});

interface FiguresRow {
  bytes_up: bigint;
  bytes_down: bigint;
  earned_micros: bigint;
  sessions: number;
}

function figuresJson(row: FiguresRow): Static<typeof FiguresSchema> {
  const bytes = row.bytes_up + row.bytes_down;
  return {
    bytes_up: jsonBytes(row.bytes_up),
    bytes_down: jsonBytes(row.bytes_down),
    bytes: jsonBytes(bytes),
    gb: Number(bytes / 1_000n) / 1_000_000,
    sessions: row.sessions,
    earned: formatMicros(row.earned_micros),
  };
}

/**
 * Sums of buckets, each from its start to the next. `userId` null: of everyone. One person's few rows are read once and
 * matched with the buckets; everyone's many are read bucket by bucket, along the index of days.
 */
async function buckets(
  client: Queryable,
  userId: string | null,
  starts: readonly { from: string; until: string }[],
): Promise<FiguresRow[]> {
  const bounds = [starts.map((b) => b.from), starts.map((b) => b.until)];
  const { rows } = await client.query<FiguresRow>(
    userId === null
      ? { name: 'figures-of-all', text: FIGURES_OF_ALL, values: bounds }
      : { name: 'figures-of-one', text: FIGURES_OF_ONE, values: [...bounds, userId] },
  );
  return rows;
}

const FIGURES = `coalesce(u.bytes_up, 0)::bigint AS bytes_up, coalesce(u.bytes_down, 0)::bigint AS bytes_down,
         coalesce(u.earned_micros, 0)::bigint AS earned_micros, coalesce(s.sessions, 0)::int AS sessions`;
const SUMS = 'sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down, sum(earned_micros) AS earned_micros';

const FIGURES_OF_ALL = `
  SELECT ${FIGURES}
    FROM unnest($1::date[], $2::date[]) WITH ORDINALITY AS b (starts, ends, n)
    LEFT JOIN LATERAL (
      SELECT ${SUMS} FROM usage_daily_provider WHERE day >= b.starts AND day < b.ends) u ON true
    LEFT JOIN LATERAL (
      SELECT count(*) AS sessions FROM traffic_sessions
       WHERE started_at >= b.starts AND started_at < b.ends) s ON true
   ORDER BY b.n`;

const FIGURES_OF_ONE = `
  WITH b AS (SELECT * FROM unnest($1::date[], $2::date[]) WITH ORDINALITY AS b (starts, ends, n))
  SELECT ${FIGURES}
    FROM b
    LEFT JOIN (
      SELECT b.n, ${SUMS} FROM usage_daily_provider JOIN b ON day >= b.starts AND day < b.ends
       WHERE user_id = $3 GROUP BY b.n) u USING (n)
    LEFT JOIN (
      SELECT b.n, count(*) AS sessions FROM traffic_sessions
        JOIN b ON started_at >= b.starts AND started_at < b.ends
       WHERE user_id = $3 GROUP BY b.n) s USING (n)
   ORDER BY n`;

const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
const DAY_MS = 86_400_000;
const EVER = '2000-01-01';

/** First days of the periods that now lies in: the day, the week (from Monday) and the month, UTC. */
function periodStarts(nowMs: number) {
  const now = new Date(nowMs);
  const [year, month, date] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  const weekday = (now.getUTCDay() + 6) % 7;
  return {
    day: Date.UTC(year, month, date),
    week: Date.UTC(year, month, date - weekday),
    month: Date.UTC(year, month, 1),
  };
}

/** Today, this week, this month and all time (UTC). */
export async function summary(client: Queryable, userId: string | null, nowMs: number) {
  const starts = periodStarts(nowMs);
  const until = day(starts.day + DAY_MS);
  const rows = await buckets(client, userId, [
    { from: day(starts.day), until },
    { from: day(starts.week), until },
    { from: day(starts.month), until },
    { from: EVER, until },
  ]);
  const [today, week, month, all] = rows.map(figuresJson);
  if (!today || !week || !month || !all) throw new Error('a period is missing');
  return { day: today, week, month, all };
}

export type SeriesPeriod = 'daily' | 'weekly' | 'monthly';
/** Points of a series when not asked otherwise. */
export const POINTS_DEFAULT: Record<SeriesPeriod, number> = { daily: 30, weekly: 12, monthly: 12 };

/** The last `points` days, weeks or months up to the one now lies in, oldest first, without gaps. */
export async function series(
  client: Queryable,
  userId: string | null,
  period: SeriesPeriod,
  points: number,
  nowMs: number,
): Promise<Static<typeof PointSchema>[]> {
  const starts = periodStarts(nowMs);
  const startOf = (back: number): number => {
    if (period === 'daily') return starts.day - back * DAY_MS;
    if (period === 'weekly') return starts.week - back * 7 * DAY_MS;
    const month = new Date(starts.month);
    return Date.UTC(month.getUTCFullYear(), month.getUTCMonth() - back, 1);
  };
  const spans = Array.from({ length: points }, (_, i) => ({
    from: day(startOf(points - 1 - i)),
    until: day(startOf(points - 2 - i)),
  }));
  const rows = await buckets(client, userId, spans);
  return rows.map((row, i) => ({ from: spans[i]?.from ?? '', ...figuresJson(row) }));
}
