import type pg from 'pg';
import type { Test } from 'tap';
import { verify } from '../../control-plane/ledger/verify.js';

/** Asserts that the ledger adds up: zero in all and per transaction, balances = Σ entries, versions gapless. */
export async function assertLedger(t: Test, pool: pg.Pool): Promise<void> {
  const report = await verify(pool);
  t.same(report.faults, [], `ledger of ${report.entries} entries adds up`);
}
