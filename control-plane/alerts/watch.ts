import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readGatewayPresences } from '../../gateway/live/presence.js';
import type { GatewayPresence } from '../../gateway/live/records.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { listUnsettled } from '../broadcasts/broadcasts.js';
import { formatMicros } from '../ledger/money.js';
import type { MoneyFigures, MoneyWatch } from '../reconciliation/figures.js';
import { type Condition, keepAlerts } from './alerts.js';

export interface AlertWatchDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  money: Pick<MoneyWatch, 'read'>;
  /** What else admins are warned of. */
  more?: { kinds: readonly string[]; find(): Promise<Condition[]> };
  /** Something was raised or is over: the outbox has messages. */
  onChange: (signal: AbortSignal) => Promise<unknown>;
  /** Pause between two looks, ms; default 10 s. */
  intervalMs?: number;
  /** A gateway that is away for this long, ms, without having said that it ends, is lost; default 30 s. */
  gatewayLostAfterMs?: number;
}

const INTERVAL_MS = 10_000;
const GATEWAY_LOST_AFTER_MS = 30_000;
/** A gateway that was lost and did not come back is not warned of for ever. */
const FORGOTTEN_AFTER_DAYS = 7;

const MONEY_KINDS = ['ledger_sum', 'books_off', 'overheld', 'books_flagged'] as const;
const GATEWAY_KIND = 'gateway_lost';
const BROADCAST_KIND = 'broadcast_unknown';

/** What is wrong with the money. */
export function moneyConditions(figures: MoneyFigures): Condition[] {
  const { accountsMicros, entries, overheldBuyers, flags } = figures;
  const sum = accountsMicros === 0n ? (entries?.totalMicros ?? 0n) : accountsMicros;
  const off = entries?.booksOffMicros ?? 0n;
  return [
    ...(sum === 0n
      ? []
      : [{ key: 'ledger_sum', detail: `The ledger sums to $${formatMicros(sum)}, not zero.` }]),
    ...(off === 0n
      ? []
      : [{ key: 'books_off', detail: `Meters and ledger differ by $${formatMicros(off)}.` }]),
    ...(overheldBuyers === 0
      ? []
      : [{ key: 'overheld', detail: 'More is held of some buyers than they have.' }]),
    ...(flags.books === 0
      ? []
      : [{ key: 'books_flagged', detail: 'Reconciliation found sessions whose books do not add up.' }]),
  ];
}

const broadcastCondition = (id: string): Condition => ({
  key: `${BROADCAST_KIND}:${id}`,
  detail:
    `Broadcast ${id}: of some recipients nobody knows whether Telegram sent it. Send it to them again or leave it, in the ` +
    'console under Broadcasts.',
});

/**
 * Looks every few seconds at what admins must be warned of: the money invariant, reconciliation's open flags of the
 * books, broadcasts that wait for a decision, gateways that are gone without having said so, and `more`. While Redis or
 * Postgres does not answer, what was known stays.
 */
export class AlertWatch {
  readonly #deps: AlertWatchDeps;
  readonly #job: Periodic;
  readonly #stop = new AbortController();
  /** Since when each known gateway is missing, as far as this process could look without a break. */
  readonly #missingSinceMs = new Map<string, number>();

  constructor(deps: AlertWatchDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.runOnce(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'alerts_not_looked_for'),
    });
  }

  start(): void {
    this.#job.start();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#job.stop();
  }

  /** One look; resolves to how many messages came of it. */
  async runOnce(): Promise<number> {
    const { pool, money, more, onChange } = this.#deps;
    const figures = await money.read();
    let changes = 0;
    if (figures !== null) changes += await keepAlerts(pool, MONEY_KINDS, moneyConditions(figures));
    const unsettled = await listUnsettled(pool);
    changes += await keepAlerts(pool, [BROADCAST_KIND], unsettled.map(broadcastCondition));
    if (more !== undefined) changes += await keepAlerts(pool, more.kinds, await more.find());
    const lost = await this.#lostGateways();
    if (lost !== null) changes += await keepAlerts(pool, [GATEWAY_KIND], lost);
    if (changes > 0) await onChange(this.#stop.signal);
    return changes;
  }

  /** Null: the live state can not be read. */
  async #lostGateways(): Promise<Condition[] | null> {
    const { redis } = this.#deps;
    let presences: GatewayPresence[];
    try {
      presences = await readGatewayPresences(redis);
    } catch {
      this.#missingSinceMs.clear(); // what was not seen may have been there
      return null;
    }
    return this.#judge(presences);
  }

  async #judge(presences: readonly GatewayPresence[]): Promise<Condition[]> {
    const { pool, clock, gatewayLostAfterMs = GATEWAY_LOST_AFTER_MS } = this.#deps;
    await pool.query(
      `INSERT INTO alert_gateways (gateway_id, draining) SELECT * FROM unnest($1::text[], $2::boolean[])
       ON CONFLICT (gateway_id) DO UPDATE SET draining = excluded.draining, seen_at = now()`,
      [presences.map((p) => p.gatewayId), presences.map((p) => p.draining)],
    );
    const here = presences.map((p) => p.gatewayId);
    await pool.query(
      `DELETE FROM alert_gateways WHERE gateway_id <> ALL ($1)
          AND (draining OR seen_at < now() - interval '${FORGOTTEN_AFTER_DAYS} days')`,
      [here],
    );
    const { rows } = await pool.query<{ gateway_id: string }>(
      'SELECT gateway_id FROM alert_gateways WHERE gateway_id <> ALL ($1) ORDER BY gateway_id',
      [here],
    );
    const missing = rows.map((row) => row.gateway_id);
    const nowMs = clock.monotonicMs();
    for (const id of this.#missingSinceMs.keys()) if (!missing.includes(id)) this.#missingSinceMs.delete(id);
    for (const id of missing) if (!this.#missingSinceMs.has(id)) this.#missingSinceMs.set(id, nowMs);
    const raised = await pool.query<{ key: string }>('SELECT key FROM admin_alerts WHERE key = ANY ($1)', [
      missing.map((id) => `${GATEWAY_KIND}:${id}`),
    ]);
    const known = new Set(raised.rows.map(({ key }) => key));
    return missing.flatMap((id) => {
      const key = `${GATEWAY_KIND}:${id}`;
      const awayMs = nowMs - (this.#missingSinceMs.get(id) ?? nowMs);
      // One that another process (or an earlier run) has found lost stays so.
      if (awayMs < gatewayLostAfterMs && !known.has(key)) return [];
      return [{ key, detail: `Gateway ${id} is gone without having said that it ends.` }];
    });
  }
}
