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
/** Every group is added up by day and country first: a price is what was charged there. */
const PRICED = ['day', 'country'];
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

const INNER_SUMS = `sum(bytes_up) AS up, sum(bytes_down) AS down, sum(streams) AS streams, min(first_at) AS first_at,
                    max(last_at) AS last_at`;
/** Over `d` (inner sums by day and country) and `p` (what was booked for the day and country). */
const OUTER_SUMS = `sum(d.up)::bigint AS bytes_up, sum(d.down)::bigint AS bytes_down,
                    sum(d.streams)::bigint AS streams, min(d.first_at) AS first_at, max(d.last_at) AS last_at,
                    coalesce(sum((d.up + d.down) * p.charged_micros / nullif(p.bytes_up + p.bytes_down, 0)), 0)::bigint
                      AS charged_micros`;
const PRICES = 'LEFT JOIN usage_daily_buyer p ON p.buyer_id = $1 AND p.day = d.day AND p.country = d.country';
const RANGE = 'buyer_id = $1 AND day BETWEEN $2::date AND $3::date';

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
  const inner = [...new Set([...PRICED, ...columns])].join(', ');
  const values: unknown[] = [range.buyerId, range.from, range.to, limit];
  const list = columns.map((column) => `d.${column}`).join(', ');
  let where = '';
  if (after !== null) {
    values.push(...after);
    const params = columns.map((column, i) => `$${i + 5}::${TYPES[column]}`);
    // Null comes last, and nothing comes after it.
    where = `WHERE (${list}) > (${params.join(', ')})${columns.length === 1 ? ` OR (d.${columns[0]} IS NULL AND ${params[0]} IS NOT NULL)` : ''}`;
  }
  const { rows } = await db.query<GroupRow>(
    `WITH d AS (SELECT ${inner}, ${INNER_SUMS} FROM destination_usage WHERE ${RANGE} GROUP BY ${inner})
     SELECT ${list}, ${OUTER_SUMS}${group === 'sub_user' ? ', min(s.account) AS account' : ''}
       FROM d ${PRICES} ${group === 'sub_user' ? 'LEFT JOIN sub_users s ON s.id = d.sub_user_id' : ''}
      ${where} GROUP BY ${list} ORDER BY ${list} LIMIT $4`,
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

/** The largest groups by tag, session name, sub-user and destination, in one reading of the days. */
export async function readUsageTops(
  db: Queryable,
  range: { buyerId: string; from: string; to: string },
): Promise<UsageTops> {
  const { rows } = await db.query<GroupRow & { kind: UsageGroup }>(
    `WITH d AS (
       SELECT CASE grouping(tag, session_name, sub_user_id, host)
                WHEN 7 THEN 'tag' WHEN 11 THEN 'session' WHEN 13 THEN 'sub_user' ELSE 'host' END AS kind,
              day, country, tag, session_name, sub_user_id, host, port, ${INNER_SUMS}
         FROM destination_usage WHERE ${RANGE}
        GROUP BY GROUPING SETS ((day, country, tag), (day, country, session_name), (day, country, sub_user_id),
                                (day, country, host, port))
     ), g AS (
       SELECT d.kind, d.tag, d.session_name, d.sub_user_id, d.host, d.port, ${OUTER_SUMS},
              row_number() OVER (PARTITION BY d.kind ORDER BY sum(d.up + d.down) DESC, d.tag, d.session_name,
                                 d.sub_user_id, d.host, d.port) AS place
         FROM d ${PRICES}
        GROUP BY d.kind, d.tag, d.session_name, d.sub_user_id, d.host, d.port
     )
     SELECT g.*, s.account FROM g LEFT JOIN sub_users s ON s.id = g.sub_user_id
      WHERE place <= $4 ORDER BY kind, place`,
    [range.buyerId, range.from, range.to, USAGE_TOP_MAX],
  );
  const of = (group: UsageGroup) => rows.filter((r) => r.kind === group).map((r) => sumsOf(r, group));
  return { tag: of('tag'), session: of('session'), sub_user: of('sub_user'), host: of('host') };
}
