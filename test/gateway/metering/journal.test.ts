import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { meterKey } from '../../../gateway/live/records.js';
import { Journal } from '../../../gateway/metering/journal.js';
import { describeJournal } from '../../../gateway/metering/journal-describe.js';
import { copyOffset, HEADER_COPY_STRIDE } from '../../../gateway/metering/journal-format.js';
import { meteringSettings } from '../../../gateway/metering/limits.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { forkCompiled } from '../../helpers/compiled.js';
import {
  crash,
  faultyDisk,
  folder,
  GATEWAY,
  ioError,
  mustOpen,
  SMALL,
  startMetering,
  subject,
} from './harness.js';

function scribble(path: string, position: number, bytes: Buffer): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, position);
}

function slotOf(path: string, key: string): number {
  const found = describeJournal(path).meters.find((m) => m.key === key);
  if (found === undefined) throw new Error('no such meter');
  return found.slot;
}

/** Which copy (0 or 1) of the slot was written last. */
function newestCopy(path: string, slot: number): number {
  const found = describeJournal(path).meters.find((m) => m.slot === slot);
  return (found?.sequence ?? 0) % 2;
}

t.test('a new journal has its room on the disk', async (t) => {
  const path = join(folder(t), 'made', 'for it', 'journal');
  const { journal } = await startMetering(t, path, {
    limits: { journalSlots: 4096, journalExtentSlots: 4096, journalSlotsMax: 4096 },
  });
  t.equal(journal.slotCount, 4096);
  const { size, blocks } = statSync(path);
  t.ok(blocks * 512 >= size, 'no holes: a full disk is seen now, not at a count');
  t.equal(readdirSync(dirname(path)).length, 2, 'journal and lock, no drafts left');
});

t.test('what was counted comes back as FINAL under its old epoch', async (t) => {
  const first = await startMetering(t, join(folder(t), 'journal'));
  const packaged = subject({ packageId: '00000000-0000-4000-8000-0000000000aa', buyerPriceMicrosPerGb: '0' });
  const a = mustOpen(first.registry, packaged);
  const b = mustOpen(first.registry);
  for (let i = 0; i < 5; i++) t.ok(a.countUp(1_000));
  t.ok(a.countDown(2 ** 40));
  t.ok(b.countDown(7));
  const c = mustOpen(first.registry);
  first.registry.close(c, { allocationEnded: false });

  const second = await startMetering(t, crash(first));
  t.not(second.registry.epoch, first.registry.epoch);
  const reports = new Map(second.registry.snapshot().map((r) => [meterKey(r), r]));
  t.equal(reports.size, 3);
  t.strictSame(reports.get(a.meter.key), {
    ...packaged,
    epoch: first.registry.epoch,
    bytesUp: 5_000,
    bytesDown: 2 ** 40,
    openedAtMs: a.meter.identity.openedAtMs,
    activeAtMs: a.meter.report().activeAtMs,
    final: true,
    allocationEnded: true,
  });
  t.match(reports.get(b.meter.key), { bytesUp: 0, bytesDown: 7, final: true, allocationEnded: true });
  t.match(reports.get(c.meter.key), { final: true, allocationEnded: false }, 'as it was closed');
  for (const meter of second.registry.meters()) t.notOk(meter.countUp(1), 'never grows again');

  // The next start says the same: replaying changes nothing.
  const third = await startMetering(t, crash(second));
  t.strictSame(new Map(third.registry.snapshot().map((r) => [meterKey(r), r])), reports);
});

t.test('a damaged newer copy falls back to the older one', async (t) => {
  const first = await startMetering(t, join(folder(t), 'journal'));
  const binding = mustOpen(first.registry);
  for (const n of [100, 20, 3]) binding.countUp(n);
  const path = crash(first);
  const slot = slotOf(path, binding.meter.key);
  scribble(path, copyOffset(slot, newestCopy(path, slot), 8) + 121, Buffer.from([0xff]));
  const second = await startMetering(t, path);
  t.equal(second.registry.snapshot()[0]?.bytesUp, 120, 'one write less, nothing guessed');
  t.strictSame(second.journal.problems, [{ kind: 'torn', slot, sidePath: null }]);
  t.strictSame(describeJournal(path).problems, [], 'replaying has mended the copy');
});

