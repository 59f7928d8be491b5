/** How windows follow traffic: driven by a clock of its own, so that nothing here waits. */
import fc from 'fast-check';
import t from 'tap';
import {
  defaultTimings,
  SMALL_LASTS_MS,
  WINDOW_LOOPS_BYTES_MAX,
  WINDOW_ROUND_MS_MIN,
  WINDOW_ROUND_SHARED_MS,
  WINDOW_SHRINK_AFTER_MS,
} from '../../agent-protocol/limits.js';
import { Liveness } from '../../agent-protocol/liveness.js';
import { ReceiveWindow, TunnelWindowBudget } from '../../agent-protocol/receive-window.js';

const KiB = 1024;
const FIRST = 128 * KiB;
const MAX = 16 * KiB * KiB;
const PATH_MS = 50;

/**
 * A sender with data without end, a line of a rate and a delay, a reader that takes at once, and the window between them,
 * a millisecond at a time.
 */
class Way {
  readonly budget: TunnelWindowBudget;
  readonly window: ReceiveWindow;
  nowMs = 0;
  takenBytes = 0;
  /** Most bytes that stood in front of the line. */
  queueBytesMax = 0;
  #sendable = FIRST;
  #queueBytes = 0;
  #arriving: { atMs: number; bytes: number }[] = [];
  #credits: { atMs: number; bytes: number }[] = [];

  constructor(readonly pathMs = PATH_MS) {
    this.budget = new TunnelWindowBudget(() => MAX);
    this.window = new ReceiveWindow(FIRST, MAX, this.budget);
  }

