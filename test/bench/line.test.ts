import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { LINE_DELAY_MS, timeToGrow } from './delay.js';
import { Line } from './line.js';
import type { ClientCalls, Endpoint, LineCalls, OriginCalls, Route } from './protocol.js';
import { startRole } from './role.js';

/** All that comes out by a time, as one. */
function arrived(line: Line, nowMs: number): Buffer {
  const pieces: Buffer[] = [];
  for (let piece = line.take(nowMs); piece !== null; piece = line.take(nowMs)) pieces.push(piece);
  return Buffer.concat(pieces);
}

t.test('a line: rate, delay, order', async (t) => {
  const line = new Line(8, 25); // 1 000 bytes a millisecond
  const bytes = Buffer.from(Array.from({ length: 5_000 }, (_, i) => i % 251));
  line.put(bytes.subarray(0, 3_000), 100);
  line.put(bytes.subarray(3_000), 100);
  t.equal(arrived(line, 125).length, 0, 'nothing before the delay');
  const first = arrived(line, 126.5);
  t.equal(first.length, 1_500, 'then at the rate');
  t.equal(line.heldBytes, 3_500);
  t.equal(arrived(line, 126.5).length, 0, 'once');
  const second = arrived(line, 129.5);
  t.equal(second.length, 3_000, 'the second piece waits for the first to be on the line');
  const rest = arrived(line, 1_000);
  t.ok(Buffer.concat([first, second, rest]).equals(bytes));
  t.equal(line.heldBytes, 0);

  line.put(Buffer.alloc(1_000), 1_000);
  t.equal(arrived(line, 1_025.5).length, 500, 'a line that was idle owes nothing');
});

t.test('a line holds what is under way and little more', async (t) => {
  const line = new Line(100, 25);
  const underWay = 100 * 125 * 25;
  let putBytes = 0;
  while (line.takesMore) {
    line.put(Buffer.alloc(10_000), 0);
    putBytes += 10_000;
  }
  t.ok(putBytes >= underWay && putBytes < underWay * 1.3, `${putBytes} of ${underWay}`);
  arrived(line, 30);
  t.ok(line.takesMore);
  line.setRate(1_000);
  while (line.takesMore) line.put(Buffer.alloc(10_000), 30);
  t.ok(line.heldBytes > underWay * 10, 'ten times as many at ten times the rate');
});

t.test('the time a stream takes to grow', async (t) => {
  const samples = (rates: number[]) => {
    let bytes = 0;
    return [
      { bytes: 0, atMs: 1_000 },
      ...rates.map((megabits, i) => {
        bytes += megabits * 125 * 50;
        return { bytes, atMs: 1_000 + (i + 1) * 50 };
      }),
    ];
  };
  t.equal(timeToGrow(samples([10, 20, 40, 80, 100, 100, 100, 100, 100, 100]), 100), 400, 'the mean of five');
  t.equal(timeToGrow(samples([0, 0, 450, 0, 0, 0, 10]), 100), 250, 'what comes in bursts is evened out');
  t.equal(timeToGrow(samples(Array(40).fill(89)), 100), null);
  t.equal(timeToGrow([], 100), null);
});

const direct = (at: Endpoint): Route => ({ kind: 'direct', ...at, username: '', password: '' });

t.test('roles: an echo beside bulk streams, and a line', { timeout: 85_000 }, async (t) => {
  const origin = startRole<OriginCalls>('origin');
  t.teardown(() => origin.stop());
  const [client, small] = [startRole<ClientCalls>('client'), startRole<ClientCalls>('client')];
  t.teardown(() => Promise.all([client.stop(), small.stop()]));
  const line = startRole<LineCalls>('line');
  t.teardown(() => line.stop());
  const originAt = await origin.call.listen();
  const lineAt = await line.call.listen(originAt, LINE_DELAY_MS);

  await client.call.bulkStart(direct(originAt), originAt, 'down', 8);
  const load = { bytes: 1_024, durationMs: 300 };
  for (let round = 0; round < 3; round++) {
    const besideMs = await small.call.echoes(direct(originAt), originAt, load);
    t.ok((await client.call.bulkCount()).bytes > 0);
    t.ok(besideMs.length > 0 && Math.min(...besideMs) < 2 * LINE_DELAY_MS, `${Math.min(...besideMs)} ms`);
  }
  await client.call.bulkStop();

  const overLineMs = await small.call.echoes(direct(lineAt), originAt, load);
  t.ok(Math.min(...overLineMs) >= 2 * LINE_DELAY_MS, `${Math.min(...overLineMs)} ms over the line`);

  await line.call.setRate(100);
  for (const direction of ['down', 'up'] as const) {
    const count = () => (direction === 'down' ? client.call.bulkCount() : origin.call.count());
    await client.call.bulkStart(direct(lineAt), originAt, direction, 1);
    const seconds: number[] = [];
    // A machine that is busy with others gets one of three seconds for itself.
    while (seconds.length < 3 && Math.max(0, ...seconds) < 50) {
      const from = await count();
      await delay(1_000);
      const to = await count();
      seconds.push(((to.bytes - from.bytes) * 8) / 1e6 / ((to.atMs - from.atMs) / 1_000));
    }
    t.ok(
      Math.max(...seconds) <= 125,
      `${direction}: ${seconds} Mbit/s over 100, with what a busy machine reads late`,
    );
    t.ok(Math.max(...seconds) >= 50, `${direction}: ${seconds} Mbit/s, delay and a busy machine taken off`);
    await client.call.bulkStop();
  }

  await t.rejects(
    client.call.echoes(direct({ host: '127.0.0.1', port: 1 }), originAt, load),
    /the echo stream broke/,
  );
});
