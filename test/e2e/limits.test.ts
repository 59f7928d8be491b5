/** Limits of buyers and sub-users as the API sets them, on two gateways: in force within a second, open streams too. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Gateway } from '../../gateway/gateway.js';
import { signedIn, startWorld, type TestWorld } from '../helpers/control-plane.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';
import { sharingProvider, worldGateway } from '../helpers/world-gateway.js';

/** What a buyer is promised of every change. */
const LIVE_WITHIN_MS = 1_000;
const DEVICE_WITHIN_MS = 10_000;

const NO_PEER = 'reply 3';

let world: TestWorld;
let adminToken: string;
const gateways: Gateway[] = [];
const greeting = Buffer.from('hello');

async function start(name: string): Promise<Gateway> {
  return (await worldGateway(t, world, name, { TS_ALLOCATION_IDLE_MS: '200' })).gateway;
}

/** A device on the gateway that greets on each stream and sends back what comes. */
async function share(gateway: Gateway): Promise<void> {
  const { start } = await sharingProvider(world);
  const device = await PlainDevice.connect(gateway.tunnelPort, (await start()).ticket);
  t.teardown(() => device.socket.terminate());
  await device.greet();
  device.echo(greeting);
}

interface Stream {
  socket: Socket;
  /** Resolves with performance.now() when the gateway has cut it. */
  cut: Promise<number>;
  isOpen: () => boolean;
}

interface Who {
  account: string;
  password: string;
}

async function open(
  gateway: Gateway,
  { account, password }: Who,
  to: { host?: string; port?: number } = {},
): Promise<Stream | string> {
  const { socket, auth, reply } = await socksConnect({
    proxyPort: gateway.proxyPort,
    username: account,
    password,
    host: to.host ?? 'www.example.com',
    port: to.port ?? 443,
  });
  if (auth !== 0 || reply !== 0) {
    socket.destroy();
    return auth === 0 ? `reply ${reply}` : `auth ${auth}`;
  }
  t.teardown(() => socket.destroy());
  const cut = new Promise<number>((resolve) => socket.once('close', () => resolve(performance.now())));
  socket.on('end', () => socket.end());
  await new Promise<void>((resolve) => socket.once('data', () => resolve()));
  socket.resume();
  return { socket, cut, isOpen: () => !socket.destroyed && !socket.readableEnded };
}

/** Waits for a device to become free: earlier buyers keep theirs for a moment; and for what was allowed just now. */
async function opened(
  gateway: Gateway,
  who: Who,
  to: { host?: string; port?: number } = {},
): Promise<Stream> {
  const startMs = performance.now();
  for (;;) {
    const askedMs = performance.now();
    const stream = await open(gateway, who, to);
    if (typeof stream !== 'string') return stream;
    if (askedMs - startMs > (stream === NO_PEER ? DEVICE_WITHIN_MS : LIVE_WITHIN_MS)) throw new Error(stream);
    await delay(50);
  }
}

