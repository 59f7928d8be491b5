import type pg from 'pg';

/** One thing that does not add up. `detail` is for people. */
export interface LedgerFault {
  code:
    | 'total_not_zero'
    | 'transaction_not_zero'
    | 'transaction_empty'
    | 'balance_differs'
    | 'versions_have_gap'
    | 'running_balance_wrong';
  detail: string;
}

export interface LedgerReport {
  ok: boolean;
  accounts: number;
  transactions: number;
  entries: number;
  /** At most FAULTS_KEPT. */
  faults: LedgerFault[];
}

const FAULTS_KEPT = 100;
/** Accounts proven at a time; memory and progress steps follow it. */
const ACCOUNTS_PER_STEP = 500;

/**
 * Proves the ledger from its entries alone: everything and each transaction sums to zero, each account's balance is
 * the sum of its entries, its versions run 1, 2, 3 … without a gap and each running balance is right. Reads one
 * snapshot, so it may run beside live bookings. `onProgress` is called with accounts done and accounts in all.
 */
export async function verify(
  pool: pg.Pool,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<LedgerReport> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const faults: LedgerFault[] = [];
    const fault = (code: LedgerFault['code'], detail: string) => {
      if (faults.length < FAULTS_KEPT) faults.push({ code, detail });
    };

    const [counts] = (
      await client.query(
        `SELECT (SELECT count(*) FROM ledger_accounts)::int AS accounts,
                (SELECT count(*) FROM ledger_transactions)::int AS transactions,
                (SELECT count(*) FROM ledger_entries)::int AS entries,
                (SELECT coalesce(sum(amount_micros), 0) FROM ledger_entries)::text AS total`,
      )
    ).rows as [{ accounts: number; transactions: number; entries: number; total: string }];
    if (counts.total !== '0') fault('total_not_zero', `all entries sum to ${counts.total}`);

    const unequal = await client.query<{ id: string; sum: string }>(
      `SELECT transaction_id AS id, sum(amount_micros)::text AS sum FROM ledger_entries
        GROUP BY transaction_id HAVING sum(amount_micros) <> 0 LIMIT ${FAULTS_KEPT}`,
    );
    for (const row of unequal.rows) fault('transaction_not_zero', `transaction ${row.id} sums to ${row.sum}`);
    const empty = await client.query<{ id: string }>(
      `SELECT id FROM ledger_transactions t
        WHERE NOT EXISTS (SELECT 1 FROM ledger_entries e WHERE e.transaction_id = t.id) LIMIT ${FAULTS_KEPT}`,
    );
    for (const row of empty.rows) fault('transaction_empty', `transaction ${row.id} has no entries`);

    let done = 0;
    let after = '0';
    for (;;) {
      const { rows } = await client.query<{
        id: string;
        kind: string;
        balance: string;
        version: string;
        entries: string;
        sum: string;
        first: string | null;
        last: string | null;
        wrong: string;
      }>(
        `WITH step AS (SELECT * FROM ledger_accounts WHERE id > $1 ORDER BY id LIMIT ${ACCOUNTS_PER_STEP}),
              running AS (
                SELECT e.account_id, e.account_version, e.amount_micros, e.balance_after_micros,
                       sum(e.amount_micros) OVER (PARTITION BY e.account_id ORDER BY e.account_version) AS balance
                  FROM ledger_entries e JOIN step s ON s.id = e.account_id)
         SELECT s.id::text, s.kind, s.balance_micros::text AS balance, s.version::text,
                count(r.account_version)::text AS entries, coalesce(sum(r.amount_micros), 0)::text AS sum,
                min(r.account_version)::text AS first, max(r.account_version)::text AS last,
                count(*) FILTER (WHERE r.balance <> r.balance_after_micros)::text AS wrong
           FROM step s LEFT JOIN running r ON r.account_id = s.id
          GROUP BY s.id, s.kind, s.balance_micros, s.version ORDER BY s.id`,
        [after],
      );
      for (const a of rows) {
        const name = `account ${a.id} (${a.kind})`;
        if (a.balance !== a.sum)
          fault('balance_differs', `${name} holds ${a.balance}, its entries sum to ${a.sum}`);
        if (a.entries !== a.version || (a.entries !== '0' && (a.first !== '1' || a.last !== a.version)))
          fault('versions_have_gap', `${name} is at version ${a.version} with ${a.entries} entries`);
        if (a.wrong !== '0')
          fault('running_balance_wrong', `${name}: ${a.wrong} entries with a wrong running balance`);
      }
      if (rows.length === 0) break;
      done += rows.length;
      after = rows.at(-1)?.id ?? after;
      onProgress(done, counts.accounts);
    }
    await client.query('COMMIT');
    const { accounts, transactions, entries } = counts;
    return { ok: faults.length === 0, accounts, transactions, entries, faults };
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}
