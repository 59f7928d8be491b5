import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { FRAME_HEADROOM } from '../../agent-protocol/frame.js';
import { TlsGather } from '../../agent-protocol/tls-gather.js';

const RECORD_BYTES = 16 * 1024;

/** Small and repeatable (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** A gather whose sink uses what it is allowed to: it overwrites the headroom, and keeps pieces when `keeps` says so. */
function gathered(keeps: () => boolean) {
  const pieces: Buffer[] = [];
  const headrooms: number[] = [];
  const kept: Array<{ view: Buffer; copy: Buffer }> = [];
  let ends = 0;
  const gather = new TlsGather(
    (buffer, start, end, headroomBytes) => {
      const view = buffer.subarray(start, end);
      const copy = Buffer.from(view);
      pieces.push(copy);
      headrooms.push(headroomBytes);
      if (headroomBytes > 0) buffer.fill(0xee, start - headroomBytes, start);
      if (headroomBytes === 0 || !keeps()) return false;
      kept.push({ view, copy });
      return true;
    },
    () => ends++,
  );
  /** What node:tls does with a record: it is in the memory that was asked for after the last one. */
  let place = gather.next();
  const record = (bytes: Buffer): void => {
    bytes.copy(place);
    gather.took(bytes.length);
    place = gather.next();
  };
  return { gather, record, pieces, headrooms, kept, ends: () => ends };
}

t.test(
  'any records, holds and kept pieces: every byte in order, kept ones and offered memory left alone',
  async (t) => {
    for (let seed = 1; seed <= 60; seed++) {
      const below = random(seed);
      const { gather, record, pieces, kept, ends } = gathered(() => below(3) === 0);
      const sent: Buffer[] = [];
      let held = true;
      for (let step = 0; step < 400; step++) {
        const what = below(20);
        if (what === 0) await turn();
        else if (what === 1) {
          held = !held;
          if (held) gather.hold();
          else gather.release();
        } else {
          const bytes = randomBytes(what < 12 ? RECORD_BYTES : 1 + below(RECORD_BYTES));
          sent.push(bytes);
          record(bytes);
        }
      }
      gather.endAfterFlush();
      gather.release();
      await turn();
      const all = Buffer.concat(sent);
      if (!Buffer.concat(pieces).equals(all)) t.fail(`seed ${seed}: what came is not what was sent`);
      if (!kept.every(({ view, copy }) => view.equals(copy))) t.fail(`seed ${seed}: kept bytes were changed`);
      if (ends() !== 1) t.fail(`seed ${seed}: ${ends()} ends`);
    }
  },
);

t.test(
  'bulk goes on in large pieces with headroom, in the turn of the event loop that brought it',
  async (t) => {
    const { gather, record, pieces, headrooms } = gathered(() => false);
    gather.release();
    for (let i = 0; i < 20; i++) record(randomBytes(RECORD_BYTES));
    await turn();
    t.equal(Buffer.concat(pieces).length, 20 * RECORD_BYTES);
    t.ok(pieces.length <= 4, `${pieces.length} pieces`);
    t.ok(headrooms.every((headroom) => headroom >= FRAME_HEADROOM));
  },
);

t.test('a record that is not full takes along what was gathered, at once', (t) => {
  const { gather, record, pieces } = gathered(() => false);
  gather.release();
  record(randomBytes(100));
  t.same(
    pieces.map(({ length }) => length),
    [100],
    'alone',
  );
  record(randomBytes(RECORD_BYTES));
  t.equal(pieces.length, 1, 'a full one waits for more');
  record(randomBytes(7));
  t.same(
    pieces.map(({ length }) => length),
    [100, RECORD_BYTES + 7],
  );
  t.end();
});

t.test('short messages in a row give the memory back: they come without headroom again', (t) => {
  const { gather, record, headrooms } = gathered(() => false);
  gather.release();
  record(randomBytes(RECORD_BYTES));
  for (let i = 0; i < 40; i++) record(randomBytes(50));
  t.ok((headrooms[0] as number) > 0);
  t.equal(headrooms.at(-1), 0);
  t.end();
});

t.test('while held no more is wanted, and nothing is lost', async (t) => {
  const { gather, pieces } = gathered(() => false);
  const bytes = randomBytes(40 * RECORD_BYTES + 5);
  gather.add(bytes);
  t.equal(gather.took(0), false);
  await turn();
  t.equal(pieces.length, 0);
  gather.release();
  await turn();
  t.ok(Buffer.concat(pieces).equals(bytes));
  t.equal(gather.took(0), true);
});
