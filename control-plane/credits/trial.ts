import type { Queryable } from '../db/pool.js';
import { post } from '../ledger/ledger.js';
import { chargeMicros } from '../ledger/money.js';

/**
 * Gives a buyer the trial's bytes, as money at the buyer's price, in the caller's transaction. Once per buyer for ever,
 * whoever calls how often (the ledger's key is the buyer); `unavailable`: the trial is off, or traffic costs nothing.
 */
export async function grantTrial(
  client: Queryable,
  buyerId: string,
  trialBytes: bigint,
  priceMicrosPerGb: bigint,
): Promise<
  | { ok: true; transactionId: string; amountMicros: bigint }
  | { ok: false; code: 'trial_used' | 'unavailable' }
> {
  const amountMicros = chargeMicros(trialBytes, priceMicrosPerGb);
  if (amountMicros === 0n) return { ok: false, code: 'unavailable' };
  const [posted] = await post(client, [
    {
      kind: 'trial',
      sourceId: buyerId,
      description: `${trialBytes} bytes`,
      entries: [
        { account: { kind: 'buyer_prepaid', ownerId: buyerId }, entryKind: 'promo_bonus', amountMicros },
        {
          account: { kind: 'platform_revenue', ownerId: null },
          entryKind: 'promo_bonus',
          amountMicros: -amountMicros,
        },
      ],
    },
  ]);
  // Booked before, at this price or another one.
  if (!posted?.ok || !posted.fresh || posted.id === null) return { ok: false, code: 'trial_used' };
  return { ok: true, transactionId: posted.id, amountMicros };
}