t.test('a slot with no whole copy is set aside, never guessed', async (t) => {
  const first = await startMetering(t, join(folder(t), 'journal'));
  const lost = mustOpen(first.registry);
  const kept = mustOpen(first.registry);
  for (const b of [lost, kept]) for (let i = 0; i < 3; i++) b.countUp(5);
  const path = crash(first);
  const slot = slotOf(path, lost.meter.key);
  const junk = Buffer.alloc(256, 0xa5);
  for (const copy of [0, 1]) scribble(path, copyOffset(slot, copy, 8), junk);
  t.equal(describeJournal(path).problems.length, 1, 'inspection sees it and leaves it');

  const second = await startMetering(t, path);
  t.strictSame(
    second.registry.snapshot().map((r) => [meterKey(r), r.bytesUp]),
    [[kept.meter.key, 15]],
  );
  const sidePath = `${path}.corrupt-${second.registry.epoch}`;
  t.strictSame(second.journal.problems, [{ kind: 'corrupt', slot, sidePath }]);
  const aside = JSON.parse(readFileSync(sidePath, 'utf8'));
  t.equal(aside.slot, slot);
  t.equal(aside.copy0, junk.toString('hex'), 'the bytes are kept for whoever looks into it');
  t.equal(aside.copy1, junk.toString('hex'));
  t.equal(second.journal.slotsUsed, 1, 'the slot is free again');

  const again = crash(first);
  for (const copy of [0, 1]) scribble(again, copyOffset(slot, copy, 8), junk);
  mkdirSync(`${again}.corrupt-00`);
  const third = await startMetering(t, again, { epoch: '00' });
  t.strictSame(third.journal.problems, [{ kind: 'corrupt', slot, sidePath: null }]);
  for (let i = 0; i < 64; i++) third.registry.open(subject());
  t.notOk(
    [...third.registry.meters()].some((m) => slotOf(again, m.key) === slot),
    'what could not be set aside is not written over',
  );
});

t.test('a file that lost its end is told, and works on', async (t) => {
  const first = await startMetering(t, join(folder(t), 'journal'));
  const bindings = Array.from({ length: 12 }, () => mustOpen(first.registry));
  for (const b of bindings) for (let i = 0; i < 2; i++) b.countUp(9);
  const path = crash(first);
  const kept = bindings.filter((b) => slotOf(path, b.meter.key) < 8);
  truncateSync(path, copyOffset(8, 0, 8));
  const second = await startMetering(t, path);
  t.equal(kept.length, 8);
  t.strictSame(new Set(second.registry.snapshot().map(meterKey)), new Set(kept.map((b) => b.meter.key)));
  t.strictSame(
    second.journal.problems.map((p) => [p.kind, p.slot]),
    [8, 9, 10, 11, 12, 13, 14, 15].map((slot) => ['missing', slot]),
  );
  t.equal(statSync(path).size, copyOffset(16, 0, 8), 'its room is back');
  t.ok(mustOpen(second.registry).countUp(1));
});

