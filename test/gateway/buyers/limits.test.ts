import fc from 'fast-check';
import t from 'tap';
import { AccountLimits } from '../../../gateway/buyers/limits.js';
import type { SubUserLimits } from '../../../gateway/live/records.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { settled } from '../../helpers/settled.js';
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
  const first = settled(limits.acquire(who));
  t.ok(first.ok);
  t.ok(settled(limits.acquire(who)).ok);
  t.same(settled(limits.acquire(who)), { ok: false, code: 'CONN_LIMIT' });
  t.equal(limits.streams('acme'), 2);
  if (first.ok) {
    first.release();
    first.release();
  }
  t.equal(limits.streams('acme'), 1, 'released once, however often it is called');
  t.ok(settled(limits.acquire(who)).ok);
  t.ok(settled(limits.acquire(buyer(2, 100, 'other'))).ok, 'each account has its own');
  t.same(settled(limits.acquire(buyer(0, 100, 'none'))), { ok: false, code: 'CONN_LIMIT' });
});

t.test('what another gateway goes on with counts there', async (t) => {
  const limits = new AccountLimits(new ManualClock());
  const told: string[] = [];
  limits.onUnshared = ({ account, buyerId }) => told.push(account ?? buyerId);
  const who = buyer(2, 2);
  for (let i = 0; i < 10; i++) {
    const admission = settled(limits.acquire(who));
    t.ok(admission.ok);
    if (!admission.ok) continue;
    t.equal(limits.streams('acme'), 1, 'it has its place until then');
    if (i % 2 === 0) admission.serve();
    admission.undo();
    admission.release();
  }
  t.equal(limits.streams('acme'), 0);
  t.same([...new Set(told)], ['b-acme'], 'an account without limits of its own is no matter of others');
  limits.count(who);
  limits.count(who);
  t.same(
    settled(limits.acquire(who)),
    { ok: false, code: 'RATE_LIMIT' },
    'what came to nothing anywhere counts here',
  );
});

t.test('connections per second', async (t) => {
  const clock = new ManualClock();
  const limits = new AccountLimits(clock);
  const who = buyer(1_000, 10);
  const admitted = (tries: number) =>
    Array.from({ length: tries }, () => settled(limits.acquire(who))).filter((a) => a.ok).length;
  t.equal(admitted(20), 10, 'a second’s worth at once');
  t.same(settled(limits.acquire(who)), { ok: false, code: 'RATE_LIMIT' });
  clock.advance(99);
  t.equal(admitted(1), 0);
  clock.advance(1);
  t.equal(admitted(2), 1);
  clock.jumpWall(3_600_000);
  t.equal(admitted(1), 0, 'the wall clock does not count');
  clock.advance(3_600_000);
  t.equal(admitted(50), 10, 'an hour saves up no more than a second');
  t.same(settled(limits.acquire(buyer(10, 0, 'none'))), { ok: false, code: 'RATE_LIMIT' });
  t.same(
    settled(limits.acquire(buyer(1_000, 5))),
    { ok: false, code: 'RATE_LIMIT' },
    'a lowered limit applies at once',
  );
});

t.test('a buyer’s limits hold for the sum over its sub-users, theirs within', async (t) => {
  const clock = new ManualClock();
  const limits = new AccountLimits(clock);
  const member = (account: string, own: SubUserLimits | null, streamsMax = 5, perSecond = 8) => ({
    ...buyer(streamsMax, perSecond, account),
    buyerId: 'b0000000-0000-4000-8000-000000000001',
    subUser: own && { id: account, limited: false, limits: own },
  });
  const one = member('sub1', { streamsMax: 2, connectionsPerSecondMax: 3 });
  const two = member('sub2', { streamsMax: null });
  const acme = member('acme', null);
  const releases = [one, one, two, acme]
    .map((who) => settled(limits.acquire(who)))
    .map((a) => (a.ok ? () => a.release() : null));
  t.ok(releases.every(Boolean));
  t.same(settled(limits.acquire(one)), { ok: false, code: 'CONN_LIMIT' }, 'its own');
  t.ok(settled(limits.acquire(two)).ok);
  t.same(settled(limits.acquire(two)), { ok: false, code: 'CONN_LIMIT' }, 'five together');
  t.same(settled(limits.acquire(acme)), { ok: false, code: 'CONN_LIMIT' });
  t.equal(limits.streams('sub1'), 2);
  t.equal(limits.streams(acme.buyerId), 5);
  releases[0]?.();
  t.ok(settled(limits.acquire(one)).ok, 'the third within this second');
  releases[1]?.();
  t.same(settled(limits.acquire(one)), { ok: false, code: 'RATE_LIMIT' }, 'its own rate');
  releases[3]?.();
  for (const who of [two, acme]) t.ok(settled(limits.acquire(who)).ok);
  t.same(
    settled(limits.acquire(member('acme', null, 99))),
    { ok: false, code: 'RATE_LIMIT' },
    'eight together',
  );
  clock.advance(1_000);
  t.ok(settled(limits.acquire(member('acme', null, 99))).ok);
  t.same(
    settled(limits.acquire(member('sub1', { streamsMax: 1 }, 99))),
    { ok: false, code: 'CONN_LIMIT' },
    'lowered',
  );
});

t.test('many accounts: idle ones are forgotten, those with streams are not', async (t) => {
  const clock = new ManualClock();
  const limits = new AccountLimits(clock);
  t.ok(settled(limits.acquire(buyer(1, 100, 'held'))).ok);
  for (let i = 0; i < 60_000; i++) {
    const admission = settled(limits.acquire(buyer(1, 100, `a${i}`)));
    if (admission.ok) admission.release();
    if (i % 1_000 === 0) clock.advance(1_001);
  }
  t.same(settled(limits.acquire(buyer(1, 100, 'held'))), { ok: false, code: 'CONN_LIMIT' });
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
          const admission = settled(limits.acquire(who));
          if (!admission.ok) continue;
          live.push(() => admission.release());
          times.push(clock.monotonicMs());
        }
        if (live.length > 12 || limits.streams('acme') !== live.length) return false;
      }
      return times.every((from) => times.filter((at) => at >= from && at < from + 1_000).length <= 2 * rate);
    }),
  );
  t.pass('held for every history');
});
