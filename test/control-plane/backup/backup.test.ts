import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t from 'tap';
import { BackupArchive } from '../../../control-plane/backup/archive.js';
import { Backups } from '../../../control-plane/backup/backup.js';
import { FolderStorage } from '../../../control-plane/backup/folder-storage.js';
import { BackupFailed, type BackupStorage } from '../../../control-plane/backup/storage.js';
import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { runProgram } from '../../helpers/programs.js';

/**
 * In the place of pg_dump: writes what it was told, as pg_dump would a dump. FAIL: it fails after some of it, as when the
 * database goes away in the middle.
 */
const STAND_IN = `#!/bin/sh
[ "$1" = --version ] && { echo "\${VERSION:-pg_dump (PostgreSQL) 99.1}"; exit 0; }
printf '%s\\n' "$@" "password $PGPASSWORD"
[ -n "$FAIL" ] && { head -c 1000000 /dev/zero; echo "pg_dump: error: $FAIL with $PGPASSWORD" >&2; exit 1; }
exit 0
`;

t.test('backups', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'traffic-share-backup-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const program = join(folder, 'pg_dump');
  await writeFile(program, STAND_IN);
  await chmod(program, 0o755);
  const dumps = join(folder, 'dumps');
  const world = await startWorld(t, { env: { TS_BACKUP_DIR: dumps, TS_PG_DUMP: program } });
  await migrateJobQueue(world.databaseUrl);
  const { pool, databaseUrl } = world;
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const path = '/api/admin/backup/db';
  const call = (method: string, token: string | undefined = admin.token, query = '') =>
    world.call(method, path + query, token === '' ? {} : { token });
  const { signal } = new AbortController();
  interface Options {
    storage?: BackupStorage | null;
    program?: string;
    environment?: Record<string, string>;
  }
  const make = ({
    storage = new FolderStorage(dumps),
    program: pgDump = program,
    environment = {},
  }: Options = {}) =>
    new Backups({
      pool,
      log: silentLog,
      databaseUrl,
      archive: storage && new BackupArchive(storage, { current: null, old: [] }, silentLog),
      tools: { pgDump, pgRestore: pgDump, environment: { PATH: '/usr/bin:/bin', ...environment } },
      retention: { days: 14, weeks: 0, months: 0 },
    });
  /** The files of a backup. */
  const filesOf = (file: string) => [file, `${file}.json`, `${file}.sha256`];
  /** Makes every backup so many days older, as its manifest says. */
  const age = async (days: number) => {
    for (const name of (await readdir(dumps)).filter((file) => file.endsWith('.json'))) {
      const manifest = JSON.parse(await readFile(join(dumps, name), 'utf8'));
      const madeAt = new Date(Date.parse(manifest.made_at) - days * 86_400_000).toISOString();
      await writeFile(join(dumps, name), JSON.stringify({ ...manifest, made_at: madeAt }));
    }
  };

  await t.test('a pg_dump that fails before the storage is ready for it', async (t) => {
    class Late extends FolderStorage {
      override async put(file: string, source: Readable, given: AbortSignal): Promise<void> {
        await once(source, 'close'); // it has failed by now
        return super.put(file, source, given);
      }
    }
    // answers to --version, and ends at once for what it is asked then
    const run = make({ storage: new Late(dumps), program: process.execPath })
      .job()
      .run({ signal } as never);
    await t.rejects(run, { code: 'backup_failed', message: /bad option/ });
    await pool.query('DELETE FROM backups');
  });

  await t.test('who may', async (t) => {
    for (const method of ['GET', 'POST']) {
      t.equal((await call(method, '')).status, 401);
      t.equal((await call(method, user.token)).status, 403);
    }
    t.equal((await call('GET', admin.token, '?limit=0')).status, 400);
    t.equal((await call('GET', admin.token, '?cursor=x')).status, 400);
    t.same((await call('GET')).body, { items: [], next_cursor: null }, 'refused calls ask for nothing');
  });

  await t.test('asked for, made by the job, listed', async (t) => {
    const asked = await call('POST');
    t.equal(asked.status, 202);
    t.match((await call('GET')).body.items, [
      { id: asked.body.id, state: 'queued', requested_by: admin.userId },
    ]);
    const { rows } = await pool.query(`SELECT task_identifier FROM graphile_worker.jobs`);
    t.same(rows, [{ task_identifier: 'backup' }]);
    await world.services.backups.job().run({ signal });
    const [made] = (await call('GET')).body.items;
    t.match(made, {
      state: 'done',
      storage: 'folder',
      error_code: null,
      bytes_so_far: null,
      ended_at: String,
    });
    const file = join(dumps, made.file);
    const content = await readFile(file);
    t.equal(made.size_bytes, content.length);
    t.equal(made.sha256, createHash('sha256').update(content).digest('hex'));
    t.equal((await stat(file)).mode & 0o777, 0o600);
    const said = content.toString();
    const { password } = new URL(databaseUrl);
    t.match(said, `password ${password}`, 'by environment');
    t.notOk(said.split('password ')[0]?.includes(password), 'never as an argument');
    t.same((await readdir(dumps)).sort(), filesOf(made.file), 'nothing half done is left');
    t.match(await runProgram('sha256sum', ['-c', `${made.file}.sha256`], { cwd: dumps }), { code: 0 });
    const { rows: audit } = await pool.query(
      `SELECT object_id FROM audit_log WHERE action = 'backup_requested'`,
    );
    t.same(audit, [{ object_id: asked.body.id }]);
  });

  await t.test('what goes wrong is said, and leaves nothing', async (t) => {
    const before = await readdir(dumps);
    const failing = async (options: Options) => {
      await t.rejects(make(options).job().run({ signal }));
      return (await call('GET', admin.token, '?limit=1')).body.items[0];
    };
    const late = await failing({ environment: { FAIL: 'connection lost' } });
    t.match(late, { state: 'failed', error_code: 'backup_failed', detail: /connection lost/, file: null });
    t.notOk(late.detail.includes(new URL(databaseUrl).password), 'without the password');
    t.match(await failing({ program: join(folder, 'absent') }), {
      state: 'failed',
      error_code: 'backup_tool_missing',
    });
    t.match(await failing({ storage: new FolderStorage(program) }), {
      state: 'failed',
      error_code: 'backup_storage_unusable',
    });
    const old = { environment: { VERSION: 'pg_dump (PostgreSQL) 12.22' } };
    t.match(await failing(old), {
      error_code: 'backup_tool_outdated',
      detail:
        /of version 12, the server of version 18: install the PostgreSQL client 18 or a newer one, .* TS_PG_DUMP/,
    });
    t.match(
      await failing({
        environment: { VERSION: 'mine', FAIL: 'aborting because of server version mismatch' },
      }),
      {
        error_code: 'backup_tool_outdated',
      },
    );
    const spoilt = new (class extends FolderStorage {
      override async read(file: string) {
        const content = await readFile(join(dumps, file));
        content[3] = (content[3] as number) ^ 1;
        return Readable.from([content]);
      }
    })(dumps);
    t.match(await failing({ storage: spoilt }), { error_code: 'backup_not_verified' });
    const gone = new (class extends FolderStorage {
      override async read(file: string) {
        return super.read(`${file}-gone`);
      }
    })(dumps);
    t.match(await failing({ storage: gone }), { error_code: 'backup_not_verified' });
    t.same(await readdir(dumps), before);
    await t.rejects(make({ program: join(folder, 'absent') }).assertPossible(), {
      code: 'backup_tool_missing',
    });
    await t.rejects(make(old).assertPossible(), { code: 'backup_tool_outdated' });
    await t.rejects(make({ storage: null }).assertPossible(), { code: 'backup_not_configured' });
    t.same(await make({ storage: null }).job().run({ signal }), { skipped: 'backup_not_configured' });
  });

  await t.test('stopped in the middle', async (t) => {
    const before = await readdir(dumps);
    const slow = join(folder, 'slow');
    await writeFile(slow, '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho begun\nexec sleep 600\n');
    await chmod(slow, 0o755);
    const stop = new AbortController();
    const running = make({ program: slow }).job().run({ signal: stop.signal });
    const parts = async () => (await readdir(dumps)).filter((file) => file.endsWith('.part'));
    while ((await parts()).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    t.match((await call('GET', admin.token, '?limit=1')).body.items, [{ state: 'running', bytes_so_far: 0 }]);
    stop.abort();
    await t.rejects(running);
    t.same(await readdir(dumps), before);
  });

  await t.test('one that a control plane left unfinished', async (t) => {
    await pool.query(
      `INSERT INTO backups (id, state, started_at) VALUES (gen_random_uuid(), 'running', now())`,
    );
    await writeFile(join(dumps, 'traffic-share-19700101T000000-dead.dump.part'), 'half');
    await make().job().run({ signal });
    t.same(
      (await readdir(dumps)).filter((file) => file.endsWith('.part')),
      [],
      'its half file goes',
    );
    const items: { state: string; error_code: string | null }[] = (await call('GET', admin.token, '?limit=2'))
      .body.items;
    t.ok(items.some((item) => item.error_code === 'interrupted'));
    t.ok(items.some((item) => item.state === 'done'));
  });

  await t.test('old ones go, the last one never', async (t) => {
    await writeFile(join(dumps, 'traffic-share-of-somebody-else.dump'), 'not ours');
    await age(30);
    const before = (await readdir(dumps)).length - 1;
    t.match(await make().job().run({ signal }), { removed: before / 3 });
    const { items } = (await call('GET')).body;
    t.same((await readdir(dumps)).sort(), [...filesOf(items[0].file), 'traffic-share-of-somebody-else.dump']);
    t.equal(items.filter((item: { state: string }) => item.state === 'removed').length, before / 3);
    await age(30);
    await t.rejects(
      make({ program: join(folder, 'absent') })
        .job()
        .run({ signal }),
    );
    t.equal((await readdir(dumps)).length, 4);
  });

  await t.test('older ones that can not be cleared do not make a backup fail', async (t) => {
    await age(30);
    const stuck = new (class extends FolderStorage {
      override async remove(file: string): Promise<void> {
        throw new BackupFailed('backup_storage_unusable', `${file} may not be removed`);
      }
    })(dumps);
    t.match(await make({ storage: stuck }).job().run({ signal }), {
      removed: 0,
      not_cleared: /^backup_storage_unusable: traffic-share-.* may not be removed$/,
    });
    t.match((await call('GET', admin.token, '?limit=1')).body.items, [{ state: 'done' }]);
  });

  await t.test('two at once: the second says so, and disturbs nothing', async (t) => {
    const slow = join(folder, 'until-told');
    const told = join(folder, 'told');
    await writeFile(
      slow,
      `#!/bin/sh\n[ "$1" = --version ] && exit 0\necho begun\nuntil [ -e ${told} ]; do sleep 0.05; done\n`,
    );
    await chmod(slow, 0o755);
    const first = make({ program: slow }).make(signal);
    while (!(await readdir(dumps)).some((file) => file.endsWith('.part')))
      await new Promise((resolve) => setTimeout(resolve, 10));
    await t.rejects(make().make(signal), { code: 'backup_under_way' });
    await writeFile(told, '');
    const { manifest } = await first;
    t.equal(await readFile(join(dumps, manifest.file), 'utf8'), 'begun\n');
    t.match(manifest.contents, { rows: { users: 2 }, ledger: {} }, 'what was in the snapshot');
  });
});