t.test('the header is kept twice and checked', async (t) => {
  const dir = folder(t);
  const first = await startMetering(t, join(dir, 'journal'));
  const binding = mustOpen(first.registry);
  binding.countUp(42);

  const oneCopy = crash(first);
  scribble(oneCopy, HEADER_COPY_STRIDE, Buffer.alloc(256));
  t.equal((await startMetering(t, oneCopy)).registry.snapshot()[0]?.bytesUp, 42);

  const noCopy = crash(first);
  for (const at of [0, HEADER_COPY_STRIDE]) scribble(noCopy, at + 60, Buffer.from('x'));
  await t.rejects(startMetering(t, noCopy), { code: 'JOURNAL_DAMAGED' });
  t.notOk(existsSync(`${noCopy}.lock`), 'a refused start leaves no lock');

  const other = join(dir, 'other');
  writeFileSync(other, 'not a journal');
  await t.rejects(startMetering(t, other), { code: 'JOURNAL_DAMAGED' });

  const newer = crash(first);
  for (const at of [0, HEADER_COPY_STRIDE]) scribble(newer, at + 8, Buffer.from([3]));
  await t.rejects(startMetering(t, newer), { code: 'JOURNAL_VERSION', message: /format 3/ });

  const foreign = crash(first);
  await t.rejects(startMetering(t, foreign, { gatewayId: 'another' }), {
    code: 'JOURNAL_FOREIGN',
    message: /"gateway-under-test".*"another"/,
  });
});

t.test('one process at a time', async (t) => {
  const dir = folder(t);
  const path = join(dir, 'journal');
  const first = await startMetering(t, path);
  await t.rejects(startMetering(t, path), { code: 'JOURNAL_LOCKED' }, 'not twice in one process');
  await first.journal.close();
  t.notOk(existsSync(`${path}.lock`));

  const child = forkCompiled('test/gateway/metering/counting-child', [path, 'hold']);
  const exited = once(child, 'exit');
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'message');
  await t.rejects(startMetering(t, path), { code: 'JOURNAL_LOCKED', message: new RegExp(`${child.pid}`) });
  const waiting = startMetering(t, path, { limits: { journalLockWaitMs: 60_000 } });
  child.kill('SIGKILL');
  await exited;
  const { journal } = await waiting;
  t.equal(journal.state, 'open', 'one that ends is waited for, and the lock of a killed process taken over');
});

t.test('locks of other hosts are judged by their heartbeat', async (t) => {
  const path = join(folder(t), 'journal');
  const lock = `${path}.lock`;
  const foreign = JSON.stringify({ pid: 1, start: '1', host: 'elsewhere/boot', nonce: 'x' });
  const limits = { journalSyncIntervalMs: 300, journalLockWatchMs: 400 };
  writeFileSync(lock, foreign);
  const beat = setInterval(() => utimesSync(lock, new Date(), new Date()), 20);
  t.teardown(() => clearInterval(beat));
  await t.rejects(startMetering(t, path, { limits }), { code: 'JOURNAL_LOCKED', message: /elsewhere/ });
  clearInterval(beat);
  const { journal } = await startMetering(t, path, { limits });
  t.equal(journal.state, 'open', 'silence: taken over');

  const before = statSync(lock).mtimeMs;
  while (statSync(lock).mtimeMs === before) await new Promise((done) => setTimeout(done, 20));
  t.pass('our own lock shows signs of life');

  const failed = new Promise((done) => {
    const poll = setInterval(() => {
      if (journal.state !== 'failed') return;
      clearInterval(poll);
      done(true);
    }, 10);
  });
  writeFileSync(lock, foreign);
  await failed;
  t.match(journal.failure, { code: 'JOURNAL_LOCKED' }, 'who lost the lock stops counting');
});

t.test('of many starters at a dead lock one wins', async (t) => {
  const path = join(folder(t), 'journal');
  await (await startMetering(t, path)).journal.close();
  const dead = spawnSync(process.execPath, ['-e', '']);
  const host = await (async () => {
    const { journal } = await startMetering(t, path);
    const text = JSON.parse(readFileSync(`${path}.lock`, 'utf8'));
    await journal.close();
    return text.host;
  })();
  writeFileSync(`${path}.lock`, JSON.stringify({ pid: dead.pid, start: '1', host, nonce: 'dead' }));
  const starts = await Promise.allSettled(Array.from({ length: 8 }, () => startMetering(t, path)));
  t.equal(starts.filter((s) => s.status === 'fulfilled').length, 1);
  for (const s of starts) if (s.status === 'rejected') t.equal(s.reason.code, 'JOURNAL_LOCKED');
});

