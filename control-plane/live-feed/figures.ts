import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { countPresences, readGatewayPresences, readPresencesOf } from '../../gateway/live/presence.js';
import type { DevicePresence } from '../../gateway/live/records.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import { jsonBytes } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';

/** Who is listened to. */
export interface Subjects {
  userIds: readonly string[];
  buyerIds: readonly string[];
  /** An admin listens. */
  all: boolean;
}

/** By `subjectOf`: what is told, member by member, and the bytes that rates are made of. */
export type LiveFigures = Map<string, { bytesToday: bigint; members: Record<string, unknown> }>;

export interface FiguresDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
}

/**
 * Everything at once, in a handful of questions however many are listened to. Bytes and money are what settlement has
 * booked, some hundred ms behind the wire, so that they agree with each other. While Redis is away what only it knows
 * is null or `unknown`.
 */
export async function readLiveFigures(deps: FiguresDeps, subjects: Subjects): Promise<LiveFigures> {
  const { userIds, buyerIds, all } = subjects;
  const parts = await Promise.all([
    userIds.length > 0 ? readUsers(deps, userIds) : [],
    buyerIds.length > 0 ? readBuyers(deps, buyerIds) : [],
    all ? readAll(deps) : [],
  ]);
  return new Map(parts.flat());
}

type Entry = [subject: string, figures: { bytesToday: bigint; members: Record<string, unknown> }];

interface SessionRow {
  id: string;
  user_id: string;
  device_id: string;
  country: string;
  bytes_up: bigint;
  bytes_down: bigint;
  earned_micros: bigint;
  started_at: Date;
}

async function readUsers({ pool, redis }: FiguresDeps, userIds: readonly string[]): Promise<Entry[]> {
  const [people, sessions] = await Promise.all([
    pool.query<{
      id: string;
      status: string;
      available_micros: bigint;
      pending_micros: bigint;
      bytes_up: bigint;
      bytes_down: bigint;
      earned_micros: bigint;
    }>(
      `SELECT u.id, u.status, coalesce(av.balance_micros, 0) AS available_micros,
              coalesce(pe.balance_micros, 0) AS pending_micros, coalesce(d.bytes_up, 0) AS bytes_up,
              coalesce(d.bytes_down, 0) AS bytes_down, coalesce(d.earned_micros, 0) AS earned_micros
         FROM users u
         LEFT JOIN ledger_accounts av ON av.kind = 'provider_available' AND av.owner_id = u.id
         LEFT JOIN ledger_accounts pe ON pe.kind = 'provider_pending' AND pe.owner_id = u.id
         LEFT JOIN usage_daily_provider d ON d.user_id = u.id AND d.day = (SELECT utc_day())
        WHERE u.id = ANY ($1::uuid[])`,
      [userIds],
    ),
    // By the index of live sessions: a user has any number that are over.
    pool.query<SessionRow>(
      `SELECT s.id, d.user_id, s.device_id, s.country, s.bytes_up, s.bytes_down, s.earned_micros, s.started_at
         FROM devices d JOIN traffic_sessions s ON s.device_id = d.id AND s.status = 'active'
        WHERE d.user_id = ANY ($1::uuid[]) ORDER BY s.started_at, s.id`,
      [userIds],
    ),
  ]);
  const presences = await readPresencesOf(
    redis,
    sessions.rows.map((row) => row.device_id),
  ).then(
    (found) => new Map(found.map((presence) => [presence.deviceId, presence])),
    () => null,
  );
  const ofUser = new Map<string, SessionRow[]>(userIds.map((id) => [id, []]));
  for (const session of sessions.rows) ofUser.get(session.user_id)?.push(session);
  return people.rows.map((row) => [
    `user:${row.id}`,
    {
      bytesToday: row.bytes_up + row.bytes_down,
      members: {
        status: row.status,
        balance: {
          available: formatMicros(row.available_micros),
          pending: formatMicros(row.pending_micros),
          currency: 'USD',
        },
        today: { ...bytesJson(row), earned: formatMicros(row.earned_micros) },
        sessions: (ofUser.get(row.id) ?? []).map((session) => sessionJson(session, presences)),
      },
    },
  ]);
}

