import { createHash, randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';

/** The kinds of accounts, as in table `ledger_accounts`. */
export type AccountKind =
  | 'buyer_prepaid'
  | 'provider_pending'
  | 'provider_available'
  | 'platform_revenue'
  | 'platform_funding';

/** The kinds of entries, as in table `ledger_entries`. */
export type EntryKind =
  | 'traffic_earning'
  | 'traffic_charge'
  | 'platform_revenue'
  | 'hold_release'
  | 'payout'
  | 'payout_refund'
  | 'topup'
  | 'admin_adjustment'
  | 'referral_bonus'
  | 'promo_bonus'
  | 'refund';

/** Whose money: `ownerId` is the buyer's or provider's id, null for the platform's own accounts. */
export interface AccountRef {
  kind: AccountKind;
  ownerId: string | null;
}

export interface Posting {
  account: AccountRef;
  entryKind: EntryKind;
  /** Positive adds to the account's balance, negative takes from it; zero is dropped. */
  amountMicros: bigint;
}

/** One transaction to book. */
export interface LedgerTransaction {
  /** What kind of event it books; `sourceId` is the idempotency key within the kind. */
  kind: string;
  sourceId: string;
  description?: string;
  /** Must sum to zero. */
  entries: readonly Posting[];
  /**
   * Lets a provider's account fall below zero. Only for admin adjustments (the database allows it for that entry
   * kind alone). Buyer and platform accounts have no floor: what bounds a buyer is admission and leases.
   */
  mayGoBelowZero?: boolean;
}

/**
 * What became of one transaction.
 * - `fresh: true`: booked now, under `id`.
 * - `fresh: false`: booked earlier with the same content (`id` is that one), or all its amounts were zero (`id` null).
 * - `exists_with_other_content`: the key was used for something else. Nothing was booked; an alarm.
 * - `below_zero`: a provider's account would fall below zero. Nothing was booked.
 */
export type PostResult =
  | { ok: true; fresh: boolean; id: string | null }
  | { ok: false; code: 'exists_with_other_content' | 'below_zero' };

interface Account {
  id: string;
  kind: AccountKind;
  balance: bigint;
  version: bigint;
}

const accountKey = (a: AccountRef) => `${a.kind}|${a.ownerId ?? ''}`;
const transactionKey = (t: { kind: string; sourceId: string }) => `${t.kind}|${t.sourceId}`;
const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** SHA-256 of the entries in an order of their own: equal content, equal hash. */
function contentHash(entries: readonly Posting[]): Buffer {
  const lines = entries
    .map((e) => `${accountKey(e.account)}|${e.entryKind}|${e.amountMicros}`)
    .sort(byText)
    .join('\n');
  return createHash('sha256').update(lines).digest();
}

/**
 * Books transactions in the caller's database transaction: the only code that writes the ledger's tables.
 *
 * Results come in the order of the argument. Each transaction stands for itself: one that is refused leaves the
 * others booked. Within one call a transaction sees the balances that earlier ones of the call left. Accounts are
 * created on first use and locked in the order of their ids, so concurrent callers do not deadlock as long as each
 * posts once per database transaction (two posts in one may; the database then ends one with 40P01).
 *
 * Throws when a transaction does not sum to zero (a bug of the caller), and on database errors; the caller's
 * transaction must then be rolled back.
 */
export async function post(
  client: Queryable,
  transactions: readonly LedgerTransaction[],
): Promise<PostResult[]> {
  const wanted = transactions.map((t) => {
    const entries = t.entries.filter((e) => e.amountMicros !== 0n);
    let sum = 0n;
    for (const e of entries) sum += e.amountMicros;
    if (sum !== 0n) throw new Error(`ledger transaction ${transactionKey(t)} sums to ${sum}, not to zero`);
    return { transaction: t, entries, hash: contentHash(entries) };
  });

  const refs = new Map<string, AccountRef>();
  for (const w of wanted) for (const e of w.entries) refs.set(accountKey(e.account), e.account);
  if (refs.size === 0) return wanted.map(() => ({ ok: true, fresh: false, id: null }));
  const accounts = await lockAccounts(client, refs);

  // Looked up after the accounts are locked: a concurrent booking of the same content has committed by now.
  const booked = new Map<string, { hash: Buffer; id: string }>();
  for (const row of (
    await client.query<{ kind: string; source_id: string; content_hash: Buffer; id: string }>(
      `SELECT t.kind, t.source_id, t.content_hash, t.id
         FROM unnest($1::text[], $2::text[]) AS w (kind, source_id)
         JOIN ledger_transactions t ON t.kind = w.kind AND t.source_id = w.source_id`,
      [wanted.map((w) => w.transaction.kind), wanted.map((w) => w.transaction.sourceId)],
    )
  ).rows)
    booked.set(`${row.kind}|${row.source_id}`, { hash: row.content_hash, id: row.id });

  const results: PostResult[] = [];
  const fresh: Array<{ id: string; transaction: LedgerTransaction; hash: Buffer }> = [];
  const rows = new EntryColumns();
  for (const { transaction, entries, hash } of wanted) {
    if (entries.length === 0) {
      results.push({ ok: true, fresh: false, id: null });
      continue;
    }
    const key = transactionKey(transaction);
    const before = booked.get(key);
    if (before) {
      results.push(
        before.hash.equals(hash)
          ? { ok: true, fresh: false, id: before.id }
          : { ok: false, code: 'exists_with_other_content' },
      );
      continue;
    }
    if (!transaction.mayGoBelowZero && wouldFallBelowZero(entries, accounts)) {
      results.push({ ok: false, code: 'below_zero' });
      continue;
    }
    const id = randomUUID();
    for (const e of entries) {
      const account = accounts.get(accountKey(e.account)) as Account;
      account.balance += e.amountMicros;
      account.version += 1n;
      rows.push(id, account, e);
    }
    booked.set(key, { hash, id });
    fresh.push({ id, transaction, hash });
    results.push({ ok: true, fresh: true, id });
  }
  if (fresh.length === 0) return results;

  await client.query(
    `INSERT INTO ledger_transactions (id, kind, source_id, content_hash, description)
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[])`,
    [
      fresh.map((f) => f.id),
      fresh.map((f) => f.transaction.kind),
      fresh.map((f) => f.transaction.sourceId),
      fresh.map((f) => f.hash),
      fresh.map((f) => f.transaction.description ?? null),
    ],
  );
  // The trigger of 0002 checks sums, versions and balances once more and moves ledger_accounts.
  await client.query(
    `INSERT INTO ledger_entries
       (transaction_id, account_id, kind, amount_micros, account_version, balance_after_micros)
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])`,
    rows.columns(),
  );
  return results;
}

/** A provider's account must not end below zero; one that is below already may still be added to. */
function wouldFallBelowZero(entries: readonly Posting[], accounts: ReadonlyMap<string, Account>): boolean {
  const after = new Map<Account, bigint>();
  for (const e of entries) {
    const account = accounts.get(accountKey(e.account)) as Account;
    const balance = (after.get(account) ?? account.balance) + e.amountMicros;
    // Checked at every step, as the database does, not only at the end.
    if (balance < 0n && e.amountMicros < 0n && account.kind.startsWith('provider_')) return true;
    after.set(account, balance);
  }
  return false;
}

class EntryColumns {
  #transactionIds: string[] = [];
  #accountIds: string[] = [];
  #kinds: string[] = [];
  #amounts: string[] = [];
  #versions: string[] = [];
  #balances: string[] = [];
  push(transactionId: string, account: Account, entry: Posting): void {
    this.#transactionIds.push(transactionId);
    this.#accountIds.push(account.id);
    this.#kinds.push(entry.entryKind);
    this.#amounts.push(entry.amountMicros.toString());
    this.#versions.push(account.version.toString());
    this.#balances.push(account.balance.toString());
  }
  columns(): string[][] {
    return [
      this.#transactionIds,
      this.#accountIds,
      this.#kinds,
      this.#amounts,
      this.#versions,
      this.#balances,
    ];
  }
}

/** Creates the accounts that are missing, then locks all of them in the order of their ids. */
async function lockAccounts(
  client: Queryable,
  refs: ReadonlyMap<string, AccountRef>,
): Promise<Map<string, Account>> {
  const sorted = [...refs.entries()].sort(([a], [b]) => byText(a, b)).map(([, ref]) => ref);
  const columns = [sorted.map((r) => r.kind), sorted.map((r) => r.ownerId)];
  const lock = async () => {
    // NO KEY: foreign key checks of other writers' entries need not wait. The platform's accounts have a null owner.
    const { rows } = await client.query<{
      id: unknown;
      kind: AccountKind;
      owner_id: string | null;
      balance_micros: unknown;
      version: unknown;
    }>(
      `SELECT id, kind, owner_id, balance_micros, version FROM ledger_accounts
        WHERE (kind, owner_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
           OR (owner_id IS NULL AND kind IN (SELECT k FROM unnest($1::text[], $2::uuid[]) AS w (k, o) WHERE o IS NULL))
        ORDER BY id FOR NO KEY UPDATE`,
      columns,
    );
    return rows;
  };
  const missing = await client.query(
    `SELECT 1 FROM unnest($1::text[], $2::uuid[]) AS w (kind, owner_id)
      WHERE NOT EXISTS (SELECT 1 FROM ledger_accounts a
                         WHERE a.kind = w.kind AND a.owner_id IS NOT DISTINCT FROM w.owner_id) LIMIT 1`,
    columns,
  );
  if (missing.rowCount)
    // Before any account is locked, and in one order: creators wait for each other in a line, never in a circle.
    await client.query(
      `INSERT INTO ledger_accounts (kind, owner_id)
       SELECT kind, owner_id FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS w (kind, owner_id, n)
        ORDER BY n ON CONFLICT DO NOTHING`,
      columns,
    );
  const accounts = new Map<string, Account>();
  for (const row of await lock())
    accounts.set(accountKey({ kind: row.kind, ownerId: row.owner_id }), {
      id: String(row.id),
      kind: row.kind,
      balance: BigInt(row.balance_micros as string),
      version: BigInt(row.version as string),
    });
  for (const key of refs.keys()) if (!accounts.has(key)) throw new Error(`ledger account ${key} is missing`);
  return accounts;
}

/** The balance of each account asked for, micro-dollars; one without entries has zero. Reads what is committed. */
export async function readBalances(
  db: Queryable,
  kind: AccountKind,
  ownerIds: readonly string[],
): Promise<Map<string, { balanceMicros: bigint; version: bigint }>> {
  const found = new Map(ownerIds.map((id) => [id, { balanceMicros: 0n, version: 0n }]));
  const { rows } = await db.query<{ owner_id: string; balance_micros: unknown; version: unknown }>(
    'SELECT owner_id, balance_micros, version FROM ledger_accounts WHERE kind = $1 AND owner_id = ANY ($2::uuid[])',
    [kind, ownerIds],
  );
  for (const row of rows)
    found.set(row.owner_id, {
      balanceMicros: BigInt(row.balance_micros as string),
      version: BigInt(row.version as string),
    });
  return found;
}
