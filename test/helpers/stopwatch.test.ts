import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { stopwatch } from './stopwatch.js';

t.test('waiting counts, a stopped process does not', async (t) => {
  const waited = stopwatch();
  await delay(300);
  t.ok(waited() >= 150);
  const stopped = stopwatch();
  await delay(1);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000);
  await delay(1);
  t.ok(stopped() < 500);
});
