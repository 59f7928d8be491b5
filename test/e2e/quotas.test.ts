/** Bytes a day and month, buyer to Postgres: exact on two gateways, open streams cut, a new day serves again. */
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Gateway } from '../../gateway/gateway.js';
import { signedIn, startWorld, type TestWorld } from '../helpers/control-plane.js';
import { floodDevice } from '../helpers/flood-device.js';
import { assertLedger } from '../helpers/ledger.js';
import { socksConnect } from '../helpers/socks-client.js';
import { sharingProvider, worldGateway } from '../helpers/world-gateway.js';

const MB = 1_000_000;
/** Less than this may be left over: the last leases of streams that were cut, and one piece nobody may begin with. */
const LEASE_UNIT_BYTES = 2 ** 20;
const QUOTA_REACHED = 'auth 2';
const NO_PEER = 'reply 3';

let world: TestWorld;
let adminToken: string;
const gateways: Gateway[] = [];

async function start(name: string): Promise<Gateway> {
  const settings = { TS_ALLOCATION_IDLE_MS: '200', TS_WALLET_IDLE_MS: '1000', TS_WALLET_WAIT_MS: '4000' };
  return (await worldGateway(t, world, name, settings)).gateway;
}

async function share(gateway: Gateway): Promise<void> {
  const { start } = await sharingProvider(world);
  const device = await floodDevice(gateway.tunnelPort, (await start()).ticket);
  t.teardown(() => device.socket.terminate());
}

interface Who {
  account: string;
  password: string;
}

/** A stream that gets bytes without end, or how it was refused; waits for a device to be free. */
async function download(gateway: Gateway, who: Who): Promise<Socket | string> {
  for (let tries = 0; ; tries++) {
    const { socket, auth, reply } = await socksConnect({
      proxyPort: gateway.proxyPort,
      username: who.account,
      password: who.password,
      host: 'www.example.com',
      port: 443,
    });
    if (auth === 0 && reply === 0) {
      t.teardown(() => socket.destroy());
      socket.on('end', () => socket.end());
      socket.resume();
      return socket;
    }
    socket.destroy();
    const refusal = auth === 0 ? `reply ${reply}` : `auth ${auth}`;
    if (refusal !== NO_PEER || tries > 100) return refusal;
    await delay(50);
  }
}

/** The first stream that is let in within so long, or the last refusal. */
async function downloadWithin(gateway: Gateway, who: Who, withinMs: number): Promise<Socket | string> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const one = await download(gateway, who);
    if (typeof one !== 'string' || performance.now() > endMs) return one;
    await delay(50);
  }
}

/**
 * The refusal that comes within so long: what is left below one piece may let a stream in that is cut at its first bytes,
 * until the gateway has heard that nothing more will come.
 */
async function refusalWithin(gateway: Gateway, who: Who, withinMs: number): Promise<Socket | string> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const one = await download(gateway, who);
    if (typeof one === 'string' || performance.now() > endMs) return one;
    one.destroy();
    await delay(100);
  }
}

const isOpen = (socket: Socket | string): socket is Socket =>
  typeof socket !== 'string' && !socket.destroyed && !socket.readableEnded;

async function until(what: () => boolean | Promise<boolean>, withinMs: number): Promise<boolean> {
  const endMs = performance.now() + withinMs;
  while (performance.now() < endMs) {
    if (await what()) return true;
    await delay(50);
  }
  return false;
}

async function api(method: string, path: string, body: object | undefined, token = adminToken) {
  const answer = await world.call(method, path, { token, ...(body && { body }) });
  if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

async function newBuyer(limits: object = {}) {
  const made = await api('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved', limits });
  const { token } = await api('POST', `/api/admin/buyers/${made.id}/tokens`, {});
  await api('POST', '/api/admin/credits', { buyer_id: made.id, amount: '100', reason: 'test' });
  await api('POST', '/api/buyer/accept_policy', undefined, token);
  return {
    id: made.id as string,
    token: token as string,
    account: made.account,
    password: made.proxy.password,
  };
}

async function booked(ownerId: string): Promise<number> {
  const { rows } = await world.pool.query<{ day_bytes: bigint }>(
    'SELECT day_bytes FROM byte_quotas WHERE owner_id = $1',
    [ownerId],
  );
  return Number(rows[0]?.day_bytes ?? 0);
}

/**
 * Waits until every stream is cut and what was relayed is booked; returns the bytes booked. A busy machine books in more
 * than one batch, with more than a second between them: only above `leastBytes` does a second without news mean the end.
 */
