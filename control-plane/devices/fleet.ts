import { type Static, Type } from 'typebox';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { readPresencesOf } from '../../gateway/live/presence.js';
import type { DevicePresence } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';
import { listOrder, type SortedRow, type SortOf } from '../http/list-order.js';
import { Nullable, Timestamp, Uuid } from '../http/schemas.js';

/** A device as admins see it among all. */
export const FleetDeviceSchema = Type.Object({
  device_id: Type.String(),
  user_id: Uuid,
  username: Nullable(Type.String({ description: 'of its owner' })),
  os: Type.String(),
  model: Nullable(Type.String()),
  client_version: Type.String(),
  online: Nullable(Type.Boolean({ description: 'holds a tunnel now; null: not known at the moment' })),
  gateway_id: Nullable(Type.String({ description: 'that holds its tunnel' })),
  ip: Nullable(Type.String()),
  country: Nullable(Type.String()),
  refused_code: Nullable(
    Type.String({ description: 'why it was last refused to start, if it was', examples: ['denylisted'] }),
  ),
  last_seen_at: Nullable(Timestamp),
  created_at: Timestamp,
});

/** What ids of devices look like. */
const DEVICE_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** What the list of devices can be sorted by. */
export const FLEET_SORTS = {
  created_at: { expression: 'd.created_at', kind: 'timestamptz' },
  // A device that was never seen comes before all others.
  last_seen_at: { expression: "coalesce(d.last_seen_at, '1970-01-01Z')", kind: 'timestamptz' },
} as const;

export interface FleetFilter {
  /** How a device's id begins. */
  query?: string | undefined;
  userId?: string | undefined;
  /** Where it was seen last, ISO 3166. */
  country?: string | undefined;
}

interface FleetRow extends SortedRow {
  user_id: string;
  username: string | null;
  os: string;
  model: string | null;
  client_version: string;
  last_ip: string | null;
  last_country: string | null;
  refused_code: string | null;
  last_seen_at: Date | null;
  created_at: Date;
}

/** Devices of all providers that are not removed, in the order asked for, with what the live state says of them. */
export async function listFleet(
  deps: { pool: Queryable; redis: LiveRedis },
  filter: FleetFilter,
  page: { limit: number; cursor?: string | undefined; sort: SortOf<keyof typeof FLEET_SORTS> },
): Promise<{ items: Static<typeof FleetDeviceSchema>[]; next_cursor: string | null }> {
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  const order = listOrder(FLEET_SORTS, {
    sort: page.sort,
    cursor: page.cursor,
    id: 'd.id',
    idPattern: DEVICE_ID,
    value,
  });
  const conditions = ['d.removed_at IS NULL'];
  if (order.condition !== null) conditions.push(order.condition);
  if (filter.query !== undefined) {
    // Ids are ASCII: what begins with the text lies between it and it with the greatest character behind.
    const from = value(filter.query);
    conditions.push(`d.id COLLATE "C" >= ${from} AND d.id COLLATE "C" <= ${from} || '~'`);
  }
  if (filter.userId !== undefined) conditions.push(`d.user_id = ${value(filter.userId)}`);
  if (filter.country !== undefined) conditions.push(`d.last_country = ${value(filter.country)}`);
  const { rows } = await deps.pool.query<FleetRow>(
    `SELECT d.id, d.user_id, u.username, d.os, d.model, d.client_version, host(d.last_ip) AS last_ip, d.last_country,
            d.refused_code, d.last_seen_at, d.created_at, ${order.selected}
       FROM devices d JOIN users u ON u.id = d.user_id
      WHERE ${conditions.join(' AND ')} ORDER BY ${order.orderBy} LIMIT ${page.limit + 1}`,
    values,
  );
  const cut = order.cut(rows, page.limit);
  const here = await presencesOf(
    deps.redis,
    cut.rows.map((row) => row.id),
  );
  return {
    items: cut.rows.map((row) => {
      const presence = here?.get(row.id);
      return {
        device_id: row.id,
        user_id: row.user_id,
        username: row.username,
        os: row.os,
        model: row.model,
        client_version: row.client_version,
        online: here === null ? null : presence !== undefined,
        gateway_id: presence?.gatewayId ?? null,
        ip: presence?.exitIp ?? row.last_ip,
        country: presence?.country ?? row.last_country,
        refused_code: row.refused_code,
        last_seen_at: row.last_seen_at?.toISOString() ?? null,
        created_at: row.created_at.toISOString(),
      };
    }),
    next_cursor: cut.nextCursor,
  };
}

/** Null while the live state is away: what Postgres knows is told all the same. */
async function presencesOf(
  redis: LiveRedis,
  deviceIds: readonly string[],
): Promise<Map<string, DevicePresence> | null> {
  try {
    const presences = await readPresencesOf(redis, deviceIds);
    return new Map(presences.map((presence) => [presence.deviceId, presence]));
  } catch {
    return null;
  }
}
