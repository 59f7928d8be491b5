/** The policy as admins set it, on two gateways: in force within a second, for open streams and tunnels too. */
import { get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { SocksProxyAgent } from 'socks-proxy-agent';
import t, { type Test } from 'tap';
import type { Gateway } from '../../gateway/gateway.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { OriginCheck } from '../../gateway/runtime/origin/origin-check.js';
import { signedIn, startWorld, type TestWorld, withDevice } from '../helpers/control-plane.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { worldGateway } from '../helpers/world-gateway.js';

/** What an admin is promised of every change. */
const LIVE_WITHIN_MS = 1_000;

/** Addresses of home providers in the tables that are shipped: AS7922 in the US, AS3320 in Germany. */
const CABLE = '73.162.0.1';
const TELEKOM = '84.128.0.1';
/** Of a hosting company (AS16509), refused by the lists that are shipped. */
const HOSTING = '18.184.0.1';

const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhere';

let world: TestWorld;
let adminToken: string;
let buyer: { account: string; password: string };
const gateways: Gateway[] = [];

async function api(method: string, path: string, body?: object, token = adminToken) {
  const answer = await world.call(method, path, { token, ...(body && { body }) });
  if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Changes fields of a list as the console would: reads it, and puts it back with its version. */
async function change(name: 'destinations' | 'ports' | 'origins', fields: object): Promise<void> {
  const { never_allowed_built_in: _, ...list } = await api('GET', `/api/admin/policy/${name}`);
  await api('PUT', `/api/admin/policy/${name}`, { ...list, ...fields });
}

interface Provider {
  start: (from: string) => ReturnType<TestWorld['call']>;
}

async function newProvider(): Promise<Provider> {
  const user = await signedIn(world);
  const { deviceId } = await withDevice(world, user);
  const body = { device_id: deviceId, client_version: '1.0.0' };
  return { start: (from) => world.call('POST', '/api/traffic/start', { token: user.token, from, body }) };
}

/** A device that shares from the address on the gateway; each stream is greeted with an answer. */
async function share(t: Test, gateway: Gateway, from: string): Promise<PlainDevice> {
  const { status, body } = await (await newProvider()).start(from);
  if (status !== 200) throw new Error(JSON.stringify(body));
  const device = await PlainDevice.connect(gateway.tunnelPort, body.tunnel.ticket, {
    'x-forwarded-for': from,
  });
  t.teardown(() => device.socket.terminate());
  await device.greet();
  device.echo(Buffer.from(ANSWER));
  return device;
}

/** Some devices on each gateway, from addresses of their own. */
async function shareOnBoth(t: Test): Promise<void> {
  for (const [nth, gateway] of gateways.entries())
    for (let i = 0; i < 3; i++) await share(t, gateway, `73.162.${nth}.${++addresses}`);
}
let addresses = 0;

/** What an HTTP client gets through the gateway: the body, or the code of the refusal. */
function fetchThrough(gateway: Gateway, port: number): Promise<string> {
  const { account, password } = buyer;
  const agent = new SocksProxyAgent(`socks5h://${account}:${password}@127.0.0.1:${gateway.proxyPort}`);
  return new Promise((resolve) => {
    const request = get({ host: 'www.example.com', port, agent }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk;
        if (text === 'here') request.destroy();
      });
      response.on('close', () => resolve(text));
    });
    request.on('error', (error) => resolve(error.message));
  });
}

/** A stream that is held open through the gateway; resolves with performance.now() when it has been cut. */
function holdOpen(t: Test, gateway: Gateway, port: number): Promise<{ cut: Promise<number> }> {
  const { account, password } = buyer;
  const agent = new SocksProxyAgent(`socks5h://${account}:${password}@127.0.0.1:${gateway.proxyPort}`);
  return new Promise((resolve, reject) => {
    const request = get({ host: 'www.example.com', port, agent }, (response) => {
      response.resume();
    });
    request.on('error', reject);
    request.once('socket', (socket) => {
      t.teardown(() => socket.destroy());
      const cut = new Promise<number>((done) => socket.once('close', () => done(performance.now())));
      resolve({ cut });
    });
  });
}

/** Asks again and again until it is so; how long it took, from the start of the change. */
async function within(t: Test, what: string, startMs: number, isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) {
    if (performance.now() - startMs > 5_000) break;
    await delay(20);
  }
  const tookMs = performance.now() - startMs;
  t.ok(tookMs < LIVE_WITHIN_MS, `${what}: after ${Math.round(tookMs)} ms`);
}

