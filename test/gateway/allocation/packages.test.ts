import t from 'tap';
import { readClaim, takeClaim } from '../../../gateway/live/claims.js';
import type { PackageRoute } from '../../../gateway/live/records.js';
import { claimRecord, onEachRedis } from '../live/servers.js';
import { buyer, device, type GatewayWorld, gateway, wish } from './world.js';

const NOW_MS = 1_700_000_000_000; // ManualClock's start
const ROUTE: PackageRoute = {
  ...claimRecord('alloc-1', { buyerId: 'buyer-acme', sizeBytes: 1_000 }),
  packageId: 'package-1',
  providerId: 'provider-1',
  exitIp: '198.51.0.1',
  passwordSha256Hex: 'ab'.repeat(32),
  expiresAtMs: NOW_MS + 3_600_000,
};

async function pulled(
  { allocator }: GatewayWorld,
  route: PackageRoute | null = ROUTE,
  account = 'acme',
  exclude?: ReadonlySet<string>,
) {
  return allocator.allocate(buyer(account, route), wish({ packageId: 'package-1' }), exclude);
}

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    const redis = server.connect(t);
    await redis.flushall();
    // The control plane holds the exit from the pull on.
    await takeClaim(redis, {
      providerId: 'provider-1',
      exitIp: '198.51.0.1',
      record: claimRecord('alloc-1', { buyerId: 'buyer-acme', packageId: 'package-1' }),
      ttlMs: 3_600_000,
    });
  });

  t.test('leads to exactly its exit, which nobody else gets', async (t) => {
    const redis = server.connect(t);
    const world = gateway(t, redis, [device(1), device(2)]);
    t.equal(await world.visit('other', {}, new Set(['device-2'])), 'NO_PEER', 'before its first connection');
    const outcome = await pulled(world);
    t.match(outcome, {
      ok: true,
      candidate: { deviceId: 'device-1' },
      allocation: { allocationId: 'alloc-1', packageId: 'package-1' },
    });
    t.match(await pulled(world), { ok: true });
    t.equal(world.allocator.size, 1, 'one allocation for both');
    t.equal(await world.visit('other', {}, new Set(['device-2'])), 'NO_PEER');
    t.equal(
      await world.visit('acme', {}, new Set(['device-2'])),
      'NO_PEER',
      'nor its buyer without naming it',
    );
    t.match(await pulled(world, ROUTE, 'acme', new Set(['device-1'])), { ok: false, code: 'NO_PEER' });
    const ttl = await redis.pttl('ts:claim:{provider-1|198.51.0.1}');
    t.ok(ttl > 3_000_000, 'held until it expires');
  });

  t.test('first connections at once share one allocation', async (t) => {
    const world = gateway(t, server.connect(t), [device(1)]);
    const all = await Promise.all(Array.from({ length: 20 }, () => pulled(world)));
    t.equal(new Set(all.map((outcome) => outcome.ok && outcome.allocation)).size, 1);
    t.equal([...world.allocator.all()][0]?.streams, 20);
  });

  t.test('any device of its exit serves it, and it waits for one', async (t) => {
    const one = device(1);
    const world = gateway(t, server.connect(t), []);
    t.match(await pulled(world), { ok: false, code: 'NO_PEER' });
    world.index.add(one);
    t.match(await pulled(world), { ok: true, candidate: { deviceId: 'device-1' } });
    world.allocator.sessionStopped(one.sessionId);
    world.index.remove(one);
    t.match(await pulled(world), { ok: false, code: 'NO_PEER' });
    world.index.add(device(7, { providerId: 'provider-1', exitIp: '198.51.0.1' }));
    t.match(await pulled(world), {
      ok: true,
      candidate: { deviceId: 'device-7' },
      allocation: { allocationId: 'alloc-1' },
    });
    t.same(world.ended, []);
  });

  t.test('only for its buyer, only in its time', async (t) => {
    const world = gateway(t, server.connect(t), [device(1)]);
    t.match(await pulled(world, null), { ok: false, code: 'AUTH_FAILED' });
    t.match(await pulled(world, ROUTE, 'other'), { ok: false, code: 'AUTH_FAILED' });
    t.match(await pulled(world, { ...ROUTE, packageId: 'package-2' }), { ok: false, code: 'AUTH_FAILED' });
    t.match(await pulled(world, { ...ROUTE, expiresAtMs: NOW_MS }), { ok: false, code: 'AUTH_FAILED' });
    t.equal(world.allocator.size, 0);
  });

  t.test('used up: told so, also while the route still stands', async (t) => {
    const redis = server.connect(t);
    const world = gateway(t, redis, [device(1)]);
    const outcome = await pulled(world);
    if (!outcome.ok) return t.fail(outcome.code);
    outcome.allocation.bytesUsed = 999;
    t.match(await pulled(world), { ok: true });
    outcome.allocation.bytesUsed = 1_001;
    t.equal(outcome.allocation.remainingBytes, -1);
    t.match(await pulled(world), { ok: false, code: 'QUOTA_REACHED' });
    t.same(world.ended, ['acme used_up']);
    t.match(await pulled(world), { ok: false, code: 'QUOTA_REACHED' });
    t.equal(await readClaim(redis, 'provider-1', '198.51.0.1'), null, 'its exit is free');
  });

  t.test('what was booked before this gateway knew it counts', async (t) => {
    const world = gateway(t, server.connect(t), [device(1)]);
    t.match(await pulled(world, { ...ROUTE, bytesUsed: 1_000 }), { ok: false, code: 'QUOTA_REACHED' });
    t.equal(world.allocator.size, 0);
    t.match(await pulled(world, { ...ROUTE, bytesUsed: 400 }), {
      ok: true,
      allocation: { remainingBytes: 600 },
    });
    t.match(
      await pulled(world, { ...ROUTE, bytesUsed: 300 }),
      { ok: true, allocation: { remainingBytes: 600 } },
      'never back',
    );
    t.match(await pulled(world, { ...ROUTE, bytesUsed: 700 }), {
      ok: true,
      allocation: { remainingBytes: 300 },
    });
  });

  t.test('revoked by command: not served again', async (t) => {
    const world = gateway(t, server.connect(t), [device(1)]);
    await pulled(world);
    t.equal(world.allocator.end('alloc-1'), true);
    t.match(await pulled(world), { ok: false, code: 'AUTH_FAILED' });
  });

  t.test('idle ones stay until they expire, then their streams end too', async (t) => {
    const redis = server.connect(t);
    const world = gateway(t, redis, [device(1)]);
    const outcome = await pulled(world);
    if (!outcome.ok) return t.fail(outcome.code);
    outcome.release();
    world.clock.advance(3_599_999);
    world.allocator.sweep();
    t.same(world.ended, []);
    await pulled(world);
    world.clock.advance(1);
    world.allocator.sweep();
    t.same(world.ended, ['acme expired']);
    t.match(await pulled(world), { ok: false, code: 'AUTH_FAILED' });
  });

  t.test('a gateway that stops leaves the exit to the package', async (t) => {
    const redis = server.connect(t);
    const world = gateway(t, redis, [device(1)]);
    await pulled(world);
    await world.allocator.stop();
    t.same(world.ended, ['acme shutdown']);
    t.equal((await readClaim(redis, 'provider-1', '198.51.0.1'))?.allocationId, 'alloc-1');
    t.match(await pulled(gateway(t, redis, [device(1)])), { ok: true }, 'its next life serves it');
  });

  t.test('after a wipe it is asserted again; when another has its exit it is refused', async (t) => {
    const redis = server.connect(t);
    const world = gateway(t, redis, [device(1)]);
    await pulled(world);
    await redis.flushall();
    await world.allocator.renew();
    t.match(await readClaim(redis, 'provider-1', '198.51.0.1'), {
      allocationId: 'alloc-1',
      packageId: 'package-1',
    });

    const late = gateway(t, redis, [device(1)]);
    await redis.flushall();
    await takeClaim(redis, {
      providerId: 'provider-1',
      exitIp: '198.51.0.1',
      record: claimRecord('theirs'),
      ttlMs: 60_000,
    });
    t.match(await pulled(late), { ok: false, code: 'NO_PEER' });
  });
});
