import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import t from 'tap';
import { BackupArchive } from '../../../control-plane/backup/archive.js';
import { S3Storage } from '../../../control-plane/backup/s3-storage.js';
import { BackupKey } from '../../../control-plane/backup/sealing.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { BUCKET, S3_KEYS, startS3 } from '../../helpers/s3.js';

const { signal } = new AbortController();

t.test('backups in a bucket', async (t) => {
  const s3 = await startS3(t);
  const folder = await mkdtemp(join(tmpdir(), 'traffic-share-backup-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const program = join(folder, 'pg_dump');
  await writeFile(program, '#!/bin/sh\n[ "$1" = --version ] && exit 0\nhead -c 40000000 /dev/zero\n');
  await chmod(program, 0o755);
  const env = {
    TS_PG_DUMP: program,
    TS_BACKUP_S3_BUCKET: BUCKET,
    TS_BACKUP_S3_ENDPOINT: s3.url,
    TS_BACKUP_S3_ACCESS_KEY_ID: S3_KEYS.accessKeyId,
    TS_BACKUP_S3_SECRET_ACCESS_KEY: S3_KEYS.secretAccessKey,
    TS_BACKUP_KEPT_WEEKS: '0',
    TS_BACKUP_KEPT_MONTHS: '0',
  };
  const filesOf = (file: string) =>
    [file, `${file}.json`, `${file}.sha256`].map((name) => `traffic-share/${name}`);
  const storage = (change: object = {}) =>
    new S3Storage({
      bucket: BUCKET,
      prefix: 'p/',
      region: 'us-east-1',
      endpoint: s3.url,
      credentials: S3_KEYS,
      ...change,
    });

  await t.test('a dump in several parts, its checksum, both removed in time', async (t) => {
    const world = await startWorld(t, { env });
    const admin = await signedIn(world, 'admin');
    const latest = async () =>
      (await world.call('GET', '/api/admin/backup/db?limit=1', { token: admin.token })).body.items[0];
    const run = () => world.services.backups.job().run({ signal });
    t.match(await run(), { storage: 's3', size_bytes: 40_000_000, removed: 0 });
    const made = await latest();
    const sha256 = createHash('sha256').update(Buffer.alloc(40_000_000)).digest('hex');
    t.match(made, { state: 'done', storage: 's3', size_bytes: 40_000_000, sha256 });
    t.same(await s3.keys(), filesOf(made.file));
    const there = storage({ prefix: 'traffic-share/' });
    t.same((await there.list()).sort(), [made.file, `${made.file}.json`, `${made.file}.sha256`]);
    const beside = await buffer(await there.read(`${made.file}.sha256`));
    t.equal(beside.toString(), `${sha256}  ${made.file}\n`);
    const manifest = JSON.parse(await text(await there.read(`${made.file}.json`)));
    t.match(manifest, {
      file: made.file,
      size_bytes: 40_000_000,
      sha256,
      key_id: null,
      contents: { rows: {} },
    });
    const old = { ...manifest, made_at: new Date(Date.now() - 30 * 86_400_000).toISOString() };
    await there.put(`${made.file}.json`, Readable.from([Buffer.from(JSON.stringify(old))]), signal);
    t.match(await run(), { removed: 1 });
    const { file } = await latest();
    t.same(await s3.keys(), filesOf(file));
    t.match((await latest()).state, 'done');
  });

  await t.test('sealed, read from end to end, opened; a changed object is refused', async (t) => {
    const keys = { current: new BackupKey('ab'.repeat(32)), old: [] };
    const bucket = storage({ prefix: 'sealed/' });
    const archive = new BackupArchive(bucket, keys, silentLog);
    const content = randomBytes(200_000);
    const file = 'traffic-share-20261127T023000-0123abcd.dump.sealed';
    const label = { format: 1 as const, file, made_at: '2026-11-27T02:30:00.000Z', schema_version: '' };
    const contents = { server_version_num: 1, migrations: [], ledger: {}, rows: {}, backup_ids: [] };
    await archive.write(Readable.from([content], { objectMode: false }), label, contents, signal);
    const manifest = await archive.find(null);
    t.match(manifest, { file, contents });
    await archive.verify(manifest, signal);
    t.ok(content.equals(await buffer(await archive.open(manifest))));
    const stored = await buffer(await bucket.read(file));
    stored[100_000] = (stored[100_000] as number) ^ 1;
    await bucket.put(file, Readable.from([stored]), signal);
    await t.rejects(archive.verify(manifest, signal), { code: 'backup_damaged' });
    await bucket.remove(file);
    await t.rejects(archive.verify(manifest, signal), { code: 'backup_not_found' });
  });

  await t.test('a source that fails late leaves no object', async (t) => {
    const before = await s3.keys();
    for (const bytes of [10, 40_000_000]) {
      const source = Readable.from(
        (async function* () {
          for (let sent = 0; sent < bytes; sent += 1_000_000) yield Buffer.alloc(Math.min(bytes, 1_000_000));
          throw new Error('pg_dump ended with 1');
        })(),
        { objectMode: false },
      );
      await t.rejects(storage().put('half', source, signal), /pg_dump ended with 1/, `after ${bytes} bytes`);
    }
    const stop = new AbortController();
    let given = 0;
    const endless = new Readable({
      read() {
        given += 1_000_000;
        if (given === 40_000_000) stop.abort();
        setImmediate(() => this.push(Buffer.alloc(1_000_000)));
      },
    });
    await t.rejects(storage().put('half', endless, stop.signal));
    t.equal(endless.destroyed, true);
    t.same(await s3.keys(), before);
  });

  await t.test('wrong secrets, no bucket, nobody there: said without a secret', async (t) => {
    const put = async (change: object) => {
      const error: Error = await storage(change)
        .put('file', Readable.from([Buffer.from('x')]), signal)
        .then(
          () => t.fail('stored') as never,
          (e: Error) => e,
        );
      t.match(error, { code: 'backup_storage_unusable' });
      t.notMatch(error.message, /not-the-secret|S3RVER/);
      return error.message;
    };
    const secret = { credentials: { ...S3_KEYS, secretAccessKey: 'not-the-secret' } };
    t.match(await put(secret), /SignatureDoesNotMatch 403/);
    t.match(
      await put({ credentials: { accessKeyId: 'nobody', secretAccessKey: 'not-the-secret' } }),
      /InvalidAccessKeyId 403/,
    );
    t.match(await put({ bucket: 'absent' }), /NoSuchBucket 404/);
    t.match(await put({ endpoint: 'http://127.0.0.1:1' }), /ECONNREFUSED/);
    await t.rejects(storage(secret).read('file'), { message: /SignatureDoesNotMatch/ });
    await t.rejects(storage(secret).remove('file'), { message: /SignatureDoesNotMatch/ });
    await storage().remove('never-there');
    await t.rejects(storage().read('never-there'), { code: 'backup_not_found' });
    await t.rejects(storage(secret).list(), { message: /SignatureDoesNotMatch/ });
    t.same(await storage({ prefix: 'nothing/' }).list(), []);
  });
});
