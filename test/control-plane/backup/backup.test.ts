import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type BackupOptions, Backups } from '../../../control-plane/backup/backup.js';
import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

/** In the place of pg_dump: writes what it was told into the file, as pg_dump would a dump. */
const STAND_IN = `#!/bin/sh
[ "$1" = --version ] && exit 0
for argument; do case "$argument" in --file=*) file="\${argument#--file=}";; esac; done
[ -n "$FAIL" ] && { echo "pg_dump: error: $FAIL" >&2; exit 1; }
printf '%s\\n' "$@" "password $PGPASSWORD" > "$file"
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
  const make = (options: Partial<BackupOptions>) =>
    new Backups({
      pool,
      log: silentLog,
      databaseUrl,
      folder: dumps,
      pgDump: program,
      environment: { PATH: '/usr/bin:/bin' },
      keptDays: 14,
      ...options,
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
    t.match(made, { state: 'done', error_code: null, ended_at: String });
    const file = join(dumps, made.file);
    t.equal(made.size_bytes, (await stat(file)).size);
    t.equal((await stat(file)).mode & 0o777, 0o600);
    const said = await readFile(file, 'utf8');
    const { password } = new URL(databaseUrl);
    t.match(said, `password ${password}`, 'by environment');
    t.notOk(said.split('password ')[0]?.includes(password), 'never as an argument');
    t.same(await readdir(dumps), [made.file], 'nothing half done is left');
    const { rows: audit } = await pool.query(
      `SELECT object_id FROM audit_log WHERE action = 'backup_requested'`,
    );
    t.same(audit, [{ object_id: asked.body.id }]);
  });

  await t.test('what goes wrong is said', async (t) => {
    const failing = async (options: Partial<BackupOptions>) => {
      await t.rejects(make(options).job().run({ signal }));
      return (await call('GET', admin.token, '?limit=1')).body.items[0];
    };
    t.match(await failing({ environment: { PATH: '/bin', FAIL: 'server version mismatch' } }), {
      state: 'failed',
      error_code: 'backup_failed',
      detail: /server version mismatch/,
      file: null,
    });
    t.match(await failing({ pgDump: join(folder, 'absent') }), {
      state: 'failed',
      error_code: 'backup_tool_missing',
    });
    t.match(await failing({ folder: program }), { state: 'failed', error_code: 'backup_folder_unusable' });
    t.equal((await readdir(dumps)).length, 1);
    await t.rejects(make({ pgDump: join(folder, 'absent') }).assertPossible(), {
      code: 'backup_tool_missing',
    });
    await t.rejects(make({ folder: null }).assertPossible(), { code: 'backup_not_configured' });
    t.same(await make({ folder: null }).job().run({ signal }), { skipped: 'backup_not_configured' });
  });

  await t.test('one that a control plane left unfinished', async (t) => {
    await pool.query(
      `INSERT INTO backups (id, state, started_at) VALUES (gen_random_uuid(), 'running', now())`,
    );
    await make({}).job().run({ signal });
    const items: { state: string; error_code: string | null }[] = (await call('GET', admin.token, '?limit=2'))
      .body.items;
    t.ok(items.some((item) => item.error_code === 'interrupted'));
    t.ok(items.some((item) => item.state === 'done'));
  });

  await t.test('old ones go, the last one never', async (t) => {
    await pool.query(`UPDATE backups SET ended_at = ended_at - interval '30 days' WHERE state = 'done'`);
    const before = await readdir(dumps);
    t.match(await make({}).job().run({ signal }), { removed: before.length });
    const { items } = (await call('GET')).body;
    t.same(await readdir(dumps), [items[0].file]);
    t.equal(items.filter((item: { state: string }) => item.state === 'removed').length, before.length);
    await pool.query(`UPDATE backups SET ended_at = ended_at - interval '30 days' WHERE state = 'done'`);
    await t.rejects(
      make({ pgDump: join(folder, 'absent') })
        .job()
        .run({ signal }),
    );
    t.equal((await readdir(dumps)).length, 1);
  });
});
