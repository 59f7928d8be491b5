import type { Queryable } from '../db/pool.js';

/** Booked bytes and money; sums of settlement, exact to the byte and micro-dollar. */
export interface Usage {
  bytesUp: bigint;
  bytesDown: bigint;
  chargedMicros: bigint;
}

export interface BuyerUsage {
  /** Over the days asked for. */
  total: Usage;
  /** Since the buyer exists. */
  lifetime: Usage;
  byDay: Array<Usage & { day: string }>;
  byCountry: Array<Usage & { country: string }>;
}

interface UsageRow {
  day: string | null;
  country: string | null;
  bytes_up: bigint;
  bytes_down: bigint;
  charged_micros: bigint;
}

const NOTHING: Usage = { bytesUp: 0n, bytesDown: 0n, chargedMicros: 0n };
const usageOf = (r: UsageRow): Usage => ({
  bytesUp: r.bytes_up,
  bytesDown: r.bytes_down,
  chargedMicros: r.charged_micros,
});

/** What a buyer used from one UTC day to another, both included, as far as it is booked. */
export async function readBuyerUsage(
  db: Queryable,
  buyerId: string,
  fromDay: string,
  toDay: string,
): Promise<BuyerUsage> {
  // One statement, one snapshot: the totals are the sums of what is listed, also while settlement books.
  const { rows } = await db.query<UsageRow & { part: 'day' | 'country' | 'total' | 'lifetime' }>(
    `WITH u AS (SELECT * FROM usage_daily_buyer WHERE buyer_id = $1),
          d AS (SELECT * FROM u WHERE day BETWEEN $2::date AND $3::date)
     SELECT 'day' AS part, day::text AS day, NULL AS country, sum(bytes_up)::bigint AS bytes_up,
            sum(bytes_down)::bigint AS bytes_down, sum(charged_micros)::bigint AS charged_micros
       FROM d GROUP BY day
     UNION ALL
     SELECT 'country', NULL, country, sum(bytes_up)::bigint, sum(bytes_down)::bigint, sum(charged_micros)::bigint
       FROM d GROUP BY country
     UNION ALL
     SELECT 'total', NULL, NULL, sum(bytes_up)::bigint, sum(bytes_down)::bigint, sum(charged_micros)::bigint
       FROM d HAVING count(*) > 0
     UNION ALL
     SELECT 'lifetime', NULL, NULL, sum(bytes_up)::bigint, sum(bytes_down)::bigint, sum(charged_micros)::bigint
       FROM u HAVING count(*) > 0
      ORDER BY 1, 2, 3`,
    [buyerId, fromDay, toDay],
  );
  const one = (part: string) => {
    const row = rows.find((r) => r.part === part);
    return row ? usageOf(row) : NOTHING;
  };
  return {
    total: one('total'),
    lifetime: one('lifetime'),
    byDay: rows.filter((r) => r.part === 'day').map((r) => ({ day: r.day as string, ...usageOf(r) })),
    byCountry: rows
      .filter((r) => r.part === 'country')
      .map((r) => ({ country: r.country as string, ...usageOf(r) })),
  };
}

/** How many packages a buyer got and what became of them. */
export interface AllocationCounts {
  assigned: number;
  active: number;
  completed: number;
}

export async function countAllocations(
  db: Queryable,
  buyerId: string,
  fromDay: string,
  toDay: string,
): Promise<AllocationCounts> {
  const { rows } = await db.query<{ assigned: bigint; active: bigint; completed: bigint }>(
    `SELECT count(*) AS assigned, count(*) FILTER (WHERE status IN ('allocated', 'in_progress')) AS active,
            count(*) FILTER (WHERE status = 'completed') AS completed
       FROM allocations
      WHERE buyer_id = $1 AND assigned_at >= $2::date AND assigned_at < $3::date + 1`,
    [buyerId, fromDay, toDay],
  );
  const [row] = rows;
  return {
    assigned: Number(row?.assigned ?? 0),
    active: Number(row?.active ?? 0),
    completed: Number(row?.completed ?? 0),
  };
}
