import type { Queryable } from '../db/pool.js';
import type { EntryKind } from '../ledger/ledger.js';

/** A provider's money, all of it from the ledger. */
export interface ProviderBalance {
  /** Free to withdraw. */
  availableMicros: bigint;
  /** Earned, still on hold. */
  pendingMicros: bigint;
  /** Withdrawn, or asked for and not given back. */
  withdrawnMicros: bigint;
  /** Everything ever credited: available + pending + withdrawn. */
  lifetimeMicros: bigint;
}

export async function readProviderBalance(db: Queryable, userId: string): Promise<ProviderBalance> {
  const { rows } = await db.query<{ kind: string; balance_micros: bigint; withdrawn_micros: bigint }>({
    name: 'provider-balance',
    text: `SELECT a.kind, a.balance_micros,
            coalesce((SELECT -sum(e.amount_micros) FROM ledger_entries e
                       WHERE e.account_id = a.id AND e.kind IN ('payout', 'payout_refund')), 0)::bigint AS withdrawn_micros
       FROM ledger_accounts a
      WHERE a.owner_id = $1 AND a.kind IN ('provider_available', 'provider_pending')`,
    values: [userId],
  });
  const of = (kind: string) => rows.find((r) => r.kind === kind);
  const availableMicros = of('provider_available')?.balance_micros ?? 0n;
  const pendingMicros = of('provider_pending')?.balance_micros ?? 0n;
  const withdrawnMicros = of('provider_available')?.withdrawn_micros ?? 0n;
  return {
    availableMicros,
    pendingMicros,
    withdrawnMicros,
    lifetimeMicros: availableMicros + pendingMicros + withdrawnMicros,
  };
}

/** One line of a provider's statement. */
export interface StatementLine {
  id: bigint;
  kind: EntryKind;
  account: 'pending' | 'available';
  amountMicros: bigint;
  balanceAfterMicros: bigint;
  description: string | null;
  createdAt: Date;
}

/** A provider's ledger entries, newest first, before the entry `beforeId` (null: from the newest). */
export async function readStatement(
  db: Queryable,
  userId: string,
  beforeId: string | null,
  limit: number,
): Promise<StatementLine[]> {
  const { rows } = await db.query<{
    id: bigint;
    kind: EntryKind;
    account_kind: string;
    amount_micros: bigint;
    balance_after_micros: bigint;
    description: string | null;
    created_at: Date;
  }>(
    // Per account by its own index, newest versions first; entries of one account have rising ids.
    `SELECT e.id, e.kind, a.kind AS account_kind, e.amount_micros, e.balance_after_micros, t.description, e.created_at
       FROM ledger_accounts a
       CROSS JOIN LATERAL (SELECT * FROM ledger_entries x
                            WHERE x.account_id = a.id AND ($2::bigint IS NULL OR x.id < $2)
                            ORDER BY x.account_version DESC LIMIT $3) e
       JOIN ledger_transactions t ON t.id = e.transaction_id
      WHERE a.owner_id = $1 AND a.kind IN ('provider_available', 'provider_pending')
      ORDER BY e.id DESC LIMIT $3`,
    [userId, beforeId, limit],
  );
  return rows.map((r) => ({
    id: r.id,
    kind: r.kind,
    account: r.account_kind === 'provider_available' ? 'available' : 'pending',
    amountMicros: r.amount_micros,
    balanceAfterMicros: r.balance_after_micros,
    description: r.description,
    createdAt: r.created_at,
  }));
}
