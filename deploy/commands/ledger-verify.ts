import { readDatabaseUrl } from '../../control-plane/config.js';
import { createPool, isDatabaseAway } from '../../control-plane/db/pool.js';
import { verify } from '../../control-plane/ledger/verify.js';
import { invariants } from '../../control-plane/settlement/invariants.js';
import { Progress } from './progress.js';

/**
 * `traffic-share ledger verify`: proves the ledger of TS_DATABASE_URL from its entries, and that meters, sessions,
 * allocations, usage and holds agree with it. Reads one snapshot each, so it may run beside a live system. Says what
 * it found on stdout (JSON with `json`), progress on stderr. Resolves to the exit code: 0 without faults, 1 with.
 */
export async function runLedgerVerify(options: { json: boolean }): Promise<number> {
  const pool = createPool({
    databaseUrl: readDatabaseUrl(),
    applicationName: 'traffic-share-ledger-verify',
    connectionsMax: 1,
    // Proving a large ledger takes minutes.
    statementTimeoutMs: 0,
    onIdleError: () => {},
  });
  const progress = new Progress(process.stderr, 'accounts proven');
  try {
    const ledger = await verify(pool, (done, total) => progress.update(done, total));
    progress.end();
    const known = new Set(ledger.faults.map((fault) => `${fault.code}: ${fault.detail}`));
    const books = (await invariants(pool)).filter((sentence) => !known.has(sentence));
    const ok = ledger.ok && books.length === 0;
    const { accounts, transactions, entries, faults } = ledger;
    if (options.json)
      process.stdout.write(
        `${JSON.stringify({ ok, accounts, transactions, entries, faults, books }, null, 2)}\n`,
      );
    else {
      for (const { code, detail } of faults) process.stdout.write(`FAULT ${code}: ${detail}\n`);
      for (const sentence of books) process.stdout.write(`FAULT ${sentence}\n`);
      const found = faults.length + books.length;
      process.stdout.write(
        `${accounts} accounts, ${transactions} transactions, ${entries} entries: ${ok ? 'everything adds up' : found === 1 ? '1 fault' : `${found} faults`}\n`,
      );
    }
    return ok ? 0 : 1;
  } catch (error) {
    progress.end();
    if (!isDatabaseAway(error)) throw error;
    process.stderr.write('Postgres at TS_DATABASE_URL can not be reached\n');
    return 1;
  } finally {
    await pool.end();
  }
}
