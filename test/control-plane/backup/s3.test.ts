import { createHash } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import t from 'tap';
import { S3Storage } from '../../../control-plane/backup/s3-storage.js';
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
  };
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
    t.same(await s3.keys(), [`traffic-share/${made.file}`, `traffic-share/${made.file}.sha256`]);
    const beside = await buffer(await storage({ prefix: 'traffic-share/' }).read(`${made.file}.sha256`));
    t.equal(beside.toString(), `${sha256}  ${made.file}\n`);
    await world.pool.query("UPDATE backups SET ended_at = ended_at - interval '30 days'");
    t.match(await run(), { removed: 1 });
    const { file } = await latest();
    t.same(await s3.keys(), [`traffic-share/${file}`, `traffic-share/${file}.sha256`]);
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
  });
});
