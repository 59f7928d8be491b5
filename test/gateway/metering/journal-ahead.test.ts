/** The journal ahead of the counts: what a kill -9 charges at any moment, and how many writes that spares. */
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { COUNT_BYTES_MAX } from '../../../agent-protocol/limits.js';
import { Verdict } from '../../../agent-protocol/verdict.js';
import type { MeterReport } from '../../../gateway/live/records.js';
import { describeJournal } from '../../../gateway/metering/journal-describe.js';
import { JOURNAL_AHEAD_BYTES_MAX, type MeterBinding } from '../../../gateway/metering/meter.js';
import { Wallet } from '../../../gateway/metering/wallet.js';
import { WALLET_DEFAULTS } from '../../../gateway/metering/wallet-settings.js';
import { folder, type Metering, mustOpen, startMetering, subject } from './harness.js';

const PRICES = ['2000000', '3000000', '0'] as const;
/** For 750 kB at the first price. */
const MONEY_MICROS = 1_500;

/** Bytes that the journal would charge now, were the gateway killed. */
function recorded(metering: Metering): MeterReport[] {
  return describeJournal(metering.path).meters.map(({ report }) => report);
}
const total = (metering: Metering): number =>
  recorded(metering).reduce((sum, { bytesUp, bytesDown }) => sum + bytesUp + bytesDown, 0);

t.test('one write covers many pieces of many streams', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'));
  const writesOf = (streams: number, aheadBytesMax: number): number => {
    const binding = mustOpen(metering.registry);
    for (let i = 0; i < streams; i++) binding.streamOpened();
    const before = metering.journal.writeCount;
    for (let i = 0; i < 1_000; i++) {
      if (binding.countDown(60_000, aheadBytesMax) !== Verdict.GO) throw new Error('not counted');
      binding.sent(60_000);
    }
    return metering.journal.writeCount - before;
  };
  t.equal(writesOf(0, Infinity), 1_000, 'streams that were not announced: each its own');
  t.equal(writesOf(1, Infinity), 1_000, 'one stream: each piece may be all that a kill charges too much');
  t.equal(writesOf(8, 0), 1_000, 'nor beyond what the caller allows');
  t.ok(writesOf(8, Infinity) < 200);
  t.ok(writesOf(500, Infinity) >= Math.floor(60_000_000 / (JOURNAL_AHEAD_BYTES_MAX + 60_000)), 'bounded');
});

t.test('closing, a new price and the last stream leave the exact counts', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'));
  const who = subject();
  const binding = mustOpen(metering.registry, who);
  for (let i = 0; i < 4; i++) binding.streamOpened();
  binding.countUp(1_000, Infinity);
  t.ok(total(metering) > 1_000);
  t.match(binding.meter, { bytesUp: 1_000, bytesDown: 0 }, 'what is reported is exact');
  t.match(metering.registry.snapshot(), [{ bytesUp: 1_000, bytesDown: 0 }]);
  const dear = { providerPriceMicrosPerGb: '5', buyerPriceMicrosPerGb: '6' };
  t.ok(metering.registry.roll(binding, dear).ok);
  t.equal(total(metering), 1_000);
  binding.countDown(500, Infinity);
  t.ok(total(metering) > 1_500);
  for (let i = 0; i < 4; i++) binding.streamEnded(i === 0 ? 1_500 : 0);
  t.equal(total(metering), 1_500);
  for (let i = 0; i < 4; i++) binding.streamOpened();
  binding.countDown(500, Infinity);
  metering.registry.close(binding, { allocationEnded: true });
  t.equal(total(metering), 2_000);
  t.match(metering.registry.snapshot(), [{ bytesUp: 1_000 }, { bytesDown: 1_000, final: true }]);
  binding.streamEnded(500);
  t.equal(total(metering), 2_000, 'FINAL is not written again');
});

interface Stream {
  binding: MeterBinding;
  unsentBytes: number;
}

type Step =
  | { do: 'open' | 'take' | 'end'; which: number }
  | { do: 'count'; which: number; up: boolean; bytes: number }
  | { do: 'roll'; which: number; price: number }
  | { do: 'close' | 'spare'; which: number };

