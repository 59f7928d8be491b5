import type { Queryable } from '../db/pool.js';

/**
 * Gives a device the token that notices are pushed to, or, null, takes it away. A token that another device had is that
 * one's no more: the app there belongs to somebody else now, who must not read its notices. False: the user has no such
 * device.
 */
export async function setPushToken(
  client: Queryable,
  owner: { userId: string; deviceId: string },
  token: string | null,
): Promise<boolean> {
  const { userId, deviceId } = owner;
  if (token !== null) {
    await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [token]); // two at once
    await client.query('UPDATE devices SET push_token = NULL WHERE push_token = $1 AND id <> $2', [
      token,
      deviceId,
    ]);
  }
  const { rowCount } = await client.query(
    'UPDATE devices SET push_token = $3 WHERE id = $2 AND user_id = $1 AND removed_at IS NULL',
    [userId, deviceId, token],
  );
  return rowCount === 1;
}

/** A token that no message reaches any more: whichever device has it yet has none. */
export async function forgetPushToken(client: Queryable, token: string): Promise<void> {
  await client.query(
    `WITH gone AS (UPDATE devices SET push_token = NULL WHERE push_token = $1 RETURNING id)
     DELETE FROM pushes WHERE device_id IN (SELECT id FROM gone)`,
    [token],
  );
}
