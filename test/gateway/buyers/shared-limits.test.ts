/** What is told of limits when, and what holds while nobody answers: on a real Redis, and a clock that the test moves. */
import t, { type Test } from 'tap';
import { AccountLimits } from '../../../gateway/buyers/limits.js';
import { LimitSharing } from '../../../gateway/buyers/shared-limits.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { BandwidthLimits } from '../../../gateway/relay/bandwidth.js';
import { ManualClock, type SetTimer } from '../../../gateway/runtime/clock.js';
import { startRedis } from '../../helpers/services.js';
import { settled } from '../../helpers/settled.js';
import { accountSnapshot, connect, recordingLog } from '../live/servers.js';

const INTERVAL_MS = 1_000;
const BUYER = accountSnapshot().buyerId;
const KEY = liveKeys.limitUse(BUYER);

function who(streamsMax: number, connectionsPerSecondMax = 1_000, bytesPerSecond: number | null = null) {
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
    { redis, clock, log, gatewayId, limits, bandwidth, gatewayCount: () => gatewayCount },
    { limitsShareIntervalMs: INTERVAL_MS },
  );
  const open = (buyer: ReturnType<typeof who>) => {
    const admission = settled(limits.acquire(buyer));
    if (admission.ok) admission.serve();
    return admission;
  };
  const opened = (buyer: ReturnType<typeof who>, tries: number) =>
    Array.from({ length: tries }, () => open(buyer)).filter(({ ok }) => ok).length;
  /** After so many intervals, what is due is told; and what was urgent before. */
  const tell = async (intervals = 1) => {
    clock.advance(intervals * INTERVAL_MS);
    await sharing.refresh();
    await sharing.refresh();
  };
  return { clock, timers, redis, limits, bandwidth, sharing, log, open, opened, tell };
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
  t.equal(b.opened(buyer, 1), 1);
  await b.tell(0);
  // Eight at a within a second: b may have the other eight once it has asked for them.
  const order: number[] = [];
  const waiting = Array.from({ length: 15 }, async (_, n) => {
    const outcome = await b.limits.acquire(buyer);
    order.push(n);
    if (outcome.ok) outcome.serve();
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
