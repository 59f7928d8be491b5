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
}

/** The worker that books from Redis into Postgres. `start()` it; `settleNow()` works without. */
export function createSettlement(options: SettlementOptions): SettlementWorker {
  const { pool, redis, clock, settings, onCompleted, onReleased } = options;
  return new SettlementWorker({
    ...options,
    inbox: redisMeterInbox(redis),
    book: (gatewayId, claims) =>
      withTransaction(pool, (client) => bookMeters(client, gatewayId, claims, settings())),
    async housekeeping() {
      const { holdMs, completionGraceMs } = settings();
      const cutoffMs = holdMs === 0 ? null : clock.nowMs() - holdMs;
      const released = await releaseHolds(pool, cutoffMs);
      if (released.length > 0) onReleased?.(released);
      await completeSessions(pool, redis, clock.nowMs() - completionGraceMs, onCompleted);
    },
  });
}
