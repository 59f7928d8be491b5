import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { createPool } from '../../control-plane/db/pool.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { addUser } from '../helpers/money-world.js';
import { startMigratedPostgres } from '../helpers/services.js';

t.setTimeout(120_000);

const run = promisify(execFile);
const SMALL = ['--users', '60', '--packages', '500', '--entries', '3000'];

/** The command as one types it: how it ended and what it said. */
async function cli(words: string[], env: Record<string, string> = {}) {
  const args = [projectPath('dist/deploy/cli.js'), ...words];
  return run(process.execPath, args, { env: { PATH: process.env.PATH ?? '', ...env } }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

t.test('options', async (t) => {
  t.match(await cli(['seed', '--help']), { code: 0, stdout: /--packages[\s\S]*--yes/ });
  t.match(await cli(['seed']), { code: 1, stderr: /--scale/ });
  t.match(await cli(['seed', '--scale', '--users', '0']), { code: 1, stderr: /whole number from 1/ });
  t.match(await cli(['seed', '--scale']), { code: 1, stderr: /TS_DATABASE_URL is required/ });
});

t.test('as much as was asked for, and the books add up', async (t) => {
  const server = await startMigratedPostgres();
  t.teardown(() => server.stop());
  const pool = createPool({ databaseUrl: server.url, applicationName: 'test' });
  t.teardown(() => pool.end());
  const env = { TS_DATABASE_URL: server.url };
  const counts = async () => {
    const { rows } = await pool.query(
      `SELECT (SELECT count(*) FROM users)::int AS users, (SELECT count(*) FROM packages)::int AS packages,
              (SELECT count(*) FROM packages WHERE status = 'available')::int AS available,
              (SELECT count(*) FROM ledger_entries)::int AS entries,
              (SELECT count(*) FROM ledger_entries WHERE kind = 'hold_release')::int AS releases,
              (SELECT count(*) FROM traffic_sessions WHERE status = 'completed')::int AS sessions`,
    );
    return rows[0];
  };

  const seeded = await cli(['seed', '--scale', ...SMALL], env);
  t.equal(seeded.code, 0, seeded.stderr);
  t.match(seeded.stderr, /60 of 60 users[\s\S]*3000 of 3000 ledger entries[\s\S]*packages/);
  const first = await counts();
  t.match(first, { users: 60, packages: 500, sessions: 300 });
  t.ok(first.entries >= 3_000 && first.entries < 6_000, `${first.entries} entries`);
  t.ok(first.available > 0, `${first.available} packages are free`);
  t.ok(first.releases > 0, 'earnings were released');
  t.match(await cli(['ledger', 'verify'], env), { code: 0, stdout: /everything adds up/ });

  await t.test('another run adds as much again', async (t) => {
    t.equal((await cli(['seed', '--scale', ...SMALL], env)).code, 0);
    t.match(await counts(), { users: 120, packages: 1_000 });
    t.match(await cli(['ledger', 'verify'], env), { code: 0 });
  });

  await t.test('not where it may be taken for real', async (t) => {
    const before = await counts();
    t.match(await cli(['seed', '--scale', ...SMALL], { ...env, NODE_ENV: 'production' }), {
      code: 1,
      stderr: /production system.*--yes/,
    });
    const elsewhere = { TS_DATABASE_URL: 'postgres://postgres@db.example/postgres' };
    t.match(await cli(['seed', '--scale', ...SMALL], elsewhere), { code: 1, stderr: /another machine/ });
    await addUser(pool);
    t.match(await cli(['seed', '--scale', ...SMALL], env), { code: 1, stderr: /people in this database/ });
    t.same(await counts(), { ...before, users: before.users + 1 }, 'nothing was made');
    t.equal((await cli(['seed', '--scale', '--yes', ...SMALL], env)).code, 0, 'unless it is told so');
  });
});

t.test('a database that is not there', async (t) => {
  const env = { TS_DATABASE_URL: 'postgres://postgres@127.0.0.1:1/postgres' };
  t.match(await cli(['seed', '--scale', '--yes', ...SMALL], env), {
    code: 1,
    stderr: /can not be reached/,
  });
});