async function untilUsedUp(
  t: Test,
  sockets: Array<Socket | string>,
  ownerId: string,
  leastBytes: number,
): Promise<number> {
  t.ok(await until(() => !sockets.some(isOpen), 15_000), 'every open stream is cut');
  await until(async () => (await booked(ownerId)) > leastBytes, 20_000);
  let before = -1;
  await until(async () => {
    const now = await booked(ownerId);
    const same = now === before;
    before = now;
    if (!same) await delay(1_000);
    return same;
  }, 10_000);
  return before;
}

t.before(async () => {
  world = await startWorld(t, { background: true, env: { TS_API_REQUESTS_PER_MINUTE: '100000' } });
  adminToken = (await signedIn(world, 'admin')).token;
  gateways.push(await start('ga'), await start('gb'));
  for (const gateway of gateways) for (let i = 0; i < 4; i++) await share(gateway);
});

t.test('a day’s bytes of a buyer and its sub-users, spent at two gateways at once', async (t) => {
  const max = 30 * MB;
  const buyer = await newBuyer({ bytes_per_day_max: max });
  const made = await api('POST', '/api/buyer/sub_users', { name: 's' }, buyer.token);
  const subUser = { account: made.account, password: made.proxy.password };
  const sockets: Array<Socket | string> = [];
  for (const gateway of gateways)
    for (const who of [buyer, subUser]) sockets.push(await download(gateway, who));
  t.ok(sockets.some((one) => typeof one !== 'string'));
  const used = await untilUsedUp(t, sockets, buyer.id, max - LEASE_UNIT_BYTES);
  t.ok(used <= max, `${used} bytes of ${max}`);
  t.ok(used > max - LEASE_UNIT_BYTES, `${used} bytes of ${max}`);
  for (const gateway of gateways)
    for (const who of [buyer, subUser]) t.equal(await refusalWithin(gateway, who, 10_000), QUOTA_REACHED);

  await world.pool.query('UPDATE byte_quotas SET day = day - 1 WHERE owner_id = $1', [buyer.id]);
  for (const gateway of gateways) {
    const again = await downloadWithin(gateway, buyer, 10_000);
    t.ok(isOpen(again), 'a new day');
    if (isOpen(again)) again.destroy();
  }
});

t.test('a sub-user’s month within its buyer’s; a limit that is raised is in force at once', async (t) => {
  const buyer = await newBuyer({ bytes_per_month_max: 1_000 * MB });
  const limits = (megabytes: number) => ({ limits: { bytes_per_month_max: megabytes * MB } });
  const made = await api('POST', '/api/buyer/sub_users', { name: 's', ...limits(10) }, buyer.token);
  const subUser = { account: made.account, password: made.proxy.password };
  const gateway = gateways[0] as Gateway;
  const used = await untilUsedUp(t, [await download(gateway, subUser)], made.id, 10 * MB - LEASE_UNIT_BYTES);
  t.ok(used <= 10 * MB && used > 10 * MB - LEASE_UNIT_BYTES, `${used}`);
  t.equal(await refusalWithin(gateway, subUser, 10_000), QUOTA_REACHED);
  const ofBuyer = await download(gateway, buyer);
  t.ok(isOpen(ofBuyer), 'the buyer itself goes on');
  if (isOpen(ofBuyer)) ofBuyer.destroy();
  await api('PATCH', `/api/buyer/sub_users/${made.id}`, limits(20), buyer.token);
  const startMs = performance.now();
  const more = await downloadWithin(gateway, subUser, 5_000);
  t.ok(performance.now() - startMs < 1_000, `served again after ${performance.now() - startMs} ms`);
  const inAll = await untilUsedUp(t, [more], made.id, 20 * MB - LEASE_UNIT_BYTES);
  t.ok(inAll <= 20 * MB && inAll > 20 * MB - LEASE_UNIT_BYTES, `${inAll}`);
});

t.test('a quota set while a stream is open bounds it', async (t) => {
  const buyer = await newBuyer();
  const socket = await download(gateways[0] as Gateway, buyer);
  t.ok(isOpen(socket));
  await delay(300);
  await api('PATCH', `/api/admin/buyers/${buyer.id}`, { limits: { bytes_per_day_max: 1 } });
  t.ok(await until(() => !isOpen(socket), 5_000), 'cut');
  t.equal(await refusalWithin(gateways[0] as Gateway, buyer, 10_000), QUOTA_REACHED);
});

t.test('the books', async (t) => {
  await assertLedger(t, world.pool);
});
