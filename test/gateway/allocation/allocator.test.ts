import t from 'tap';
import { startRedis } from '../../../deploy/standalone/services/redis.js';
import { CLAIM_TTL_MS, readClaim, takeClaim } from '../../../gateway/live/claims.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { redisKinds } from '../../helpers/services.js';
import { claimRecord, connect, onEachRedis } from '../live/servers.js';
import { buyer, device, gateway, wish } from './world.js';

const devices = (count: number) => Array.from({ length: count }, (_, n) => device(n));

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  t.test('connections rotate over matching devices, and what is held costs no round trip', async (t) => {
    const redis = server.connect(t);
    const { visit, allocator } = gateway(t, redis, devices(5));
    const counts = new Map<string, number>();
    for (let i = 0; i < 200; i++) {
      const id = await visit('acme');
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    t.equal(counts.size, 5, 'all of them');
    for (const [id, count] of counts) t.ok(count > 15 && count < 75, `${id} took ${count} of 200`);
    t.equal(allocator.size, 5);
    const claims = await redis.keys('ts:claim:*');
    t.equal(claims.length, 5);

    const calls = async () => (await redis.info('commandstats')).match(/cmdstat_evalsha:calls=(\d+)/)?.[1];
    const before = await calls();
    for (let i = 0; i < 50; i++) await visit('acme');
    t.equal(await calls(), before, 'no claim was touched');
  });

  t.test('what is held elsewhere does not keep a place from being rotated over', async (t) => {
    const there = Array.from({ length: 60 }, (_, n) => device(n, { country: 'US' }));
    const here = [100, 101].map((n) => device(n, { country: 'IT' }));
    const { visit, allocator } = gateway(t, server.connect(t), [...there, ...here], { random: () => 0.4 });
    for (let i = 0; i < 100; i++) await visit('acme', { country: 'US' });
    t.ok(allocator.size >= 30, `${allocator.size} held`);
    const seen = new Set([await visit('acme', { country: 'IT' }), await visit('acme', { country: 'IT' })]);
    t.equal(seen.size, 2, 'one of two was held: the other is drawn as often');
  });

  t.test('one device, many first connections at once: one allocation serves them all', async (t) => {
    const { via, allocator } = gateway(t, server.connect(t), devices(1));
    const all = await Promise.all(Array.from({ length: 50 }, () => via('acme')));
    t.same(new Set(all), new Set(['device-0']));
    t.equal(allocator.size, 1);
    t.equal([...allocator.all()][0]?.streams, 50);
    t.equal(await via('other'), 'NO_PEER', 'nobody else gets it');
    const again = allocator.allocate(buyer('acme'), wish());
    t.notOk(again instanceof Promise, 'what is held is given at once');
    t.match(again, { ok: true });
    const session = wish({ session: 'one' });
    t.ok(allocator.allocate(buyer('acme'), session) instanceof Promise, 'a session that Redis may know');
    await allocator.allocate(buyer('acme'), session);
    t.match(allocator.allocate(buyer('acme'), session), { ok: true }, 'once it is known, at once');
  });

  t.test('two gateways, many buyers, few exits: never two holders', async (t) => {
    // The same exits behind both gateways, as with two devices in one home.
    const one = gateway(t, server.connect(t), devices(12));
    const two = gateway(t, server.connect(t), devices(12));
    const holders = new Map<string, Set<string>>();
    let served = 0;
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const account = `acct${i % 10}`;
        const world = i % 2 ? one : two;
        const deviceId = await world.via(account);
        if (!deviceId.startsWith('device')) return;
        served++;
        const holder = `${account} via ${world === one ? 1 : 2}`;
        const known = holders.get(deviceId) ?? new Set();
        holders.set(deviceId, known.add(holder));
      }),
    );
    t.ok(served > 10);
    for (const [deviceId, who] of holders) t.equal(who.size, 1, `${deviceId} serves ${[...who]}`);
  });

  t.test('an exit is a provider at an address: two devices of one home are one', async (t) => {
    const home = [
      device(1, { providerId: 'p', exitIp: '203.0.113.5' }),
      device(2, { providerId: 'p', exitIp: '203.0.113.5' }),
    ];
    const { via, allocator } = gateway(t, server.connect(t), home);
    t.match(await via('acme'), /device/);
    t.equal(await via('other'), 'NO_PEER');
    t.equal(allocator.size, 1);
  });

  t.test('places, network types, fallback, exclusion', async (t) => {
    const { visit } = gateway(t, server.connect(t), [
      device(1, { country: 'US', city: 'Boston', asn: 100, networkType: 'mobile' }),
      device(2, { country: 'DE', city: 'Berlin', asn: 200 }),
      device(3, { country: 'DE', city: 'Bonn', asn: 300 }),
    ]);
    t.equal(await visit('a', { country: 'US' }), 'device-1');
    t.match(await visit('a', { country: 'EU' }), /device-[23]/);
    t.equal(await visit('a', { country: 'DE', city: 'BERLIN' }), 'device-2');
    t.equal(await visit('a', { asn: 300 }), 'device-3');
    t.equal(await visit('a', { net: 'mobile' }), 'device-1');
    t.equal(await visit('a', { country: 'FR' }), 'NO_PEER');
    t.equal(await visit('a', { country: 'FR', fallback: 'country' }), 'NO_PEER');
    t.match(await visit('a', { country: 'FR', fallback: 'any' }), /device/);
    t.equal(await visit('a', { country: 'DE', city: 'Köln' }), 'NO_PEER');
    t.match(await visit('a', { country: 'DE', city: 'Köln', fallback: 'country' }), /device-[23]/);
    t.equal(await visit('a', { country: 'US', city: 'Austin', net: 'wifi', fallback: 'country' }), 'NO_PEER');
    t.equal(await visit('a', { country: 'DE' }, new Set(['device-2'])), 'device-3');
    t.equal(await visit('a', { country: 'DE' }, new Set(['device-2', 'device-3'])), 'NO_PEER');
  });

  t.test('states by name or code, networks by their words', async (t) => {
    const place = { country: 'US', state: 'New York', stateCode: 'NY', city: 'New York' };
    const { visit } = gateway(t, server.connect(t), [
      device(1, { ...place, isp: 'Comcast Cable Communications, LLC' }),
      device(2, { ...place, country: 'CA', isp: 'T-Mobile USA, Inc.' }),
      device(3, { country: 'BR', state: 'São Paulo', city: 'São José dos Campos', isp: null }),
      device(4, { country: 'US' }),
    ]);
    for (const state of ['New York', 'NEW YORK', 'ny', 'us new york', 'us ny'])
      t.equal(await visit('a', { country: 'US', state }), 'device-1', state);
    t.equal(await visit('a', { country: 'US', state: 'york' }), 'NO_PEER', 'the whole name');
    t.equal(await visit('a', { country: 'US', state: 'ca new york' }), 'NO_PEER');
    t.equal(await visit('a', { country: 'BR', state: 'sao paulo', city: 'sao jose dos campos' }), 'device-3');
    for (const isp of ['comcast', 'COMCAST CABLE', 'cable communications llc'])
      t.equal(await visit('a', { isp }), 'device-1', isp);
    t.equal(await visit('a', { isp: 't mobile' }), 'device-2');
    for (const isp of ['com', 'comcast communications', 'cable comcast', '.', 'null'])
      t.equal(await visit('a', { isp }), 'NO_PEER', isp);
    t.equal(await visit('a', { country: 'CA', isp: 'comcast' }), 'NO_PEER');
    t.match(await visit('a', { country: 'US', isp: 'x', fallback: 'country' }), /device-[14]/);
  });

  t.test('no more exits than allowed for rotation', async (t) => {
    const { visit, allocator } = gateway(t, server.connect(t), devices(20), { rotatingAllocationsMax: 3 });
    for (let i = 0; i < 60; i++) await visit('acme');
    t.equal(allocator.size, 3);
  });

  t.test('paused, gone and changed devices are passed over', async (t) => {
    const redis = server.connect(t);
    const [one, two] = [device(1), device(2)];
    const { visit, index, ended } = gateway(t, redis, [one]);
    t.equal(await visit('acme'), 'device-1');
    one.status = 'paused';
    index.changed(one);
    t.equal(await visit('acme'), 'NO_PEER');
    one.status = 'sharing';
    index.changed(one);
    t.equal(await visit('acme'), 'device-1');
    index.remove(one);
    index.add(two);
    t.equal(await visit('acme'), 'device-2');
    index.add(device(1, { sessionId: 'a new traffic session' }));
    for (let i = 0; i < 20; i++) await visit('acme');
    t.same(ended, ['acme device_gone'], 'what was allocated in its former session is over');
  });

  t.test('a full device is passed over until a stream ends', async (t) => {
    const one = { ...device(1), isFull: false };
    const { visit, index } = gateway(t, server.connect(t), [one]);
    t.equal(await visit('acme'), 'device-1');
    one.isFull = true;
    t.equal(await visit('acme'), 'NO_PEER');
    index.add(device(2));
    t.equal(await visit('acme'), 'device-2');
    one.isFull = false;
    t.equal(await visit('acme', {}, new Set(['device-2'])), 'device-1');
  });

  t.test('idle, used up, ended: exits come free, owners are told once', async (t) => {
    const redis = server.connect(t);
    const { allocator, clock, ended } = gateway(t, redis, devices(1), { idleMs: 60_000 });
    const held = async () => (await readClaim(redis, 'provider-0', '198.51.0.0'))?.allocationId ?? null;
    const take = async (account: string) => {
      const outcome = await allocator.allocate(buyer(account), wish());
      if (!outcome.ok) throw new Error(outcome.code);
      return outcome;
    };
    const first = await take('acme');
    t.equal(await held(), first.allocation.allocationId);
    clock.advance(600_000);
    allocator.sweep();
    t.same(ended, [], 'a stream is open');
    first.release();
    first.release();
    t.equal(first.allocation.streams, 0);
    clock.advance(59_999);
    allocator.sweep();
    t.same(ended, []);
    clock.advance(1);
    allocator.sweep();
    t.same(ended.splice(0), ['acme idle']);
    t.equal(first.allocation.endedBy, 'idle');

    const second = await take('other');
    t.equal(await held(), second.allocation.allocationId, 'free for others at once');
    second.allocation.bytesUsed = second.allocation.sizeBytes;
    const third = await take('other');
    t.same(ended.splice(0), ['other used_up']);
    t.not(
      third.allocation.allocationId,
      second.allocation.allocationId,
      'another package of the same device',
    );
    t.equal(await held(), third.allocation.allocationId);

    t.equal(allocator.end(third.allocation.allocationId), true);
    t.equal(allocator.end(third.allocation.allocationId), false);
    t.same(ended.splice(0), ['other ended']);
    const fourth = await take('acme');
    allocator.sessionStopped('some other session');
    allocator.sessionStopped('session-0');
    t.same(ended.splice(0), ['acme device_gone']);
    fourth.release();
    await allocator.stop();
    t.equal(await held(), null);
  });

  t.test('stop releases everything', async (t) => {
    const redis = server.connect(t);
    const { via, allocator, ended } = gateway(t, redis, devices(4));
    for (let i = 0; i < 20; i++) await via('acme');
    const live = allocator.size;
    await allocator.stop();
    t.equal(ended.length, live);
    t.ok(ended.every((end) => end === 'acme shutdown'));
    t.same(await redis.keys('ts:claim:*'), []);
  });

  t.test('claims are renewed; after a wipe they are asserted again', async (t) => {
    const redis = server.connect(t);
    const { via, allocator, ended } = gateway(t, redis, devices(3), { random: () => 0 });
    await via('acme');
    await via('acme', { session: 'x' });
    const keys = (await redis.keys('ts:claim:*')).sort();
    t.equal(keys.length, 2);
    for (const key of keys) await redis.pexpire(key, 1_000);
    await allocator.renew();
    for (const key of keys) t.ok((await redis.pttl(key)) > CLAIM_TTL_MS - 5_000);
    await redis.flushall();
    await allocator.renew();
    t.same((await redis.keys('ts:claim:*')).sort(), keys);
    t.same(ended, []);
  });

  t.test('after a wipe another was faster: the allocation ends and its exit is left alone', async (t) => {
    const redis = server.connect(t);
    const { via, visit, allocator, clock, ended } = gateway(t, redis, devices(1), { takenRetryMs: 5_000 });
    await via('acme');
    await redis.flushall();
    await takeClaim(redis, {
      providerId: 'provider-0',
      exitIp: '198.51.0.0',
      record: claimRecord('theirs'),
      ttlMs: 60_000,
    });
    await allocator.renew();
    t.same(ended, ['acme claim_lost']);
    t.equal(await visit('acme'), 'NO_PEER');
    t.equal(
      (await readClaim(redis, 'provider-0', '198.51.0.0'))?.allocationId,
      'theirs',
      'their claim stands',
    );
    await redis.flushall();
    t.equal(await visit('acme'), 'NO_PEER', 'not tried again at once');
    clock.advance(5_001);
    allocator.sweep();
    t.equal(await visit('acme'), 'device-0');
  });

  t.test('what a process held that is known to have ended is taken at once, and nothing else', async (t) => {
    const redis = server.connect(t);
    const dead = { gatewayId: 'duo-w2', epoch: 'e1' };
    const ended: string[] = [];
    const isOver = ({ gatewayId, epoch }: typeof dead) => ended.includes(`${gatewayId} ${epoch}`);
    const [mine, living] = [device(0), device(1)];
    const here = gateway(t, redis, [mine, living], { run: { gatewayId: 'duo', epoch: 'e2' }, isOver });
    t.equal(await gateway(t, redis, [mine], { run: dead }).via('acme'), 'device-0');
    t.equal(await gateway(t, redis, [living]).via('acme'), 'device-1');
    t.equal(await here.visit('other'), 'NO_PEER', 'while nobody knows');
    ended.push('duo-w2 e1');
    here.allocator.heldNoMore(dead);
    t.equal(await here.visit('other'), 'device-0', 'before its claim has lapsed, without a wait');
    t.match(await readClaim(redis, 'provider-0', mine.exitIp), {
      account: 'other',
      gateway: { epoch: 'e2' },
    });
    t.equal(await here.via('other', {}, new Set(['device-0'])), 'NO_PEER', 'what others hold stays theirs');
    // It is known before anybody asks for the exit.
    const next = gateway(t, redis, [mine], { run: { gatewayId: 'duo', epoch: 'e3' }, isOver: () => false });
    t.equal(await next.visit('third'), 'device-0', 'also that of this gateway before it started');
  });

  t.test('an allocation that ends while its renewal is under way leaves no claim', async (t) => {
    const redis = server.connect(t);
    const { via, allocator } = gateway(t, redis, devices(5));
    for (let i = 0; i < 30; i++) await via('acme');
    await redis.script('FLUSH');
    const renewal = allocator.renew();
    for (const { allocationId } of [...allocator.all()]) allocator.end(allocationId);
    await renewal;
    await allocator.stop();
    t.same(await redis.keys('ts:claim:*'), []);
  });

  t.test('when nothing is free, an idle exit of a buyer who holds several is given on', async (t) => {
    const { visit, via, clock, ended } = gateway(t, server.connect(t), devices(3), {
      random: () => 0,
      reclaimIdleMs: 5_000,
    });
    for (let i = 0; i < 12; i++) await visit('acme');
    t.equal(await via('other'), 'NO_PEER', 'used a moment ago');
    clock.advance(5_000);
    t.match(await via('other'), /device/);
    t.same(ended, ['acme reclaimed']);
    await via('acme');
    t.match(await via('third'), /device/, 'the other idle one');
    t.equal(await via('fourth'), 'NO_PEER', 'nobody loses the only exit, or one in use');
  });
});

for (const kind of redisKinds())
  t.test(`${kind} away: what is held goes on, nothing new is given, nobody has two holders`, async (t) => {
    const first = await startRedis({ prefer: kind });
    t.teardown(() => first.stop());
    const redis = connect(t, { url: first.url });
    const { visit, allocator, ended } = gateway(t, redis, devices(2), { random: () => 0.999 });
    const before = await visit('acme', { country: 'US' });
    t.match(before, /device/);
    await first.kill();
    for (let i = 0; i < 5; i++) t.equal(await visit('acme'), before);
    const refused = await allocator.allocate(buyer('other'), wish());
    t.match(refused, { ok: false, code: 'NO_PEER', detail: 'live state unavailable' });
    await allocator.renew();
    t.same(ended, []);
    const second = await startRedis({ prefer: kind, port: first.port });
    t.teardown(() => second.stop());
    while (redis.status !== 'ready') await new Promise((resolve) => redis.once('ready', resolve));
    await allocator.renew();
    t.equal((await redis.keys('ts:claim:*')).length, 1);
    t.ok(liveKeys.claim('a', 'b').startsWith('ts:claim:'), 'the keys counted are claims');
  });
