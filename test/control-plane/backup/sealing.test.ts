import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import t from 'tap';
import { type BackupContents, readManifest, writeManifest } from '../../../control-plane/backup/manifest.js';
import { outlived } from '../../../control-plane/backup/retention.js';
import { BackupKey, Seal, Unseal } from '../../../control-plane/backup/sealing.js';

const key = new BackupKey('a1'.repeat(32));
const other = new BackupKey('b2'.repeat(32));
const keys = { current: key, old: [] };
const CHUNK = 65_536;
const HEADER = 49;

/** Through a stream, in pieces of this size. */
const through = (bytes: Buffer, stream: Seal | Unseal, pieceBytes = 10_000): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for (let i = 0; i < bytes.length; i += pieceBytes) pieces.push(bytes.subarray(i, i + pieceBytes));
  const source = Readable.from(pieces, { objectMode: false });
  return buffer(source.pipe(stream));
};
const seal = (content: Buffer, pieceBytes?: number) => through(content, new Seal(key), pieceBytes);
const unseal = (sealed: Buffer, pieceBytes?: number) => through(sealed, new Unseal(keys), pieceBytes);

t.test('what was sealed opens, whatever its length and the pieces it comes in', async (t) => {
  for (const bytes of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17]) {
    const content = randomBytes(bytes);
    for (const piece of [997, CHUNK, 1_000_000]) {
      const sealed = await seal(content, piece);
      t.equal(sealed.length, HEADER + bytes + 16 * Math.max(1, Math.ceil(bytes / CHUNK)));
      t.notOk(bytes > 16 && sealed.includes(content.subarray(0, 16)), 'nothing of it can be read');
      t.ok(content.equals(await unseal(sealed, piece + 13)), `${bytes} bytes in pieces of ${piece}`);
    }
  }
  const same = Buffer.alloc(1_000);
  t.notOk((await seal(same)).equals(await seal(same)), 'no two files share their key');
});

t.test('what was changed, cut, lengthened or put in another order does not', async (t) => {
  const content = randomBytes(2 * CHUNK + 5_000);
  const sealed = await seal(content);
  const damaged = { code: 'backup_damaged' };
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: sealed.length - 1 }),
      fc.integer({ min: 0, max: 7 }),
      async (at, bit) => {
        const changed = Buffer.from(sealed);
        changed[at] = (changed[at] as number) ^ (1 << bit);
        await t.rejects(unseal(changed), { code: /backup_damaged|backup_key_missing/ });
      },
    ),
    { numRuns: 60 },
  );
  const first = HEADER + CHUNK + 16;
  const second = first + CHUNK + 16;
  for (const length of [0, 8, HEADER, HEADER + 1, first - 1, first, first + 1, second, sealed.length - 1])
    await t.rejects(unseal(sealed.subarray(0, length)), damaged, `cut to ${length} bytes`);
  await t.rejects(unseal(Buffer.concat([sealed, Buffer.alloc(1)])), damaged, 'longer');
  const swapped = Buffer.concat([
    sealed.subarray(0, HEADER),
    sealed.subarray(first, second),
    sealed.subarray(HEADER, first),
    sealed.subarray(second),
  ]);
  await t.rejects(unseal(swapped), damaged, 'chunks that changed places');
  const twice = await seal(content);
  const mixed = Buffer.concat([sealed.subarray(0, first), twice.subarray(first)]);
  await t.rejects(unseal(mixed), damaged, 'chunks of another file under the same key');

  const given: Buffer[] = [];
  const changed = Buffer.from(sealed);
  changed[first + 100] = (changed[first + 100] as number) ^ 1;
  const opening = Readable.from([changed], { objectMode: false }).pipe(new Unseal(keys));
  opening.on('data', (piece: Buffer) => given.push(piece));
  await new Promise((resolve) => opening.once('error', resolve));
  t.ok(Buffer.concat(given).equals(content.subarray(0, CHUNK)), 'nothing is given on that is not right');
});

