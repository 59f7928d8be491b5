import type { GatewayCommand } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import { withdrawOffers } from '../packages/offer.js';

/** Why a session ends, as the device is told (GOAWAY). */
export type StopReason = Extract<GatewayCommand, { kind: 'stop_session' }>['reason'];

/** How gateways learn of it; tried again until Redis has the command (`live-state/`). */
export interface StopChannel {
  command(command: GatewayCommand): Promise<void>;
}

/** Which sessions: of a user, of a device, or one. */
export type StopScope = { userId: string } | { deviceId: string } | { sessionId: string };

/**
 * Stops active sessions: no more streams, their open offers are taken back; settlement completes them once every
 * meter is final. Returns the ids of those that were active; call `announceStops` with them after the commit.
 * `note` is what `stop_reason` keeps when it is more exact than the reason.
 */
export async function stopSessions(
  client: Queryable,
  scope: StopScope,
  reason: StopReason,
  note: string = reason,
): Promise<string[]> {
  const [column, id] =
    'userId' in scope
      ? ['user_id', scope.userId]
      : 'deviceId' in scope
        ? ['device_id', scope.deviceId]
        : ['id', scope.sessionId];
  const { rows } = await client.query<{ id: string }>(
    `UPDATE traffic_sessions SET status = 'stopping', stopped_at = now(), stop_reason = $2
     WHERE ${column} = $1 AND status = 'active' RETURNING id`,
    [id, note],
  );
  const ids = rows.map((row) => row.id);
  if (ids.length > 0) await withdrawOffers(client, ids);
  return ids;
}

/** Tells every gateway to close the tunnels of these sessions. */
export async function announceStops(
  live: StopChannel,
  sessionIds: readonly string[],
  reason: StopReason,
): Promise<void> {
  await Promise.all(sessionIds.map((sessionId) => live.command({ kind: 'stop_session', sessionId, reason })));
}
