import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { Verdict } from '../../../agent-protocol/verdict.js';
import { meterKey } from '../../../gateway/live/records.js';
import { describeJournal } from '../../../gateway/metering/journal-describe.js';
import {
  COPY_STRIDE,
  copyOffset,
  extentBytes,
  HEADER_BYTES,
} from '../../../gateway/metering/journal-format.js';
import type { Meter, MeterBinding } from '../../../gateway/metering/meter.js';
import { crash, folder, type Metering, startMetering, subject } from './harness.js';

const EXTENT_SLOTS = 4;
const LIMITS = { journalSlots: 4, journalExtentSlots: EXTENT_SLOTS, journalSlotsMax: 32 };

/** What a test must know of a meter: its counts as returned true, and before the latest write. */
interface Known {
  up: number;
  down: number;
  before: { up: number; down: number } | null;
  final: boolean;
  ended: boolean;
  /** Committed by Postgres and freed: may come back only when the record that freed it is damaged. */
  freed: boolean;
}

type Step =
  | { do: 'open' }
  | { do: 'count'; which: number; up: boolean; bytes: number }
  | { do: 'roll'; which: number; price: number }
  | { do: 'close'; which: number; ended: boolean }
  | { do: 'settle'; which: number };

type Damage =
  | { kind: 'none' }
  /** Bytes from `from` on of one copy of some slots are overwritten. */
  | { kind: 'one copy'; slots: number[]; copy: number; from: number; junk: number }
  | { kind: 'both copies'; slot: number; junk: number }
  | { kind: 'cut'; share: number };

const stepArb: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('open' as const) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('count' as const),
      which: fc.nat(20),
      up: fc.boolean(),
      bytes: fc.oneof(fc.nat(65_536), fc.nat(2 ** 45)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('roll' as const), which: fc.nat(20), price: fc.nat(2) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('close' as const), which: fc.nat(20), ended: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(20) }) },
);

const damageArb: fc.Arbitrary<Damage> = fc.oneof(
  fc.constant({ kind: 'none' as const }),
  fc.record({
    kind: fc.constant('one copy' as const),
    slots: fc.uniqueArray(fc.nat(11), { minLength: 6, maxLength: 12 }),
    copy: fc.nat(1),
    from: fc.nat(159),
    junk: fc.integer({ min: 0, max: 255 }),
  }),
  fc.record({
    kind: fc.constant('both copies' as const),
    slot: fc.nat(7),
    junk: fc.integer({ min: 1, max: 255 }),
  }),
  fc.record({ kind: fc.constant('cut' as const), share: fc.double({ min: 0.05, max: 1, noNaN: true }) }),
);

/** Runs the steps, keeping book beside the registry, independently of it. */
function live(metering: Metering, known: Map<string, Known>, steps: readonly Step[]): void {
  const { registry } = metering;
  const bindings: MeterBinding[] = [];
  const learn = (meter: Meter) => {
    if (!known.has(meter.key))
      known.set(meter.key, { up: 0, down: 0, before: null, final: false, ended: false, freed: false });
    return known.get(meter.key) as Known;
  };
  for (const step of steps) {
    if (step.do === 'open') {
      const opened = registry.open(subject());
      if (!opened.ok) continue;
      learn(opened.binding.meter);
      bindings.push(opened.binding);
    } else if (step.do === 'settle') {
      const waiting = [...registry.finalMeters()];
      const meter = waiting[step.which % Math.max(1, waiting.length)];
      if (meter === undefined) continue;
      const { bytesUp, bytesDown } = meter;
      if (registry.settle(meter, { bytesUp, bytesDown, final: true })) learn(meter).freed = true;
    } else {
      const binding = bindings[step.which % Math.max(1, bindings.length)];
      if (binding === undefined) continue;
      const mine = learn(binding.meter);
      if (step.do === 'count') {
        const before = { up: mine.up, down: mine.down };
        const verdict = step.up ? binding.countUp(step.bytes) : binding.countDown(step.bytes);
        if (verdict === Verdict.GO) {
          mine[step.up ? 'up' : 'down'] += step.bytes;
          mine.before = before;
        }
      } else if (step.do === 'close' && !binding.closed) {
        registry.close(binding, { allocationEnded: step.ended });
        Object.assign(mine, { final: true, ended: step.ended, before: null });
      } else if (step.do === 'roll' && !binding.closed) {
        const price = String(step.price);
        const rolled = registry.roll(binding, {
          providerPriceMicrosPerGb: price,
          buyerPriceMicrosPerGb: price,
        });
        if (rolled.ok && !known.has(binding.meter.key)) {
          learn(binding.meter);
          Object.assign(mine, { final: true, ended: false, before: null });
        }
      }
    }
  }
}