t.test('keys', async (t) => {
  const content = randomBytes(100);
  const sealed = await seal(content);
  const says = { code: 'backup_key_missing', message: new RegExp(`key ${key.id}`) };
  for (const current of [null, other])
    await t.rejects(through(sealed, new Unseal({ current, old: [] })), says);
  t.ok(content.equals(await through(sealed, new Unseal({ current: other, old: [key] }))), 'an old key reads');
  t.throws(() => new BackupKey('short'));
  t.match(key.id, /^[0-9a-f]{16}$/);
});

t.test('manifests', async (t) => {
  const contents: BackupContents = {
    server_version_num: 150_018,
    migrations: ['0001_a'],
    ledger: { buyer_prepaid: { accounts: 2, balance_micros: '-5' } },
    rows: { users: 3 },
    backup_ids: [],
  };
  const label = {
    format: 1 as const,
    file: 'traffic-share-20261127T023000-0123abcd.dump.sealed',
    made_at: '2026-11-27T02:30:00.000Z',
    size_bytes: 10,
    sha256: 'c'.repeat(64),
    key_id: key.id,
    schema_version: '0001_a',
  };
  const text = writeManifest(label, contents, keys);
  t.notMatch(text, /buyer_prepaid/, 'contents are sealed');
  t.same(readManifest(label.file, text, keys), { ...label, contents });
  t.same(
    readManifest(label.file, text, { current: other, old: [] }),
    { ...label, contents: null },
    'without its key the label can be read',
  );
  const damaged = { code: 'backup_damaged' };
  const changes: [string, string][] = [
    ['"size_bytes": 10', '"size_bytes": 11'],
    ['c'.repeat(64), 'd'.repeat(64)],
    ['02:30:00', '02:31:00'],
    ['"0001_a"', '"0000_a"'],
  ];
  for (const [from, to] of changes)
    t.throws(() => readManifest(label.file, text.replace(from, to), keys), damaged, `${from} → ${to}`);
  for (const broken of ['', '{', 'null', '[]', '{"format":2}', text.slice(0, -20)])
    t.throws(() => readManifest(label.file, broken, keys), damaged, broken);
  const open = writeManifest({ ...label, key_id: null }, contents, keys);
  t.same(readManifest(label.file, open, keys), { ...label, key_id: null, contents });
  t.throws(
    () => readManifest(label.file, text.replace(`"${key.id}"`, 'null'), keys),
    damaged,
    'a sealed one can not pass for one that is not',
  );
});

t.test('which dumps are kept', async (t) => {
  const nowMs = Date.parse('2026-11-27T12:00:00.000Z'); // a Friday
  const at = (made_at: string) => ({ made_at: `${made_at}:00.000Z` });
  const judged = (times: string[], days: number, weeks: number, months: number) => {
    const gone = outlived(times.map(at), { days, weeks, months }, nowMs);
    return times.filter((time) => !gone.some(({ made_at }) => made_at === at(time).made_at));
  };
  const times = [
    '2026-11-27T11:00', // today
    '2026-11-26T13:00', // within 24 hours
    '2026-11-26T02:00', // an earlier one of that day
    '2026-11-25T02:00',
    '2026-11-23T02:00', // Monday of this week
    '2026-11-22T02:00', // Sunday of the last one
    '2026-11-16T02:00', // its Monday
    '2026-10-31T02:00',
    '2026-10-01T02:00',
    '2026-09-30T02:00',
  ];
  t.same(judged(times, 1, 0, 0), times.slice(0, 2));
  t.same(judged(times, 3, 0, 0), [times[0], times[1], times[3]]);
  t.same(judged(times, 1, 2, 0), [times[0], times[1], times[5]]);
  t.same(judged(times, 1, 0, 3), [times[0], times[1], times[7], times[9]]);
  t.same(judged(times, 1, 0, 2), [times[0], times[1], times[7]]);
  t.same(judged(times.slice(7), 1, 0, 0), [times[7]], 'the newest always');
  t.same(judged([], 1, 1, 1), []);
  t.same(
    judged(['2027-01-01T00:00', ...times.slice(0, 1)], 1, 0, 0).length,
    2,
    'what is to come is left alone',
  );
});
