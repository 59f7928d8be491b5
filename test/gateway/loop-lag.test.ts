import t from 'tap';
import { systemClock } from '../../gateway/runtime/clock.js';
import { LoopLag } from '../../gateway/runtime/loop-lag.js';
import { eventually } from './listeners/fake-pipeline.js';

function lagOf(lagMsMax: number): LoopLag {
  return new LoopLag({ lagMsMax, intervalMs: 50 }, systemClock);
}

t.test('overloaded above the limit, until below half of it', async (t) => {
  const lag = lagOf(100);
  lag.note(60_000);
  t.notOk(lag.overloaded, 'one pause alone is none, however long');
  while (lag.lagMs > 1) lag.note(0);
  lag.note(190);
  lag.note(190);
  t.notOk(lag.overloaded);
  lag.note(190);
  t.ok(lag.overloaded, 'a third in a row');
  const before: number[] = [];
  while (lag.overloaded) {
    before.push(lag.lagMs);
    lag.note(0);
  }
  t.ok(
    before.some((lagMs) => lagMs < 100),
    'it stays so below the limit',
  );
  t.ok(before.every((lagMs) => lagMs >= 50) && lag.lagMs < 50, 'and ends below half of it');
});

t.test('0: never', async (t) => {
  const lag = lagOf(0);
  for (let i = 0; i < 100; i++) lag.note(10_000);
  t.notOk(lag.overloaded);
});

t.test('a loop that is held up is noticed, and when it runs again', async (t) => {
  const lag = new LoopLag({ lagMsMax: 40, intervalMs: 5 }, systemClock);
  lag.start();
  t.teardown(() => lag.stop());
  const holdUp = () => {
    const untilMs = performance.now() + 80;
    while (performance.now() < untilMs);
  };
  while (!lag.overloaded) {
    holdUp();
    await new Promise((resolve) => setTimeout(resolve, 6));
  }
  t.ok(lag.lagMs > 20, 'not yet below half of the limit');
  await eventually(() => !lag.overloaded);
  t.ok(lag.lagMs < 20);
});
