import fc from 'fast-check';
import t from 'tap';
import { AccountLimits } from '../../../gateway/buyers/limits.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { accountSnapshot } from '../live/servers.js';

const buyer = (streamsMax: number, connectionsPerSecondMax: number, account = 'acme') => ({
  account,
  buyerId: `b-${account}`,
  subUser: null,
  limits: { ...accountSnapshot().limits, streamsMax, connectionsPerSecondMax },
});

t.test('streams at once', async (t) => {
  const limits = new AccountLimits(new ManualClock());
  const who = buyer(2, 100);
  const first = limits.acquire(who);
  t.ok(first.ok);
  t.ok(limits.acquire(who).ok);
  t.same(limits.acquire(who), { ok: false, code: 'CONN_LIMIT' });
  t.equal(limits.streams('acme'), 2);
  if (first.ok) {
    first.release();
    first.release();
  }
  t.equal(limits.streams('acme'), 1, 'released once, however often it is called');
  t.ok(limits.acquire(who).ok);
  t.ok(limits.acquire(buyer(2, 100, 'other')).ok, 'each account has its own');
  t.same(limits.acquire(buyer(0, 100, 'none')), { ok: false, code: 'CONN_LIMIT' });
});

t.test('connections per second', async (t) => {
  const clock = new ManualClock();
  const limits = new AccountLimits(clock);
  const who = buyer(1_000, 10);
  const admitted = (tries: number) =>
    Array.from({ length: tries }, () => limits.acquire(who)).filter((a) => a.ok).length;
  t.equal(admitted(20), 10, 'a second’s worth at once');
  t.same(limits.acquire(who), { ok: false, code: 'RATE_LIMIT' });
  clock.advance(99);
  t.equal(admitted(1), 0);
  clock.advance(1);
  t.equal(admitted(2), 1);
  clock.jumpWall(3_600_000);
  t.equal(admitted(1), 0, 'the wall clock does not count');
  clock.advance(3_600_000);
  t.equal(admitted(50), 10, 'an hour saves up no more than a second');
  t.same(limits.acquire(buyer(10, 0, 'none')), { ok: false, code: 'RATE_LIMIT' });
  t.same(
    limits.acquire(buyer(1_000, 5)),
    { ok: false, code: 'RATE_LIMIT' },
    'a lowered limit applies at once',
  );
});

t.test('never more in any second than twice the rate, never more streams than allowed', async (t) => {
  const step = fc.record({ waitMs: fc.nat(400), tries: fc.nat(8), releases: fc.nat(4) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 20 }), (steps, rate) => {
      const clock = new ManualClock();
      const limits = new AccountLimits(clock);
      const who = buyer(12, rate);
      const live: Array<() => void> = [];
      const times: number[] = [];
      for (const { waitMs, tries, releases } of steps) {
        clock.advance(waitMs);
        for (const release of live.splice(0, releases)) release();
        for (let i = 0; i < tries; i++) {
          const admission = limits.acquire(who);
          if (!admission.ok) continue;
          live.push(admission.release);
          times.push(clock.monotonicMs());
        }
        if (live.length > 12 || limits.streams('acme') !== live.length) return false;
      }
      return times.every((from) => times.filter((at) => at >= from && at < from + 1_000).length <= 2 * rate);
    }),
  );
  t.pass('held for every history');
});
