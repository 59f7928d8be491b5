import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import t from 'tap';
import { Backups } from '../../control-plane/backup/backup.js';
import { createArchive } from '../../control-plane/backup/create.js';
import { type Manifest, readManifest, writeManifest } from '../../control-plane/backup/manifest.js';
import { restoreBackup } from '../../control-plane/backup/restore.js';
import { RestoreTests } from '../../control-plane/backup/restore-test.js';
import { BackupKey } from '../../control-plane/backup/sealing.js';
import { readBackupConfig } from '../../control-plane/config.js';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { knownMigrations, MIGRATIONS_DIR, migrate } from '../../control-plane/db/migrate.js';
import { createPool } from '../../control-plane/db/pool.js';
import { invariants } from '../../control-plane/settlement/invariants.js';
import { connectLive } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { fund } from '../control-plane/settlement/world.js';
import { startCli } from '../helpers/cli-process.js';
import { addBuyer, addUser } from '../helpers/money-world.js';
import { runProgram } from '../helpers/programs.js';
import { createDatabase, startRedis } from '../helpers/services.js';
import { startSystemPostgres } from '../helpers/system-postgres.js';

const CLI = projectPath('dist/deploy/cli.js');
const KEY = 'ab'.repeat(32);
const { signal } = new AbortController();

// Many processes, one after the other, on a machine that may be busy.
t.setTimeout(300_000);

