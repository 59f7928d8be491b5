/** What a kill -9 leaves at any moment: exactly the counts, and no more than leases had paid for. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { COUNT_BYTES_MAX } from '../../../agent-protocol/limits.js';
import { Verdict } from '../../../agent-protocol/verdict.js';
import { describeJournal } from '../../../gateway/metering/journal-describe.js';
import type { MeterBinding } from '../../../gateway/metering/meter.js';
import { Wallet } from '../../../gateway/metering/wallet.js';
import { WALLET_DEFAULTS } from '../../../gateway/metering/wallet-settings.js';
import { folder, mappedFolder, mustOpen, startMetering, subject } from './harness.js';

const PRICES = ['2000000', '3000000', '0'] as const;
/** For 750 kB at the first price. */
const MONEY_MICROS = 1_500;

type Step =
  | { do: 'open' | 'close' | 'renounce'; which: number }
  | { do: 'count'; which: number; up: boolean; bytes: number }
  | { do: 'roll'; which: number; price: number };

const which = fc.nat(40);
const piece = fc.oneof(fc.nat(2_000), fc.constant(COUNT_BYTES_MAX), fc.nat(COUNT_BYTES_MAX));
const stepArb: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('open' as const), which }) },
  {
    weight: 20,
    arbitrary: fc.record({ do: fc.constant('count' as const), which, up: fc.boolean(), bytes: piece }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('roll' as const), which, price: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('renounce' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const), which }) },
);

for (const mapped of [true, false])
  t.test(mapped ? 'stored into the mapped file' : 'written with calls', async (t) => {
    const dir = mapped ? mappedFolder(t) : folder(t);
    if (dir === null) return;
    let runs = 0;
    const seen = { counted: 0, refused: 0, rolled: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(stepArb, { minLength: 20, maxLength: 120 }), async (steps) => {
        const metering = await startMetering(t, join(dir, `journal-${runs++}`), { mapped });
        const { registry, clock, journal } = metering;
        if (journal.mapped !== mapped) throw new Error('written another way');
        const who = [subject(), subject()];
        const wallet = new Wallet({ kind: 'buyer', ownerId: 'b' }, 'b', {
          clock,
          settings: WALLET_DEFAULTS,
          hungry: () => {},
        });
        let answered = 0;
        const fill = () => {
          const granted = MONEY_MICROS + wallet.renounced;
          wallet.heard({ granted, answered: ++answered, state: 'open' }, clock.monotonicMs());
        };
        fill();
        const bindings = new Set<MeterBinding>();
        const price = { providerPriceMicrosPerGb: '1', buyerPriceMicrosPerGb: PRICES[0] as string };
        const check = () => {
          let micros = 0n;
          const left = new Map(describeJournal(metering.path).meters.map((m) => [m.key, m.report]));
          for (const meter of registry.meters()) {
            const report = left.get(meter.key);
            if (report?.bytesUp !== meter.bytesUp || report.bytesDown !== meter.bytesDown)
              throw new Error(`${JSON.stringify(report)}, counted ${meter.bytesUp} + ${meter.bytesDown}`);
            micros +=
              (BigInt(report.bytesUp + report.bytesDown) * BigInt(report.buyerPriceMicrosPerGb)) /
              1_000_000_000n;
          }
          if (micros > BigInt(MONEY_MICROS)) throw new Error(`${micros} of ${MONEY_MICROS} micro-dollars`);
          if (micros > BigInt(wallet.used)) throw new Error(`${micros} charged, ${wallet.used} set aside`);
        };
        for (const step of [{ do: 'open', which: 0 } as Step, ...steps]) {
          const binding = [...bindings][step.which % Math.max(1, bindings.size)];
          if (step.do === 'open') {
            const given = who[step.which % who.length] as (typeof who)[number];
            const opened = registry.open({ ...given, ...price, wallets: [wallet] });
            if (opened.ok) bindings.add(opened.binding);
          } else if (binding === undefined) continue;
          else if (step.do === 'count') {
            const verdict = step.up ? binding.countUp(step.bytes) : binding.countDown(step.bytes);
            seen[verdict === Verdict.GO ? 'counted' : 'refused']++;
          } else if (step.do === 'roll') {
            price.buyerPriceMicrosPerGb = PRICES[step.price] as string;
            registry.rollAll(() => price);
            seen.rolled++;
          } else if (step.do === 'renounce') {
            wallet.renounceAll();
            fill();
          } else {
            bindings.delete(binding);
            registry.close(binding, { allocationEnded: false });
          }
          check();
        }
        await journal.close();
      }),
      { numRuns: 40 },
    );
    t.ok(
      Object.values(seen).every((times) => times > 0),
      JSON.stringify(seen),
    );
  });

t.test('a journal that grows is mapped where it grew, and a map of before is nobody’s', async (t) => {
  const dir = mappedFolder(t);
  if (dir === null) return;
  const path = join(dir, 'journal');
  for (let life = 0; life < 3; life++) {
    const { registry, journal } = await startMetering(t, path, { limits: { journalSlotsMax: 256 } });
    t.equal(journal.mapped, true);
    const before = statSync(path).size;
    const bindings = Array.from({ length: 60 }, () => mustOpen(registry));
    for (const [i, binding] of bindings.entries()) t.equal(binding.countUp(i + 1), Verdict.GO);
    t.ok(statSync(path).size > before, 'grew');
    await journal.close();
    t.equal(bindings[0]?.countUp(1), Verdict.REFUSE, 'closed: nothing is stored any more');
    const left = describeJournal(path).meters.filter(({ report }) => !report.final);
    t.same(
      left.map(({ report }) => report.bytesUp).sort((a, b) => a - b),
      bindings.map((_, i) => i + 1),
    );
  }
});

t.test('opened and closed a thousand times', async (t) => {
  const path = join(folder(t), 'journal');
  for (let i = 0; i < 1_000; i++) {
    const { journal, registry } = await startMetering(t, path);
    if (registry.meterCount === 0) mustOpen(registry).countDown(7);
    if (registry.snapshot()[0]?.bytesDown !== 7) throw new Error(`lost at ${i}`);
    await journal.close();
  }
  t.pass();
});
