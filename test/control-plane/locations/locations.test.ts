/** Where devices are online, as a buyer is told: from the live state, without a word about providers. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { LocationBoard } from '../../../control-plane/locations/board.js';
import { takeClaim } from '../../../gateway/live/claims.js';
import { connectLive } from '../../../gateway/live/connection.js';
import { deletePresence, writePresences } from '../../../gateway/live/presence.js';
import type { DevicePresence } from '../../../gateway/live/records.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { startRedis } from '../../helpers/services.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { sharingProvider, worldGateway } from '../../helpers/world-gateway.js';

let addresses = 0;
function presence(fields: Partial<DevicePresence> = {}): DevicePresence {
  return {
    sessionId: randomUUID(),
    deviceId: randomUUID(),
    providerId: randomUUID(),
    gatewayId: 'g1',
    exitIp: `203.0.113.${++addresses}`,
    country: 'DE',
    city: null,
    asn: 3320,
    isp: 'Deutsche Telekom AG',
    networkType: 'wifi',
    connectedAtMs: 1,
    streams: 0,
    rttMs: 10,
    status: 'sharing',
    ...fields,
  };
}

t.test('locations of what is in the live state', async (t) => {
  const world = await startWorld(t, { env: { TS_LOCATIONS_TTL_MS: '0' } });
  const { redis, call } = world;
  const admin = await signedIn(world, 'admin');
  const newBuyer = async (name: string) => {
    const made = await call('POST', '/api/admin/buyers', { token: admin.token, body: { name } });
    const path = `/api/admin/buyers/${made.body.id}/tokens`;
    const { body } = await call('POST', path, { token: admin.token, body: {} });
    return { id: made.body.id as string, token: body.token as string };
  };
  const [mine, other] = [await newBuyer('Mine'), await newBuyer('Other')];
  const find = async (query = '', token = mine.token) =>
    (await call('GET', `/api/buyer/locations${query}`, { token })).body;

  await t.test('nobody online', async (t) => {
    t.match(await find(), {
      read_at: /^\d{4}-.*Z$/,
      total: { online: 0, available: 0 },
      countries: [],
      cities: [],
      asns: [],
      truncated: false,
    });
  });

  const shared = presence({ exitIp: '203.0.113.200' });
  const held = presence({ city: 'Berlin', state: 'Land Berlin', stateCode: 'BE' });
  const holding = presence({ city: 'São Paulo', country: 'BR', asn: 28573, isp: 'Claro NXT' });
  const all = [
    presence({ city: 'Berlin', state: 'Land Berlin', stateCode: 'BE' }),
    held,
    holding,
    presence({ country: 'US', asn: 7922, isp: 'Comcast Cable', networkType: 'mobile' }),
    presence({ country: 'US', asn: null, isp: null }),
    shared,
    // The same exit by another device of the same provider: one buyer at a time.
    presence({ providerId: shared.providerId, exitIp: shared.exitIp }),
    // Nobody can be given these.
    presence({ country: 'FR', status: 'paused' }),
    presence({ country: 'FR', status: 'draining' }),
  ];
  await writePresences(redis, all, Date.now());
  const claim = (exit: DevicePresence, buyerId: string) =>
    takeClaim(redis, {
      providerId: exit.providerId,
      exitIp: exit.exitIp,
      ttlMs: 30_000,
      record: {
        allocationId: randomUUID(),
        buyerId,
        account: 'x',
        sessionId: null,
        packageId: null,
        sizeBytes: 1,
        assignedAtMs: 1,
      },
    });
  await claim(held, other.id);
  await claim(holding, mine.id);

  await t.test('exits by country, city and network; what others hold is not available', async (t) => {
    const { read_at: _, ...found } = await find();
    t.same(found, {
      total: { online: 6, available: 5 },
      countries: [
        { country: 'DE', online: 3, available: 2 },
        { country: 'US', online: 2, available: 2 },
        { country: 'BR', online: 1, available: 1 },
      ],
      cities: [
        { country: 'DE', state: 'Land Berlin', city: 'Berlin', online: 2, available: 1 },
        { country: 'BR', state: null, city: 'São Paulo', online: 1, available: 1 },
      ],
      asns: [
        { country: 'DE', asn: 3320, isp: 'Deutsche Telekom AG', online: 3, available: 2 },
        { country: 'BR', asn: 28573, isp: 'Claro NXT', online: 1, available: 1 },
        { country: 'US', asn: 7922, isp: 'Comcast Cable', online: 1, available: 1 },
      ],
      truncated: false,
    });
    const theirs = await find('', other.token);
    t.same(theirs.total, { online: 6, available: 5 }, 'the other one holds one, too, and may use it');
    t.match(theirs.countries[0], { country: 'DE', online: 3, available: 3 });
  });

  await t.test('nothing in it is a provider', async (t) => {
    const text = JSON.stringify(await find());
    for (const { providerId, deviceId, sessionId, exitIp } of all)
      for (const secret of [providerId, deviceId, sessionId, exitIp]) t.notOk(text.includes(secret), secret);
  });

  await t.test('filters narrow every list, names as in proxy usernames', async (t) => {
    const totals = async (query: string) => (await find(query)).total.online;
    t.equal(await totals('?region=de'), 3);
    t.equal(await totals('?region=EU'), 3);
    t.equal(await totals('?region=FR'), 0);
    t.equal(await totals('?city=sao_paulo'), 1);
    t.equal(await totals(`?city=${encodeURIComponent('SÃO-PAULO')}`), 1);
    t.equal(await totals('?state=be'), 2);
    t.equal(await totals('?state=land_berlin'), 2);
    t.equal(await totals('?asn=7922'), 1);
    t.equal(await totals('?isp=telekom'), 3);
    t.equal(await totals('?isp=tele'), 0, 'whole words');
    t.equal(await totals('?region=US&isp=telekom'), 0);
    t.same((await find('?asn=7922')).countries, [{ country: 'US', online: 1, available: 1 }]);
    const cut = await find('?limit=1');
    t.same([cut.countries.length, cut.cities.length, cut.asns.length, cut.truncated], [1, 1, 1, true]);
    t.equal(cut.total.online, 6, 'of all');
    for (const query of ['?limit=0', '?limit=201', '?region=DEU', '?asn=0', '?city=', '?what=1'])
      t.equal((await call('GET', `/api/buyer/locations${query}`, { token: mine.token })).status, 400, query);
  });

  await t.test('for buyers alone', async (t) => {
    const user = await signedIn(world);
    for (const [token, status] of [
      [user.token, 403],
      [admin.token, 403],
      [undefined, 401],
    ] as const)
      t.equal(
        (await call('GET', '/api/buyer/locations', token === undefined ? {} : { token })).status,
        status,
      );
  });

  await t.test('who has gone is not told any more', async (t) => {
    for (const { deviceId, gatewayId } of all) await deletePresence(redis, deviceId, gatewayId);
    t.equal((await find()).total.online, 0);
  });
});

t.test('devices of a real gateway, and one that a client uses', async (t) => {
  const world = await startWorld(t, { background: true, env: { TS_LOCATIONS_TTL_MS: '0' } });
  const admin = await signedIn(world, 'admin');
  const api = async (method: string, path: string, body?: object, token = admin.token) =>
    (await world.call(method, path, { token, ...(body && { body }) })).body;
  const newBuyer = async () => {
    const made = await api('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
    const { token } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, {});
    await api('POST', '/api/admin/credits', { buyer_id: made.id, amount: '1', reason: 'test' });
    await api('POST', '/api/buyer/accept_policy', undefined, token);
    return { token, account: made.account as string, password: made.proxy.password as string };
  };
  const [user, other] = [await newBuyer(), await newBuyer()];
  const { gateway } = await worldGateway(t, world, 'g1');
  const find = (token: string) => api('GET', '/api/buyer/locations', undefined, token);
  const until = async (isSo: () => Promise<boolean>) => {
    while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  for (let i = 0; i < 2; i++) {
    const { start } = await sharingProvider(world);
    const device = await PlainDevice.connect(gateway.tunnelPort, (await start()).ticket);
    t.teardown(() => device.socket.terminate());
    await device.greet();
    device.echo(Buffer.from('hello'));
  }
  await until(async () => (await find(user.token)).total.online === 2);
  t.match(await find(user.token), { countries: [{ country: 'DE', online: 2, available: 2 }] });
  const { socket, reply } = await socksConnect({
    proxyPort: gateway.proxyPort,
    username: user.account,
    password: user.password,
    host: 'www.example.com',
    port: 443,
  });
  t.teardown(() => socket.destroy());
  t.equal(reply, 0);
  t.match((await find(other.token)).total, { online: 2, available: 1 }, 'one is in somebody’s hands');
  t.match((await find(user.token)).total, { online: 2, available: 2 }, 'in mine');
});

t.test('the live state is read once in a while, however many ask', async (t) => {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const redis = connectLive({ url: server.url, log: silentLog });
  t.teardown(() => redis.disconnect());
  const devices = Array.from({ length: 5_000 }, (_, i) =>
    presence({ exitIp: `198.18.${i >> 8}.${i & 255}`, country: i % 2 ? 'DE' : 'US', asn: 1 + (i % 40) }),
  );
  await writePresences(redis, devices, Date.now());
  const clock = new ManualClock(Date.now());
  const board = new LocationBoard({ redis, clock, ttlMs: 3_000 });
  let reads = 0;
  const zrange = redis.zrange.bind(redis) as (...args: unknown[]) => unknown;
  Object.defineProperty(redis, 'zrange', {
    value: (...args: unknown[]) => {
      reads++;
      return zrange(...args);
    },
  });
  const anywhere = { countries: null, state: null, city: null, asn: null, isp: null };
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => board.find(`b${i}`, anywhere)));
  for (const answer of answers) t.same(answer.total, { online: 5_000, available: 5_000 });
  t.equal(reads, 1);
  const startMs = performance.now();
  for (let i = 0; i < 1_000; i++) await board.find('b', { ...anywhere, countries: ['DE'] });
  const perAnswerMs = (performance.now() - startMs) / 1_000;
  t.comment(`${perAnswerMs.toFixed(3)} ms an answer from what is held`);
  t.equal(reads, 1);
  clock.advance(2_999);
  await board.find('b', anywhere);
  t.equal(reads, 1);
  clock.advance(1);
  await board.find('b', anywhere);
  t.equal(reads, 2, 'and again when it is old');
});