t.test('backup and restore, as an operator types them', async (t) => {
  const postgres = await startSystemPostgres(t);
  if (postgres === null) return;
  const folder = await mkdtemp(join(tmpdir(), 'ts-backup-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const dumps = join(folder, 'dumps');
  const named = (name: string) => new URL(`/${name}`, postgres.url).href;
  const settings = {
    TS_BACKUP_DIR: dumps,
    TS_BACKUP_KEY: KEY,
    TS_PG_DUMP: postgres.program('pg_dump'),
    TS_REDIS_URL: 'redis://127.0.0.1:1',
  };
  const inOneProcess = startCli(t);
  /** The command: how it ended and what it said; `json` is what it says on stdout with --json. */
  const cli = async (words: string[], url: string, env: Record<string, string> = {}) => {
    const { code, stdout, stderr } = await inOneProcess(words, { ...settings, TS_DATABASE_URL: url, ...env });
    return { code, out: stdout, err: stderr, json: stdout.startsWith('{') ? JSON.parse(stdout) : null };
  };
  /** The same as a process of its own, with --json. */
  const cliProcess = async (words: string[], url: string) => {
    const ran = await runProgram(process.execPath, [CLI, ...words, '--json'], {
      env: { ...settings, TS_DATABASE_URL: url },
      timeoutMs: 60_000,
    });
    return { ...ran, json: ran.out.startsWith('{') ? JSON.parse(ran.out) : null };
  };
  const databases = async () => {
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    const { rows } = await client.query(
      "SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template)'",
    );
    await client.end();
    return rows.map((row) => row.datname as string).sort();
  };
  const withPool = async <T>(url: string, work: (pool: pg.Pool) => Promise<T>): Promise<T> => {
    const pool = createPool({ databaseUrl: url, applicationName: 'test' });
    try {
      return await work(pool);
    } finally {
      await pool.end();
    }
  };
  const balances = (url: string) =>
    withPool(url, async (pool) => {
      const { rows } = await pool.query(
        'SELECT kind, owner_id, balance_micros, version FROM ledger_accounts ORDER BY kind, owner_id',
      );
      return rows;
    });

  const live = await createDatabase(postgres.url);
  await migrate(live);
  await migrateJobQueue(live);
  await withPool(live, async (pool) => {
    for (let n = 1n; n <= 5n; n++) await fund(pool, [await addBuyer(pool)], n * 1_000_003n);
    await addUser(pool);
  });
  /** The archive as the commands have it, without a process of its own. */
  const archiveOf = (env: Record<string, string> = {}) => {
    const config = readBackupConfig({ ...settings, TS_DATABASE_URL: live, ...env });
    const archive = createArchive(config, silentLog);
    if (archive === null) throw new Error('a folder is configured');
    return archive;
  };
  const newest = async () => (await archiveOf().list()).backups[0] as Manifest;
  const tools = { pgDump: settings.TS_PG_DUMP, pgRestore: postgres.program('pg_restore'), environment: {} };
  const redisServer = await startRedis();
  t.teardown(() => redisServer.stop());
  const redis = connectLive({ url: redisServer.url, log: silentLog, commandTimeoutMs: 10_000 });
  t.teardown(() => redis.disconnect());
  const withRedis = { TS_REDIS_URL: redisServer.url };

  await t.test('what does not fit is refused before anything is done', async (t) => {
    t.match(await cli(['backup', '--help'], live), { code: 0, out: /--verify[\s\S]*Ends with 0/ });
    t.match(await cli(['restore'], live), { code: 2, err: /--into-empty, --replace or --test/ });
    t.match(await cli(['backup', '--json'], live, { TS_BACKUP_DIR: '' }), {
      code: 2,
      json: { ok: false, error: 'backup_not_configured' },
    });
    t.match(await cli(['backup'], live, { TS_PG_DUMP: '/nowhere/pg_dump' }), {
      code: 2,
      err: /^backup_tool_missing/,
    });
    t.match(await cli(['restore', '--test'], live), { code: 3, err: /^backup_not_found/ });
    t.match(await cli(['backup', '--dry-run', '--json'], live), {
      code: 0,
      json: { dry_run: true, would_remove: [] },
    });
    t.same(await readdir(dumps).catch(() => []), [], 'nothing was written');
  });

  await t.test('made, sealed, listed, read from end to end', async (t) => {
    const made = await cliProcess(['backup'], live);
    t.match(made, { code: 0, err: '' }, made.out);
    const { file, sha256, size_bytes, key_id, contents } = made.json;
    t.match(file, /^traffic-share-\d{8}T\d{6}-[0-9a-f]{8}\.dump\.sealed$/);
    t.equal(key_id, new BackupKey(KEY).id);
    t.match(contents, { rows: { buyers: 5, users: 1 }, ledger: { buyer_prepaid: { accounts: 5 } } });
    t.same((await readdir(dumps)).sort(), [file, `${file}.json`, `${file}.sha256`]);
    t.match(await runProgram('sha256sum', ['-c', `${file}.sha256`], { cwd: dumps }), { code: 0 });
    const stored =
      (await readFile(join(dumps, file), 'latin1')) + (await readFile(join(dumps, `${file}.json`)));
    t.equal(stored.length > size_bytes, true);
    t.notMatch(stored, /PGDMP|Test buyer|buyer_prepaid/, 'nothing of it can be read');
    t.match(await cli(['backup', '--list'], live), {
      code: 0,
      out: new RegExp(`^${file}  .*  key ${key_id}\n$`),
    });
    t.match(await cli(['backup', '--verify'], live), {
      code: 0,
      out: `${file} is whole\n`,
      err: /bytes read/,
    });
    await withPool(live, async (pool) => {
      const { rows } = await pool.query('SELECT state, file, sha256 FROM backups WHERE file IS NOT NULL');
      t.same(rows, [{ state: 'done', file, sha256 }], 'admins see it as any other');
    });
  });

  await t.test('restored: as it was, proven, written down', async (t) => {
    const archive = archiveOf();
    const given = { archive, tools, signal };
    await t.rejects(restoreBackup(await newest(), live, 'empty', given), {
      code: 'restore_target_not_empty',
    });
    const url = named('restored');
    t.match(await cli(['restore', '--into-empty', '--dry-run', '--json'], url), {
      code: 0,
      json: { state: 'absent' },
    });
    t.notOk((await databases()).includes('restored'), 'a dry run makes nothing');
    const done = await cliProcess(['restore', '--into-empty'], url);
    t.match(done, { code: 0, json: { ok: true, accounts: 6, migrated: [], replaced: null } }, done.err);
    t.match(done.err, /bytes of the backup read and found right\n[\s\S]*6 of 6 accounts proven/);
    t.same(await balances(url), await balances(live));
    await withPool(url, async (pool) => {
      const { rows } = await pool.query('SELECT state, file FROM backups WHERE file IS NOT NULL');
      t.same(rows, [{ state: 'done', file: (await newest()).file }], 'the backup that it came from');
      t.same(await invariants(pool), []);
      const audit = await pool.query("SELECT after FROM audit_log WHERE action = 'database_restored'");
      t.match(audit.rows, [{ after: { file: /^traffic-share-/ } }]);
      t.match(await cli(['restore', '--replace', '--json'], url), {
        code: 4,
        json: { error: 'restore_target_in_use', detail: /test \(1\)/ },
      });
      await fund(pool, [await addBuyer(pool)]);
    });
    const told = [liveKeys.ready(), liveKeys.account('a'), liveKeys.providerPrice()];
    for (const key of told) await redis.set(key, '1');
    const hashes = [liveKeys.settled('g'), liveKeys.wallets('g'), liveKeys.meters('g'), liveKeys.usage('g')];
    for (const key of hashes) await redis.hset(key, 'f', '1');
    await redis.set('of-others', '1');
    const replaced = await cli(['restore', '--replace', '--clear-live-state', '--json'], url, withRedis);
    t.match(
      replaced,
      { code: 0, json: { replaced: /^restored_before_[0-9a-f]{8}$/, live_state_keys_cleared: 5 } },
      replaced.err,
    );
    const left = ['of-others', liveKeys.meters('g'), liveKeys.usage('g')];
    t.same((await redis.keys('*')).sort(), left.sort(), 'counts that wait stay');
    t.same(await balances(url), await balances(live));
    t.equal((await balances(named(replaced.json.replaced))).length, 7, 'the one before goes on beside it');
  });

  await t.test('the live state is cleared alone, after a restore by other means', async (t) => {
    await redis.set(liveKeys.ready(), '1');
    const alone = ['restore', '--clear-live-state'];
    t.match(await cli(alone, live, { ...withRedis, TS_BACKUP_DIR: '' }), {
      code: 0,
      out: 'cleared 1 keys of the live state\n',
    });
    t.match(await cli(alone, live), { code: 1, err: /Redis \(TS_REDIS_URL\) could not be cleared/ });
  });

  await t.test('damaged, cut, of another key, gone: refused, and nothing is made', async (t) => {
    const before = await databases();
    const { file } = await newest();
    const copies = join(folder, 'copies');
    const spoil = async (how: (path: string, content: Buffer) => Promise<unknown>) => {
      await rm(copies, { recursive: true, force: true });
      await cp(dumps, copies, { recursive: true });
      await how(join(copies, file), await readFile(join(copies, file)));
    };
    const refused = async (code: string, key = KEY) => {
      const archive = archiveOf({ TS_BACKUP_DIR: copies, TS_BACKUP_KEY: key });
      const manifest = await archive.find(file);
      await t.rejects(archive.verify(manifest, signal), { code });
      const deps = { archive, tools, signal };
      await t.rejects(restoreBackup(manifest, named('never'), 'empty', deps), { code });
    };
    await spoil((path, content) => {
      content[5_000] = (content[5_000] as number) ^ 1;
      return writeFile(path, content);
    });
    await refused('backup_damaged');
    const words = ['restore', file, '--into-empty', '--json'];
    t.match(await cli(words, named('never'), { TS_BACKUP_DIR: copies }), {
      code: 3,
      json: { ok: false, error: 'backup_damaged' },
    });
    await spoil((path, content) => truncate(path, content.length - 1));
    await refused('backup_damaged');
    await spoil((path) => rm(path));
    await refused('backup_not_found');
    await spoil(async () => {});
    await refused('backup_key_missing', 'cd'.repeat(32));
    const another = 'cd'.repeat(32);
    const sealed = await archiveOf({ TS_BACKUP_KEY: another }).find(file);
    t.match(sealed, { file, contents: null }, 'its label can be read');
    const rotated = archiveOf({ TS_BACKUP_KEY: another, TS_BACKUP_OLD_KEYS: KEY });
    await rotated.verify(await rotated.find(file), signal);
    await rm(join(copies, `${file}.json`));
    t.same(await archiveOf({ TS_BACKUP_DIR: copies }).list(), {
      backups: [],
      unfinished: [file],
      damaged: [],
    });
    t.same(await databases(), before);
  });

  await t.test('a manifest that says something else; a newer and an older program', async (t) => {
    const keys = { current: new BackupKey(KEY), old: [] };
    const { file } = await newest();
    const copies = join(folder, 'relabelled');
    const relabelled = async (
      change: (contents: { migrations: string[]; rows: Record<string, number> }) => void,
    ) => {
      await rm(copies, { recursive: true, force: true });
      await cp(dumps, copies, { recursive: true });
      const path = join(copies, `${file}.json`);
      const { contents, ...label } = readManifest(file, await readFile(path, 'utf8'), keys);
      if (contents === null) throw new Error('the key is known');
      change(contents);
      await writeFile(path, writeManifest(label, contents, keys));
    };
    const env = { TS_BACKUP_DIR: copies };
    await relabelled((contents) => {
      contents.rows.buyers = 6;
    });
    const differs = await cli(['restore', '--test', '--json'], live, env);
    t.match(differs, {
      code: 5,
      json: { error: 'restore_differs', detail: /buyers: 6 rows in the backup, 5 restored/ },
    });
    await relabelled((contents) => contents.migrations.push('9999_of_tomorrow'));
    const relabelledArchive = archiveOf(env);
    const newer = await relabelledArchive.find(file);
    await t.rejects(
      restoreBackup(newer, named('newer'), 'empty', { archive: relabelledArchive, tools, signal }),
      { code: 'backup_too_new', message: /9999_of_tomorrow/ },
    );

    const older = join(folder, 'migrations');
    await cp(MIGRATIONS_DIR, older, { recursive: true });
    const last = (await knownMigrations()).at(-1) as string;
    await rm(join(older, `${last}.sql`));
    const oldUrl = await createDatabase(postgres.url);
    await migrate(oldUrl, older);
    const archive = archiveOf({ TS_BACKUP_DIR: join(folder, 'older') });
    const { manifest } = await withPool(oldUrl, (pool) =>
      new Backups({
        pool,
        log: silentLog,
        databaseUrl: oldUrl,
        tools,
        archive,
        retention: { days: 1, weeks: 0, months: 0 },
      }).make(signal),
    );
    const done = await restoreBackup(manifest, named('older'), 'empty', { archive, tools, signal });
    t.same(done.migrated, [last]);
    await withPool(named('older'), async (pool) => t.same(await invariants(pool), []));
  });

  await t.test('a test of the newest leaves a row, and no database', async (t) => {
    const before = await databases();
    t.match(await cli(['restore', '--test', '--json'], live), { code: 0, json: { ok: true, test: true } });
    t.same(await databases(), before);
    await withPool(live, async (pool) => {
      const { rows } = await pool.query('SELECT file, error_code, detail FROM restore_tests ORDER BY id');
      t.match(rows, [
        { error_code: 'backup_not_found', file: null },
        { error_code: 'restore_differs', detail: /buyers/ },
        { error_code: null, file: (await newest()).file, detail: null },
      ]);
      await pool.query('CREATE ROLE small LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO small');
    });
    const small = new URL(live);
    small.username = 'small';
    await withPool(live, async (pool) => {
      const tests = new RestoreTests({
        pool,
        log: silentLog,
        archive: archiveOf(),
        tools,
        databaseUrl: small.href,
      });
      await t.rejects(tests.run(null, signal), {
        code: 'restore_not_permitted',
        message: /permission denied to create database/,
      });
    });
  });

  await t.test('no room, and kill -9: nothing that looks whole', async (t) => {
    const before = (await readdir(dumps)).sort();
    // Of 512 or 1024 bytes, as the shell has it. What tap puts into Node's options would end the process at the signal.
    const blocks = 8;
    const full = await runProgram(
      'sh',
      [
        '-c',
        `unset NODE_OPTIONS; ulimit -f ${blocks} && exec "$0" "$@"`,
        process.execPath,
        CLI,
        'backup',
        '--json',
      ],
      {
        env: { ...settings, TS_DATABASE_URL: live },
        timeoutMs: 60_000,
      },
    );
    t.match(full, { code: 1, out: /"error": "backup_no_space"/ });
    t.same((await readdir(dumps)).sort(), before);

    const slow = join(folder, 'slow');
    await writeFile(
      slow,
      '#!/bin/sh\n[ "$1" = --version ] && exit 0\nhead -c 300000 /dev/zero\nexec sleep 600\n',
    );
    await chmod(slow, 0o755);
    const running: ChildProcess = spawn(process.execPath, [CLI, 'backup'], {
      env: { PATH: process.env.PATH, ...settings, TS_DATABASE_URL: live, TS_PG_DUMP: slow },
      stdio: 'ignore',
      detached: true,
    });
    const exited = once(running, 'exit');
    while (!(await readdir(dumps)).some((file) => file.endsWith('.part')))
      await new Promise((resolve) => setTimeout(resolve, 20));
    t.match(await cli(['backup', '--json'], live), { code: 1, json: { error: 'backup_under_way' } });
    process.kill(-(running.pid as number), 'SIGKILL');
    await exited;
    t.equal((await archiveOf().list()).backups.length, before.length / 3);
    // Postgres notices within moments that its client is gone.
    let next = await cli(['backup', '--json'], live);
    while (next.json?.error === 'backup_under_way') next = await cli(['backup', '--json'], live);
    t.equal(next.code, 0, next.out);
    t.same(
      (await readdir(dumps)).filter((file) => file.endsWith('.part')),
      [],
      'what it left is gone',
    );
    await withPool(live, async (pool) => {
      const { rows } = await pool.query('SELECT state, error_code FROM backups ORDER BY created_at');
      t.same(
        rows.map(({ state, error_code }) => error_code ?? state),
        ['backup_tool_missing', 'done', 'backup_no_space', 'interrupted', 'done'],
      );
    });
  });
});