t.test('grows in steps up to its limit; growth survives a crash at any point', async (t) => {
  const path = join(folder(t), 'journal');
  const { registry, journal } = await startMetering(t, path);
  t.equal(journal.slotCount, 16);
  const bindings = Array.from({ length: 64 }, () => mustOpen(registry));
  for (const [i, b] of bindings.entries()) b.countUp(i + 1);
  t.equal(journal.slotCount, 64);
  t.equal(registry.canAdmit, false);
  t.strictSame(registry.open(subject()), { ok: false, code: 'JOURNAL_FULL' });
  t.ok(bindings[63]?.countUp(1), 'open meters go on');

  const half = `${path}.half`;
  writeFileSync(half, Buffer.concat([readFileSync(path), Buffer.alloc(1_000, 0xee)]));
  const second = await startMetering(t, half, { limits: { journalSlotsMax: 128 } });
  t.equal(second.registry.meterCount, 64);
  t.strictSame(second.journal.problems, [], 'an extent that the header does not know holds nothing');
  mustOpen(second.registry).countUp(3);
  t.equal(second.journal.slotCount, 72);
  t.equal((await startMetering(t, crash(second))).registry.meterCount, 65);
});

t.test('disk full: no new streams, open meters go on, and it heals', async (t) => {
  const faulty = faultyDisk();
  const { registry, journal, clock } = await startMetering(t, join(folder(t), 'journal'), {
    limits: { journalReserveSlots: 4 },
    disk: faulty.disk,
  });
  const { file } = faulty;
  file.writeError = ioError('ENOSPC');
  file.onlyGrowth = true;
  const bindings = Array.from({ length: 12 }, () => mustOpen(registry));
  t.equal(registry.canAdmit, false, 'what is left is kept for price changes');
  t.equal(journal.state, 'open');
  for (const b of bindings) t.ok(b.countDown(1));
  for (const b of bindings.slice(0, 4))
    t.equal(registry.roll(b, { providerPriceMicrosPerGb: '1', buyerPriceMicrosPerGb: '2' }).ok, true);
  const stranded = registry.rollAll(() => ({ providerPriceMicrosPerGb: '1', buyerPriceMicrosPerGb: '2' }));
  t.strictSame(stranded, bindings.slice(4), 'no slot for these: the relay must stop them');

  file.writeError = null;
  t.equal(registry.canAdmit, false, 'not asked again at once');
  clock.advance(10_000);
  t.equal(registry.canAdmit, true);
  t.equal(journal.slotCount, 24);
});

t.test('a journal that cannot be made because the disk is full says so', async (t) => {
  const dir = join(folder(t), 'small');
  mkdirSync(dir);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir]).status === 0;
  if (!mounted) {
    // Without the right to mount, a file where the folder should be must still be an error, not a hole.
    rmSync(dir, { recursive: true });
    writeFileSync(dir, '');
    await t.rejects(startMetering(t, join(dir, 'journal')), { code: 'ENOTDIR' });
    return;
  }
  t.teardown(() => spawnSync('umount', [dir]));
  const path = join(dir, 'journal');
  await t.rejects(startMetering(t, path, { limits: { journalSlots: 4096, journalSlotsMax: 4096 } }), {
    code: 'JOURNAL_NO_SPACE',
  });
  t.strictSame(readdirSync(dir), [], 'nothing half-made is left');

  const { registry, journal } = await startMetering(t, path, { limits: { journalSlotsMax: 4096 } });
  const bindings = [];
  for (;;) {
    const opened = registry.open(subject());
    if (!opened.ok) {
      t.equal(opened.code, 'JOURNAL_FULL');
      break;
    }
    bindings.push(opened.binding);
  }
  t.ok(bindings.length >= 64 && bindings.length < 128, `${bindings.length} meters on 64 KiB`);
  t.equal(registry.canAdmit, false);
  for (const b of bindings) t.ok(b.countUp(5) && b.countDown(6));
  t.equal(journal.state, 'open');
  const reopened = crashElsewhere(t, path);
  t.equal(
    (await startMetering(t, reopened)).registry.snapshot().filter((r) => r.bytesUp === 5).length,
    bindings.length,
  );
});

