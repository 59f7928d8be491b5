/** What is told of limits when, and what holds while nobody answers: on a real Redis, and a clock that the test moves. */
import { setImmediate as immediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { AccountLimits, type LimitedAccess } from '../../../gateway/buyers/limits.js';
import { LimitSharing } from '../../../gateway/buyers/shared-limits.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { BandwidthLimits } from '../../../gateway/relay/bandwidth.js';
import { ManualClock, type SetTimer } from '../../../gateway/runtime/clock.js';
import { startRedis } from '../../helpers/services.js';
import { settled } from '../../helpers/settled.js';
import { accountSnapshot, connect, recordingLog } from '../live/servers.js';

const INTERVAL_MS = 1_000;
const BUYER = accountSnapshot().buyerId;
const KEY = liveKeys.limitUse(BUYER);

function who(
  streamsMax: number,
  connectionsPerSecondMax = 1_000,
  bytesPerSecond: number | null = null,
): LimitedAccess {
  const { account, buyerId, limits } = accountSnapshot();
  return {
    ...{ account, buyerId, subUser: null },
    limits: {
      ...limits,
      ...{ streamsMax, connectionsPerSecondMax, bandwidthBytesPerSecondMax: bytesPerSecond },
    },
  };
}

/** Timers that go off when they are told to, whatever they were set to. */
class ManualTimers {
  readonly #due = new Set<() => void>();
  readonly set: SetTimer = (_afterMs, run) => {
    this.#due.add(run);
    return () => this.#due.delete(run);
  };
  get count(): number {
    return this.#due.size;
  }
  run(): void {
    const due = [...this.#due];
    this.#due.clear();
    for (const run of due) run();
  }
}

const server = await startRedis();
t.teardown(() => server.stop());

/** A gateway as far as limits go. Nothing is told but by `refresh`, and once at the end of a turn when that is due. */
function gateway(t: Test, gatewayId: string, url = server.url, gatewayCount = 4, limitsWaitMs = 0) {
  const clock = new ManualClock();
  const timers = new ManualTimers();
  const redis = connect(t, { url, commandTimeoutMs: 300 });
  const limits = new AccountLimits(clock, { limitsWaitMs }, timers.set);
  const bandwidth = new BandwidthLimits(clock);
  const log = recordingLog();
  const sharing = new LimitSharing(
    {
      ...{ redis, clock, log, gatewayId, limits, bandwidth },
      ...{ gatewayCount: () => gatewayCount, setTimer: timers.set },
    },
    { limitsShareIntervalMs: INTERVAL_MS, limitsWaitMs },
  );
  const open = (buyer: LimitedAccess) => {
    const admission = settled(limits.acquire(buyer));
    if (admission.ok && limitsWaitMs === 0) settled(admission.serve());
    return admission;
  };
  /** Goes on to be served, which may take until something is heard; what became of it. */
  const serve = async (buyer: LimitedAccess) => {
    const admission = await limits.acquire(buyer);
    return admission.ok ? ((await admission.serve())?.code ?? 'ok') : admission.code;
  };
  const serveMany = (buyer: LimitedAccess, count: number) =>
    Promise.all(Array.from({ length: count }, () => serve(buyer)));
  const opened = (buyer: LimitedAccess, tries: number) =>
    Array.from({ length: tries }, () => open(buyer)).filter(({ ok }) => ok).length;
  /** After so many intervals, what is due is told; and what was urgent before. */
  const tell = async (intervals = 1) => {
    clock.advance(intervals * INTERVAL_MS);
    await sharing.refresh();
    await sharing.refresh();
  };
  return { clock, timers, redis, limits, bandwidth, sharing, log, open, opened, serve, serveMany, tell };
}

t.beforeEach(async (t) => {
  const redis = connect(t, { url: server.url });
  await redis.flushall();
});

t.test('streams: what the others had counts, and nobody is cut', async (t) => {
  const [a, b] = [gateway(t, 'a'), gateway(t, 'b')];
  const buyer = who(10);
  t.equal(a.opened(buyer, 4), 4);
  await a.tell();
  t.equal(b.opened(buyer, 20), 10, 'it has not heard of a');
  await b.tell();
  t.same(b.open(buyer), { ok: false, code: 'CONN_LIMIT' });
  t.equal(a.opened(buyer, 1), 1, 'nor a of b');
  await a.tell();
  t.same(a.open(buyer), { ok: false, code: 'CONN_LIMIT' });
  await b.sharing.stop();
  await a.tell();
  t.equal(a.opened(buyer, 20), 5, 'b has stopped: a has all of it');
});

t.test(
  'an owner far from its limits is told of seldom, one near them each interval, one that does nothing never',
  async (t) => {
    const a = gateway(t, 'a');
    /** Whether it is told now. */
    const told = async (intervals = 1) => {
      await a.redis.del(KEY);
      await a.tell(intervals);
      return (await a.redis.exists(KEY)) === 1;
    };
    const far = who(1_000);
    const streams = [a.open(far)];
    t.ok(await told(0), 'new: at once');
    t.same([await told(), await told()], [true, true], 'it may be new at others, too');
    for (let i = 1; i < 6; i++) t.notOk(await told(), `${i}`);
    t.ok(await told(), 'a sixth as often');
    for (let i = 0; i < 40; i++) streams.push(a.open(far));
    t.ok(await told(), 'many more');
    t.notOk(await told());
    const near = who(100);
    streams.push(a.open(near));
    t.same([await told(), await told(), await told()], [true, true, true]);
    t.equal(a.sharing.sharedCount, 1);
    for (const stream of streams) if (stream.ok) stream.release();
    t.ok(await told(), 'they are gone');
    t.notOk(await told(4), 'nothing happens');
    t.equal(a.sharing.sharedCount, 0);
    t.equal(a.limits.streams(BUYER), 0);
    a.open(far);
    t.ok(await told(0), 'new again');
    a.sharing.resync();
    t.ok(await told(0), 'Redis has lost it');
  },
);

t.test('connections a second: what is refused is wanted, too', async (t) => {
  const [a, b] = [gateway(t, 'a'), gateway(t, 'b')];
  const buyer = who(1_000, 16);
  t.equal(a.opened(buyer, 90), 16);
  await a.tell(0);
  t.equal(b.opened(buyer, 1), 1);
  await b.tell(0);
  t.equal(b.opened(buyer, 20), 1, 'one of sixteen until a has given some back');
  for (let i = 0; i < 4; i++) {
    for (const gateway of [a, b]) {
      gateway.opened(buyer, 90);
      await gateway.tell();
    }
  }
  let total = 0;
  for (let i = 0; i < 10; i++)
    for (const gateway of [a, b]) {
      const got = gateway.opened(buyer, 90);
      t.ok(got >= 7 && got <= 9, `${got}`);
      total += got;
      await gateway.tell();
    }
  t.equal(total, 160, 'sixteen a second in all');
});

t.test('who could be served but for other gateways waits for a portion, in turn', async (t) => {
  const [a, b] = [gateway(t, 'a'), gateway(t, 'b', server.url, 4, 500)];
  const buyer = who(1_000, 16);
  t.equal(a.opened(buyer, 8), 8);
  await a.tell(0);
  t.equal(await b.serve(buyer), 'ok');
  await b.tell(0);
  // Eight at a within a second: b may have the other eight once it has asked for them.
  const order: number[] = [];
  const waiting = Array.from({ length: 15 }, async (_, n) => {
    const outcome = await b.limits.acquire(buyer);
    order.push(n);
    if (outcome.ok) settled(outcome.serve());
    return outcome.ok ? 'ok' : outcome.code;
  });
  t.same(
    settled(b.limits.acquire(buyer)),
    { ok: false, code: 'RATE_LIMIT' },
    'above the whole limit nobody waits',
  );
  const passed = (ms: number) => {
    b.clock.advance(ms);
    b.timers.run();
  };
  // It has one of sixteen a second, but others are asked for at once.
  passed(1);
  t.same(order, [], 'there is no room yet');
  await b.tell(0);
  passed(450);
  await Promise.resolve();
  const early = order.length;
  t.ok(early >= 2 && early <= 6, `${early} in half a second at eight a second`);
  passed(48);
  await Promise.resolve();
  t.ok(order.length < 15, 'the others wait until they may no longer');
  passed(2);
  const outcomes = await Promise.all(waiting);
  t.same(
    order,
    [...order].sort((x, y) => x - y),
    'in the order in which they came',
  );
  t.equal(outcomes.filter((outcome) => outcome === 'ok').length, outcomes.lastIndexOf('ok') + 1);
  t.same(new Set(outcomes.slice(outcomes.lastIndexOf('ok') + 1)), new Set(['RATE_LIMIT']));
  t.equal(b.timers.count, 0, 'nobody waits: no timer');
});

t.test('a gateway that a buyer is new to lets nobody in before it has heard of the others', async (t) => {
  const toldOf = async (redis: LiveRedis) =>
    Object.entries(await redis.hgetall(KEY)).map(([id, text]) => [id, Number(text.split(' ')[1])] as const);
  t.test('one connection to each of many, in the same moment', async (t) => {
    const many = Array.from({ length: 14 }, (_, n) => gateway(t, `g${n}`, server.url, 14, 500));
    const buyer = who(10);
    const outcomes = await Promise.all(many.map((one) => one.serve(buyer)));
    t.same(outcomes.sort(), [...Array(4).fill('CONN_LIMIT'), ...Array(10).fill('ok')]);
    for (const one of many) {
      await one.sharing.refresh();
      t.equal(one.timers.count, 0, 'no timer is left');
    }
    const streams = (await toldOf(many[0]?.redis as LiveRedis)).map(([, count]) => count);
    t.equal(
      streams.reduce((all, count) => all + count, 0),
      10,
      'and those that were refused are given back at once',
    );
  });
  t.test('many at once: as many as there is room for, the first ones', async (t) => {
    const [a, b] = [gateway(t, 'a', server.url, 2, 500), gateway(t, 'b', server.url, 2, 500)];
    const buyer = who(10);
    t.same(new Set(await a.serveMany(buyer, 7)), new Set(['ok']));
    await a.tell();
    t.same(await b.serveMany(buyer, 6), [...Array(3).fill('ok'), ...Array(3).fill('CONN_LIMIT')]);
    t.equal(b.limits.streams(BUYER), 3);
    t.same(b.open(buyer), { ok: false, code: 'CONN_LIMIT' });
    await b.tell();
    t.same(Object.fromEntries(await toldOf(a.redis)), { a: 7, b: 3 });
  });
  t.test('connections a second: no more than its portion', async (t) => {
    const [a, b] = [gateway(t, 'a', server.url, 2, 500), gateway(t, 'b', server.url, 2, 500)];
    const buyer = who(1_000, 16);
    t.equal((await a.serveMany(buyer, 16)).length, 16);
    await a.tell(0);
    const asked = b.serveMany(buyer, 16);
    await b.sharing.refresh();
    await b.sharing.refresh();
    b.clock.advance(501);
    b.timers.run();
    t.same(
      await asked,
      ['ok', ...Array(15).fill('RATE_LIMIT')],
      'one, as long as the other needs its fifteen',
    );
  });
  t.test('an account with limits of its own: both are heard first', async (t) => {
    const [a, b] = [gateway(t, 'a', server.url, 2, 500), gateway(t, 'b', server.url, 2, 500)];
    const sub = {
      ...who(10),
      account: 'sub1',
      subUser: { id: 's1', limited: true, limits: { streamsMax: 2 } },
    };
    const other = {
      ...who(10),
      account: 'sub2',
      subUser: { id: 's2', limited: true, limits: { streamsMax: 2 } },
    };
    t.same(await a.serveMany(sub, 3), ['ok', 'ok', 'CONN_LIMIT']);
    await a.tell();
    t.equal(await b.serve(other), 'ok', 'the buyer is known from here on');
    t.same(await b.serveMany(sub, 2), ['CONN_LIMIT', 'CONN_LIMIT'], 'its own two are at the other');
    t.equal(b.limits.streams('sub1'), 0);
  });
  t.test('nobody else is there: at once', (t) => {
    const a = gateway(t, 'a', server.url, 1, 500);
    const admission = settled(a.limits.acquire(who(10)));
    t.ok(admission.ok && settled(admission.serve()) === null);
    t.end();
  });
  t.test('it stops meanwhile: nobody waits any more', async (t) => {
    const a = gateway(t, 'a', server.url, 2, 500);
    const asked = a.serve(who(10));
    await a.sharing.stop();
    t.equal(await asked, 'ok');
    t.equal(a.timers.count, 0);
  });
  t.test(
    'Redis does not answer: an equal part, after a short wait, and for those after them at once',
    async (t) => {
      const own = await startRedis();
      t.teardown(() => own.stop());
      const a = gateway(t, 'a', own.url, 4, 500);
      await own.kill();
      const buyer = who(20);
      const asked = a.serveMany(buyer, 8);
      await a.sharing.refresh();
      t.same(await asked, [...Array(5).fill('ok'), ...Array(3).fill('CONN_LIMIT')]);
      t.same(await Promise.all([a.serve(buyer)]), ['CONN_LIMIT']);
      const stranger = { ...buyer, buyerId: 'b0000000-0000-4000-8000-000000000002', account: 'other' };
      const admission = settled(a.limits.acquire(stranger));
      t.ok(admission.ok && settled(admission.serve()) === null);
      t.equal(a.timers.count, 0);
    },
  );
  t.test('the answer is late: an equal part when the wait is over', async (t) => {
    const a = gateway(t, 'a', server.url, 4, 500);
    const asked = a.serveMany(who(8), 3);
    // It is told at the end of this turn, and not answered yet.
    await immediate();
    a.timers.run();
    t.same(await asked, ['ok', 'ok', 'CONN_LIMIT']);
    await a.tell();
    t.equal(await a.serve(who(8)), 'ok', 'it has all of it once it was answered');
  });
});

t.test('a bandwidth that others have a part of is slower here; another limit holds at once', async (t) => {
  const a = gateway(t, 'a');
  const buyer = who(100, 100, 8_000_000);
  a.open(buyer);
  const bandwidth = a.bandwidth.acquire(BUYER, 'acme', a.limits.bandwidthRates(buyer));
  const other = `${Date.now() + 60_000} 1 0 0 6000000 1 6000000`;
  await a.tell(0);
  t.equal(a.limits.bandwidthRates(buyer).buyerBytesPerSecond, 8_000_000);
  await a.redis.hset(KEY, 'b', other);
  await a.tell(6);
  t.equal(a.limits.bandwidthRates(buyer).buyerBytesPerSecond, 1_250_000, 'what b leaves, in equal parts');
  bandwidth.spend(125_000 + 1_250_000); // a burst, and a second
  a.clock.advance(999);
  let goesOn = () => {};
  const wentOn = new Promise<void>((resolve) => {
    goesOn = resolve;
  });
  const isAdmitted = bandwidth.admits({ retry: () => goesOn() });
  t.notOk(isAdmitted, 'the open stream goes by it');
  if (isAdmitted) goesOn();
  a.clock.advance(2);
  await wentOn;
  const lowered = who(100, 100, 1_000_000);
  t.equal(a.limits.bandwidthRates(lowered).buyerBytesPerSecond, 1_000_000);
  const raised = who(100, 100, 80_000_000);
  a.limits.bandwidthRates(raised);
  await a.tell(0);
  t.equal(a.limits.bandwidthRates(raised).buyerBytesPerSecond, 74_000_000, 'told without waiting');
});

t.test(
  'Redis away: what was heard last stays; of whom nothing was heard each gateway has a part',
  async (t) => {
    const own = await startRedis();
    t.teardown(() => own.stop());
    const [a, b] = [gateway(t, 'a', own.url), gateway(t, 'b', own.url)];
    const buyer = who(20, 40, 4_000_000);
    t.equal(a.opened(buyer, 15), 15);
    await a.tell(0);
    b.open(buyer);
    await b.tell(0);
    await own.kill();
    for (let i = 0; i < 30; i++) await b.tell();
    t.ok(b.sharing.failures >= 10);
    t.equal(b.log.events.filter((event) => event === 'limits_not_shared').length, 1, 'said once');
    t.equal(b.opened(buyer, 20), 4, 'twenty in all');
    b.clock.advance(10_000);
    t.same(b.open(buyer), { ok: false, code: 'CONN_LIMIT' }, 'five here, fifteen there');
    const stranger = { ...buyer, buyerId: 'b0000000-0000-4000-8000-000000000002', account: 'other' };
    t.equal(b.opened(stranger, 1), 1);
    await b.tell();
    t.equal(b.opened(stranger, 99), 4, 'a quarter of twenty');
    t.equal(b.limits.bandwidthRates(stranger).buyerBytesPerSecond, 1_000_000);
  },
);

t.test('at very many gateways each tells less often, and is good for longer', async (t) => {
  const a = gateway(t, 'a');
  const near = who(4);
  a.open(near);
  await a.tell(0);
  const others = Array.from({ length: 63 }, (_, n) => [`g${n}`, `${Date.now() + 60_000} 0 0 0 0 1 0`]).flat();
  await a.redis.hset(KEY, ...others);
  await a.tell();
  const told = async () => {
    await a.redis.hdel(KEY, 'a');
    await a.tell();
    return a.redis.hget(KEY, 'a');
  };
  t.equal(await told(), null, 'not each interval');
  const till = Number((await told())?.split(' ')[0]);
  t.ok(till > Date.now() + 6 * INTERVAL_MS, 'but each second one');
});
