import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type pg from 'pg';
import t from 'tap';
import {
  type AccountRef,
  type LedgerTransaction,
  type PostResult,
  post,
  readBalances,
} from '../../../control-plane/ledger/ledger.js';
import { verify } from '../../../control-plane/ledger/verify.js';
import { assertLedger } from '../../helpers/ledger.js';
import { startMoneyDatabase } from '../../helpers/money-world.js';

/** One attempt in a database transaction of its own. */
async function book(pool: pg.Pool, transactions: LedgerTransaction[]): Promise<PostResult[]> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const results = await post(client, transactions);
    await client.query('COMMIT');
    return results;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

const REVENUE: AccountRef = { kind: 'platform_revenue', ownerId: null };
const FUNDING: AccountRef = { kind: 'platform_funding', ownerId: null };
const buyer = (ownerId: string): AccountRef => ({ kind: 'buyer_prepaid', ownerId });
const pending = (ownerId: string): AccountRef => ({ kind: 'provider_pending', ownerId });
const available = (ownerId: string): AccountRef => ({ kind: 'provider_available', ownerId });

/** Money from the outside into an account. */
const fund = (
  account: AccountRef,
  amountMicros: bigint,
  sourceId: string = randomUUID(),
): LedgerTransaction => ({
  kind: 'admin_adjustment',
  sourceId,
  entries: [
    { account, entryKind: 'admin_adjustment', amountMicros },
    { account: FUNDING, entryKind: 'admin_adjustment', amountMicros: -amountMicros },
  ],
});

