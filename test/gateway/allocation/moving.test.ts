/** A device that moves takes its exit along, to the buyer who had it. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { readClaim, releaseClaim, takeClaim } from '../../../gateway/live/claims.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { claimRecord, onEachRedis } from '../live/servers.js';
import { buyer, device, type GatewayWorld, gateway, wish } from './world.js';

const EXIT = { providerId: 'provider-1', exitIp: '198.51.0.1' };
const holderOf = (redis: LiveRedis) => readClaim(redis, EXIT.providerId, EXIT.exitIp);
const strict = { session: 'x', strict: true };

/** The device by a later tunnel. */
const next = (sinceMs: number) => device(1, { sinceMs });

async function streamAt({ allocator }: GatewayWorld, account = 'acme') {
  const outcome = await allocator.allocate(buyer(account), wish());
  if (!outcome.ok) throw new Error(outcome.code);
  return outcome;
}

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  /** Two gateways; the device is at the first one, by a tunnel of 100. */
  const pair = (t: Test, settings: Parameters<typeof gateway>[3] = {}) => {
    const redis = server.connect(t);
    return { redis, one: gateway(t, redis, [next(100)], settings), two: gateway(t, redis, [], settings) };
  };

  t.test(
    'its buyer is served at once where it has come, and what runs at the other gateway ends in peace',
    async (t) => {
      const { redis, one, two } = pair(t);
      const stream = await streamAt(one);
      two.allocator.deviceCame(next(200));
      const [mine, theirs] = await Promise.all([two.visit('acme'), two.visit('other')]);
      t.equal(mine, 'device-1');
      t.equal(theirs, 'NO_PEER', 'the exit is in its hands still');
      const claim = await holderOf(redis);
      t.match(claim, { account: 'acme', device: { deviceId: 'device-1', sinceMs: 200 } });
      t.not(claim?.allocationId, stream.allocation.allocationId, 'another package');

      one.allocator.deviceLeft('device-1');
      t.equal(await one.visit('acme'), 'NO_PEER', 'nothing new there');
      await one.allocator.renew();
      t.same(one.ended, [], 'a stream is open');
      stream.release();
      t.same(one.ended, ['acme device_gone']);
      await one.allocator.stop();
      t.same(await holderOf(redis), claim, 'and takes nothing along');
      t.equal(await two.visit('acme'), 'device-1');
      t.same(two.ended, []);
    },
  );

  t.test('a gateway that hears nothing of it learns it from the claim', async (t) => {
    const { redis, one, two } = pair(t);
    const stream = await streamAt(one);
    two.allocator.deviceCame(next(200));
    t.equal(await two.visit('acme'), 'device-1');
    await one.allocator.renew();
    t.same(one.ended, [], 'its stream goes on');
    t.equal(await one.visit('acme'), 'NO_PEER', 'by an old tunnel nothing is taken back');
    t.match(await holderOf(redis), { device: { sinceMs: 200 } });
    stream.release();
    t.same(one.ended, ['acme device_gone']);
  });

  t.test('after a wipe the later tunnel has it, whoever was faster', async (t) => {
    const { redis, one, two } = pair(t);
    await streamAt(one);
    two.allocator.deviceCame(next(200));
    await streamAt(two);
    await redis.flushall();
    await one.allocator.renew();
    await two.allocator.renew();
    t.match(await holderOf(redis), { device: { sinceMs: 200 } });
    await one.allocator.renew();
    t.same([one.ended, two.ended], [[], []], 'nothing is cut');
  });

  t.test('there and back', async (t) => {
    const { redis, one, two } = pair(t);
    const first = await streamAt(one);
    two.allocator.deviceCame(next(200));
    const second = await streamAt(two);
    one.allocator.deviceLeft('device-1');
    one.allocator.deviceCame(next(300));
    t.equal(await one.visit('acme'), 'device-1');
    two.allocator.deviceLeft('device-1');
    first.release();
    second.release();
    t.same([one.ended, two.ended], [['acme device_gone'], ['acme device_gone']]);
    t.match(await holderOf(redis), { account: 'acme', device: { sinceMs: 300 } });
    t.equal(await one.visit('acme'), 'device-1');
  });

  t.test('what was taken at the old gateway in between comes too', async (t) => {
    const { one, two } = pair(t);
    two.allocator.deviceCame(next(200));
    t.equal(await two.visit('other', {}, new Set(['device-1'])), 'NO_PEER');
    await streamAt(one);
    t.equal(await two.visit('third'), 'NO_PEER');
    t.equal(await two.visit('acme'), 'device-1');
  });

  t.test('a strict session follows its device, for as long as it may be idle', async (t) => {
    const { one, two } = pair(t, { reclaimIdleMs: 0 });
    t.equal(await one.visit('acme', strict), 'device-1');
    await one.allocator.renew(); // as a gateway that stops does
    two.index.add(device(2));
    t.equal(await two.visit('acme'), 'device-2');
    two.allocator.deviceCame(next(200));
    one.allocator.deviceLeft('device-1');
    two.clock.advance(9 * 60_000);
    two.allocator.sweep();
    t.not(await two.last('other'), 'device-1', 'nobody else gets it meanwhile');
    t.equal(await two.visit('acme', strict), 'device-1');
  });

  t.test('a gateway that died keeps no exit from devices that come to another one', async (t) => {
    const { redis, two } = pair(t);
    const dead = {
      gateway: { gatewayId: 'dead', epoch: 'e' },
      device: { deviceId: 'device-1', sinceMs: 100 },
    };
    const left = claimRecord('left', { ...dead, sessionId: 'session-1' });
    await takeClaim(redis, { ...EXIT, record: left, ttlMs: 30_000 });
    two.allocator.deviceCame(next(200));
    t.equal(await two.visit('acme'), 'device-1');

    await redis.flushall();
    const three = gateway(t, redis, []);
    await takeClaim(redis, { ...EXIT, record: { ...left, sessionId: 'a former one' }, ttlMs: 30_000 });
    three.allocator.deviceCame(next(200));
    t.equal(await three.visit('other'), 'device-1', 'in a new traffic session it is anybody’s');
  });

  t.test(
    'whom an older version holds an exit for, it lets go of: a last connection waits for that',
    async (t) => {
      const { redis, two } = pair(t, { waitMs: 20_000 });
      const held = { ...EXIT, record: claimRecord('older', { sessionId: 'session-1' }), ttlMs: 30_000 };
      await takeClaim(redis, held);
      two.allocator.deviceCame(next(200));
      t.equal(await two.visit('acme'), 'NO_PEER', 'where somebody else may serve it, no time is lost');
      const waiting = two.last('acme');
      await delay(10);
      await releaseClaim(redis, { ...EXIT, allocationId: 'older' });
      t.equal(await waiting, 'device-1');
    },
  );

  t.test('who has nothing gets what another can spare once its streams have ended', async (t) => {
    const redis = server.connect(t);
    const settings = { random: () => 0, waitMs: 20_000 };
    const world = gateway(t, redis, [device(1), device(2)], settings);
    const streams = [await streamAt(world), await streamAt(world)];
    t.equal(world.allocator.size, 2, 'one buyer has both');
    const waiting = Promise.all([world.last('other'), world.last('other')]);
    await delay(10);
    const more = await streamAt(world);
    const wanted = streams.find(({ allocation }) => allocation !== more.allocation);
    t.ok(wanted?.allocation.isWanted, 'nothing new goes through one of them');
    wanted?.release();
    const found = await waiting;
    t.same(new Set(found), new Set([wanted?.candidate.deviceId]));
    t.same(world.ended, ['acme reclaimed']);
    t.equal(await world.last('third'), 'NO_PEER', 'the only exit is nobody else’s');
  });

  t.test('it waits so long and no longer, and not where there is nothing to wait for', async (t) => {
    const redis = server.connect(t);
    const world = gateway(t, redis, [device(1), device(2)], { random: () => 0, waitMs: 1_000 });
    await streamAt(world);
    t.equal(world.allocator.size, 1);
    world.index.remove(world.index.byDevice('device-2') ?? device(2));
    world.index.add(device(3));
    await streamAt(world);
    const waiting = world.last('other');
    await delay(10);
    t.ok([...world.allocator.all()].some(({ isWanted }) => isWanted));
    world.clock.advance(1_000);
    t.equal(await waiting, 'NO_PEER');
    t.notOk(
      [...world.allocator.all()].some(({ isWanted }) => isWanted),
      'its holder has it back',
    );
    const none = gateway(t, redis, [], { waitMs: Number.MAX_SAFE_INTEGER });
    t.equal(await none.last('acme'), 'NO_PEER', 'there is no device: told at once');
  });
});
