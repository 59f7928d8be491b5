import fc from 'fast-check';
import t from 'tap';
import { ByteQueue } from '../../agent-protocol/byte-queue.js';
import { Heartbeat } from '../../agent-protocol/heartbeat.js';
import { defaultTimings } from '../../agent-protocol/limits.js';
import { Liveness } from '../../agent-protocol/liveness.js';
import { type Waiting, WakeQueue } from '../../agent-protocol/wake-queue.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test(
  'waiting streams go on in turn, a few at a time, also when those woken have nothing to send',
  async (t) => {
    let backlogBytes = 0;
    const woken: number[] = [];
    const queue = new WakeQueue(() => backlogBytes);
    const streams: Waiting[] = Array.from({ length: 10 }, (_, index) => ({ wake: () => woken.push(index) }));
    for (const stream of streams) queue.add(stream);
    queue.remove(streams[1] as Waiting);
    queue.drained();
    t.same(woken, [0, 2, 3, 4]);
    await turn();
    await turn();
    t.same(woken, [0, 2, 3, 4, 5, 6, 7, 8, 9]);

    woken.length = 0;
    for (const index of [0, 1, 2])
      queue.add({
        wake: () => {
          woken.push(index);
          backlogBytes = 10_000_000;
        },
      });
    queue.drained();
    await turn();
    t.same(woken, [0], 'one makes backlog: the others wait for the next drain');
    backlogBytes = 0;
    queue.drained();
    backlogBytes = 0;
    queue.drained();
    t.same(woken, [0, 1, 2]);
  },
);

t.test('silence is counted by what lives, and not while this process stood still', async (t) => {
  const live = new Liveness(defaultTimings, true, 1_000, 0);
  live.ping(0, 0);
  t.same(live.beat(24_000, 0, false, false), { due: 'nothing' });
  t.same(live.beat(25_000, 0, false, false), { due: 'ping' });
  live.ping(25_000, 0);
  t.same(live.beat(59_000, 0, false, false), { due: 'ping' });
  live.ping(59_000, 0);
  live.wentLive(59_500);
  t.same(
    live.beat(60_500, 0, false, true),
    { due: 'nothing' },
    'the first stream starts the short time anew',
  );
  t.same(live.beat(64_000, 0, false, true), { due: 'ping' });
  t.same(live.beat(69_500, 0, false, true), { due: 'death', silentMs: 10_000 });
  t.same(live.beat(69_500, 0, true, true), { due: 'ping' }, 'a byte in the last second saves it');

  const idle = new Liveness(defaultTimings, false, 1_000, 0);
  t.same(idle.beat(59_000, 0, false, false), { due: 'nothing' }, 'an agent without streams only listens');
  t.same(idle.beat(60_000, 0, false, false), { due: 'death', silentMs: 60_000 });
  const stood = new Liveness(defaultTimings, false, 1_000, 0);
  t.same(stood.beat(300_000, 299_000, false, false), { due: 'nothing' });
});

t.test('round trips are smoothed, and only the PONG asked for counts', async (t) => {
  const liveness = new Liveness(defaultTimings, true, 1_000, 0);
  const first = liveness.ping(1_000, 0);
  t.same(liveness.ping(1_500, 0), Buffer.alloc(8), 'while one is out, others measure nothing');
  liveness.pong(Buffer.alloc(8), 1_600, 0);
  t.equal(liveness.rttMs, 0);
  liveness.pong(first, 1_080, 0);
  t.equal(liveness.rttMs, 80);
  liveness.pong(first, 9_000, 0);
  t.equal(liveness.rttMs, 80, 'not twice');
  const second = liveness.ping(2_000, 0);
  t.notOk(second.equals(first));
  liveness.pong(second, 2_160, 0);
  t.equal(liveness.rttMs, 90);
});

t.test('a heartbeat beats while somebody listens, and tells how late it is', async (t) => {
  const heartbeat = new Heartbeat(10);
  const late: number[] = [];
  // A heartbeat keeps no process alive.
  const alive = setTimeout(() => {}, 10_000);
  t.teardown(() => clearTimeout(alive));
  await new Promise<void>((resolve) => {
    const listener = {
      onBeat: (_nowMs: number, lateMs: number) => {
        late.push(lateMs);
        if (late.length === 1) {
          const untilMs = performance.now() + 80;
          while (performance.now() < untilMs);
        } else {
          heartbeat.remove(listener);
          resolve();
        }
      },
    };
    heartbeat.add(listener);
  });
  t.ok((late[1] as number) >= 60, `${late[1]} ms late after 80 ms of standing still`);
});

t.test('a byte queue gives back what it was given, in bounded blocks', async (t) => {
  const piece = fc.oneof(fc.nat(40), fc.nat(200_000)).map((length) => Buffer.alloc(length, length & 255));
  fc.assert(
    fc.property(
      fc.array(fc.oneof(piece, fc.integer({ min: 1, max: 100_000 })), { maxLength: 40 }),
      (steps) => {
        const queue = new ByteQueue();
        const given: Buffer[] = [];
        const taken: Buffer[] = [];
        for (const step of steps) {
          if (typeof step === 'number') {
            const slice = queue.shift(step);
            if (slice.length > step || slice.length > 64 * 1024) throw new Error('too much at once');
            taken.push(slice);
          } else {
            given.push(step);
            queue.push(step, 0, step.length);
          }
        }
        while (queue.bytes > 0) taken.push(queue.shift(70_000));
        // Slices are compared at the end: later pushes must not have changed them.
        if (!Buffer.concat(taken).equals(Buffer.concat(given))) throw new Error('bytes differ');
      },
    ),
  );
  const tiny = new ByteQueue();
  for (let i = 0; i < 4_096; i++) tiny.push(Buffer.of(i & 255), 0, 1);
  t.equal(tiny.shift(100_000).length, 4_096, 'single bytes share a block');
  t.equal(tiny.bytes, 0);
});
