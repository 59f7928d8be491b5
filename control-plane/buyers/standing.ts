import type { Queryable } from '../db/pool.js';
import type { Buyer } from './buyers.js';

/** What decides whether a buyer may have traffic, and what is left to pay for it. */
export type BuyerStanding = Pick<
  Buyer,
  'account' | 'status' | 'kycStatus' | 'aupAcceptedAt' | 'priceMicrosPerGb' | 'balanceMicros' | 'heldMicros'
>;

/**
 * Why a buyer may not have traffic; null: they may. Verified by an admin, the acceptable-use policy accepted, and money
 * left (PRODUCT.md, "Protecting people").
 */
export function trafficRefusal(
  standing: BuyerStanding,
): 'account_suspended' | 'kyc_required' | 'policy_not_accepted' | 'no_balance' | null {
  if (standing.status !== 'active') return 'account_suspended';
  if (standing.kycStatus !== 'approved') return 'kyc_required';
  if (standing.aupAcceptedAt === null) return 'policy_not_accepted';
  return standing.balanceMicros <= 0n ? 'no_balance' : null;
}

/** Where a buyer stands now, without the sums of everything that ever was: read at each pull. Null: no such buyer. */
export async function readBuyerStanding(db: Queryable, buyerId: string): Promise<BuyerStanding | null> {
  const { rows } = await db.query<{
    account: string;
    status: Buyer['status'];
    kyc_status: Buyer['kycStatus'];
    aup_accepted_at: Date | null;
    price_micros_per_gb: bigint | null;
    balance_micros: bigint;
    held_micros: bigint;
  }>({
    name: 'buyer-standing',
    text: `SELECT b.account, b.status, b.kyc_status, b.aup_accepted_at, b.price_micros_per_gb,
                  coalesce(a.balance_micros, 0) AS balance_micros,
                  wallet_held('buyer', b.id)::bigint AS held_micros -- in the same snapshot as the balance
             FROM buyers b LEFT JOIN ledger_accounts a ON a.kind = 'buyer_prepaid' AND a.owner_id = b.id
            WHERE b.id = $1`,
    values: [buyerId],
  });
  const [row] = rows;
  if (row === undefined) return null;
  return {
    account: row.account,
    status: row.status,
    kycStatus: row.kyc_status,
    aupAcceptedAt: row.aup_accepted_at,
    priceMicrosPerGb: row.price_micros_per_gb,
    balanceMicros: row.balance_micros,
    heldMicros: row.held_micros,
  };
}
