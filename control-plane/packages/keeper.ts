import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { Periodic } from '../../gateway/runtime/periodic.js';
import { withTransaction } from '../db/pool.js';
import type { LiveState } from '../live-state/live-state.js';
import { cleanUpStale, forgetAllocation } from './moves.js';
import { republishRoutes } from './routes.js';

export interface KeeperDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  live: Pick<LiveState, 'command'>;
  /** How long a pulled package may stay unused, ms. */
  pullTtlMs: number;
  /** What becomes of one that was not used in its time (setting `stale_packages_become`). */
  staleBecome: () => Promise<'available' | 'revoked'>;
  /** Pause between two rounds. Default 60 s. */
  intervalMs?: number;
}

const INTERVAL_MS = 60_000;

/**
 * Looks after pulled packages: one that carries traffic keeps its route and claim for another `pullTtlMs`, one that
 * was not used in its time is taken back, one whose traffic stopped for that long is over. The first every minute, the
 * rest by the job `cleanup`, which calls `runOnce`.
 */
export class PackageKeeper {
  readonly #deps: KeeperDeps;
  readonly #job: Periodic;

  constructor(deps: KeeperDeps) {
    this.#deps = deps;
    this.#job = new Periodic({
      run: () => this.#extend(),
      intervalMs: deps.intervalMs ?? INTERVAL_MS,
      onError: (error) => deps.log.warn({ err: error }, 'packages_not_kept'),
    });
  }

  start(): void {
    this.#job.start();
  }

  stop(): Promise<void> {
    return this.#job.stop();
  }

  async runOnce(): Promise<{ extended: number; takenBack: number }> {
    const extended = await this.#extend();
    return { extended, takenBack: await cleanUpAllStale(this.#deps, await this.#deps.staleBecome()) };
  }

  async #extend(): Promise<number> {
    const { pool, redis, clock, pullTtlMs } = this.#deps;
    const nowMs = clock.nowMs();
    const { rows } = await pool.query<{ id: string }>(
      `UPDATE allocations a SET expires_at = $1
        WHERE a.via = 'pull' AND a.status = 'in_progress' AND a.expires_at < $2
          AND EXISTS (SELECT 1 FROM meters m WHERE m.session_id = a.session_id AND m.allocation_id = a.id
                                               AND m.updated_at > $3)
      RETURNING a.id`,
      [new Date(nowMs + pullTtlMs), new Date(nowMs + pullTtlMs / 2), new Date(nowMs - pullTtlMs / 2)],
    );
    if (rows.length > 0)
      await republishRoutes(
        pool,
        redis,
        clock,
        rows.map((r) => r.id),
      );
    return rows.length;
  }
}

/** Every stale allocation, in steps; resolves to how many packages were taken back. */
export async function cleanUpAllStale(
  deps: Pick<KeeperDeps, 'pool' | 'redis' | 'clock' | 'live'>,
  to: 'available' | 'revoked',
): Promise<number> {
  let cleaned = 0;
  for (;;) {
    const step = await withTransaction(deps.pool, (client) => cleanUpStale(client, deps.clock.nowMs(), to));
    for (const ended of step.ended) await forgetAllocation(deps.redis, deps.live, ended);
    cleaned += step.ended.length;
    if (!step.more) return cleaned;
  }
}
