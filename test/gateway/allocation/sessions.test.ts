import t from 'tap';
import { readSticky } from '../../../gateway/live/sticky.js';
import { onEachRedis } from '../live/servers.js';
import { device, gateway } from './world.js';

const devices = (count: number) => Array.from({ length: count }, (_, n) => device(n));
const session = (name: string, more: object = {}) => ({ session: name, ...more });

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  t.test('a session keeps its exit, each has its own while there are some', async (t) => {
    const redis = server.connect(t);
    const { visit, clock } = gateway(t, redis, devices(5));
    const exits = new Map<string, string>();
    for (const name of ['a', 'b', 'c', 'd']) exits.set(name, await visit('acme', session(name)));
    t.equal(new Set(exits.values()).size, 4);
    for (let i = 0; i < 20; i++) {
      clock.advance(30_000);
      await visit('acme'); // connections without a session in between
      for (const [name, exit] of exits) t.equal(await visit('acme', session(name)), exit);
    }
    const sticky = await readSticky(redis, 'acme', 'a');
    t.equal(sticky?.deviceId, exits.get('a'), 'remembered beyond this gateway');
  });

  t.test('first connections of a session at once get one exit', async (t) => {
    const { via } = gateway(t, server.connect(t), devices(20));
    const all = await Promise.all(Array.from({ length: 30 }, () => via('acme', session('x'))));
    t.equal(new Set(all).size, 1);
  });

  t.test('more sessions than exits share', async (t) => {
    const { visit } = gateway(t, server.connect(t), devices(2));
    const first: string[] = [];
    for (let i = 0; i < 6; i++) first.push(await visit('acme', session(`s${i}`)));
    t.ok(first.every((exit) => exit.startsWith('device')));
    for (let i = 0; i < 6; i++) t.equal(await visit('acme', session(`s${i}`)), first[i]);
  });

  t.test('names are private to the account', async (t) => {
    const { visit } = gateway(t, server.connect(t), devices(2));
    const mine = await visit('acme', session('x'));
    const theirs = await visit('other', session('x'));
    t.not(mine, theirs);
    t.equal(await visit('acme', session('x')), mine);
  });

  t.test('a lost exit is replaced, or told when strict', async (t) => {
    const all = devices(4);
    const { visit, index } = gateway(t, server.connect(t), all);
    const loose = await visit('acme', session('loose'));
    const strict = await visit('acme', session('strict', { strict: true }));
    for (const one of all) if ([loose, strict].includes(one.deviceId)) index.remove(one);
    const replaced = await visit('acme', session('loose'));
    t.match(replaced, /device/);
    t.not(replaced, loose);
    t.equal(await visit('acme', session('loose')), replaced, 'and kept from then on');
    t.equal(await visit('acme', session('strict', { strict: true })), 'SESSION_LOST');
    t.equal(await visit('acme', session('strict', { strict: true })), 'SESSION_LOST', 'every time');
    index.add(all.find((one) => one.deviceId === strict) ?? device(9));
    t.equal(await visit('acme', session('strict', { strict: true })), strict, 'until it is back');
    t.match(
      await visit('acme', session('fresh', { strict: true })),
      /device/,
      'a new strict session may choose',
    );
  });

  t.test('the device came back with another traffic session, or address', async (t) => {
    const { visit, index, ended } = gateway(t, server.connect(t), devices(2));
    const exit = await visit('acme', session('x', { strict: true }));
    const before = index.byDevice(exit);
    if (!before) return t.fail('no device');
    index.add({ ...before, sessionId: 'another' });
    t.equal(
      await visit('acme', session('x', { strict: true })),
      exit,
      'the same exit, under a new allocation',
    );
    t.same(ended, ['acme device_gone']);
    index.add({ ...before, sessionId: 'third', exitIp: '203.0.113.99' });
    t.equal(
      await visit('acme', session('x', { strict: true })),
      'SESSION_LOST',
      'another address is another exit',
    );
  });

  t.test('a device that failed this connection is not taken again for it', async (t) => {
    const { visit } = gateway(t, server.connect(t), devices(2));
    const exit = await visit('acme', session('x'));
    t.equal(await visit('acme', session('x', { strict: true }), new Set([exit])), 'SESSION_LOST');
    const other = await visit('acme', session('x'), new Set([exit]));
    t.match(other, /device/);
    t.not(other, exit);
  });

  t.test('another place under the same name is another exit, not the wrong one', async (t) => {
    const { visit } = gateway(t, server.connect(t), [
      device(1, { country: 'US' }),
      device(2, { country: 'DE' }),
    ]);
    t.equal(await visit('acme', session('x', { country: 'US' })), 'device-1');
    t.equal(await visit('acme', session('x', { country: 'DE', strict: true })), 'SESSION_LOST');
    t.equal(await visit('acme', session('x', { country: 'DE' })), 'device-2');
    t.equal(
      await visit('acme', session('x', { country: 'FR', fallback: 'any' })),
      'device-2',
      'what fallback allows fits',
    );
  });

  t.test('idle sessions end with their time, used ones do not', async (t) => {
    const { visit, via, allocator, clock, ended } = gateway(t, server.connect(t), devices(3));
    await visit('acme', session('short', { ttlMinutes: 1 }));
    await visit('acme', session('long', { ttlMinutes: 60 }));
    await via('acme', session('busy', { ttlMinutes: 1 }));
    t.equal(allocator.size, 3);
    clock.advance(60_000);
    allocator.sweep();
    t.equal(allocator.size, 2);
    clock.advance(58 * 60_000);
    allocator.sweep();
    t.equal(allocator.size, 2, 'a stream keeps a session, an hour is not over');
    clock.advance(60_000);
    allocator.sweep();
    t.same(ended, ['acme idle', 'acme idle']);
    t.equal(allocator.size, 1);
  });

  t.test('a restarted gateway finds its sessions again, whatever claims its former life left', async (t) => {
    const all = devices(6);
    const former = gateway(t, server.connect(t), all);
    const exits = new Map<string, string>();
    for (const name of ['a', 'b', 'c']) exits.set(name, await former.visit('acme', session(name)));
    // kill -9: nothing is released.
    const next = gateway(t, server.connect(t), all);
    for (const [name, exit] of exits)
      t.equal(await next.visit('acme', session(name, { strict: true })), exit, name);
    await former.allocator.renew();
    t.same(former.ended, ['acme claim_lost', 'acme claim_lost', 'acme claim_lost'], 'there is one holder');
  });

  t.test('more sessions than memory has room for: the oldest is found in Redis again', async (t) => {
    const redis = server.connect(t);
    const { visit, allocator } = gateway(t, redis, devices(6), { sessionsMax: 2 });
    const exits = new Map<string, string>();
    for (const name of ['a', 'b', 'c', 'd']) exits.set(name, await visit('acme', session(name)));
    for (const [name, exit] of exits) t.equal(await visit('acme', session(name, { strict: true })), exit);
    t.equal(allocator.size, 4, 'through the allocations they had');
  });

  t.test('after a wipe, sessions in memory keep their exits', async (t) => {
    const redis = server.connect(t);
    const { visit, allocator } = gateway(t, redis, devices(6));
    const exit = await visit('acme', session('x'));
    await redis.flushall();
    t.equal(await visit('acme', session('x')), exit);
    await allocator.renew();
    t.equal(await visit('acme', session('x', { strict: true })), exit);
  });
});