function crashElsewhere(t: Test, path: string): string {
  const copy = join(folder(t), basename(path));
  writeFileSync(copy, readFileSync(path));
  return copy;
}

t.test('a write that fails fails the journal: nothing more is counted', async (t) => {
  for (const code of ['EIO', 'ENOSPC'] as const) {
    const failures: Error[] = [];
    const faulty = faultyDisk();
    const metering = await startMetering(t, join(folder(t), 'journal'), {
      onFailed: (error) => failures.push(error),
      disk: faulty.disk,
    });
    const { registry, journal } = metering;
    const a = mustOpen(registry);
    const b = mustOpen(registry);
    t.ok(a.countUp(10));
    faulty.file.writeError = ioError(code);
    t.notOk(a.countUp(5));
    t.equal(failures.length, 0, 'not from inside the count');
    faulty.file.writeError = null;
    t.notOk(b.countDown(5), 'also when writing would work again');
    await Promise.resolve();
    t.strictSame(failures, [journal.failure]);
    t.equal(journal.state, 'failed');
    t.equal(registry.canAdmit, false);
    t.equal(a.refusal, 'JOURNAL_FAILED');
    t.equal(a.meter.bytesUp, 10, 'what was refused is not counted');
    t.strictSame(registry.open(subject()), { ok: false, code: 'JOURNAL_FAILED' });
    registry.close(a, { allocationEnded: true });
    t.equal(a.meter.final, false, 'only a restart can say what is final');
    t.equal((await startMetering(t, crash(metering))).registry.meterCount, 2);
  }
});

t.test('a disk that does not keep what it took fails the journal', async (t) => {
  const faulty = faultyDisk();
  const { registry, journal, clock } = await startMetering(t, join(folder(t), 'journal'), {
    disk: faulty.disk,
  });
  const binding = mustOpen(registry);
  binding.countUp(1);
  await journal.sync();
  t.equal(journal.syncLagMs, 0);
  t.equal(journal.syncCount, 1);
  await journal.sync();
  t.equal(journal.syncCount, 1, 'nothing written, nothing to sync');
  binding.countUp(1);
  clock.advance(11_000);
  t.equal(journal.syncLagMs, 11_000);
  t.equal(registry.canAdmit, false, 'the disk is too slow to take more on');
  faulty.file.syncError = ioError('EIO');
  await journal.sync();
  t.equal(journal.state, 'failed');
  t.match(journal.failure, { code: 'JOURNAL_SYNC', cause: { code: 'EIO' } });
  t.notOk(binding.countUp(1));
});

t.test('syncs by itself once a second', async (t) => {
  const settings = meteringSettings({ ...SMALL, journalSyncIntervalMs: 20, journalLockWatchMs: 30 });
  const journal = await Journal.open({
    path: join(folder(t), 'journal'),
    gatewayId: GATEWAY,
    epoch: '0'.repeat(32),
    clock: systemClock,
    log: silentLog,
    settings,
  });
  t.teardown(() => journal.close());
  const { packageId, ...ids } = subject();
  t.ok(journal.allocate({ ...ids, packageId, epoch: '0'.repeat(32), openedAtMs: 1 }));
  const end = performance.now() + 10_000;
  while (journal.syncCount === 0 && performance.now() < end) await new Promise((done) => setTimeout(done, 5));
  t.equal(journal.syncCount, 1);
});
