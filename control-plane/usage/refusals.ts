import type { Queryable } from '../db/pool.js';
import type { RefusalClaim } from './usage-batch.js';

/** Hours that refusals are kept. */
export const REFUSALS_KEPT_HOURS = 168;

/** Adds refusals up, in the caller's transaction. Their buyers exist. */
export async function addRefusals(client: Queryable, claims: readonly RefusalClaim[]): Promise<void> {
  const rows = claims.map((c) => ({
    buyer_id: c.buyerId,
    hour: new Date(c.hourMs),
    code: c.code,
    refusals: c.refusals,
    last_at: new Date(c.lastAtMs),
    last_detail: c.lastDetail,
  }));
  // Added up before, and in one order for all, so that nobody deadlocks.
  await client.query(
    `INSERT INTO buyer_refusals AS b (buyer_id, hour, code, refusals, last_at, last_detail)
     SELECT buyer_id, hour, code, sum(refusals), max(last_at), (array_agg(last_detail ORDER BY last_at DESC))[1]
       FROM json_to_recordset($1::json) AS r
            (buyer_id uuid, hour timestamptz, code text, refusals bigint, last_at timestamptz, last_detail text)
      GROUP BY buyer_id, hour, code ORDER BY buyer_id, hour, code
     ON CONFLICT (buyer_id, hour, code) DO UPDATE
        SET refusals = b.refusals + excluded.refusals, last_at = greatest(b.last_at, excluded.last_at),
            last_detail = CASE WHEN excluded.last_at >= b.last_at THEN excluded.last_detail ELSE b.last_detail END`,
    [JSON.stringify(rows)],
  );
}

/** Why a buyer's connections were refused, since `from`. */
export interface Refusals {
  from: Date;
  /** Most frequent first. */
  byCode: { code: string; refusals: bigint; lastAt: Date; lastDetail: string | null }[];
  /** Hours with any, in order. */
  byHour: { hour: Date; refusals: bigint }[];
}

/** Of this hour and the `hours` - 1 before it. */
export async function readRefusals(db: Queryable, buyerId: string, hours: number): Promise<Refusals> {
  // One statement, one snapshot: both lists have the same sum.
  const { rows } = await db.query<{
    from: Date;
    code: string | null;
    hour: Date | null;
    refusals: bigint | null;
    last_at: Date;
    last_detail: string | null;
  }>(
    `WITH t AS (SELECT date_trunc('hour', now()) - make_interval(hours => $2 - 1) AS "from"),
          r AS (SELECT b.* FROM buyer_refusals b, t WHERE buyer_id = $1 AND hour >= t."from")
     SELECT t."from", g.* FROM t LEFT JOIN
       (SELECT code, hour, sum(refusals)::bigint AS refusals, max(last_at) AS last_at,
               (array_agg(last_detail ORDER BY last_at DESC))[1] AS last_detail
          FROM r GROUP BY GROUPING SETS ((code), (hour))) g ON true
      ORDER BY g.hour, g.refusals DESC, g.code`,
    [buyerId, hours],
  );
  const sums = (row: (typeof rows)[number]) => row.refusals ?? 0n;
  return {
    from: rows[0]?.from as Date,
    byCode: rows.flatMap((r) =>
      r.code === null
        ? []
        : [{ code: r.code, refusals: sums(r), lastAt: r.last_at, lastDetail: r.last_detail }],
    ),
    byHour: rows.flatMap((r) => (r.hour === null ? [] : [{ hour: r.hour, refusals: sums(r) }])),
  };
}

/** Deletes those that are older than they are kept; resolves to how many. A step of the job `cleanup`. */
export async function forgetOldRefusals(db: Queryable): Promise<number> {
  const { rowCount } = await db.query(
    'DELETE FROM buyer_refusals WHERE hour < now() - make_interval(hours => $1)',
    [REFUSALS_KEPT_HOURS],
  );
  return rowCount ?? 0;
}
