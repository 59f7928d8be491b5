import type { Queryable } from '../db/pool.js';
import type { HoldSpent } from './core.js';

/** Kinds that a run always has a hold of before it counts. Others may come in the middle of a run. */
const ALWAYS_HELD: ReadonlySet<string> = new Set(['buyer', 'package']);

/**
 * Adds what meters have drawn on the wallet holds of their runs, in the transaction that books the meters. Closed holds are added
 * to as well. A hold of money or of a package that has no row was granted by a record that is lost (a restored database
 * is older than its gateways): it is made, with nothing granted, so that what was spent is known when the run asks again.
 */
export async function spendHolds(client: Queryable, spent: readonly HoldSpent[]): Promise<void> {
  if (spent.length === 0) return;
  const { rows } = await client.query<{ n: number }>(
    `WITH held AS MATERIALIZED (
       SELECT h.kind, h.owner_id, h.gateway_id, h.run, w.units
         FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
              AS w (kind, owner_id, gateway_id, run, units)
         JOIN wallet_holds h
           ON h.kind = w.kind AND h.owner_id = w.owner_id AND h.gateway_id = w.gateway_id AND h.run = w.run
        ORDER BY h.kind, h.owner_id, h.gateway_id, h.run FOR NO KEY UPDATE OF h),
     added AS (
       UPDATE wallet_holds h SET spent = h.spent + held.units, updated_at = now()
         FROM held
        WHERE h.kind = held.kind AND h.owner_id = held.owner_id AND h.gateway_id = held.gateway_id
          AND h.run = held.run)
     SELECT count(*)::int AS n FROM held WHERE kind = ANY ($6::text[])`,
    [...columnsOf(spent), [...ALWAYS_HELD]],
  );
  const always = spent.filter(({ kind }) => ALWAYS_HELD.has(kind));
  if (rows[0]?.n !== always.length) await insertMissing(client, always);
}

/** Who grants to the same owner waits for the lock on its account or allocation, which the booking holds: nobody inserts meanwhile. */
async function insertMissing(client: Queryable, spent: readonly HoldSpent[]): Promise<void> {
  await client.query(
    `INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, spent)
     SELECT w.kind, w.owner_id, w.gateway_id, w.run, w.units
       FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
            AS w (kind, owner_id, gateway_id, run, units)
      WHERE NOT EXISTS (SELECT 1 FROM wallet_holds h WHERE h.kind = w.kind AND h.owner_id = w.owner_id
                           AND h.gateway_id = w.gateway_id AND h.run = w.run)
      ORDER BY 1, 2, 3, 4`,
    columnsOf(spent),
  );
}

const columnsOf = (spent: readonly HoldSpent[]) => [
  spent.map((h) => h.kind),
  spent.map((h) => h.ownerId),
  spent.map((h) => h.gatewayId),
  spent.map((h) => h.run),
  spent.map((h) => h.units.toString()),
];

/** Adds booked bytes to the present day and month of buyers and sub-users that have quotas. */
export async function useQuotas(client: Queryable, bytes: ReadonlyMap<string, bigint>): Promise<void> {
  if (bytes.size === 0) return;
  const ids = [...bytes.keys()].sort();
  await client.query(
    `WITH used AS MATERIALIZED (
       SELECT q.owner_id, w.bytes FROM unnest($1::uuid[], $2::bigint[]) AS w (id, bytes)
         JOIN byte_quotas q ON q.owner_id = w.id ORDER BY q.owner_id FOR NO KEY UPDATE OF q)
     UPDATE byte_quotas q
        SET day_bytes = CASE WHEN q.day >= utc_day() THEN q.day_bytes ELSE 0 END + used.bytes,
            day = greatest(q.day, utc_day()),
            month_bytes = CASE WHEN q.month >= utc_month() THEN q.month_bytes ELSE 0 END + used.bytes,
            month = greatest(q.month, utc_month())
       FROM used WHERE q.owner_id = used.owner_id`,
    [ids, ids.map((id) => String(bytes.get(id)))],
  );
}

/** Adds booked bytes to what sub-users have used of their limits. */
export async function useSubUsers(client: Queryable, bytes: ReadonlyMap<string, bigint>): Promise<void> {
  if (bytes.size === 0) return;
  const ids = [...bytes.keys()].sort();
  await client.query(
    `WITH used AS MATERIALIZED (
       SELECT s.id, w.bytes FROM unnest($1::uuid[], $2::bigint[]) AS w (id, bytes)
         JOIN sub_users s ON s.id = w.id ORDER BY s.id FOR NO KEY UPDATE OF s)
     UPDATE sub_users s SET bytes_used = s.bytes_used + used.bytes FROM used WHERE s.id = used.id`,
    [ids, ids.map((id) => String(bytes.get(id)))],
  );
}