function sessionJson(row: SessionRow, presences: ReadonlyMap<string, DevicePresence> | null): object {
  const presence = presences?.get(row.device_id);
  const here = presence?.sessionId === row.id ? presence : undefined;
  return {
    session_id: row.id,
    device_id: row.device_id,
    country: row.country,
    status: presences === null ? 'unknown' : (here?.status ?? 'offline'),
    streams: presences === null ? null : (here?.streams ?? 0),
    ...bytesJson(row),
    earned: formatMicros(row.earned_micros),
    started_at: row.started_at.toISOString(),
  };
}

async function readBuyers({ pool }: FiguresDeps, buyerIds: readonly string[]): Promise<Entry[]> {
  const { rows } = await pool.query<{
    id: string;
    status: string;
    balance_micros: bigint;
    held_micros: bigint;
    bytes_up: bigint;
    bytes_down: bigint;
    charged_micros: bigint;
  }>(
    `SELECT b.id, b.status, coalesce(a.balance_micros, 0) AS balance_micros,
            wallet_held('buyer', b.id)::bigint AS held_micros, u.bytes_up, u.bytes_down, u.charged_micros
       FROM buyers b
       LEFT JOIN ledger_accounts a ON a.kind = 'buyer_prepaid' AND a.owner_id = b.id
       CROSS JOIN LATERAL (SELECT coalesce(sum(bytes_up), 0)::bigint AS bytes_up,
                                  coalesce(sum(bytes_down), 0)::bigint AS bytes_down,
                                  coalesce(sum(charged_micros), 0)::bigint AS charged_micros
                             FROM usage_daily_buyer WHERE buyer_id = b.id AND day = (SELECT utc_day())) u
      WHERE b.id = ANY ($1::uuid[])`,
    [buyerIds],
  );
  return rows.map((row) => [
    `buyer:${row.id}`,
    {
      bytesToday: row.bytes_up + row.bytes_down,
      members: {
        status: row.status,
        balance: {
          balance: formatMicros(row.balance_micros),
          held: formatMicros(row.held_micros),
          available: formatMicros(row.balance_micros - row.held_micros),
          currency: 'USD',
        },
        today: { ...bytesJson(row), charged: formatMicros(row.charged_micros) },
      },
    },
  ]);
}

async function readAll({ pool, redis, clock }: FiguresDeps): Promise<Entry[]> {
  const [{ rows }, fleet] = await Promise.all([
    pool.query<{
      bytes_up: bigint;
      bytes_down: bigint;
      charged_micros: bigint;
      earned_micros: bigint;
      sessions_active: bigint;
    }>(
      `SELECT coalesce(sum(bytes_up), 0)::bigint AS bytes_up, coalesce(sum(bytes_down), 0)::bigint AS bytes_down,
              coalesce(sum(charged_micros), 0)::bigint AS charged_micros,
              (SELECT coalesce(sum(earned_micros), 0)::bigint FROM usage_daily_provider
                WHERE day = (SELECT utc_day())) AS earned_micros,
              (SELECT count(*) FROM traffic_sessions WHERE status = 'active') AS sessions_active
         FROM usage_daily_buyer WHERE day = (SELECT utc_day())`,
    ),
    readFleet(redis, clock.nowMs()).catch(() => null),
  ]);
  const [row] = rows;
  if (row === undefined) return [];
  return [
    [
      'all',
      {
        bytesToday: row.bytes_up + row.bytes_down,
        members: {
          fleet,
          sessions_active: Number(row.sessions_active),
          today: {
            ...bytesJson(row),
            charged: formatMicros(row.charged_micros),
            earned: formatMicros(row.earned_micros),
          },
        },
      },
    ],
  ];
}

async function readFleet(redis: LiveRedis, nowMs: number): Promise<object> {
  const [gateways, devicesOnline] = await Promise.all([
    readGatewayPresences(redis),
    countPresences(redis, nowMs),
  ]);
  return {
    gateways: gateways.length,
    gateways_draining: gateways.filter(({ draining }) => draining).length,
    tunnels: gateways.reduce((sum, { tunnels }) => sum + tunnels, 0),
    streams: gateways.reduce((sum, { streams }) => sum + streams, 0),
    devices_online: devicesOnline,
  };
}

function bytesJson(row: { bytes_up: bigint; bytes_down: bigint }): {
  bytes_up: unknown;
  bytes_down: unknown;
} {
  return { bytes_up: jsonBytes(row.bytes_up), bytes_down: jsonBytes(row.bytes_down) };
}