const which = fc.nat(40);
const piece = fc.oneof(fc.nat(2_000), fc.constant(COUNT_BYTES_MAX), fc.nat(COUNT_BYTES_MAX));
const stepArb: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('open' as const), which }) },
  {
    weight: 20,
    arbitrary: fc.record({ do: fc.constant('count' as const), which, up: fc.boolean(), bytes: piece }),
  },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('take' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('end' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('roll' as const), which, price: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('spare' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const), which }) },
);

t.test('at no moment does a kill charge less than was handed on, or more than it may', async (t) => {
  const dir = folder(t);
  let runs = 0;
  const seen = { ahead: 0, refused: 0, cut: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(stepArb, { minLength: 20, maxLength: 120 }), async (steps) => {
      const metering = await startMetering(t, join(dir, `journal-${runs++}`));
      const { registry, clock } = metering;
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
      let streams: Stream[] = [];
      let goneBytes = 0;
      const price = { providerPriceMicrosPerGb: '1', buyerPriceMicrosPerGb: PRICES[0] as string };
      const check = () => {
        const live = streams.length;
        const unsent = streams.reduce((sum, { unsentBytes }) => sum + unsentBytes, 0);
        const meters = recorded(metering);
        const charged = meters.reduce((sum, { bytesUp, bytesDown }) => sum + bytesUp + bytesDown, 0);
        let counted = 0;
        for (const meter of registry.meters()) counted += meter.bytesUp + meter.bytesDown;
        const handed = counted - unsent - goneBytes;
        if (charged < counted) throw new Error(`${charged} charged of ${counted} counted`);
        if (charged - goneBytes - handed > live * COUNT_BYTES_MAX)
          throw new Error(`${charged - goneBytes - handed} bytes too many with ${live} streams`);
        if (charged > counted) seen.ahead++;
        const micros = meters.reduce(
          (sum, m) =>
            sum + (BigInt(m.bytesUp + m.bytesDown) * BigInt(m.buyerPriceMicrosPerGb)) / 1_000_000_000n,
          0n,
        );
        if (micros > BigInt(MONEY_MICROS)) throw new Error(`${micros} of ${MONEY_MICROS} micro-dollars`);
        if (micros > BigInt(wallet.used)) throw new Error(`${micros} charged, ${wallet.used} set aside`);
      };
      const opening = Array.from({ length: 8 }, (_, which): Step => ({ do: 'open', which: which >> 2 }));
      for (const step of [...opening, ...steps]) {
        const stream = streams[step.which % Math.max(1, streams.length)];
        if (step.do === 'open') {
          const given = who[step.which % who.length] as (typeof who)[number];
          const opened = registry.open({ ...given, ...price, wallets: [wallet] });
          if (!opened.ok) continue;
          opened.binding.streamOpened();
          streams.push({ binding: opened.binding, unsentBytes: 0 });
        } else if (stream === undefined) continue;
        else if (step.do === 'count') {
          // As the bridge does it: never more than COUNT_BYTES_MAX of a stream on their way.
          const bytes = Math.min(step.bytes, COUNT_BYTES_MAX - stream.unsentBytes);
          const { binding } = stream;
          const verdict = step.up ? binding.countUp(bytes, 1e9) : binding.countDown(bytes, 1e9);
          if (verdict === Verdict.GO) stream.unsentBytes += bytes;
          else seen.refused++;
        } else if (step.do === 'take') {
          stream.binding.sent(stream.unsentBytes);
          stream.unsentBytes = 0;
        } else if (step.do === 'end') {
          if (stream.unsentBytes > 0) seen.cut++;
          goneBytes += stream.unsentBytes;
          streams = streams.filter((other) => other !== stream);
          stream.binding.streamEnded(stream.unsentBytes);
        } else if (step.do === 'roll') {
          price.buyerPriceMicrosPerGb = PRICES[step.price] as string;
          registry.rollAll(() => price);
        } else if (step.do === 'spare') {
          wallet.renounceAll();
          fill();
        } else if (step.do === 'close') {
          const { binding } = stream;
          const over = streams.filter((other) => other.binding === binding);
          streams = streams.filter((other) => other.binding !== binding);
          for (const { unsentBytes } of over) {
            goneBytes += unsentBytes;
            binding.streamEnded(unsentBytes);
          }
          registry.close(binding, { allocationEnded: false });
        }
        check();
      }
      await metering.journal.close();
    }),
    { numRuns: 60 },
  );
  t.ok(
    Object.values(seen).every((times) => times > 0),
    JSON.stringify(seen),
  );
});
