import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { withTransaction } from '../db/pool.js';
import { bookMeters } from './book.js';
import { type CompletedSession, completeSessions } from './complete.js';
import { redisMeterInbox } from './inbox.js';
import { releaseHolds } from './release.js';
import { type SettlementDeps, SettlementWorker } from './worker.js';

/** What settlement over Postgres and Redis needs. */
export interface SettlementOptions extends Omit<SettlementDeps, 'inbox' | 'book' | 'housekeeping'> {
  pool: pg.Pool;
  redis: LiveRedis;
  /** In the transaction that completes sessions. */
  onCompleted?: (client: pg.PoolClient, sessions: readonly CompletedSession[]) => Promise<void>;
  /** After a commit: providers some of whose earnings became available. Must not throw. */
  onReleased?: (providerIds: readonly string[]) => void;
  /**
   * The time that holds and sessions go by, ms since the epoch. Default: Postgres's own, which wrote the times they are
   * compared with: a clock of this machine that jumps must not release earnings early.
   */
  recordNowMs?: () => Promise<number>;
}

/** The worker that books from Redis into Postgres. `start()` it; `settleNow()` works without. */
export function createSettlement(options: SettlementOptions): SettlementWorker {
  const { pool, redis, settings, onCompleted, onReleased, recordNowMs = () => postgresNowMs(pool) } = options;
  return new SettlementWorker({
    ...options,
    inbox: redisMeterInbox(redis),
    book: (gatewayId, claims) =>
      withTransaction(pool, (client) => bookMeters(client, gatewayId, claims, settings())),
    async housekeeping() {
      const { holdMs, completionGraceMs } = settings();
      const nowMs = await recordNowMs();
      const released = await releaseHolds(pool, holdMs === 0 ? null : nowMs - holdMs);
      if (released.length > 0) onReleased?.(released);
      await completeSessions(pool, redis, nowMs - completionGraceMs, onCompleted);
    },
  });
}

async function postgresNowMs(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ ms: string }>('SELECT extract(epoch FROM now()) * 1000 AS ms');
  return Math.floor(Number(rows[0]?.ms));
}
