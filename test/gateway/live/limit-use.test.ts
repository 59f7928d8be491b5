/** How one record an owner parts its limits among gateways: the script itself, on real servers. */
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { dropLimitUse, type Portion, shareLimits, type ToldUse } from '../../../gateway/live/limit-use.js';
import { startRedis } from '../../helpers/services.js';
import { connect, onEachRedis } from './servers.js';

const OWNER = 'b0000000-0000-4000-8000-000000000001';
const use = (more: Partial<ToldUse> = {}): ToldUse => ({
  owner: OWNER,
  ttlMs: 60_000,
  streams: 0,
  connectionsPerSecondMax: 100,
  connectionsWanted: 0,
  bytesPerSecondMax: null,
  bytesWanted: 0,
  bytesWeight: 1,
  ...more,
});

async function tell(redis: LiveRedis, gatewayId: string, more: Partial<ToldUse> = {}) {
  return (await shareLimits(redis, gatewayId, [use(more)]))[0] as Portion;
}

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  t.test('streams of the others; who leaves or falls silent counts no more', async (t) => {
    const redis = server.connect(t);
    t.same(await tell(redis, 'a', { streams: 3 }), {
      streamsElsewhere: 0,
      connectionsPerSecond: 100,
      bytesPerSecond: null,
      gateways: 1,
    });
    t.equal((await tell(redis, 'b', { streams: 4 })).streamsElsewhere, 3);
    t.equal((await tell(redis, 'c', { streams: 1, ttlMs: 50 })).streamsElsewhere, 7);
    t.equal((await tell(redis, 'a', { streams: 2 })).streamsElsewhere, 5);
    t.equal((await tell(redis, 'b', { streams: 4, owner: 'acme' })).streamsElsewhere, 0, 'each owner');
    await delay(60);
    t.equal((await tell(redis, 'a', { streams: 2 })).streamsElsewhere, 4, 'silent');
    t.same(await redis.hkeys(liveKeys.limitUse(OWNER)), ['a', 'b']);
    await dropLimitUse(redis, 'b', [OWNER]);
    t.same(await tell(redis, 'a', { connectionsPerSecondMax: null }), {
      streamsElsewhere: 0,
      connectionsPerSecond: null,
      bytesPerSecond: null,
      gateways: 1,
    });
    await tell(redis, 'a', { ttlMs: 50 });
    await delay(60);
    t.equal(await redis.exists(liveKeys.limitUse(OWNER)), 0, 'nothing is left behind');
  });

  t.test(
    'what cannot be read, or would stand for ever by a clock that was set back, is dropped',
    async (t) => {
      const redis = server.connect(t);
      const key = liveKeys.limitUse(OWNER);
      await redis.hset(key, 'x', 'nonsense', 'y', `${Date.now() + 3_600_000} 9 0 0 0 1 0`);
      t.equal((await tell(redis, 'a')).streamsElsewhere, 0);
      t.same(await redis.hkeys(key), ['a']);
    },
  );

  t.test('who comes has something at once, and its part when the others have asked', async (t) => {
    const redis = server.connect(t);
    const rate = async (gatewayId: string, connectionsWanted: number) =>
      (await tell(redis, gatewayId, { connectionsWanted })).connectionsPerSecond;
    t.equal(await rate('a', 300), 100);
    t.equal(await rate('b', 100), 6, 'half of an eighth');
    t.equal(await rate('a', 300), 72, 'three quarters of what is more than that, within rounding');
    t.equal(await rate('b', 100), 28);
    t.equal(await rate('a', 0), 6, 'b wants all there is');
    t.equal(await rate('b', 100), 94);
    t.equal(await rate('b', 20), 57, 'what nobody wants is for both');
    t.equal(await rate('a', 0), 43);
    t.equal(await rate('c', 1), 28, 'who comes waits for nothing that nobody wants');
    await dropLimitUse(redis, 'c', [OWNER]);
    t.same([await rate('b', 20), await rate('a', 0)], [57, 43], 'and then it is as it is');
  });

  t.test('directions that wait are what bytes are parted by', async (t) => {
    const redis = server.connect(t);
    const bytes = async (gatewayId: string, bytesWanted: number, bytesWeight: number) =>
      (await tell(redis, gatewayId, { bytesPerSecondMax: 4_000_000, bytesWanted, bytesWeight }))
        .bytesPerSecond;
    const round = async () => [await bytes('a', 4_000_000, 3), await bytes('b', 4_000_000, 1)];
    await round();
    await round();
    t.same(await round(), [2_875_000, 1_125_000]);
    await bytes('b', 600_000, 1);
    t.equal(await bytes('a', 4_000_000, 3), 3_400_000, 'b has what it wants, a the rest');
    t.equal(await bytes('b', 600_000, 1), 600_000);
  });
});

