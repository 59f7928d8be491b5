import t from 'tap';
import { Sketch } from '../../../gateway/runtime/sketch.js';

const sketchOf = (from: number, to: number, name = (n: number) => `host${n}.example.com:443`) => {
  const sketch = new Sketch();
  for (let n = from; n < to; n++) sketch.add(name(n));
  return sketch;
};

t.test('how many different ones, whatever their number', async (t) => {
  t.equal(new Sketch().estimate(), 0);
  for (const count of [1, 5, 100, 1_000, 5_000, 100_000]) {
    const estimates = [0, 1, 2, 3].map((seed) => sketchOf(0, count, (n) => `${seed}.${n}`).estimate());
    // Four standard errors of 6.5 %.
    for (const estimate of estimates)
      t.ok(Math.abs(estimate - count) <= Math.max(1, 0.26 * count), `${count}: estimated ${estimate}`);
  }
  const repeated = new Sketch();
  for (let n = 0; n < 10_000; n++) repeated.add(`host${n % 10}`);
  t.ok(Math.abs(repeated.estimate() - 10) <= 1, 'again and again is once');
});

t.test('neighbouring addresses and ports are told apart as well as names', async (t) => {
  for (const name of [(n: number) => `203.0.${n >> 8}.${n & 255}:80`, (n: number) => `198.51.100.7:${n}`]) {
    const estimate = sketchOf(0, 4_000, name).estimate();
    t.ok(estimate > 2_960 && estimate < 5_040, `4000: estimated ${estimate}`);
  }
});

t.test('merged: nothing twice; as text and back', async (t) => {
  const left = sketchOf(0, 3_000);
  const right = sketchOf(2_000, 5_000);
  const all = sketchOf(0, 5_000);
  left.merge(right.registers);
  t.same(left.registers, all.registers);
  left.merge([]);
  t.same(left.registers, all.registers, 'nothing seen adds nothing');
  const text = all.toText();
  t.equal(text.length, 344);
  t.same(Sketch.fromText(text)?.registers, all.registers);
  for (const bad of ['', 'x', text.slice(1), `${text}=`, text.replace(/.$/, '!')])
    t.equal(Sketch.fromText(bad), null, bad.slice(0, 10));
});
