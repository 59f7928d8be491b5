import { DEVICE_KEY_PREFIX } from '../auth/authenticate.js';
import { randomSecret, sha256 } from '../auth/secrets.js';
import type { Queryable } from '../db/pool.js';

export interface NewDevice {
  userId: string;
  deviceId: string;
  os: string;
  model: string | null;
  clientVersion: string;
  /** Advice only. */
  claimedIp: string | null;
}

export type Registration =
  | {
      ok: true;
      /** Shown once, kept as a hash. */
      deviceKey: string;
      /** The device was known before. */
      again: boolean;
      /** Of the traffic session it shares in now; null: it does not. */
      sessionId: string | null;
    }
  | { ok: false; code: 'forbidden' | 'too_many_devices' };

/**
 * Registers a device with its owner, in the caller's transaction; roll that back when the answer is not `ok`. One that is
 * registered gets a new key and loses the old one, its session goes on. One that was removed may have a new owner: the
 * sessions of the old one stay theirs, notices meant for them go nowhere. `forbidden`: it is somebody else's.
 */
export async function registerDevice(
  client: Queryable,
  device: NewDevice,
  devicesPerUserMax: number,
): Promise<Registration> {
  const { userId, deviceId } = device;
  // Two at once of one user must not both be the last that is allowed.
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
  const { rows } = await client.query<{ user_id: string; removed: boolean }>(
    'SELECT user_id, removed_at IS NOT NULL AS removed FROM devices WHERE id = $1 FOR UPDATE',
    [deviceId],
  );
  const known = rows[0];
  if (known !== undefined && known.user_id !== userId && !known.removed)
    return { ok: false, code: 'forbidden' };
  if ((known === undefined || known.removed) && (await countDevices(client, userId)) >= devicesPerUserMax)
    return { ok: false, code: 'too_many_devices' };
  const deviceKey = randomSecret(DEVICE_KEY_PREFIX);
  const { rowCount } = await client.query(
    `INSERT INTO devices AS d (id, user_id, key_hash, os, model, client_version, claimed_ip)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (id) DO UPDATE SET user_id = EXCLUDED.user_id, key_hash = EXCLUDED.key_hash, os = EXCLUDED.os,
       model = EXCLUDED.model, client_version = EXCLUDED.client_version, claimed_ip = EXCLUDED.claimed_ip,
       removed_at = NULL, push_token = CASE WHEN d.user_id = EXCLUDED.user_id THEN d.push_token END
     WHERE d.user_id = EXCLUDED.user_id OR d.removed_at IS NOT NULL`,
    [deviceId, userId, sha256(deviceKey), device.os, device.model, device.clientVersion, device.claimedIp],
  );
  if (rowCount === 0) return { ok: false, code: 'forbidden' }; // another user registered it a moment ago
  const { rows: sessions } = await client.query<{ id: string }>(
    "SELECT id FROM traffic_sessions WHERE device_id = $1 AND user_id = $2 AND status = 'active'",
    [deviceId, userId],
  );
  return { ok: true, deviceKey, again: known !== undefined, sessionId: sessions[0]?.id ?? null };
}

async function countDevices(client: Queryable, userId: string): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM devices WHERE user_id = $1 AND removed_at IS NULL',
    [userId],
  );
  return rows[0]?.n ?? 0;
}

/**
 * Takes a device from its owner, in the caller's transaction: its key is dead, its history stays. What it shares in now is
 * the caller's to stop.
 */
export async function removeDevice(
  client: Queryable,
  userId: string,
  deviceId: string,
): Promise<{ ok: true } | { ok: false; code: 'not_found' | 'forbidden' }> {
  const { rows } = await client.query<{ user_id: string }>(
    'SELECT user_id FROM devices WHERE id = $1 AND removed_at IS NULL FOR UPDATE',
    [deviceId],
  );
  if (rows[0] === undefined) return { ok: false, code: 'not_found' };
  if (rows[0].user_id !== userId) return { ok: false, code: 'forbidden' };
  await client.query('UPDATE devices SET removed_at = now(), push_token = NULL WHERE id = $1', [deviceId]);
  return { ok: true };
}
