import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { BackupArchive } from '../../../control-plane/backup/archive.js';
import { Backups } from '../../../control-plane/backup/backup.js';
import { FolderStorage } from '../../../control-plane/backup/folder-storage.js';
import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { migrate } from '../../../control-plane/db/migrate.js';
import { createPool } from '../../../control-plane/db/pool.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { runProgram } from '../../helpers/programs.js';
import { createDatabase, startPostgres, startRedis } from '../../helpers/services.js';
import { startSystemPostgres } from '../../helpers/system-postgres.js';

const run = promisify(execFile);
const { signal } = new AbortController();

t.test('dumped by the real pg_dump, restored by the real pg_restore', async (t) => {
  const postgres = await startSystemPostgres(t);
  if (postgres === null) return;
  t.comment(`PostgreSQL ${postgres.version}`);
  const dumps = await mkdtemp(join(tmpdir(), 'traffic-share-backup-'));
  t.teardown(() => rm(dumps, { recursive: true, force: true }));

  await t.test('the restored database has the same balances, and its books add up', async (t) => {
    const redis = await startRedis();
    t.teardown(() => redis.stop());
    const databaseUrl = await createDatabase(postgres.url);
    t.ok((await migrate(databaseUrl)).length > 0, 'the schema runs on this version');
    await migrateJobQueue(databaseUrl);
    const world = await startWorld(t, {
      share: { databaseUrl, redisUrl: redis.url },
      env: { TS_BACKUP_DIR: dumps, TS_PG_DUMP: postgres.program('pg_dump') },
    });
    const admin = await signedIn(world, 'admin');
    const asAdmin = (path: string, body: object) => world.call('POST', path, { token: admin.token, body });
    const provider = await signedIn(world);
    const credit = (whom: object, amount: string) =>
      asAdmin('/api/admin/credits', { ...whom, amount, reason: 'for the test' });
    t.equal((await credit({ user_id: provider.userId }, '123.456789')).status, 201);
    for (let n = 0; n < 5; n++) {
      const { body } = await asAdmin('/api/admin/buyers', {
        name: `Buyer ${n} — ‘ü’`,
        kyc_status: 'approved',
      });
      t.equal((await credit({ buyer_id: body.id }, `${n + 1}.000001`)).status, 201);
    }
    const target = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t';
    const withdraw = { amount: '5', method: 'cryptomus', network: 'TRON', currency: 'USDT', target };
    t.equal(
      (await world.call('POST', '/api/withdraw', { token: provider.token, body: withdraw })).status,
      201,
    );

    const asked = await asAdmin('/api/admin/backup/db', {});
    t.equal(asked.status, 202, JSON.stringify(asked.body));
    await world.services.backups.job().run({ signal });
    const { body } = await world.call('GET', '/api/admin/backup/db?limit=1', { token: admin.token });
    const [made] = body.items;
    t.match(made, { id: asked.body.id, state: 'done' });
    const file = join(dumps, made.file);
    t.equal((await stat(file)).size, made.size_bytes);

    // As deploy/backups.md says.
    const restoredUrl = await createDatabase(postgres.url);
    t.match(await runProgram('sha256sum', ['-c', `${made.file}.sha256`], { cwd: dumps }), { code: 0 });
    const flags = ['--no-owner', '--exit-on-error', '--single-transaction', `--dbname=${restoredUrl}`, file];
    t.match(await runProgram(postgres.program('pg_restore'), flags), { code: 0, err: '' });

    t.same(await migrate(restoredUrl), [], 'the restored schema is whole');
    const restored = createPool({ databaseUrl: restoredUrl, applicationName: 'test' });
    t.teardown(() => restored.end());
    for (const statement of [
      'SELECT kind, owner_id, balance_micros, version FROM ledger_accounts ORDER BY id',
      'SELECT * FROM ledger_entries ORDER BY transaction_id, account_id',
      'SELECT * FROM payouts ORDER BY id',
      'SELECT * FROM audit_log ORDER BY id',
      "SELECT relname FROM pg_class WHERE relkind IN ('r', 'i', 'p', 'I') AND relnamespace = 'public'::regnamespace ORDER BY 1",
      'SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2',
    ]) {
      const [before, after] = [await world.pool.query(statement), await restored.query(statement)];
      t.ok(before.rows.length > 0, statement);
      t.same(after.rows, before.rows);
    }
    await t.rejects(
      restored.query('UPDATE ledger_entries SET amount_micros = 1'),
      'its guards are there, too',
    );

    const cli = projectPath('dist/deploy/cli.js');
    const env = { PATH: process.env.PATH ?? '', TS_DATABASE_URL: restoredUrl };
    const verified = await run(process.execPath, [cli, 'ledger', 'verify', '--json'], { env });
    t.match(JSON.parse(verified.stdout), { ok: true, faults: [], books: [] });

    const again = await startWorld(t, { share: { databaseUrl: restoredUrl, redisUrl: redis.url } });
    const balance = await again.call('GET', '/api/balance', { token: provider.token });
    t.match([balance.status, balance.body.available], [200, '118.456789'], 'and it serves');
  });

  await t.test('a pg_dump older than the server says what to do', async (t) => {
    const newer = await startPostgres();
    t.teardown(() => newer.stop());
    await migrate(newer.url);
    const pool = createPool({ databaseUrl: newer.url, applicationName: 'test' });
    t.teardown(() => pool.end());
    const { rows } = await pool.query("SELECT current_setting('server_version_num')::int / 10000 AS major");
    const { major } = rows[0];
    if (major <= postgres.version) return t.comment(`the embedded server is no newer: ${major}`);
    const backups = new Backups({
      pool,
      log: silentLog,
      databaseUrl: newer.url,
      archive: new BackupArchive(new FolderStorage(dumps), { current: null, old: [] }, silentLog),
      tools: {
        pgDump: postgres.program('pg_dump'),
        pgRestore: postgres.program('pg_restore'),
        environment: {},
      },
      retention: { days: 14, weeks: 0, months: 0 },
    });
    const says = {
      code: 'backup_tool_outdated',
      message: new RegExp(
        `of version ${postgres.version}, the server of version ${major}: install the PostgreSQL client ${major} or a newer one`,
      ),
    };
    await t.rejects(backups.assertPossible(), says);
    await t.rejects(backups.job().run({ signal }), says);
  });
});
