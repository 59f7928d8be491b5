import { type Static, Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readPresence } from '../../gateway/live/presence.js';
import type { Queryable } from '../db/pool.js';
import { Nullable, Timestamp, Uuid } from '../http/schemas.js';
import type { BusinessSettings } from '../settings/settings.js';
import { isOlder } from '../system/version.js';
import { findConsent } from '../users/consent.js';
import { readCapsLeft } from '../users/owner-rules.js';
import type { ProviderSettings } from '../users/provider-settings.js';
import type { UserRow } from '../users/users.js';
import { DEVICE_STATES, type DeviceStateCode, deviceState } from './states.js';

export const DeviceId = Type.String({ pattern: '^[A-Za-z0-9._-]{8,64}$' });

export const DeviceSchema = Type.Object({
  device_id: DeviceId,
  os: Type.String(),
  model: Nullable(Type.String()),
  client_version: Type.String(),
  online: Nullable(Type.Boolean({ description: 'holds a tunnel now; null: not known at the moment' })),
  status: Type.Enum(['sharing', 'paused', 'draining', 'offline', 'unknown']),
  state: Type.Object(
    {
      code: Type.Enum(Object.keys(DEVICE_STATES) as DeviceStateCode[]),
      earns: Type.Boolean(),
      what: Type.String({ description: 'for people, in the language of the device’s owner' }),
      todo: Type.String({ description: 'what its owner can do' }),
      detail: Nullable(
        Type.String({ description: 'the rule that refused, the cap (`day`, `month`), the country' }),
      ),
    },
    { description: 'why it earns or not' },
  ),
  session_id: Nullable(Uuid),
  ip: Nullable(Type.String()),
  country: Nullable(Type.String()),
  last_seen_at: Nullable(Timestamp),
  created_at: Timestamp,
});
export type Device = Static<typeof DeviceSchema>;

interface DeviceRow {
  id: string;
  os: string;
  model: string | null;
  client_version: string;
  last_ip: string | null;
  last_country: string | null;
  last_seen_at: Date | null;
  created_at: Date;
  refused_code: string | null;
  refused_rule: string | null;
  session_id: string | null;
  has_package: boolean;
  holder_id: string | null;
}

/** Devices told at once; a provider may have far fewer (TS_DEVICES_PER_USER_MAX). */
const DEVICES_MAX = 200;

/** A provider's devices, oldest first, each with its state (`states.ts`). Removed ones are not told. */
export async function readDevices(
  deps: { pool: Queryable; redis: LiveRedis },
  user: Pick<UserRow, 'id' | 'status' | 'language' | 'settings'>,
  settings: Pick<BusinessSettings, 'termsVersion' | 'minClientVersion'>,
): Promise<Device[]> {
  const { pool, redis } = deps;
  const [{ rows }, consent, capReached] = await Promise.all([
    pool.query<DeviceRow>(
      // The one live package of this provider and exit IP, and the session that has it.
      `SELECT d.id, d.os, d.model, d.client_version, d.last_ip, d.last_country, d.last_seen_at, d.created_at,
              d.refused_code, d.refused_rule, s.id AS session_id, p.id IS NOT NULL AS has_package,
              coalesce(p.session_id, a.session_id) AS holder_id
         FROM devices d
         LEFT JOIN traffic_sessions s ON s.device_id = d.id AND s.status = 'active'
         LEFT JOIN packages p ON p.user_id = d.user_id AND p.exit_ip = s.exit_ip
                             AND p.status IN ('allocated', 'in_progress')
         LEFT JOIN LATERAL (SELECT session_id FROM allocations x WHERE x.package_id = p.id
                             ORDER BY assigned_at DESC LIMIT 1) a ON true
        WHERE d.user_id = $1 AND d.removed_at IS NULL ORDER BY d.created_at, d.id LIMIT ${DEVICES_MAX}`,
      [user.id],
    ),
    findConsent(pool, user.id),
    readCapReached(pool, user.id, user.settings as ProviderSettings),
  ]);
  const presences = await Promise.all(
    rows.map((row) => readPresence(redis, row.id).catch(() => 'unknown' as const)),
  );
  return rows.map((row, i) => {
    const presence = presences[i] ?? null;
    const known = presence !== 'unknown';
    const here = known ? presence : null;
    const country = here?.country ?? row.last_country;
    const refusal =
      row.refused_code === null
        ? null
        : { code: row.refused_code, rule: row.refused_rule ?? row.refused_code };
    const { code, detail } = deviceState({
      ownerStatus: user.status,
      consentCurrent: consent?.terms_version === settings.termsVersion,
      clientOutdated: isOlder(row.client_version, settings.minClientVersion),
      tunnel: presence,
      packageHolder: !row.has_package
        ? null
        : row.holder_id === null || row.holder_id === row.session_id
          ? 'this_session'
          : 'other_session',
      country,
      refusal,
      capReached,
    });
    const { earns, [user.language]: words } = DEVICE_STATES[code];
    return {
      device_id: row.id,
      os: row.os,
      model: row.model,
      client_version: row.client_version,
      online: known ? presence !== null : null,
      status: known ? (presence?.status ?? ('offline' as const)) : ('unknown' as const),
      state: { code, earns, ...words, detail },
      session_id: row.session_id,
      ip: here?.exitIp ?? row.last_ip,
      country,
      last_seen_at: row.last_seen_at?.toISOString() ?? null,
      created_at: row.created_at.toISOString(),
    };
  });
}

/** Which of a provider's caps the booked bytes have reached (UTC day and month); the narrower one first. */
async function readCapReached(
  client: Queryable,
  userId: string,
  settings: ProviderSettings,
): Promise<'day' | 'month' | null> {
  const left = await readCapsLeft(client, userId, settings);
  if (left.day === 0) return 'day';
  return left.month === 0 ? 'month' : null;
}