function inflict(path: string, damage: Damage, slotCount: number): void {
  const fd = openSync(path, 'r+');
  const write = (position: number, bytes: Buffer) => writeSync(fd, bytes, 0, bytes.length, position);
  if (damage.kind === 'one copy')
    for (const slot of damage.slots.filter((s) => s < slotCount))
      write(
        copyOffset(slot, damage.copy, EXTENT_SLOTS) + damage.from,
        Buffer.alloc(160 - damage.from, damage.junk),
      );
  if (damage.kind === 'both copies' && damage.slot < slotCount)
    for (const copy of [0, 1])
      write(copyOffset(damage.slot, copy, EXTENT_SLOTS), Buffer.alloc(COPY_STRIDE, damage.junk));
  closeSync(fd);
  if (damage.kind === 'cut') {
    const whole = HEADER_BYTES + (slotCount / EXTENT_SLOTS) * extentBytes(EXTENT_SLOTS);
    truncateSync(path, Math.max(HEADER_BYTES, Math.floor(whole * damage.share)));
  }
}

t.test('histories of meters, crashes and damage', async (t) => {
  const dir = folder(t);
  let runs = 0;
  const seen = { exact: 0, older: 0, setAside: 0, missing: 0, reappeared: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.array(stepArb, { minLength: 8, maxLength: 60 }), damageArb), {
        minLength: 1,
        maxLength: 3,
      }),
      async (lives) => {
        let path = join(dir, `journal-${runs++}`);
        let known = new Map<string, Known>();
        for (const [steps, damage] of lives) {
          const metering = await startMetering(t, path, { limits: LIMITS });
          live(metering, known, steps);
          path = crash(metering);
          await metering.journal.close();

          const intact = describeJournal(path);
          inflict(path, damage, intact.slotCount);
          const next = await startMetering(t, path, { limits: LIMITS });
          const slotOfKey = new Map(intact.meters.map((m) => [m.key, m.slot]));
          const problemOf = new Map(next.journal.problems.map((p) => [p.slot, p]));
          const reports = new Map(next.registry.snapshot().map((r) => [meterKey(r), r]));
          const survivors = new Map<string, Known>();
          for (const [key, was] of known) {
            const report = reports.get(key);
            reports.delete(key);
            if (was.freed) {
              // Freed, and the record that says so destroyed: it is delivered once more, with the same counts.
              if (report === undefined) {
                survivors.set(key, was);
                continue;
              }
              if (damage.kind === 'none') throw new Error('a freed meter came back');
              seen.reappeared++;
            }
            const slot = slotOfKey.get(key);
            if (report === undefined) {
              const problem = slot === undefined ? undefined : problemOf.get(slot);
              const neverCounted = was.up + was.down === 0;
              if (problem === undefined && !(neverCounted && damage.kind !== 'none'))
                throw new Error(`${key} vanished without a word`);
              if (problem?.kind === 'corrupt') {
                if (problem.sidePath === null || !existsSync(problem.sidePath))
                  throw new Error('set aside without a side file');
                if (!readFileSync(problem.sidePath, 'utf8').includes(`"slot":${slot},`))
                  throw new Error('not in the side file');
                seen.setAside++;
              } else if (problem?.kind === 'missing') seen.missing++;
              else if (!neverCounted && problem !== undefined)
                throw new Error('counted bytes lost with one whole copy');
              continue;
            }
            const exact = report.bytesUp === was.up && report.bytesDown === was.down;
            const older = report.bytesUp === was.before?.up && report.bytesDown === was.before.down;
            if (!exact && !(older && slot !== undefined && problemOf.get(slot)?.kind === 'torn'))
              throw new Error(`${key}: ${report.bytesUp}/${report.bytesDown}, was ${was.up}/${was.down}`);
            seen[exact ? 'exact' : 'older']++;
            if (!report.final) throw new Error('replayed without FINAL');
            if (damage.kind === 'none' && report.allocationEnded !== (was.final ? was.ended : true))
              throw new Error('allocationEnded differs from what was closed');
            survivors.set(key, {
              ...was,
              up: report.bytesUp,
              down: report.bytesDown,
              before: null,
              final: true,
              ended: report.allocationEnded,
              freed: false,
            });
          }
          if (reports.size > 0) throw new Error('a meter that nobody opened');
          known = survivors;
          path = crash(next);
          await next.journal.close();
        }
      },
    ),
    { numRuns: 150 },
  );
  // Chance decides how often; that each happened at all is what makes the property say something.
  t.ok(
    Object.values(seen).every((times) => times > 0),
    JSON.stringify(seen),
  );
});
