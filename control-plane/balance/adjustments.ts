import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { post } from '../ledger/ledger.js';

/** Money an admin gives (or, negative, takes) by hand. */
export interface Adjustment {
  /** A buyer's prepaid balance, or a provider's available one. */
  of: { kind: 'buyer' | 'provider'; id: string };
  amountMicros: bigint;
  reason: string;
  adminId: string;
  /** The admin's Idempotency-Key: the same one is booked once, whatever happens. Null: always booked. */
  key: string | null;
  mayGoBelowZero: boolean;
}

export type Adjusted =
  /** `fresh`: it was booked now and not before. */
  | { ok: true; transactionId: string; fresh: boolean }
  | { ok: false; code: 'unknown' | 'below_zero' | 'ledger_conflict' };

/** Adjusts a balance against platform funding, in the caller's transaction; roll that back when the answer is not `ok`. */
export async function adjustBalance(client: Queryable, adjustment: Adjustment): Promise<Adjusted> {
  const { of, amountMicros, reason, adminId, key, mayGoBelowZero } = adjustment;
  const isBuyer = of.kind === 'buyer';
  const { rowCount } = await client.query(`SELECT 1 FROM ${isBuyer ? 'buyers' : 'users'} WHERE id = $1`, [
    of.id,
  ]);
  if (!rowCount) return { ok: false, code: 'unknown' };
  const entryKind = 'admin_adjustment';
  const [posted] = await post(client, [
    {
      kind: entryKind,
      // The key belongs to the admin who sent it.
      sourceId: key === null ? `once:${randomUUID()}` : `${adminId}:${key}`,
      description: reason,
      mayGoBelowZero,
      entries: [
        {
          account: { kind: isBuyer ? 'buyer_prepaid' : 'provider_available', ownerId: of.id },
          entryKind,
          amountMicros,
        },
        {
          account: { kind: 'platform_funding', ownerId: null },
          entryKind,
          amountMicros: -amountMicros,
        },
      ],
    },
  ]);
  if (posted?.ok) return { ok: true, transactionId: posted.id as string, fresh: posted.fresh };
  return { ok: false, code: posted?.code === 'below_zero' ? 'below_zero' : 'ledger_conflict' };
}
