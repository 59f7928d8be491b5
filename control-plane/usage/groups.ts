import type { Queryable } from '../db/pool.js';

/** What a buyer's usage can be grouped by. */
export const USAGE_GROUPS = ['day', 'country', 'tag', 'session', 'sub_user', 'host'] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];

/** The parts that name a group; null: without a tag, without a session name, the buyer's own account. */
export interface GroupKey {
  day?: string;
  country?: string;
  tag?: string | null;
  session_name?: string | null;
  sub_user_id?: string | null;
  /** Of `sub_user_id`. */
  account?: string | null;
  host?: string;
  port?: number;
}

/** What a buyer sent and got in one group. */
export interface GroupSums {
  key: GroupKey;
  bytesUp: bigint;
  bytesDown: bigint;
  streams: bigint;
  /** The group's part, by bytes, of what was charged for the same days and countries. */
  chargedShareMicros: bigint;
  firstAt: Date;
  lastAt: Date;
}

/** The columns of each group, in the order that a list by it is sorted by. */
const COLUMNS: Record<UsageGroup, readonly (keyof GroupKey)[]> = {
  day: ['day'],
  country: ['country'],
  tag: ['tag'],
  session: ['session_name'],
  sub_user: ['sub_user_id'],
  host: ['host', 'port'],
};
const TYPES: Partial<Record<keyof GroupKey, string>> = {
  day: 'date',
  country: 'text',
  tag: 'text',
  session_name: 'text',
  sub_user_id: 'uuid',
  host: 'text',
  port: 'int',
};

interface GroupRow extends Required<GroupKey> {
  bytes_up: bigint;
  bytes_down: bigint;
  streams: bigint;
  charged_micros: bigint;
  first_at: Date;
  last_at: Date;
}

/** What a byte cost the buyer, by day and country, as booked. A share is an estimate, so floats will do. */
const PRICES = `p AS MATERIALIZED (
  SELECT day, country, charged_micros::float8 / nullif(bytes_up + bytes_down, 0)::float8 AS price
    FROM usage_daily_buyer WHERE buyer_id = $1 AND day BETWEEN $2::date AND $3::date)`;
const SUMS = `sum(u.bytes_up)::bigint AS bytes_up, sum(u.bytes_down)::bigint AS bytes_down,
              sum(u.streams)::bigint AS streams, min(u.first_at) AS first_at, max(u.last_at) AS last_at,
              coalesce(round(sum((u.bytes_up + u.bytes_down) * p.price)), 0)::bigint AS charged_micros`;
const ROWS = `destination_usage u LEFT JOIN p ON p.day = u.day AND p.country = u.country`;
const RANGE = 'u.buyer_id = $1 AND u.day BETWEEN $2::date AND $3::date';

function sumsOf(row: GroupRow, group: UsageGroup): GroupSums {
  const key: GroupKey = Object.fromEntries(COLUMNS[group].map((column) => [column, row[column]]));
  if (group === 'sub_user') key.account = row.account;
  return {
    key,
    bytesUp: row.bytes_up,
    bytesDown: row.bytes_down,
    streams: row.streams,
    chargedShareMicros: row.charged_micros,
    firstAt: row.first_at,
    lastAt: row.last_at,
  };
}

/**
 * A buyer's usage from one UTC day to another, both included, by one thing: the groups in the order of their keys, null
 * last, at most `limit` after the one given.
 */
export async function readUsageGroups(
  db: Queryable,
  range: { buyerId: string; from: string; to: string },
  group: UsageGroup,
  after: readonly (string | null)[] | null,
  limit: number,
): Promise<GroupSums[]> {
  const columns = COLUMNS[group];
  const values: unknown[] = [range.buyerId, range.from, range.to, limit];
  const list = columns.map((column) => `u.${column}`).join(', ');
  let rest = '';
  if (after !== null) {
    values.push(...after);
    const params = columns.map((column, i) => `$${i + 5}::${TYPES[column]}`).join(', ');
    // Null comes last; only keys of one column may be null.
    const orNull = columns.length === 1 ? `OR ${list} IS NULL` : '';
    rest = `AND ((${list}) > (${params}) ${orNull})`;
  }
  const { rows } = await db.query<GroupRow>(
    `WITH ${PRICES}, g AS (
       SELECT ${list}, ${SUMS} FROM ${ROWS} WHERE ${RANGE} ${rest} GROUP BY ${list} ORDER BY ${list} LIMIT $4)
     SELECT g.*${group === 'sub_user' ? ', (SELECT account FROM sub_users s WHERE s.id = g.sub_user_id) AS account' : ''}
       FROM g ORDER BY ${columns.map((column) => `g.${column}`).join(', ')}`,
    values,
  );
  return rows.map((row) => sumsOf(row, group));
}

/** Groups that are told with a buyer's usage, each with the largest ones. */
export interface UsageTops {
  tag: GroupSums[];
  session: GroupSums[];
  sub_user: GroupSums[];
  host: GroupSums[];
}

/** Groups told of each kind at most. */
export const USAGE_TOP_MAX = 100;
/** Rows that are sorted for them at most: below a second of Postgres. */
export const USAGE_TOP_ROWS_MAX = 50_000;

/**
 * The largest groups by tag, session name, sub-user and destination. Null when the days have more rows than
 * USAGE_TOP_ROWS_MAX.
 */
export async function readUsageTops(
  db: Queryable,
  range: { buyerId: string; from: string; to: string },
): Promise<UsageTops | null> {
  const days = [range.buyerId, range.from, range.to];
  const counted = await db.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM (SELECT FROM destination_usage u WHERE ${RANGE} LIMIT $4) few`,
    [...days, USAGE_TOP_ROWS_MAX + 1],
  );
  if ((counted.rows[0]?.n ?? 0) > USAGE_TOP_ROWS_MAX) return null;
  const { rows } = await db.query<GroupRow & { kind: UsageGroup }>(
    `WITH ${PRICES}, g AS (
       SELECT CASE grouping(u.tag, u.session_name, u.sub_user_id, u.host)
                WHEN 7 THEN 'tag' WHEN 11 THEN 'session' WHEN 13 THEN 'sub_user' ELSE 'host' END AS kind,
              u.tag, u.session_name, u.sub_user_id, u.host, u.port, ${SUMS}
         FROM ${ROWS} WHERE ${RANGE}
        GROUP BY GROUPING SETS ((u.tag), (u.session_name), (u.sub_user_id), (u.host, u.port))
     ), placed AS (
       SELECT *, row_number() OVER (PARTITION BY kind ORDER BY bytes_up + bytes_down DESC, tag, session_name,
                                    sub_user_id, host, port) AS place FROM g
     )
     SELECT placed.*, (SELECT account FROM sub_users s WHERE s.id = placed.sub_user_id) AS account FROM placed
      WHERE place <= $4 ORDER BY kind, place`,
    [...days, USAGE_TOP_MAX],
  );
  const of = (group: UsageGroup) => rows.filter((r) => r.kind === group).map((r) => sumsOf(r, group));
  return { tag: of('tag'), session: of('session'), sub_user: of('sub_user'), host: of('host') };
}
