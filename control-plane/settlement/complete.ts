import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readPresence } from '../../gateway/live/presence.js';
import { withTransaction } from '../db/pool.js';
import { withdrawOffers } from '../packages/offer.js';

/** A session whose last byte is booked, as far as anyone knows. */
export interface CompletedSession {
  sessionId: string;
  userId: string;
  deviceId: string;
  bytesUp: bigint;
  bytesDown: bigint;
  earnedMicros: bigint;
}

const SESSIONS_PER_STEP = 500;

/**
 * Completes stopped sessions: every known meter FINAL or written off, stopped before `stoppedBeforeMs`, and the device's tunnel
 * gone or serving another session (a meter that never reported may still exist while the tunnel lives). Bytes that
 * come later all the same are booked to the completed session. `onCompleted` runs in the same transaction, for
 * messages that must not be lost.
 */
export async function completeSessions(
  pool: pg.Pool,
  redis: LiveRedis,
  stoppedBeforeMs: number,
  onCompleted?: (client: pg.PoolClient, sessions: readonly CompletedSession[]) => Promise<void>,
): Promise<CompletedSession[]> {
  const { rows: candidates } = await pool.query<{ id: string; device_id: string }>(
    `SELECT s.id, s.device_id FROM traffic_sessions s
      WHERE s.status = 'stopping' AND s.stopped_at <= $1
        AND NOT EXISTS (SELECT 1 FROM meters m WHERE m.session_id = s.id AND NOT m.final AND m.written_off_at IS NULL)
      ORDER BY s.stopped_at LIMIT ${SESSIONS_PER_STEP}`,
    [new Date(stoppedBeforeMs)],
  );
  const presences = await Promise.all(candidates.map((c) => readPresence(redis, c.device_id)));
  const gone = candidates.filter((c, i) => presences[i]?.sessionId !== c.id).map((c) => c.id);
  if (gone.length === 0) return [];
  return withTransaction(pool, async (client) => {
    await client.query(
      'SELECT 1 FROM traffic_sessions WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE',
      [gone],
    );
    // Asked again under the lock: a booking may have opened a meter in between.
    const { rows } = await client.query<{
      id: string;
      user_id: string;
      device_id: string;
      bytes_up: bigint;
      bytes_down: bigint;
      earned_micros: bigint;
    }>(
      `UPDATE traffic_sessions s SET status = 'completed', completed_at = now()
        WHERE s.id = ANY ($1::uuid[]) AND s.status = 'stopping'
          AND NOT EXISTS (SELECT 1 FROM meters m WHERE m.session_id = s.id AND NOT m.final AND m.written_off_at IS NULL)
      RETURNING s.id, s.user_id, s.device_id, s.bytes_up, s.bytes_down, s.earned_micros`,
      [gone],
    );
    await withdrawOffers(
      client,
      rows.map((r) => r.id),
    );
    const completed = rows.map((r) => ({
      sessionId: r.id,
      userId: r.user_id,
      deviceId: r.device_id,
      bytesUp: r.bytes_up,
      bytesDown: r.bytes_down,
      earnedMicros: r.earned_micros,
    }));
    if (completed.length > 0) await onCompleted?.(client, completed);
    return completed;
  });
}
