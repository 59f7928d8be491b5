import type { WalletKind } from '../../gateway/live/records.js';
import type { Queryable } from '../db/pool.js';

/**
 * What is set aside for running traffic of each owner (micro-dollars of buyers, bytes of allocations and sub-users)
 * and not spent yet, as committed. Owners of whom nothing is held are in the map with 0. A buyer's balance less this
 * is what is free.
 */
export async function readHeld(
  db: Queryable,
  kind: WalletKind,
  ownerIds: readonly string[],
): Promise<Map<string, bigint>> {
  const held = new Map(ownerIds.map((id) => [id, 0n]));
  if (ownerIds.length === 0) return held;
  const { rows } = await db.query<{ owner_id: string; held: string }>(
    `SELECT owner_id, sum(greatest(0, granted - renounced - spent))::text AS held FROM wallet_holds
      WHERE kind = $1 AND owner_id = ANY ($2::uuid[]) AND closed_at IS NULL GROUP BY owner_id`,
    [kind, ownerIds],
  );
  for (const row of rows) held.set(row.owner_id, BigInt(row.held));
  return held;
}

/** One hold as an admin sees it. */
export interface Hold {
  kind: WalletKind;
  ownerId: string;
  gatewayId: string;
  run: string;
  granted: bigint;
  renounced: bigint;
  spent: bigint;
  /** Set aside now; 0 once closed. */
  held: bigint;
  closedAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
}

/**
 * The holds of a buyer: of the money, of pulled packages, of sub-users and of quotas; open ones and the newest closed ones first,
 * at most `limit`.
 */
export async function readHolds(
  db: Queryable,
  buyerId: string,
  options: { includeClosed: boolean; limit: number },
): Promise<Hold[]> {
  const { rows } = await db.query<{
    kind: WalletKind;
    owner_id: string;
    gateway_id: string;
    run: string;
    granted: bigint;
    renounced: bigint;
    spent: bigint;
    held: bigint;
    closed_at: Date | null;
    created_at: Date;
    updated_at: Date;
  }>(
    `SELECT kind, owner_id, gateway_id, run, granted, renounced, spent, closed_at, created_at, updated_at,
            CASE WHEN closed_at IS NULL THEN greatest(0, granted - renounced - spent) ELSE 0 END AS held
       FROM wallet_holds
      WHERE ((kind = 'buyer' AND owner_id = $1)
          OR (kind = 'package' AND owner_id IN (SELECT id FROM allocations WHERE buyer_id = $1 AND via = 'pull'))
          OR (kind IN ('sub_user', 'day', 'month') AND owner_id IN (SELECT id FROM sub_users WHERE buyer_id = $1))
          OR (kind IN ('day', 'month') AND owner_id = $1))
        AND ($2 OR closed_at IS NULL)
      ORDER BY closed_at DESC NULLS FIRST, kind, owner_id, gateway_id, run LIMIT $3`,
    [buyerId, options.includeClosed, options.limit],
  );
  return rows.map((r) => ({
    kind: r.kind,
    ownerId: r.owner_id,
    gatewayId: r.gateway_id,
    run: r.run,
    granted: r.granted,
    renounced: r.renounced,
    spent: r.spent,
    held: r.held,
    closedAt: r.closed_at,
    createdAt: r.created_at,
    updatedAt: r.updated_at,
  }));
}

/** Whether Postgres refused a booking because less would be left of a buyer's balance than is held (migration 0004). */
export function isHeldByTraffic(error: unknown): boolean {
  const e = error as { code?: unknown; constraint?: unknown } | null;
  return e?.code === '23514' && e.constraint === 'held_by_traffic';
}
