import { join } from 'node:path';
import t from 'tap';
import { meterKey } from '../../../gateway/live/records.js';
import { drawEpoch } from '../../../gateway/metering/registry.js';
import { folder, mustOpen, startMetering, subject } from './harness.js';

t.test('epochs are 128 random bits', async (t) => {
  const drawn = new Set(Array.from({ length: 1_000 }, drawEpoch));
  t.equal(drawn.size, 1_000);
  for (const epoch of drawn) if (!/^[0-9a-f]{32}$/.test(epoch)) t.fail(epoch);
});

t.test('the streams of an allocation share one meter', async (t) => {
  const { registry } = await startMetering(t, join(folder(t), 'journal'));
  const who = subject();
  const first = mustOpen(registry, who);
  const second = mustOpen(registry, { ...who });
  t.equal(second, first);
  t.ok(first.countUp(3) && second.countDown(4) && second.countUp(2));
  t.match(first.meter, { bytesUp: 5, bytesDown: 4, final: false });
  t.equal(first.meter.key, meterKey({ ...who, epoch: registry.epoch }));
  t.equal(registry.find(who.sessionId, who.allocationId), first);
  t.not(
    mustOpen(registry, { ...who, sessionId: subject().sessionId }),
    first,
    'another session counts apart',
  );
  t.equal(registry.bindingCount, 2);
});

t.test('a price change starts a new key; a price that comes back starts another', async (t) => {
  const { registry } = await startMetering(t, join(folder(t), 'journal'));
  const who = subject();
  const binding = mustOpen(registry, who);
  binding.countUp(10);
  const dear = { providerPriceMicrosPerGb: '500000', buyerPriceMicrosPerGb: '2000000' };
  const old = binding.meter;
  t.ok(registry.roll(binding, dear).ok);
  t.match(old, { final: true, allocationEnded: false, bytesUp: 10 });
  t.notOk(old.countUp(1), 'FINAL refuses');
  t.ok(binding.countUp(1), 'streams notice nothing');
  t.match(binding.meter, { bytesUp: 1 });
  t.equal(binding.meter.identity.epoch, old.identity.epoch);
  const meter = binding.meter;
  t.ok(registry.roll(binding, dear).ok);
  t.equal(binding.meter, meter, 'the same prices change nothing');

  t.equal(mustOpen(registry, who), binding, 'opening at other prices changes them for all streams');
  t.not(binding.meter.key, old.key, 'what was FINAL does not count again');
  t.not(binding.meter.identity.epoch, old.identity.epoch);
  binding.countDown(7);
  t.strictSame(
    registry.snapshot().map((r) => [r.bytesUp, r.bytesDown, r.final]),
    [
      [10, 0, true],
      [1, 0, true],
      [0, 7, false],
    ],
  );
  t.equal(binding.countedBytes, 18);
});

t.test('closed is closed; the same allocation opened again is a new key', async (t) => {
  const { registry } = await startMetering(t, join(folder(t), 'journal'));
  const who = subject();
  const binding = mustOpen(registry, who);
  binding.countUp(10);
  registry.close(binding, { allocationEnded: false });
  registry.close(binding, { allocationEnded: true });
  t.match(binding.meter, { final: true, allocationEnded: false }, 'closing twice changes nothing');
  t.notOk(binding.countDown(1));
  t.equal(binding.refusal, 'CLOSED');
  t.throws(() => registry.roll(binding, { providerPriceMicrosPerGb: '9', buyerPriceMicrosPerGb: '9' }));
  const again = mustOpen(registry, who);
  t.not(again.meter.key, binding.meter.key);
  again.countUp(1);
  t.match(binding.meter, { bytesUp: 10 });
  registry.closeAll({ allocationEnded: true });
  t.match(again.meter, { final: true, allocationEnded: true });
  t.equal(registry.bindingCount, 0);
});

t.test('remembering FINAL keys is bounded', async (t) => {
  const { registry } = await startMetering(t, join(folder(t), 'journal'), {
    limits: { finalKeysRemembered: 3 },
  });
  const keys = new Set<string>();
  const who = subject();
  for (let i = 0; i < 12; i++) {
    const binding = mustOpen(registry, i % 2 === 0 ? who : subject());
    keys.add(binding.meter.key);
    registry.close(binding, { allocationEnded: false });
  }
  t.equal(keys.size, 12, 'no key twice');
});

t.test('what cannot be written down or counted is an error', async (t) => {
  const { registry, journal } = await startMetering(t, join(folder(t), 'journal'));
  for (const wrong of [
    { sessionId: 'no uuid' },
    { buyerId: '00000000-0000-4000-8000-00000000000G' },
    { providerPriceMicrosPerGb: '-1' },
    { buyerPriceMicrosPerGb: '01' },
    { buyerPriceMicrosPerGb: '9223372036854775808' },
  ])
    t.throws(() => registry.open(subject(wrong)), RangeError);
  t.equal(journal.slotsUsed, 0);
  const binding = mustOpen(registry, subject({ buyerPriceMicrosPerGb: '9223372036854775807' }));
  for (const bytes of [-1, 1.5, NaN, Infinity, 2 ** 53]) t.throws(() => binding.countUp(bytes), RangeError);
  t.ok(binding.countUp(0));
  t.ok(binding.countUp(2 ** 53 - 1));
  t.throws(() => binding.countDown(1), RangeError, 'beyond what is counted exactly');
  t.match(binding.meter, { bytesUp: 2 ** 53 - 1, bytesDown: 0 });
});

t.test('a slot is freed by a FINAL mark that lacks nothing', async (t) => {
  const { registry, journal } = await startMetering(t, join(folder(t), 'journal'));
  const binding = mustOpen(registry);
  binding.countUp(10);
  binding.countDown(20);
  const { meter } = binding;
  const settle = (bytesUp: number, bytesDown: number, final: boolean) =>
    registry.settle(meter, { bytesUp, bytesDown, final });
  t.equal(settle(10, 20, true), false, 'not while it counts');
  registry.close(binding, { allocationEnded: true });
  t.equal(settle(10, 20, false), false);
  t.equal(settle(9, 20, true), false);
  t.equal(settle(10, 19, true), false);
  t.equal(journal.slotsUsed, 1);
  t.equal(settle(10, 20, true), true);
  t.equal(journal.slotsUsed, 0);
  t.equal(registry.meterCount, 0);
  t.equal(registry.marksAboveCount, 0);

  const other = mustOpen(registry);
  registry.close(other, { allocationEnded: true });
  t.equal(registry.settle(other.meter, { bytesUp: 1, bytesDown: 0, final: true }), true);
  t.equal(registry.marksAboveCount, 1, 'more was committed than this journal knows: freed, and told');
});
