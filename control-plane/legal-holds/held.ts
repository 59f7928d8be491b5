import type { Queryable } from '../db/pool.js';

/** Whose connection records are kept although their days are over. */
export interface Held {
  buyerIds: string[];
  /** Providers. */
  userIds: string[];
}

/** Of `legal_holds`: it keeps records now. */
export const IN_FORCE = 'lifted_at IS NULL AND (confirmed_at IS NOT NULL OR lapses_at > now())';

const LOCK = "hashtextextended('legal_holds', 0)";

/** Whose records are held now, in the same order each time. */
export async function readHeld(db: Queryable): Promise<Held> {
  const { rows } = await db.query<{ buyers: string[]; users: string[] }>(
    `SELECT coalesce(array_agg(DISTINCT buyer_id) FILTER (WHERE buyer_id IS NOT NULL), '{}') AS buyers,
            coalesce(array_agg(DISTINCT user_id) FILTER (WHERE user_id IS NOT NULL), '{}') AS users
       FROM legal_holds WHERE ${IN_FORCE}`,
  );
  return { buyerIds: rows[0]?.buyers ?? [], userIds: rows[0]?.users ?? [] };
}

/**
 * Whose records are held now and until the caller's transaction ends: whoever asks for another hold waits, so that nothing
 * of it is deleted after the admin was told that it is in force.
 */
export async function readHeldForDeletion(client: Queryable): Promise<Held> {
  await client.query(`SELECT pg_advisory_xact_lock_shared(${LOCK})`);
  return readHeld(client);
}

/** Waits for deletions that are under way; call in the transaction that makes a hold. */
export async function waitForDeletions(client: Queryable): Promise<void> {
  await client.query(`SELECT pg_advisory_xact_lock(${LOCK})`);
}
