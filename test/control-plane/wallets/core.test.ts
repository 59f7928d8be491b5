import fc from 'fast-check';
import t from 'tap';
import { decideGrant, GRANTED_MAX } from '../../../control-plane/wallets/core.js';

const MiB = 2n ** 20n;
const least = (a: bigint, b: bigint) => (a > b ? b : a);
const question = { granted: 0n, wantGranted: 0n, available: 0n, unit: MiB, othersHold: false };

t.test('what is asked, while there is twice as much; then halves; then one unit, whole', (t) => {
  const of = (available: bigint, wantGranted: bigint, granted = 0n) =>
    decideGrant({ ...question, available, wantGranted, granted });
  t.same(of(200n * MiB, 100n * MiB), { granted: 100n * MiB, state: 'open', beyond: 100n * MiB });
  const half = (199n * MiB) / 2n;
  t.same(of(199n * MiB, 100n * MiB), { granted: half, state: 'open', beyond: 199n * MiB - half });
  t.same(of(300n * MiB, 150n * MiB, 100n * MiB), { granted: 150n * MiB, state: 'open', beyond: 250n * MiB });
  t.same(of(MiB + 1n, 64n * MiB), { granted: MiB, state: 'open', beyond: 1n });
  t.same(of(7n, 64n * MiB), { granted: 7n, state: 'exhausted', beyond: 0n });
  t.same(of(0n, 64n * MiB), { granted: 0n, state: 'exhausted', beyond: 0n });
  t.same(of(-5n, 64n * MiB), { granted: 0n, state: 'exhausted', beyond: 0n });
  t.same(of(0n, 5n, 5n), { granted: 5n, state: 'open', beyond: 0n }, 'an old ask is satisfied already');
  t.same(of(10n, 3n, 5n), { granted: 5n, state: 'open', beyond: 10n }, 'granted never falls');
  t.match(decideGrant({ ...question, wantGranted: 9n, othersHold: true }), { granted: 0n, state: 'wait' });
  t.same(
    decideGrant({ ...question, available: 2n ** 80n, wantGranted: 2n ** 60n }),
    { granted: GRANTED_MAX, state: 'open', beyond: GRANTED_MAX },
    'nothing beyond what travels exactly',
  );
  t.end();
});

t.test(
  'no interleaving of asks, spending, give-backs, closings and top-ups grants more than there is',
  (t) => {
    interface Run {
      granted: bigint;
      renounced: bigint;
      spent: bigint;
      used: bigint;
      open: boolean;
    }
    const RUNS = 4;
    const step = fc.record({
      run: fc.nat(RUNS - 1),
      what: fc.constantFrom('ask', 'use', 'settle', 'renounce', 'close', 'fund', 'stale'),
      amount: fc.bigInt({ min: 1n, max: 64n * MiB }),
    });
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 256n * MiB }),
        fc.bigInt({ min: 1n, max: 2n * MiB }),
        fc.array(step, { maxLength: 200 }),
        (start, unit, steps) => {
          let funded = start;
          const runs: Run[] = Array.from({ length: RUNS }, () => ({
            granted: 0n,
            renounced: 0n,
            spent: 0n,
            used: 0n,
            open: true,
          }));
          const held = (run: Run) => (run.open ? run.granted - run.renounced - run.spent : 0n);
          const sum = (of: (run: Run) => bigint) => runs.reduce((total, run) => total + of(run), 0n);
          for (const { run: n, what, amount } of steps) {
            const run = runs[n] as Run;
            const free = run.granted - run.renounced - run.used;
            if (what === 'ask' && run.open) {
              const available = funded - sum((r) => r.spent) - sum(held);
              const grant = decideGrant({
                granted: run.granted,
                wantGranted: run.granted + amount,
                available,
                unit,
                othersHold: runs.some((r) => r !== run && held(r) > 0n),
              });
              if (grant.granted < run.granted) return false;
              if (grant.granted > run.granted + (available > 0n ? available : 0n)) return false;
              if (available > 0n && grant.granted === run.granted) return false; // the last units can be had
              run.granted = grant.granted;
            } else if (what === 'stale' && run.open) {
              const grant = decideGrant({
                granted: run.granted,
                wantGranted: run.granted / 2n,
                available: funded - sum((r) => r.spent) - sum(held),
                unit,
                othersHold: false,
              });
              if (grant.granted !== run.granted) return false;
            } else if (what === 'use') run.used += least(amount, free);
            else if (what === 'settle') run.spent = run.used;
            else if (what === 'renounce') run.renounced += least(amount, free);
            else if (what === 'close') {
              run.spent = run.used;
              run.open = false;
            } else if (what === 'fund') funded += amount;
            if (funded - sum((r) => r.spent) < sum(held) || sum((r) => r.used) > funded) return false;
          }
          return true;
        },
      ),
      { numRuns: 500 },
    );
    t.end();
  },
);
