import t from 'tap';
import { liveKeys } from '../../../gateway/live/keys.js';
import * as presences from '../../../gateway/live/presence.js';
import type {
  DevicePresence,
  GatewayPresence,
  PackageRoute,
  TicketRecord,
} from '../../../gateway/live/records.js';
import { readSticky, takeSticky, writeSticky } from '../../../gateway/live/sticky.js';
import * as store from '../../../gateway/live/store.js';
import { accountSnapshot, claimRecord, onEachRedis, recordingLog } from './servers.js';

const ticket: TicketRecord = {
  sessionId: 's',
  deviceId: 'device-1',
  providerId: 'p',
  exitIp: '203.0.113.7',
  country: 'US',
  city: null,
  asn: 7922,
  networkType: 'wifi',
  offerBytes: 1_000_000_000,
  capBytesPerDay: null,
  termsVersion: '1',
  clientVersion: '0.1.0',
};
const presence: DevicePresence = {
  ...ticket,
  gatewayId: 'gw',
  connectedAtMs: 1,
  streams: 0,
  rttMs: 12.5,
  status: 'sharing',
};
const gatewayPresence: GatewayPresence = {
  gatewayId: 'gw',
  epoch: 'e',
  version: '0.1.0',
  startedAtMs: 1,
  tunnels: 2,
  streams: 3,
  draining: false,
};

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  t.test('what is written is read back; what is missing is null', async (t) => {
    const redis = server.connect(t);
    const nowMs = Date.now();
    const route: PackageRoute = {
      ...claimRecord('a'),
      packageId: 'pk',
      providerId: 'p',
      exitIp: '203.0.113.7',
      passwordSha256Hex: 'ab'.repeat(32),
      expiresAtMs: nowMs + 60_000,
    };
    const sticky = { allocationId: 'a', deviceId: 'd', providerId: 'p', exitIp: '203.0.113.7' };
    const price = { microsPerGb: '100000', effectiveFromMs: 1 };
    const settings = {
      policyVersion: 1,
      termsVersion: '1',
      deniedDomains: ['x.example'],
      deniedIps: [],
    };

    t.equal(await store.readAccount(redis, 'acme'), null);
    await store.writeAccount(redis, accountSnapshot());
    t.same(await store.readAccount(redis, 'acme'), accountSnapshot());
    await store.deleteAccount(redis, 'acme');
    t.equal(await store.readAccount(redis, 'acme'), null);

    await store.writePackageRoute(redis, route, nowMs);
    t.same(await store.readPackageRoute(redis, 'pk'), route);
    t.ok((await redis.pttl(liveKeys.packageRoute('pk'))) > 50_000);
    await store.deletePackageRoute(redis, 'pk');
    t.equal(await store.readPackageRoute(redis, 'pk'), null);

    await writeSticky(redis, 'acme', 'one', sticky, 60_000);
    t.same(await readSticky(redis, 'acme', 'one'), sticky);
    t.equal(await readSticky(redis, 'acme', 'two'), null);
    t.equal(await readSticky(redis, 'other', 'one'), null, 'private to the account');
    const elsewhere = { ...sticky, allocationId: 'b', deviceId: 'e' };
    t.same(await takeSticky(redis, 'acme', 'one', elsewhere, 60_000, null), sticky, 'somebody was faster');
    t.equal(await takeSticky(redis, 'acme', 'one', sticky, 60_000, null), null, 'again');
    t.equal(
      await takeSticky(redis, 'acme', 'one', elsewhere, 60_000, 'd'),
      null,
      'in place of what it knows',
    );
    t.same(await readSticky(redis, 'acme', 'one'), elsewhere);
    t.equal(await takeSticky(redis, 'acme', 'two', sticky, 60_000, null), null, 'the first one');

    await store.writeProviderPrice(redis, price);
    t.same(await store.readProviderPrice(redis), price);
    await store.writeLiveSettings(redis, settings);
    t.same(await store.readLiveSettings(redis), settings);
    await presences.writeGatewayPresence(redis, gatewayPresence);
    t.same(await presences.readGatewayPresence(redis, 'gw'), gatewayPresence);
    await presences.deleteGatewayPresence(redis, { gatewayId: 'gw', epoch: 'another' });
    t.same(await presences.readGatewayPresence(redis, 'gw'), gatewayPresence, 'only by its own process');
    await presences.deleteGatewayPresence(redis, gatewayPresence);
    t.equal(await presences.readGatewayPresence(redis, 'gw'), null);

    t.equal(await store.readReady(redis), null);
    await store.markReady(redis);
    const first = await store.readReady(redis);
    await store.markReady(redis);
    t.ok(first);
    t.not(await store.readReady(redis), first, 'each rebuild has its own marker');
  });

  t.test('a ticket is taken once, however many devices come with it', async (t) => {
    const connections = [server.connect(t), server.connect(t), server.connect(t)];
    const [redis] = connections as [(typeof connections)[0]];
    await store.writeTicket(redis, 'hash', ticket, 60_000);
    t.ok((await redis.pttl(liveKeys.ticket('hash'))) <= 60_000, 'it expires');
    const taken = await Promise.all(
      Array.from({ length: 30 }, (_, i) => store.takeTicket(connections[i % 3] ?? redis, 'hash')),
    );
    t.same(taken.filter(Boolean), [ticket]);
  });

  t.test('devices present, and those that went silent', async (t) => {
    const redis = server.connect(t);
    const many = Array.from({ length: 1_200 }, (_, i) => ({ ...presence, deviceId: `device-${i}` }));
    await presences.writePresences(redis, many, 1_000);
    await presences.writePresences(redis, [], 1_000);
    t.equal((await presences.readPresences(redis, 2_000)).length, 1_200);
    t.same(await presences.readPresence(redis, 'device-7'), { ...many[7], sinceMs: presence.connectedAtMs });
    await presences.deletePresence(redis, 'device-7', 'another');
    t.ok(await presences.readPresence(redis, 'device-7'), 'only by its gateway');
    await presences.deletePresence(redis, 'device-7', presence.gatewayId);
    t.equal(await presences.readPresence(redis, 'device-7'), null);
    t.equal((await presences.readPresences(redis, 2_000)).length, 1_199);
    await presences.writePresence(redis, presence, 100_000);
    const written = { ...presence, sinceMs: presence.connectedAtMs };
    t.same(await presences.readPresences(redis, 50_000), [written], 'the others’ time has passed');
    t.equal(await redis.zcard(liveKeys.devicesOnline()), 1, 'and they are forgotten');
  });

  t.test('values that do not fit count as absent and are logged', async (t) => {
    const log = recordingLog();
    const redis = server.connect(t, { log });
    const good = accountSnapshot();
    for (const bad of [
      '{',
      'null',
      '[]',
      '"text"',
      JSON.stringify({ ...good, status: 'on fire' }),
      JSON.stringify({ ...good, priceMicrosPerGb: '1.5' }),
      JSON.stringify({ ...good, priceMicrosPerGb: 3 }),
      JSON.stringify({ ...good, aupAccepted: 'yes' }),
      JSON.stringify({ ...good, limits: { ...good.limits, streamsMax: -1 } }),
      JSON.stringify({ ...good, limits: { ...good.limits, extraPorts: ['80'] } }),
      JSON.stringify({ ...good, limits: { ...good.limits, bandwidthBytesPerSecondMax: '1' } }),
      JSON.stringify({ ...good, limits: { ...good.limits, allowedDomains: 'example.com' } }),
      JSON.stringify({ ...good, limits: { ...good.limits, quotas: ['year'] } }),
      JSON.stringify({ ...good, subUser: { id: 's', limited: false, limits: { ports: [1.5] } } }),
      JSON.stringify({ ...good, limits: undefined }),
      JSON.stringify({
        ...good,
        credentials: [{ tokenId: 't', sha256Hex: 'zz', expiresAtMs: null, allowedIps: [] }],
      }),
    ]) {
      await redis.set(liveKeys.account('acme'), bad);
      t.equal(await store.readAccount(redis, 'acme'), null, bad.slice(0, 40));
      t.equal(log.events.splice(0).filter((event) => event === 'live_value_unreadable').length, 1);
    }
    await redis.set(liveKeys.account('acme'), JSON.stringify({ ...good, newField: [1] }));
    t.ok(await store.readAccount(redis, 'acme'), 'a newer writer may add fields');
    const older = { ...good, subUser: { id: 's', limited: true } };
    await redis.set(liveKeys.account('acme'), JSON.stringify(older));
    t.same(await store.readAccount(redis, 'acme'), older, 'an older one knew no limits of sub-users');
  });
});
