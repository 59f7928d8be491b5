import type { Queryable } from '../db/pool.js';
import type { HoldSpent } from './core.js';

/**
 * Adds what meters have drawn on the wallet holds of their runs, in the transaction that books the meters. A hold
 * that has no row is skipped: its meters are of a version that knew no holds. Closed holds are added to as well.
 */
export async function spendHolds(client: Queryable, spent: readonly HoldSpent[]): Promise<void> {
  if (spent.length === 0) return;
  await client.query(
    `WITH held AS MATERIALIZED (
       SELECT h.kind, h.owner_id, h.gateway_id, h.run, w.units
         FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
              AS w (kind, owner_id, gateway_id, run, units)
         JOIN wallet_holds h
           ON h.kind = w.kind AND h.owner_id = w.owner_id AND h.gateway_id = w.gateway_id AND h.run = w.run
        ORDER BY h.kind, h.owner_id, h.gateway_id, h.run FOR NO KEY UPDATE OF h)
     UPDATE wallet_holds h SET spent = h.spent + held.units, updated_at = now()
       FROM held
      WHERE h.kind = held.kind AND h.owner_id = held.owner_id AND h.gateway_id = held.gateway_id
        AND h.run = held.run`,
    [
      spent.map((h) => h.kind),
      spent.map((h) => h.ownerId),
      spent.map((h) => h.gatewayId),
      spent.map((h) => h.run),
      spent.map((h) => h.units.toString()),
    ],
  );
}

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
