import { createHash, randomUUID } from 'node:crypto';
import { plainArray } from '../db/plain-array.js';
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
   * kind alone). Platform accounts have no floor. What bounds a buyer's traffic are wallets; adjustments and refunds
   * that would leave a buyer with less than is held are refused by the database (23514, `held_by_traffic`).
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

/** How `post` treats a key that exists. */
export interface PostOptions {
  /**
   * The caller knows that none of the keys exists (it holds the lock under which they are made): they are not looked
   * up. One that exists all the same makes `post` throw (SQLSTATE 23505), and so does `below_zero`.
   */
  mustBeFresh?: boolean;
}

interface Account {
  id: string;
  kind: AccountKind;
  balance: bigint;
  version: bigint;
}

const accountKey = (a: AccountRef) => `${a.kind}|${a.ownerId ?? ''}`;
const transactionKey = (t: { kind: string; sourceId: string }) => `${t.kind}|${t.sourceId}`;
const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** SHA-256 (hex) of the entries in an order of their own: equal content, equal hash. */
function contentHash(entries: readonly Posting[]): string {
  const lines = entries
    .map((e) => `${accountKey(e.account)}|${e.entryKind}|${e.amountMicros}`)
    .sort(byText)
    .join('\n');
  return createHash('sha256').update(lines).digest('hex');
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
  options: PostOptions = {},
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
  const booked = options.mustBeFresh
    ? new Map<string, Booked>()
    : await findBooked(
        client,
        wanted.map((w) => w.transaction),
      );

  const results: PostResult[] = [];
  const fresh: Array<{ id: string; transaction: LedgerTransaction; hash: string }> = [];
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
        before.hash === hash
          ? { ok: true, fresh: false, id: before.id }
          : { ok: false, code: 'exists_with_other_content' },
      );
      continue;
    }
    if (!transaction.mayGoBelowZero && wouldFallBelowZero(entries, accounts)) {
      if (options.mustBeFresh) throw new Error(`ledger transaction ${key} would take below zero`);
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
     SELECT id, kind, source_id, decode(hash, 'hex'), description
       FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
            AS w (id, kind, source_id, hash, description)`,
    [
      plainArray(fresh.map((f) => f.id)),
      fresh.map((f) => f.transaction.kind),
      fresh.map((f) => f.transaction.sourceId),
      plainArray(fresh.map((f) => f.hash)),
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

interface Booked {
  hash: string;
  id: string;
}

/** Those of the transactions that exist, by key. */
async function findBooked(
  client: Queryable,
  transactions: readonly LedgerTransaction[],
): Promise<Map<string, Booked>> {
  const { rows } = await client.query<{ kind: string; source_id: string; content_hash: string; id: string }>(
    `SELECT t.kind, t.source_id, encode(t.content_hash, 'hex') AS content_hash, t.id
       FROM unnest($1::text[], $2::text[]) AS w (kind, source_id)
       JOIN ledger_transactions t ON t.kind = w.kind AND t.source_id = w.source_id`,
    [transactions.map((t) => t.kind), transactions.map((t) => t.sourceId)],
  );
  return new Map(rows.map((r) => [`${r.kind}|${r.source_id}`, { hash: r.content_hash, id: r.id }]));
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
  #amounts: bigint[] = [];
  #versions: bigint[] = [];
  #balances: bigint[] = [];
  push(transactionId: string, account: Account, entry: Posting): void {
    this.#transactionIds.push(transactionId);
    this.#accountIds.push(account.id);
    this.#kinds.push(entry.entryKind);
    this.#amounts.push(entry.amountMicros);
    this.#versions.push(account.version);
    this.#balances.push(account.balance);
  }
  columns(): string[] {
    return [
      plainArray(this.#transactionIds),
      plainArray(this.#accountIds),
      plainArray(this.#kinds),
      plainArray(this.#amounts),
      plainArray(this.#versions),
      plainArray(this.#balances),
    ];
  }
}

/** Creates the accounts that are missing, then locks all of them in the order of their ids. */
async function lockAccounts(
  client: Queryable,
  refs: ReadonlyMap<string, AccountRef>,
): Promise<Map<string, Account>> {
  let ids = await findAccounts(client, refs);
  if (ids.size < refs.size) {
    const missing = [...refs.entries()].filter(([key]) => !ids.has(key)).sort(([a], [b]) => byText(a, b));
    // Before any account is locked, and in one order: creators wait for each other in a line, never in a circle.
    await client.query(
      `INSERT INTO ledger_accounts (kind, owner_id)
       SELECT kind, owner_id FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS w (kind, owner_id, n)
        ORDER BY n ON CONFLICT DO NOTHING`,
      [missing.map(([, ref]) => ref.kind), missing.map(([, ref]) => ref.ownerId)],
    );
    ids = await findAccounts(client, refs);
  }
  // NO KEY: foreign key checks of other writers' rows need not wait.
  const { rows } = await client.query<{
    id: unknown;
    kind: AccountKind;
    owner_id: string | null;
    balance_micros: unknown;
    version: unknown;
  }>(
    `SELECT id, kind, owner_id, balance_micros, version FROM ledger_accounts
      WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE`,
    [[...ids.values()]],
  );
  const accounts = new Map<string, Account>();
  for (const row of rows)
    accounts.set(accountKey({ kind: row.kind, ownerId: row.owner_id }), {
      id: String(row.id),
      kind: row.kind,
      balance: BigInt(row.balance_micros as string),
      version: BigInt(row.version as string),
    });
  for (const key of refs.keys()) if (!accounts.has(key)) throw new Error(`ledger account ${key} is missing`);
  return accounts;
}

/** The ids of the accounts that exist. Each kind by its own index range; the platform's have a null owner. */
async function findAccounts(
  client: Queryable,
  refs: ReadonlyMap<string, AccountRef>,
): Promise<Map<string, string>> {
  const owned = [...refs.values()].filter((r) => r.ownerId !== null);
  const { rows } = await client.query<{ id: unknown; kind: AccountKind; owner_id: string | null }>(
    `SELECT a.id, a.kind, a.owner_id
       FROM unnest($1::text[], $2::uuid[]) AS w (kind, owner_id)
       JOIN ledger_accounts a ON a.kind = w.kind AND a.owner_id = w.owner_id
     UNION ALL SELECT id, kind, owner_id FROM ledger_accounts WHERE owner_id IS NULL AND kind = ANY ($3::text[])`,
    [
      owned.map((r) => r.kind),
      owned.map((r) => r.ownerId),
      [...refs.values()].filter((r) => r.ownerId === null).map((r) => r.kind),
    ],
  );
  return new Map(rows.map((r) => [accountKey({ kind: r.kind, ownerId: r.owner_id }), String(r.id)]));
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
