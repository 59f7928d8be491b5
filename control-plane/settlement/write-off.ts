import { recordAudit } from '../audit/audit.js';
import type { Queryable } from '../db/pool.js';
import { closeHoldsOfRun } from '../wallets/wallets.js';

/** Which meters of a gateway: one run of it, one epoch, or what it counted for one traffic session. */
export type WriteOffScope = { gatewayId: string } & (
  | { run: string }
  | { epoch: string }
  | { sessionId: string }
);

export interface WrittenOff {
  /** Meters given up now; those given up before are not counted again. */
  meters: number;
  /** Traffic sessions they belong to: nothing keeps them from completing any more. */
  sessions: number;
  /** Wallet holds given back because no meter of their run is left open. */
  holdsClosed: number;
}

/** The condition on `meters m`, and its parameter $2; $1 is the gateway. */
function conditionOf(scope: WriteOffScope): { sql: string; value: string } {
  if ('run' in scope) return { sql: 'left(m.epoch, 24) = $2', value: scope.run };
  if ('epoch' in scope) return { sql: 'm.epoch = $2', value: scope.epoch };
  return { sql: 'm.session_id = $2::uuid', value: scope.sessionId };
}

const OPEN = 'm.gateway_id = $1 AND NOT m.final AND m.written_off_at IS NULL';

/** Runs (the first 24 digits of an epoch) that have open meters in the scope; the run itself when it is the scope. */
export async function runsOf(client: Queryable, scope: WriteOffScope): Promise<string[]> {
  const { sql, value } = conditionOf(scope);
  const { rows } = await client.query<{ run: string }>(
    `SELECT DISTINCT left(m.epoch, 24) AS run FROM meters m WHERE ${OPEN} AND ${sql} ORDER BY run`,
    [scope.gatewayId, value],
  );
  const runs = rows.map((r) => r.run);
  return 'run' in scope && runs.length === 0 ? [scope.run] : runs;
}

/**
 * Gives up waiting for the FINAL of meters whose gateway is lost. Their sessions may complete, and the holds of a run
 * without open meters are given back. Nothing that is booked changes, and bytes that come all the same are booked
 * (`bytes_after_write_off`). May be repeated. The caller makes sure that the run is over: a living run would go on
 * spending what is given back here.
 */
export async function writeOffMeters(
  client: Queryable,
  scope: WriteOffScope,
  adminId: string,
  reason: string,
  context: { ip?: string | null; requestId?: string | null } = {},
): Promise<WrittenOff> {
  const { sql, value } = conditionOf(scope);
  const runs = await runsOf(client, scope);
  // Meters are written only under the locks of their sessions.
  const { rows: sessions } = await client.query<{ id: string }>(
    `SELECT s.id FROM traffic_sessions s
      WHERE s.id IN (SELECT m.session_id FROM meters m WHERE ${OPEN} AND ${sql})
      ORDER BY s.id FOR NO KEY UPDATE`,
    [scope.gatewayId, value],
  );
  const { rows: meters } = await client.query<{ session_id: string }>(
    `UPDATE meters m SET written_off_at = now(), written_off_by = $3
      WHERE ${OPEN} AND ${sql} AND m.session_id = ANY ($4::uuid[]) RETURNING m.session_id`,
    [scope.gatewayId, value, adminId, sessions.map((s) => s.id)],
  );
  let holdsClosed = 0;
  for (const run of runs) holdsClosed += await closeHoldsOfRun(client, scope.gatewayId, run);
  const result: WrittenOff = {
    meters: meters.length,
    sessions: new Set(meters.map((m) => m.session_id)).size,
    holdsClosed,
  };
  await recordAudit(client, {
    actor: { role: 'admin', userId: adminId, loginId: '' },
    action: 'meters_written_off',
    objectType: 'gateway',
    objectId: scope.gatewayId,
    after: { ...scope, reason, runs, ...result },
    ...context,
  });
  return result;
}
