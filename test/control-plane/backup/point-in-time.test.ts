import { execFile } from 'node:child_process';
import { chown, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import { migrate } from '../../../control-plane/db/migrate.js';
import { createPool } from '../../../control-plane/db/pool.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { freePort } from '../../../deploy/standalone/services/free-port.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { addBuyer } from '../../helpers/money-world.js';
import { createDatabase } from '../../helpers/services.js';
import { startSystemPostgres } from '../../helpers/system-postgres.js';
import { fund } from '../settlement/world.js';

const run = promisify(execFile);

/** A block of deploy/backups.md by what stands behind its fence, its archive in another folder. */
async function block(name: string, archive: string): Promise<string> {
  const text = await readFile(projectPath('deploy/backups.md'), 'utf8');
  const found = text.match(new RegExp(`^\`\`\`${name}\n([\\s\\S]*?)^\`\`\`$`, 'm'))?.[1];
  if (found === undefined) throw new Error(`deploy/backups.md has no block ${name}`);
  return found.replaceAll('/srv/wal', archive);
}

t.test('to a moment between two transactions, by the commands of deploy/backups.md', async (t) => {
  let wal = '';
  const conf: Record<string, string> = {};
  for (const line of (await block('conf', '@')).trim().split('\n')) {
    const [, name = '', value = ''] = /^(\w+) = '?(.*?)'?$/.exec(line) ?? [];
    conf[name] = value;
  }
  t.match(conf, { archive_mode: 'on', archive_command: /^test ! -f @\/%f/ });
  const postgres = await startSystemPostgres(t, (home) => {
    wal = join(home, 'wal');
    return Object.fromEntries(
      Object.entries(conf).map(([name, value]) => [name, value.replaceAll('@', wal)]),
    );
  });
  if (postgres === null) return;
  const { home, user } = postgres;
  await mkdir(wal);
  if (user !== null) await chown(wal, user.uid, user.gid);
  const port = await freePort();
  const shell = async (name: string, env: Record<string, string>) =>
    run('sh', ['-eu', '-c', await block(name, wal)], {
      env: {
        PATH: `${join(postgres.program('x'), '..')}:${process.env.PATH}`,
        LC_ALL: 'C',
        PGPORT: String(port),
        ...env,
      },
      cwd: '/',
      ...user,
    });

  const url = await createDatabase(postgres.url);
  await migrate(url);
  const pool = createPool({ databaseUrl: url, applicationName: 'test', connectionsMax: 3 });
  t.teardown(() => pool.end());
  const [before, after] = [await addBuyer(pool), await addBuyer(pool)];
  const BASE = join(home, 'base');
  await shell('sh base', { SERVER_URL: postgres.url, BASE });

  // After the base backup: only the archive has it.
  await fund(pool, [before], 7_000_000n);
  const { rows } = await pool.query<{ moment: string }>('SELECT clock_timestamp()::text AS moment');
  await delay(20); // of the server's clock, whose commits are told apart by it
  await fund(pool, [after], 9_000_000n);
  const { rows: segment } = await pool.query<{ name: string }>(
    'SELECT pg_walfile_name(pg_switch_wal()) AS name',
  );
  const last = segment[0]?.name as string;
  const until = performance.now() + 60_000;
  while (!(await readdir(wal)).includes(last)) {
    if (performance.now() > until) throw new Error(`${last} was not archived: ${await readdir(wal)}`);
    await delay(50);
  }

  const PGDATA = join(home, 'restored');
  t.teardown(() =>
    run(postgres.program('pg_ctl'), ['-D', PGDATA, '-m', 'immediate', 'stop'], { cwd: '/', ...user }).catch(
      () => {},
    ),
  );
  await shell('sh restore', { BASE, PGDATA, MOMENT: rows[0]?.moment as string, PGOPTIONS: '' });
  const restoredUrl = new URL(url);
  restoredUrl.port = String(port);
  const restored = createPool({ databaseUrl: restoredUrl.href, applicationName: 'test', connectionsMax: 2 });
  t.teardown(() => restored.end());
  const balances = await restored.query(
    "SELECT owner_id, balance_micros FROM ledger_accounts WHERE kind = 'buyer_prepaid'",
  );
  t.same(
    balances.rows,
    [{ owner_id: before, balance_micros: 7_000_000n }],
    'the first transaction, not the second',
  );
  t.same(await invariants(restored), []);
  for (;;) {
    // It answers at the moment that was asked for, a little before it takes writes.
    const { rows } = await restored.query('SELECT pg_is_in_recovery() AS recovering');
    if (rows[0]?.recovering === false) break;
    await delay(50);
  }
  t.pass('and it takes writes');
});