interface Amounts {
  rate: number;
  bytes: number;
}

t.test(
  'for every history: never more than others leave, then the limit, nobody without, nothing wasted, stable',
  async (t) => {
    const server = await startRedis();
    t.teardown(() => server.stop());
    const redis = connect(t, { url: server.url });
    const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
    const step = fc.record({
      gateway: fc.nat(ids.length - 1),
      rate: fc.oneof(fc.constant(0), fc.nat(20), fc.nat(10_000)),
      bytes: fc.oneof(fc.constant(0), fc.maxSafeNat()),
      weight: fc.integer({ min: 1, max: 5_000 }),
      leaves: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 25 }),
        fc.oneof(fc.nat(20), fc.integer({ min: 0, max: 5_000 })),
        fc.oneof(fc.integer({ min: 7, max: 100 }), fc.integer({ min: 1_000, max: 2 ** 50 })),
        async (steps, rateLimit, byteLimit) => {
          const owner = `run${run++}`;
          const wants = new Map<string, Amounts & { weight: number }>();
          /** What each was given last. */
          const held = new Map<string, Amounts>();
          const sum = (of: keyof Amounts) => [...held.values()].reduce((total, one) => total + one[of], 0);
          const ask = async (id: string) => {
            const own = wants.get(id) as Amounts & { weight: number };
            held.delete(id);
            const n = held.size + 1;
            const told: ToldUse = {
              owner,
              ttlMs: 60_000,
              streams: 1,
              connectionsPerSecondMax: rateLimit,
              connectionsWanted: own.rate,
              bytesPerSecondMax: byteLimit,
              bytesWanted: own.bytes,
              bytesWeight: own.weight,
            };
            const [portion] = await shareLimits(redis, id, [told]);
            const given = {
              rate: portion?.connectionsPerSecond as number,
              bytes: portion?.bytesPerSecond as number,
            };
            for (const [of, limit] of [
              ['rate', rateLimit],
              ['bytes', byteLimit],
            ] as const) {
              const floor = Math.max(limit >= n ? 1 : 0, Math.floor(limit / 8 / n));
              // What the others hold of what they may want.
              let free = limit;
              for (const [other, one] of held)
                free -= Math.min(one[of], Math.max((wants.get(other) as Amounts)[of], floor));
              if (given[of] > Math.max(free, floor)) throw new Error(`${given[of]} of ${free}`);
              if (given[of] < floor) throw new Error('less than its floor');
            }
            held.set(id, given);
          };
          for (const { gateway, leaves, ...want } of steps) {
            const id = ids[gateway] as string;
            if (leaves) {
              await dropLimitUse(redis, id, [owner]);
              held.delete(id);
              wants.delete(id);
              continue;
            }
            wants.set(id, want);
            await ask(id);
          }
          // Nothing changes any more.
          const order = [...wants.keys()];
          for (let round = 0; round < 2; round++) for (const id of order) await ask(id);
          const settled = JSON.stringify([...held.entries()].sort());
          for (const id of order) {
            await ask(id);
            if (sum('rate') > rateLimit || sum('bytes') > byteLimit) throw new Error('sum');
          }
          if (JSON.stringify([...held.entries()].sort()) !== settled) throw new Error('not stable');
          if (order.length > 0 && (sum('rate') !== rateLimit || sum('bytes') !== byteLimit))
            throw new Error('something is wasted');
          for (const [id, { rate }] of held)
            if (rate === 0 && rateLimit >= order.length) throw new Error(`${id} has nothing`);
          await dropLimitUse(redis, 'a', [owner]);
          return true;
        },
      ),
      { numRuns: 150 },
    );
    t.pass('held for every history');
  },
);
