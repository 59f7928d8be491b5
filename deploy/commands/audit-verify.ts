import { parseHead } from '../../control-plane/audit/chain.js';
import { verifyAudit } from '../../control-plane/audit/verify.js';
import { readDatabaseUrl } from '../../control-plane/config.js';
import { createPool, isDatabaseAway } from '../../control-plane/db/pool.js';
import { Progress } from './progress.js';

/**
 * `traffic-share audit verify`: proves the audit log of TS_DATABASE_URL from its rows. Says what it found and the head
 * of the chain on stdout (JSON with `json`), progress on stderr; `anchor` is a head that was kept from an earlier time.
 * Resolves to the exit code: 0 without faults, 1 with, or when the database can not be reached.
 */
export async function runAuditVerify(options: { json: boolean; anchor?: string }): Promise<number> {
  const anchor = options.anchor === undefined ? null : parseHead(options.anchor);
  if (anchor === null && options.anchor !== undefined) {
    process.stderr.write('--anchor must be <number>:<64 hex digits>, as an earlier run printed it\n');
    return 1;
  }
  const pool = createPool({
    databaseUrl: readDatabaseUrl(),
    applicationName: 'traffic-share-audit-verify',
    connectionsMax: 1,
    // Proving a long log takes minutes.
    statementTimeoutMs: 0,
    onIdleError: () => {},
  });
  const progress = new Progress(process.stderr, 'links proven');
  try {
    const report = await verifyAudit(pool, anchor, (done, total) => progress.update(done, total));
    progress.end();
    const { ok, links, waiting, head, faults } = report;
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else {
      for (const { code, detail } of faults) process.stdout.write(`FAULT ${code}: ${detail}\n`);
      const found = ok ? 'nothing was changed' : faults.length === 1 ? '1 fault' : `${faults.length} faults`;
      process.stdout.write(`${links} links, ${waiting} rows wait for theirs: ${found}\nhead ${head}\n`);
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