  /** Runs so long; `sends`: whether there is anything to send. */
  run(ms: number, bytesPerMs: number, sends = true): void {
    for (const untilMs = this.nowMs + ms; this.nowMs < untilMs; this.nowMs++) {
      while ((this.#credits[0]?.atMs ?? Infinity) <= this.nowMs)
        this.#sendable += this.#credits.shift()?.bytes ?? 0;
      if (sends) {
        this.#queueBytes += this.#sendable;
        this.#sendable = 0;
      }
      const bytes = Math.min(bytesPerMs, this.#queueBytes);
      this.#queueBytes -= bytes;
      this.queueBytesMax = Math.max(this.queueBytesMax, this.#queueBytes);
      if (bytes > 0) this.#arriving.push({ atMs: this.nowMs + this.pathMs / 2, bytes });
      while ((this.#arriving[0]?.atMs ?? Infinity) <= this.nowMs)
        this.#take(this.#arriving.shift()?.bytes ?? 0);
    }
  }

  #take(bytes: number): void {
    this.takenBytes += bytes;
    const credit = this.window.taken(bytes, this.pathMs, this.nowMs);
    if (credit > 0) this.#credits.push({ atMs: this.nowMs + this.pathMs / 2, bytes: credit });
  }
}

for (const megabits of [10, 100, 1_000])
  t.test(
    `a window fills a way of ${megabits} Mbit/s and ${PATH_MS} ms, and queues a round trip at most`,
    async (t) => {
      const way = new Way();
      const bytesPerMs = megabits * 125;
      way.run(2_000, bytesPerMs);
      const before = way.takenBytes;
      way.queueBytesMax = 0;
      way.run(20_000, bytesPerMs);
      const share = (way.takenBytes - before) / (20_000 * bytesPerMs);
      t.ok(share > 0.98, `${(share * 100).toFixed(1)} % of the rate`);
      const roundTripBytes = bytesPerMs * PATH_MS;
      t.ok(way.queueBytesMax <= 1.1 * roundTripBytes + FIRST, `${way.queueBytesMax} bytes queued`);
      t.ok(way.window.bytes >= 1.5 * roundTripBytes, `window ${way.window.bytes}`);
    },
  );

t.test('a window shrinks to what a slower reader needs, and one that rested starts anew', async (t) => {
  const way = new Way();
  way.run(2_000, 125_000);
  const large = way.window.bytes;
  t.ok(large > 10 * KiB * KiB, `${large} bytes`);
  // Two periods until it is known, and then as many bytes as it shrinks by.
  way.run(2 * WINDOW_SHRINK_AFTER_MS + large / 1_250, 1_250);
  t.ok(way.window.bytes <= 2.5 * 1_250 * PATH_MS + FIRST, `${way.window.bytes} at a hundredth of the rate`);
  way.run(2_000, 125_000);
  t.ok(way.window.bytes > 10 * KiB * KiB, 'it grows again');
  way.run(2 * WINDOW_SHRINK_AFTER_MS, 125_000, false);
  const rested = way.window.bytes;
  way.run(2 * PATH_MS, 125);
  t.ok(way.window.bytes < rested, 'the first bytes after a rest earn no credit');
  way.run(60 * 1_000, 1_250);
  const room = way.budget.take(MAX, 0);
  t.ok(room >= 0.7 * MAX, `others may grow by what it no longer has: ${room}`);
});

t.test('the rate of a stream is not that of its bursts', async (t) => {
  const window = new ReceiveWindow(FIRST, MAX, new TunnelWindowBudget(() => MAX));
  // 100 MB/s in bursts of 5 ms at ten times that, and a way without length.
  for (let nowMs = 0; nowMs < 5_000; nowMs++) if (nowMs % 50 < 5) window.taken(1_000_000, 0, nowMs);
  t.ok(window.bytes <= FIRST + 2 * 2 * 400_000, `${window.bytes} bytes`);
  t.ok(window.bytes > FIRST, 'it grew');
});

/** A stream of the same tunnel takes `bytes` every `everyMs`; returns whether it shared the tunnel at the end. */
function beside(budget: TunnelWindowBudget, bytes: number, everyMs: number, pieces: number): boolean {
  const window = new ReceiveWindow(FIRST, MAX, budget);
  let nowMs = 0;
  for (let n = 0; n < pieces; n++) {
    nowMs += everyMs;
    window.taken(bytes, 0, nowMs);
  }
  return budget.isShared(nowMs);
}

t.test('a small stream is one that goes on in small pieces', async (t) => {
  const isSmall = (bytes: number, everyMs: number, pieces: number) =>
    beside(new TunnelWindowBudget(() => MAX), bytes, everyMs, pieces);
  t.ok(isSmall(1_024, 2, 30), 'an echo');
  t.ok(isSmall(1_024, 2, 2_000), 'also after many credits');
  t.ok(isSmall(100, 200, 8), 'somebody who types');
  t.notOk(isSmall(1_024, 100, 2), 'an answer in two pieces');
  t.notOk(isSmall(8 * KiB, 9, 7), 'the first reads of bulk that waits for its turns');
  t.notOk(isSmall(8 * KiB, 1, 10_000), 'much in small pieces');
  t.notOk(isSmall(60 * KiB, 50, 100), 'large pieces, seldom');
});

t.test('on a short way windows hold little while a small stream shares the tunnel', async (t) => {
  const bytesPerMs = 250_000;
  const way = new Way(0);
  way.run(1_000, bytesPerMs);
  t.ok(way.window.bytes >= 2 * WINDOW_ROUND_MS_MIN * bytesPerMs, `alone ${way.window.bytes} bytes`);
  const small = new ReceiveWindow(FIRST, MAX, way.budget);
  for (let n = 0; n < 50; n++) {
    way.run(2, bytesPerMs);
    small.taken(1_024, 0, way.nowMs);
  }
  const sharedBytes = WINDOW_ROUND_SHARED_MS * bytesPerMs + FIRST;
  t.ok(way.window.bytes <= 1.05 * sharedBytes, `${way.window.bytes} bytes within 100 ms`);
  way.takenBytes = 0;
  way.run(500, bytesPerMs);
  t.ok(way.takenBytes > 0.98 * 500 * bytesPerMs, 'enough for the whole rate');
  way.run(SMALL_LASTS_MS, bytesPerMs);
  t.ok(way.window.bytes >= 2 * WINDOW_ROUND_MS_MIN * bytesPerMs, 'and as before when it has gone');
});

t.test('on a short way a fast stream has what event loops need, and on any what the way needs', async (t) => {
  const bytesPerMs = 1_250_000; // 10 Gbit/s
  const windowAt = (pathMs: number) => {
    const way = new Way(pathMs);
    way.run(2_000, bytesPerMs);
    t.ok(way.takenBytes > 0.95 * 2_000 * bytesPerMs, `${way.takenBytes} bytes over ${pathMs} ms`);
    return way.window.bytes;
  };
  t.equal(windowAt(0), FIRST + WINDOW_LOOPS_BYTES_MAX);
  t.equal(windowAt(1), FIRST + WINDOW_LOOPS_BYTES_MAX);
  t.ok(windowAt(4) >= 2 * 4 * bytesPerMs);
});

t.test('on a long way a small stream takes nothing from a window', async (t) => {
  const way = new Way();
  way.run(2_000, 12_500);
  const before = way.window.bytes;
  beside(way.budget, 1_024, 2, 2_000);
  t.ok(way.budget.isShared(way.nowMs));
  way.run(500, 12_500);
  t.equal(way.window.bytes, before);
});

t.test('one window leaves others something to grow by', async (t) => {
  const budget = new TunnelWindowBudget(() => 1_000);
  t.equal(budget.take(5_000, 0), 800);
  t.equal(budget.take(5_000, 800), 0);
  t.equal(budget.take(5_000, 0), 160);
  budget.giveBack(800);
  t.equal(budget.take(5_000, 0), 672);
  t.equal(budget.take(5_000, 0), 134);
  t.equal(budget.take(0, 0), 0);
});

t.test('credit is never more than was taken and grown, and a sender is never left without', async () => {
  const step = fc.record({
    part: fc.double({ min: 0, max: 1, noNaN: true }),
    ms: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 20_000 })),
    pathMs: fc.integer({ min: 0, max: 500 }),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 200 }),
      fc.integer({ min: FIRST, max: MAX }),
      (steps, tunnelMax) => {
        const budget = new TunnelWindowBudget(() => tunnelMax);
        const window = new ReceiveWindow(FIRST, MAX, budget);
        let sendable = FIRST;
        let nowMs = 0;
        for (const { part, ms, pathMs } of steps) {
          nowMs += ms;
          const bytes = Math.ceil(part * sendable);
          sendable -= bytes;
          sendable += window.taken(bytes, pathMs, nowMs);
          if (sendable > window.bytes || window.bytes > MAX) throw new Error('beyond the window');
          if (window.bytes < FIRST) throw new Error('below the first window');
          if (window.bytes - FIRST > tunnelMax) throw new Error('beyond what the tunnel has');
          if (sendable * 2 < window.bytes) throw new Error('all was taken, and half of it not given back');
        }
        budget.giveBack(window.bytes - FIRST);
        if (budget.take(MAX * 2, 0) !== Math.floor(tunnelMax * 0.8)) throw new Error('the tunnel lost room');
      },
    ),
    { numRuns: 500 },
  );
});

t.test('the way is as long as the quickest PING, unless one without traffic says otherwise', async (t) => {
  const liveness = new Liveness(defaultTimings, true, 1_000, 0);
  const sample = (ms: number, movedBytes: number): number => {
    liveness.pong(liveness.ping(0, 0), ms, movedBytes);
    return liveness.pathRttMs;
  };
  t.equal(sample(50, 0), 50);
  t.equal(sample(90, 10_000_000), 50, 'the queue of traffic');
  t.equal(sample(40, 10_000_000), 40);
  t.equal(sample(80, 1_000), 50, 'a longer way shows without traffic');
});
