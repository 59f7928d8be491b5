import type { Queryable } from '../db/pool.js';
import { jsonBytes } from '../http/schemas.js';

/** What went to one destination. Bytes are payload; times are when something was first and last noticed. */
export interface DestinationSums {
  host: string;
  port: number;
  bytesUp: bigint;
  bytesDown: bigint;
  streams: bigint;
  firstAt: Date;
  lastAt: Date;
}

interface SumsRow {
  host: string;
  port: number;
  bytes_up: bigint;
  bytes_down: bigint;
  streams: bigint;
  first_at: Date;
  last_at: Date;
}

const SUMS = `sum(bytes_up)::bigint AS bytes_up, sum(bytes_down)::bigint AS bytes_down,
              sum(streams)::bigint AS streams, min(first_at) AS first_at, max(last_at) AS last_at`;

const sumsOf = (r: SumsRow): DestinationSums => ({
  host: r.host,
  port: r.port,
  bytesUp: r.bytes_up,
  bytesDown: r.bytes_down,
  streams: r.streams,
  firstAt: r.first_at,
  lastAt: r.last_at,
});

/** The destinations of one traffic session in the last `keptDays`, those with most bytes first, and how many there are. */
export async function readSessionDestinations(
  db: Queryable,
  sessionId: string,
  limit: number,
  keptDays: number,
): Promise<{ destinations: DestinationSums[]; count: number }> {
  const { rows } = await db.query<SumsRow & { n: number }>(
    `SELECT host, port, ${SUMS}, (count(*) OVER ())::int AS n FROM destination_usage
      WHERE session_id = $1 AND day >= (now() AT TIME ZONE 'UTC')::date - $3::int
      GROUP BY host, port ORDER BY sum(bytes_up + bytes_down) DESC, host, port LIMIT $2`,
    [sessionId, limit, keptDays],
  );
  return { destinations: rows.map(sumsOf), count: rows[0]?.n ?? 0 };
}

/** Which of a provider's traffic; what is left out does not matter. */
export interface ProviderDestinationFilter {
  userId: string;
  sessionId?: string | undefined;
  host?: string | undefined;
  /** UTC days, both included. */
  from: string;
  to: string;
}

/** Where a list by day and destination goes on. */
export interface DayDestination {
  day: string;
  host: string;
  port: number;
}

/** What went through a provider's devices, by UTC day (latest first) and destination. */
export async function readProviderDestinations(
  db: Queryable,
  filter: ProviderDestinationFilter,
  after: DayDestination | null,
  limit: number,
): Promise<Array<DestinationSums & { day: string }>> {
  const { rows } = await db.query<SumsRow & { day: string }>(
    `SELECT day, host, port, ${SUMS} FROM destination_usage
      WHERE user_id = $1 AND day BETWEEN $2::date AND $3::date
        AND ($4::uuid IS NULL OR session_id = $4) AND ($5::text IS NULL OR host = $5)
        AND ($6::date IS NULL OR day < $6 OR (day = $6 AND (host, port) > ($7::text, $8::int)))
      GROUP BY day, host, port ORDER BY day DESC, host, port LIMIT $9`,
    [
      filter.userId,
      filter.from,
      filter.to,
      filter.sessionId ?? null,
      filter.host ?? null,
      after?.day ?? null,
      after?.host ?? null,
      after?.port ?? null,
      limit,
    ],
  );
  return rows.map((r) => ({ ...sumsOf(r), day: r.day }));
}

/** What an admin looks for; left out: everything. */
export interface DestinationSearch {
  /** A host, or with a leading dot every host below it and itself. */
  host?: string | undefined;
  buyerId?: string | undefined;
  /** The provider. */
  userId?: string | undefined;
  sessionId?: string | undefined;
  exitIp?: string | undefined;
  /** Something was noticed at or after `from` and before `to`; ISO 8601. */
  from: string;
  to: string;
}

/** One row as it is kept: who, when, where to, how much, out of which address. */
export interface DestinationRow extends SumsRow {
  id: bigint;
  day: string;
  session_id: string;
  allocation_id: string;
  buyer_id: string;
  buyer_account: string;
  sub_user_id: string | null;
  user_id: string;
  exit_ip: string;
  country: string;
  tag: string | null;
  session_name: string | null;
}

/** A row as the API tells it to admins. */
export const destinationRowJson = (r: DestinationRow) => ({
  day: r.day,
  host: r.host,
  port: r.port,
  bytes_up: jsonBytes(r.bytes_up),
  bytes_down: jsonBytes(r.bytes_down),
  bytes: jsonBytes(r.bytes_up + r.bytes_down),
  streams: Number(r.streams),
  first_at: r.first_at.toISOString(),
  last_at: r.last_at.toISOString(),
  buyer_id: r.buyer_id,
  buyer_account: r.buyer_account,
  tag: r.tag,
  session_name: r.session_name,
  sub_user_id: r.sub_user_id,
  session_id: r.session_id,
  allocation_id: r.allocation_id,
  user_id: r.user_id,
  exit_ip: r.exit_ip,
  country: r.country,
});

/** Rows that fit the search, latest day first, at most `limit`; `after` is the last one of the page before. */
export async function searchDestinations(
  db: Queryable,
  search: DestinationSearch,
  after: { day: string; id: string } | null,
  limit: number,
): Promise<DestinationRow[]> {
  const values: unknown[] = [search.from, search.to, limit];
  const conditions = [
    `u.day BETWEEN ($1::timestamptz AT TIME ZONE 'UTC')::date AND ($2::timestamptz AT TIME ZONE 'UTC')::date`,
    'u.last_at >= $1::timestamptz AND u.first_at < $2::timestamptz',
  ];
  const where = (sql: (n: string) => string, value: unknown) => {
    if (value === undefined || value === null) return;
    values.push(value);
    conditions.push(sql(`$${values.length}`));
  };
  const { host } = search;
  if (host?.startsWith('.')) {
    values.push(`${reversedPattern(host)}%`, host.slice(1));
    conditions.push(
      `(reverse(u.host) LIKE $${values.length - 1} OR reverse(u.host) = reverse($${values.length}))`,
    );
  } else where((n) => `reverse(u.host) = reverse(${n})`, host);
  where((n) => `u.buyer_id = ${n}`, search.buyerId);
  where((n) => `u.user_id = ${n}`, search.userId);
  where((n) => `u.session_id = ${n}`, search.sessionId);
  // By way of the sessions: they are few, and have an index by address.
  where((n) => `u.session_id IN (SELECT id FROM traffic_sessions WHERE exit_ip = ${n}::inet)`, search.exitIp);
  if (after) {
    values.push(after.day, after.id);
    conditions.push(`(u.day, u.id) < ($${values.length - 1}::date, $${values.length}::bigint)`);
  }
  const { rows } = await db.query<DestinationRow>(
    `SELECT u.id, u.day, u.session_id, u.allocation_id, u.buyer_id, b.account AS buyer_account, u.sub_user_id,
            u.user_id, host(u.exit_ip) AS exit_ip, u.country, u.host, u.port, u.tag, u.session_name, u.bytes_up,
            u.bytes_down, u.streams, u.first_at, u.last_at
       FROM destination_usage u JOIN buyers b ON b.id = u.buyer_id
      WHERE ${conditions.join(' AND ')}
      ORDER BY u.day DESC, u.id DESC LIMIT $3`,
    values,
  );
  return rows;
}

/** `.example.com` from its end, with what LIKE would take for a pattern escaped. */
function reversedPattern(host: string): string {
  return [...host]
    .reverse()
    .join('')
    .replaceAll(/[\\%_]/g, '\\$&');
}