t.test('ledger', async (t) => {
  const pool = await startMoneyDatabase(t);

  await t.test('books once, however often it is posted, and tells reuse of a key apart', async (t) => {
    const id = randomUUID();
    const first = await book(pool, [fund(buyer(id), 5_000_000n, 'topup-1')]);
    t.match(first, [{ ok: true, fresh: true }]);
    const again = await book(pool, [fund(buyer(id), 5_000_000n, 'topup-1')]);
    t.same(again, [{ ...first[0], fresh: false }], 'the same transaction');
    t.same(await book(pool, [fund(buyer(id), 5_000_001n, 'topup-1')]), [
      { ok: false, code: 'exists_with_other_content' },
    ]);
    const twice = await book(pool, [fund(buyer(id), 1n, 'topup-2'), fund(buyer(id), 1n, 'topup-2')]);
    t.match(twice, [{ fresh: true }, { fresh: false }], 'also within one batch');
    t.same((await readBalances(pool, 'buyer_prepaid', [id])).get(id), {
      balanceMicros: 5_000_001n,
      version: 2n,
    });
  });

  await t.test('refuses what does not sum to zero before the database has to', async (t) => {
    await t.rejects(
      book(pool, [
        {
          kind: 'x',
          sourceId: 'unbalanced',
          entries: [{ account: REVENUE, entryKind: 'platform_revenue', amountMicros: 1n }],
        },
      ]),
      /sums to 1/,
    );
  });

  await t.test('drops zero amounts; a transaction of nothing else books nothing', async (t) => {
    const id = randomUUID();
    t.same(await book(pool, [fund(buyer(id), 0n, 'nothing')]), [{ ok: true, fresh: false, id: null }]);
    const { rowCount } = await pool.query("SELECT 1 FROM ledger_transactions WHERE source_id = 'nothing'");
    t.equal(rowCount, 0);
  });

  await t.test(
    "keeps a provider's money above zero unless told otherwise, one transaction at a time",
    async (t) => {
      const id = randomUUID();
      const take = (amountMicros: bigint, mayGoBelowZero = false): LedgerTransaction => ({
        ...fund(available(id), -amountMicros),
        mayGoBelowZero,
      });
      const results = await book(pool, [fund(available(id), 10n), take(7n), take(7n), take(3n)]);
      t.match(results, [{ ok: true }, { ok: true }, { ok: false, code: 'below_zero' }, { ok: true }]);
      t.match(await book(pool, [take(1n)]), [{ ok: false, code: 'below_zero' }]);
      t.match(await book(pool, [take(5n, true)]), [{ ok: true, fresh: true }]);
      t.equal((await readBalances(pool, 'provider_available', [id])).get(id)?.balanceMicros, -5n);
    },
  );

  await t.test('two withdrawals at once can not both have the same money', async (t) => {
    const id = randomUUID();
    await book(pool, [fund(available(id), 100n)]);
    const results = await Promise.all(
      Array.from({ length: 8 }, () => book(pool, [fund(available(id), -60n)]).then((r) => r[0])),
    );
    t.equal(results.filter((r) => r?.ok).length, 1);
  });

  await t.test('the database refuses what the code would never do', async (t) => {
    const id = randomUUID();
    await book(pool, [fund(buyer(id), 10n)]);
    const refused = { code: '23001' };
    await t.rejects(pool.query('UPDATE ledger_entries SET amount_micros = 0'), refused);
    await t.rejects(pool.query('DELETE FROM ledger_entries'), refused);
    await t.rejects(pool.query('TRUNCATE ledger_entries'), refused);
    await t.rejects(pool.query("UPDATE ledger_transactions SET description = ''"), refused);
    await t.rejects(pool.query('DELETE FROM ledger_transactions'), refused);
    await t.rejects(pool.query('UPDATE ledger_accounts SET balance_micros = balance_micros + 1'), refused);
    await t.rejects(pool.query('DELETE FROM ledger_accounts'), refused);
    await t.rejects(
      pool.query(
        "INSERT INTO ledger_accounts (kind, owner_id, balance_micros) VALUES ('buyer_prepaid', $1, 5)",
        [randomUUID()],
      ),
      refused,
    );

    const transaction = randomUUID();
    const insert = (amounts: number[], versionStep = 1, balanceOff = 0) =>
      pool.query(
        `WITH x AS (INSERT INTO ledger_transactions (id, kind, source_id, content_hash)
                    VALUES ($1, 'raw', $2, '\\x00'))
         INSERT INTO ledger_entries (transaction_id, account_id, kind, amount_micros, account_version, balance_after_micros)
         SELECT $1, a.id, 'admin_adjustment', v.amount, a.version + $5, a.balance_micros + v.amount + $6
           FROM unnest($3::text[], $4::bigint[]) AS v (kind, amount)
           JOIN ledger_accounts a ON a.kind = v.kind AND (a.owner_id = $7 OR a.owner_id IS NULL)`,
        [
          transaction,
          randomUUID(),
          ['buyer_prepaid', 'platform_funding'],
          amounts,
          versionStep,
          balanceOff,
          id,
        ],
      );
    await t.rejects(insert([5, -4]), { code: '23514' }, 'a sum that is not zero');
    await t.rejects(insert([5, -5], 2), { code: '23514' }, 'a gap in the versions');
    await t.rejects(insert([5, -5], 0), { code: '23505' }, 'a version taken twice');
    await t.rejects(insert([5, -5], 1, 1), { code: '23514' }, 'a wrong running balance');
    await t.resolves(insert([5, -5]), 'and accepts it when all is right');
    await t.rejects(
      pool.query(
        `INSERT INTO ledger_entries (transaction_id, account_id, kind, amount_micros, account_version, balance_after_micros)
         SELECT $1, 987654321, 'topup', 0, 1, 0`,
        [transaction],
      ),
      { code: '23503' },
      'an account that does not exist',
    );
    await t.rejects(
      pool.query(
        `INSERT INTO ledger_entries (transaction_id, account_id, kind, amount_micros, account_version, balance_after_micros)
         SELECT $1, id, 'topup', 0, version + 1, balance_micros FROM ledger_accounts LIMIT 1`,
        [randomUUID()],
      ),
      { code: '23503' },
      'a transaction that does not exist',
    );
  });

  await t.test('random batches by concurrent posters add up', async (t) => {
    const owners = Array.from({ length: 4 }, () => randomUUID());
    const accounts: AccountRef[] = [REVENUE, FUNDING, ...owners.map(buyer), ...owners.map(pending)];
    const transaction = fc.record({
      source: fc.integer({ min: 0, max: 40 }),
      from: fc.integer({ min: 0, max: accounts.length - 1 }),
      to: fc.integer({ min: 0, max: accounts.length - 1 }),
      amount: fc.bigInt({ min: 0n, max: 10n ** 12n }),
    });
    // More than the adjustments can take: a buyer is not adjusted below what is held for traffic, nor below zero.
    await book(
      pool,
      owners.map((owner) => ({
        kind: 'random_start',
        sourceId: owner,
        entries: [
          { account: buyer(owner), entryKind: 'topup', amountMicros: 10n ** 17n },
          { account: FUNDING, entryKind: 'topup', amountMicros: -(10n ** 17n) },
        ],
      })),
    );
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(transaction, { maxLength: 12 }), { minLength: 2, maxLength: 8 }),
        async (batches) => {
          const tag = round++;
          const booked = new Map<string, { from: number; to: number; amount: bigint }>();
          const before = await balances();
          await Promise.all(
            batches.map(async (batch) => {
              const results = await book(
                pool,
                batch.map((x) => ({
                  kind: 'random',
                  sourceId: `${tag}:${x.source}`,
                  mayGoBelowZero: false,
                  entries: [
                    {
                      account: accounts[x.from] as AccountRef,
                      entryKind: 'admin_adjustment',
                      amountMicros: -x.amount,
                    },
                    {
                      account: accounts[x.to] as AccountRef,
                      entryKind: 'admin_adjustment',
                      amountMicros: x.amount,
                    },
                  ],
                })),
              ).catch((error: { code?: string }) => {
                // Two posters with one key and different content may race to the unique index: one of them fails whole.
                if (error.code === '23505') return [];
                throw error;
              });
              results.forEach((r, i) => {
                const x = batch[i];
                if (r.ok && r.fresh && x) {
                  if (booked.has(`${x.source}`)) throw new Error(`source ${x.source} was booked twice`);
                  booked.set(`${x.source}`, x);
                }
              });
            }),
          );
          const expected = [...before];
          for (const x of booked.values()) {
            expected[x.from] = (expected[x.from] ?? 0n) - x.amount;
            expected[x.to] = (expected[x.to] ?? 0n) + x.amount;
          }
          const after = await balances();
          return after.every((b, i) => b === expected[i]);
        },
      ),
      { numRuns: 25 },
    );
    async function balances(): Promise<bigint[]> {
      const { rows } = await pool.query(
        'SELECT kind, owner_id, balance_micros::text AS b FROM ledger_accounts',
      );
      return accounts.map((a) =>
        BigInt(rows.find((r) => r.kind === a.kind && r.owner_id === a.ownerId)?.b ?? 0),
      );
    }
    await assertLedger(t, pool);
  });

  await t.test('verify finds what was bent behind the triggers', async (t) => {
    const progress: number[] = [];
    const clean = await verify(pool, (done) => progress.push(done));
    t.equal(clean.ok, true);
    t.equal(progress.at(-1), clean.accounts);
    const client = await pool.connect();
    try {
      await client.query("SET session_replication_role = 'replica'");
      await client.query(
        `UPDATE ledger_accounts SET balance_micros = balance_micros + 1 WHERE kind = 'platform_revenue'`,
      );
      await client.query(`DELETE FROM ledger_entries WHERE id = (SELECT min(id) FROM ledger_entries)`);
    } finally {
      await client.query("SET session_replication_role = 'origin'");
      client.release();
    }
    const bent = await verify(pool);
    t.equal(bent.ok, false);
    const codes = new Set(bent.faults.map((f) => f.code));
    for (const code of [
      'total_not_zero',
      'transaction_not_zero',
      'balance_differs',
      'versions_have_gap',
    ] as const)
      t.ok(codes.has(code), code);
  });
});