t.before(async () => {
  const originCheck = await OriginCheck.open({ log: silentLog });
  t.teardown(() => originCheck.close());
  world = await startWorld(t, {
    background: true,
    originCheck,
    env: { TS_API_REQUESTS_PER_MINUTE: '100000' },
  });
  adminToken = (await signedIn(world, 'admin')).token;
  const made = await api('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  const { token } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, {});
  await api('POST', '/api/admin/credits', { buyer_id: made.id, amount: '10', reason: 'test' });
  await api('POST', '/api/buyer/accept_policy', undefined, token);
  buyer = { account: made.account, password: made.proxy.password };
  const settings = {
    TS_DEV_LOOPBACK_COUNTRY: '',
    TS_TRUSTED_PROXIES: '127.0.0.1',
    TS_ALLOCATION_IDLE_MS: '200',
  };
  for (const name of ['ga', 'gb']) gateways.push((await worldGateway(t, world, name, settings)).gateway);
});

t.test('ports open and close on every gateway within a second', async (t) => {
  await shareOnBoth(t);
  for (const gateway of gateways) {
    await within(
      t,
      'the device serves',
      performance.now(),
      async () => (await fetchThrough(gateway, 80)) === 'here',
    );
    t.not(await fetchThrough(gateway, 8443), 'here', 'closed by default');
  }

  let startMs = performance.now();
  await change('ports', { open_tcp: [80, 443, 8443] });
  for (const gateway of gateways)
    await within(t, 'opened', startMs, async () => (await fetchThrough(gateway, 8443)) === 'here');

  const streams = await Promise.all(gateways.map((gateway) => holdOpen(t, gateway, 8443)));
  startMs = performance.now();
  await change('ports', { open_tcp: [80, 443], never_allowed: [8443] });
  for (const { cut } of streams) {
    const atMs = await Promise.race([cut, delay(5_000, Number.POSITIVE_INFINITY)]);
    t.ok(atMs - startMs < LIVE_WITHIN_MS, `cut after ${Math.round(atMs - startMs)} ms`);
  }
  for (const gateway of gateways) {
    t.not(await fetchThrough(gateway, 8443), 'here', 'closed again');
    t.equal(await fetchThrough(gateway, 80), 'here', 'others are not concerned');
  }
});

t.test('denied destinations, on every gateway within a second', async (t) => {
  await shareOnBoth(t);
  const startMs = performance.now();
  await change('destinations', { denied_domains: ['.example.com'] });
  for (const gateway of gateways)
    await within(t, 'denied', startMs, async () => (await fetchThrough(gateway, 80)) !== 'here');
  await change('destinations', { denied_domains: [] });
  for (const gateway of gateways)
    await within(t, 'allowed', performance.now(), async () => (await fetchThrough(gateway, 80)) === 'here');
});

t.test('networks that may not share: the start says which rule, tunnels end, others stay', async (t) => {
  const provider = await newProvider();
  t.match(await provider.start(HOSTING), {
    status: 403,
    body: { code: 'vpn_detected', detail: /^AS16509 \(/ },
  });
  const cable = await Promise.all(gateways.map((gateway, i) => share(t, gateway, `73.162.9.${i + 1}`)));
  const telekom = await Promise.all(
    gateways.map((gateway, i) => share(t, gateway, TELEKOM.replace(/1$/, `${i + 1}`))),
  );
  const started = await provider.start('73.162.9.9');
  t.equal(started.status, 200);

  const startMs = performance.now();
  await change('origins', { asn_rules: [{ match: 'AS7922', name: 'Cable company' }] });
  t.match(
    await provider.start(CABLE),
    { status: 403, body: { code: 'vpn_detected', detail: 'Cable company (AS7922)' } },
    'the very next start is refused, with the name of the rule',
  );
  for (const device of cable) {
    await Promise.race([device.untilClosed(), delay(5_000)]);
    t.match(device.goaway, { code: 'unpaid_region', reason: 'Cable company (AS7922)' });
    t.ok(performance.now() - startMs < LIVE_WITHIN_MS, 'within a second');
  }
  for (const device of telekom) t.equal(device.closed, null, 'another network');
  for (const gateway of gateways)
    await t.rejects(
      PlainDevice.connect(gateway.tunnelPort, started.body.tunnel.ticket, { 'x-forwarded-for': CABLE }),
      Object.assign(new Error('refused'), { status: 403 }),
      'and a ticket of before opens nothing',
    );

  await change('origins', { asn_rules: [], denied_ips: ['84.128.0.2'] });
  await Promise.race([(telekom[1] as PlainDevice).untilClosed(), delay(5_000)]);
  t.match(telekom[1]?.goaway, { code: 'unpaid_region', reason: '84.128.0.2' });
  t.equal(telekom[0]?.closed, null);
  t.match(await provider.start('84.128.0.2'), {
    status: 403,
    body: { code: 'denylisted', detail: '84.128.0.2' },
  });

  await change('origins', { denied_ips: [], allowed_asns: [16509] });
  t.equal((await provider.start(HOSTING)).status, 200, 'an admin lets a network in that the lists refuse');
  t.equal((await provider.start(CABLE)).status, 200);
});
