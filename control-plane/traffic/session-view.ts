import { type Static, Type } from 'typebox';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { Bytes, jsonBytes, Money, Nullable, Timestamp, Uuid } from '../http/schemas.js';
import { formatMicros } from '../ledger/money.js';

/** Difference between the device's count and the meter, in percent, above which a session is flagged. */
const REPORT_TOLERANCE_PERCENT = 2n;
/** Below this a difference means nothing: counts are taken at different moments. */
const REPORT_COMPARED_FROM_BYTES = 1_000_000n;

export const SessionStatus = Type.Enum(['active', 'stopping', 'completed', 'failed']);

export const SessionSchema = Type.Object({
  id: Uuid,
  user_id: Uuid,
  device_id: Type.String(),
  status: SessionStatus,
  exit_ip: Type.String(),
  country: Type.String(),
  city: Nullable(Type.String()),
  asn: Nullable(Type.Integer()),
  network_type: Type.Enum(['wifi', 'mobile', 'ethernet', 'unknown']),
  client_version: Type.String(),
  bytes_up: Bytes,
  bytes_down: Bytes,
  bytes: Bytes,
  earned: Money,
  reported_bytes_tx: Bytes,
  reported_bytes_rx: Bytes,
  report_differs: Type.Boolean({
    description: "the device's own count is more than 2 % away from the meter",
  }),
  stop_reason: Nullable(Type.String()),
  started_at: Timestamp,
  stopped_at: Nullable(Timestamp),
  completed_at: Nullable(Timestamp),
});

export interface SessionRow {
  id: string;
  user_id: string;
  device_id: string;
  status: 'active' | 'stopping' | 'completed' | 'failed';
  exit_ip: string;
  country: string;
  city: string | null;
  asn: bigint | null;
  network_type: 'wifi' | 'mobile' | 'ethernet' | 'unknown';
  client_version: string;
  bytes_up: bigint;
  bytes_down: bigint;
  earned_micros: bigint;
  reported_bytes_tx: bigint;
  reported_bytes_rx: bigint;
  stop_reason: string | null;
  started_at: Date;
  stopped_at: Date | null;
  completed_at: Date | null;
}

const COLUMNS = `id, user_id, device_id, status, exit_ip, country, city, asn, network_type, client_version, bytes_up,
  bytes_down, earned_micros, reported_bytes_tx, reported_bytes_rx, stop_reason, started_at, stopped_at, completed_at`;

/** Whether what the device counted is too far from what was metered. Only told once both have ended. */
export function reportDiffers(
  row: Pick<SessionRow, 'status' | 'bytes_up' | 'bytes_down' | 'reported_bytes_tx' | 'reported_bytes_rx'>,
): boolean {
  const metered = row.bytes_up + row.bytes_down;
  const reported = row.reported_bytes_tx + row.reported_bytes_rx;
  if (row.status !== 'completed' || reported === 0n) return false;
  if (metered < REPORT_COMPARED_FROM_BYTES && reported < REPORT_COMPARED_FROM_BYTES) return false;
  const difference = metered > reported ? metered - reported : reported - metered;
  return difference * 100n > metered * REPORT_TOLERANCE_PERCENT;
}

export function sessionJson(row: SessionRow): Static<typeof SessionSchema> {
  return {
    id: row.id,
    user_id: row.user_id,
    device_id: row.device_id,
    status: row.status,
    exit_ip: row.exit_ip,
    country: row.country,
    city: row.city,
    asn: row.asn === null ? null : Number(row.asn),
    network_type: row.network_type,
    client_version: row.client_version,
    bytes_up: jsonBytes(row.bytes_up),
    bytes_down: jsonBytes(row.bytes_down),
    bytes: jsonBytes(row.bytes_up + row.bytes_down),
    earned: formatMicros(row.earned_micros),
    reported_bytes_tx: jsonBytes(row.reported_bytes_tx),
    reported_bytes_rx: jsonBytes(row.reported_bytes_rx),
    report_differs: reportDiffers(row),
    stop_reason: row.stop_reason,
    started_at: row.started_at.toISOString(),
    stopped_at: row.stopped_at?.toISOString() ?? null,
    completed_at: row.completed_at?.toISOString() ?? null,
  };
}

export async function findSession(client: Queryable, id: string): Promise<SessionRow | null> {
  const { rows } = await client.query<SessionRow>(`SELECT ${COLUMNS} FROM traffic_sessions WHERE id = $1`, [
    id,
  ]);
  return rows[0] ?? null;
}

export interface SessionFilter {
  /** undefined: of everyone. */
  userId?: string | undefined;
  sessionId?: string | undefined;
  status?: string | undefined;
  /** Started at or after, started before. */
  from?: string | undefined;
  to?: string | undefined;
}

export interface SessionPage {
  items: Static<typeof SessionSchema>[];
  next_cursor: string | null;
  total?: number;
}

/** Sessions, latest first. With `page` (from 1) the total comes along; otherwise go on by cursor. */
export async function listSessions(
  client: Queryable,
  filter: SessionFilter,
  paging: { limit: number; cursor?: string | undefined; page?: number | undefined },
): Promise<SessionPage> {
  const conditions: string[] = [];
  const values: unknown[] = [];
  const where = (condition: (n: number) => string, ...given: unknown[]) => {
    if (given[0] === undefined) return;
    conditions.push(condition(values.length + 1));
    values.push(...given);
  };
  where((n) => `user_id = $${n}`, filter.userId);
  where((n) => `id = $${n}`, filter.sessionId);
  where((n) => `status = $${n}`, filter.status);
  where((n) => `started_at >= $${n}`, filter.from);
  where((n) => `started_at < $${n}`, filter.to);
  const filtered = conditions.length === 0 ? 'true' : conditions.join(' AND ');
  let total: number | undefined;
  if (paging.page !== undefined) {
    const { rows } = await client.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM traffic_sessions WHERE ${filtered}`,
      values,
    );
    total = rows[0]?.n ?? 0;
  }
  if (paging.cursor !== undefined) {
    const [startedAt, id] = decodeCursor(paging.cursor, [cursorPart.timestamp, cursorPart.uuid]);
    where((n) => `(started_at, id) < ($${n}, $${n + 1})`, startedAt, id);
  }
  const offset = paging.page === undefined ? 0 : (paging.page - 1) * paging.limit;
  const { rows } = await client.query<SessionRow & { at: string }>(
    `SELECT ${COLUMNS}, to_char(started_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at FROM traffic_sessions
     WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
     ORDER BY started_at DESC, id DESC LIMIT ${paging.limit + 1} OFFSET ${offset}`,
    values,
  );
  // Not the Date: it has ms, and rows within the same ms would be shown twice or never.
  const { rows: shown, nextCursor } = cutPage(rows, paging.limit, (row) => [row.at, row.id]);
  return {
    items: shown.map(sessionJson),
    next_cursor: nextCursor,
    ...(total === undefined ? {} : { total }),
  };
}