async function api(method: string, path: string, body: object | undefined, token = adminToken) {
  const answer = await world.call(method, path, { token, ...(body && { body }) });
  if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

interface Buyer extends Who {
  id: string;
  token: string;
  tokenId: string;
}

async function newBuyer(): Promise<Buyer> {
  const made = await api('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  const { token, id: tokenId } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, {});
  await api('POST', '/api/admin/credits', { buyer_id: made.id, amount: '10', reason: 'test' });
  await api('POST', '/api/buyer/accept_policy', undefined, token);
  return { id: made.id, account: made.account, password: made.proxy.password, token, tokenId };
}

async function newSubUser(buyer: Buyer, body: object = {}): Promise<Who & { id: string }> {
  const made = await api('POST', '/api/buyer/sub_users', { name: 's', ...body }, buyer.token);
  return { id: made.id, account: made.account, password: made.proxy.password };
}

const limitBuyer = (buyer: Buyer, limits: object) =>
  api('PATCH', `/api/admin/buyers/${buyer.id}`, { limits });
const changeSubUser = (buyer: Buyer, { id }: { id: string }, body: object) =>
  api('PATCH', `/api/buyer/sub_users/${id}`, body, buyer.token);

/** Opens on both gateways, makes the change, and expects both streams cut within a second and new ones refused. */
async function expectCut(
  t: Test,
  who: Who,
  change: () => Promise<unknown>,
  refusal: string,
  to: { host?: string; port?: number } = {},
): Promise<void> {
  const streams = await Promise.all(gateways.map((gateway) => opened(gateway, who, to)));
  const startMs = performance.now();
  await change();
  for (const [i, { cut }] of streams.entries()) {
    const atMs = await Promise.race([cut, delay(5_000, Number.POSITIVE_INFINITY)]);
    t.ok(atMs - startMs < LIVE_WITHIN_MS, `gateway ${i}: cut after ${Math.round(atMs - startMs)} ms`);
  }
  for (const gateway of gateways) t.equal(await open(gateway, who, to), refusal, 'and nothing new');
}

t.before(async () => {
  world = await startWorld(t, { background: true, env: { TS_API_REQUESTS_PER_MINUTE: '100000' } });
  adminToken = (await signedIn(world, 'admin')).token;
  gateways.push(await start('ga'), await start('gb'));
  for (const gateway of gateways) for (let i = 0; i < 6; i++) await share(gateway);
});

t.test('access that ends cuts open streams on every gateway, and leaves others alone', async (t) => {
  const bystander = await newBuyer();
  const beside = await Promise.all(gateways.map((gateway) => opened(gateway, bystander)));

  await t.test('a token that is revoked, a password that is not', async (t) => {
    const buyer = await newBuyer();
    const byPassword = await opened(gateways[0] as Gateway, buyer);
    const byToken = { ...buyer, password: buyer.token };
    await expectCut(t, byToken, () => api('POST', `/api/admin/tokens/${buyer.tokenId}/revoke`, {}), 'auth 1');
    t.ok(byPassword.isOpen(), 'another credential of the account is as good as before');
    byPassword.socket.destroy();
  });

  await t.test('a token that expires', async (t) => {
    const buyer = await newBuyer();
    const expiresMs = Date.now() + 1_500;
    const { token } = await api('POST', `/api/admin/buyers/${buyer.id}/tokens`, {
      expires_at: new Date(expiresMs).toISOString(),
    });
    const streams = await Promise.all(
      gateways.map((gateway) => opened(gateway, { ...buyer, password: token })),
    );
    for (const { cut } of streams) {
      await cut;
      const lateMs = Date.now() - expiresMs;
      t.ok(lateMs >= 0 && lateMs < LIVE_WITHIN_MS, `cut ${lateMs} ms after its end`);
    }
  });

  await t.test('client addresses: the buyer’s list, for every credential', async (t) => {
    const buyer = await newBuyer();
    const subUser = await newSubUser(buyer);
    const ofSubUser = await opened(gateways[0] as Gateway, subUser);
    await expectCut(t, buyer, () => limitBuyer(buyer, { allowed_ips: ['192.0.2.0/24'] }), 'auth 1');
    await ofSubUser.cut;
    await limitBuyer(buyer, { allowed_ips: ['::ffff:127.0.0.0/104'] });
    for (const stream of await Promise.all(gateways.map((gateway) => opened(gateway, buyer))))
      stream.socket.destroy();
  });

  await t.test('a sub-user: its addresses, its password, its status, its end', async (t) => {
    const buyer = await newBuyer();
    const made = await newSubUser(buyer);
    const ofBuyer = await opened(gateways[0] as Gateway, buyer);
    await expectCut(t, made, () => changeSubUser(buyer, made, { allowed_ips: ['192.0.2.0/24'] }), 'auth 1');
    await changeSubUser(buyer, made, { allowed_ips: [] });
    await expectCut(t, made, () => changeSubUser(buyer, made, { status: 'suspended' }), 'auth 3');
    await changeSubUser(buyer, made, { status: 'active' });
    await expectCut(
      t,
      made,
      () => api('DELETE', `/api/buyer/sub_users/${made.id}`, undefined, buyer.token),
      'auth 1',
    );
    t.ok(ofBuyer.isOpen(), 'the buyer’s own stream goes on');
    ofBuyer.socket.destroy();
  });

  await t.test('a sub-user without password, from an address of its own', async (t) => {
    const buyer = await newBuyer();
    const made = await newSubUser(buyer, { limits: { passwordless_ips: ['127.0.0.1'] } });
    const byAddress = { ...made, password: '' };
    t.equal(
      await open(gateways[0] as Gateway, { ...buyer, password: '' }),
      'auth 1',
      'it opens no other door',
    );
    await expectCut(t, byAddress, () => changeSubUser(buyer, made, { limits: {} }), 'auth 1');
  });

  await t.test('destinations and ports', async (t) => {
    const buyer = await newBuyer();
    const other = await opened(gateways[0] as Gateway, buyer, { host: 'api.example.org' });
    await expectCut(t, buyer, () => limitBuyer(buyer, { denied_domains: ['.example.com'] }), 'reply 2');
    t.ok(other.isOpen(), 'another destination stays');
    await limitBuyer(buyer, {});
    await expectCut(t, buyer, () => limitBuyer(buyer, { ports: [80] }), 'reply 2');
    await other.cut;
    await limitBuyer(buyer, {});
    const made = await newSubUser(buyer);
    const allowed = { limits: { allowed_domains: ['api.example.org'] } };
    await expectCut(t, made, () => changeSubUser(buyer, made, allowed), 'reply 2');
    const lists = { denied_domains: ['.example.org'], denied_ips: [], version: 0 };
    await expectCut(t, buyer, () => api('PUT', '/api/admin/policy/destinations', lists), 'reply 2', {
      host: 'api.example.org',
    });
    await api('PUT', '/api/admin/policy/destinations', { ...lists, denied_domains: [], version: 1 });
  });

  t.ok(
    beside.every((stream) => stream.isOpen()),
    'a buyer whom nothing concerned noticed nothing',
  );
  for (const { socket } of beside) socket.destroy();
});

t.test('fewer streams cut none; the sum over a buyer’s sub-users counts', async (t) => {
  const buyer = await newBuyer();
  const made = await newSubUser(buyer, { limits: { streams_max: 2 } });
  const gateway = gateways[0] as Gateway;
  const streams = [await opened(gateway, made), await opened(gateway, made)];
  t.equal(await open(gateway, made), 'reply 1', 'its own limit');
  streams.push(await opened(gateway, buyer));
  await limitBuyer(buyer, { streams_max: 2 });
  const startMs = performance.now();
  t.equal(await open(gateway, buyer), 'reply 1', 'three are open, two allowed');
  t.ok(performance.now() - startMs < LIVE_WITHIN_MS);
  t.ok(streams.every((stream) => stream.isOpen()));
  await limitBuyer(buyer, { streams_max: 4 });
  streams.push(await opened(gateway, buyer));
  for (const { socket } of streams) socket.destroy();
});

t.test('a bandwidth set by a buyer slows an open stream at once', async (t) => {
  const buyer = await newBuyer();
  const made = await newSubUser(buyer);
  const { socket } = await opened(gateways[0] as Gateway, made);
  let echoedBytes = 0;
  socket.on('data', (chunk: Buffer) => {
    echoedBytes += chunk.length;
  });
  const piece = Buffer.alloc(50_000, 'x');
  const write = () => {
    while (socket.writable && socket.write(piece));
  };
  socket.on('drain', write);
  write();
  const startedMs = performance.now();
  while (echoedBytes < 5_000_000) await once(socket, 'data');
  const bytesPerSecond = echoedBytes / ((performance.now() - startedMs) / 1_000);
  t.ok(bytesPerSecond > 1_000_000, `${bytesPerSecond} bytes/s without a limit`);
  await changeSubUser(buyer, made, { limits: { bandwidth_bytes_per_second_max: 200_000 } });
  await delay(LIVE_WITHIN_MS); // it holds; what was in sockets has come
  const before = echoedBytes;
  await delay(2_000);
  t.ok(echoedBytes - before < 400_000, `${echoedBytes - before} bytes in 2 s`);
  t.ok(echoedBytes > before, 'and goes on');
  socket.destroy();
});
