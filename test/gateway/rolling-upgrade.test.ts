/**
 * Two gateways of version 1 of links are upgraded, one after the other, under buyers and with a device of version 1, which
 * says what was recorded of one. Nobody is refused what version 1 has, and every byte is booked once.
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { FrameType } from '../../agent-protocol/frame.js';
import { type Gateway, startGateway } from '../../gateway/gateway.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { signedIn, startWorld, type TestWorld } from '../helpers/control-plane.js';
import { NETWORKS } from '../helpers/fleet.js';
import { assertLedger } from '../helpers/ledger.js';
import { startLinkCa } from '../helpers/link-certificates.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { echoedWhole, socksConnect } from '../helpers/socks-client.js';
import { socksAssociate, udpReply, udpRequest } from '../helpers/socks-udp-client.js';
import { UdpPeer } from '../helpers/udp-peer.js';
import { sharingProvider, worldGateway } from '../helpers/world-gateway.js';

const { DRAIN } = FrameType;
const NO_PEER = 3;
/** Sent and echoed by each short stream, by the one that lives through a drain, and by each datagram. */
const SHORT_BYTES = 1_000;
const LONG_BYTES = 300_000;
const DATAGRAM_BYTES = 1_200;

/** HELLO as an agent of version 1 says it. */
const { frames } = JSON.parse(readFileSync(projectPath('test/agent-protocol/vectors-v1.json'), 'utf8')) as {
  frames: Array<{ name: string; frame_hex: string }>;
};
const helloOfV1 = Buffer.from(
  frames.find(({ name }) => name === 'HELLO')?.frame_hex as string,
  'hex',
).subarray(5);

let world: TestWorld;
let login: { username: string; password: string };
const relayed = { up: 0, down: 0 };

t.setTimeout(120_000);

t.before(async () => {
  world = await startWorld(t, { background: true, env: { TS_OFFER_BYTES: '1000000000' } });
  const { token: adminToken } = await signedIn(world, 'admin');
  const asAdmin = async (method: 'POST' | 'PATCH', path: string, body: unknown) =>
    (await world.call(method, path, { token: adminToken, body })).body;
  const buyer = await asAdmin('POST', '/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  await asAdmin('PATCH', `/api/admin/buyers/${buyer.id}`, {
    // It asks as fast as it can: a rate is not what this is about.
    limits: { udp: true, connections_per_second_max: 100_000 },
  });
  const { token } = await asAdmin('POST', `/api/admin/buyers/${buyer.id}/tokens`, {});
  login = { username: buyer.account, password: token };
  await asAdmin('POST', '/api/admin/credits', { buyer_id: buyer.id, amount: '100', reason: 'a test' });
  await world.call('POST', '/api/buyer/accept_policy', { token });
});

/** Whether it came back whole; counted as relayed, there and back. */
async function finish(socket: Socket, sent: Buffer): Promise<boolean> {
  relayed.up += sent.length;
  relayed.down += sent.length;
  return echoedWhole(socket, sent);
}

/** The reply to CONNECT, or `whole` when what was sent came back. */
async function tcp(at: Gateway): Promise<number | null | 'whole' | 'torn'> {
  const { socket, reply } = await socksConnect({
    proxyPort: at.proxyPort,
    ...login,
    host: 'example.org',
    port: 443,
  });
  if (reply === 0) return (await finish(socket, Buffer.alloc(SHORT_BYTES, 'short'))) ? 'whole' : 'torn';
  socket.destroy();
  return reply;
}

/** The reply to ASSOCIATE, or `whole` when a datagram came back. */
async function udp(at: Gateway): Promise<number | null | 'whole' | 'torn'> {
  const { control, reply, address, port } = await socksAssociate({ proxyPort: at.proxyPort, ...login });
  if (reply === 0) {
    const client = await UdpPeer.open(t);
    const sent = Buffer.alloc(DATAGRAM_BYTES, 'datagram');
    client.send(udpRequest('8.8.8.8', 53, sent), port, address);
    const came = udpReply((await client.next()).bytes);
    relayed.up += sent.length;
    relayed.down += came.data.length;
    control.destroy();
    client.close();
    return came.data.equals(sent) && came.host === '8.8.8.8' ? 'whole' : 'torn';
  }
  control.destroy();
  return reply;
}

/** Tried until it is what is to be: a gateway reads what others have once a second. */
async function becomes<T>(probe: () => Promise<T>, wanted: T): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if ((await probe()) === wanted) return;
    await delay(50);
  }
  throw new Error(`it never is ${wanted}`);
}

async function unspoken({ metricsPort }: Gateway): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  return Number(/^ts_link_requests_total\{outcome="unspoken"\} (\d+)$/m.exec(text)?.[1]);
}

t.test(
  'a rolling upgrade from version 1 of links to 2, with an agent of version 1 kept through it',
  async (t) => {
    const ca = await startLinkCa(t);
    const start = async (name: string) =>
      worldGateway(t, world, name, {
        TS_TRUSTED_PROXIES: '127.0.0.1',
        TS_LOOP_LAG_MS_MAX: '0',
        TS_GATEWAY_LINK_VERSION_MAX: '1',
        ...(await ca.settings(name)),
      });
    const a = await start('a');
    const b = await start('b');
    const upgraded = async (site: typeof a) => {
      site.gateway = await startGateway({ ...site.config, linkVersionMax: 2 }, silentLog);
    };

    const provider = await sharingProvider(world);
    const join = async (tunnelPort: number) => {
      const { ticket } = await provider.start();
      const device = await PlainDevice.connect(tunnelPort, ticket, { 'x-forwarded-for': NETWORKS.US(1) });
      t.match(await device.greet(helloOfV1), { version: 1 }, 'the tunnel speaks version 1');
      device.echo();
      t.teardown(() => device.socket.terminate());
      return device;
    };
    let device = await join(a.gateway.tunnelPort);

    // Both are old.
    await becomes(() => tcp(b.gateway), 'whole');
    t.equal(await tcp(a.gateway), 'whole');
    t.equal(await udp(a.gateway), 'whole', 'UDP where the device is');
    t.equal(await udp(b.gateway), NO_PEER, 'and nowhere else');

    // The one without the device is upgraded.
    await b.gateway.stop(0);
    await upgraded(b);
    await becomes(() => tcp(b.gateway), 'whole');
    t.equal(await udp(b.gateway), NO_PEER, 'a new gateway and an old one: refused as if nobody had a device');
    t.ok((await unspoken(b.gateway)) > 0, 'without asking what the old one does not know');
    t.equal(await udp(a.gateway), 'whole');

    // Then the other one: its device moves, a stream goes on, buyers at the new one are served all the while.
    const { socket: long, reply } = await socksConnect({
      proxyPort: a.gateway.proxyPort,
      ...login,
      host: 'example.org',
      port: 443,
    });
    t.equal(reply, 0);
    const outcomes = new Set<unknown>();
    let over = false;
    const client = (async () => {
      while (!over) outcomes.add(await tcp(b.gateway));
    })();
    const moved = device
      .next(({ type }) => type === DRAIN)
      .then(async () => {
        const next = await join(b.gateway.tunnelPort);
        device.status({ paused: true });
        device = next;
      });
    const stopped = a.gateway.stop(20_000);
    await moved;
    t.ok(await finish(long, Buffer.alloc(LONG_BYTES, 'long')), 'a stream of before goes on');
    await stopped;
    over = true;
    await client;
    t.same([...outcomes], ['whole'], 'nobody was refused, nothing was torn');
    await upgraded(a);
    await becomes(() => udp(a.gateway), 'whole');
    t.equal(
      await unspoken(a.gateway),
      0,
      'both speak version 2: UDP reaches the device at the other gateway',
    );
    t.equal(await tcp(a.gateway), 'whole');
    t.equal(await udp(b.gateway), 'whole');

    const booked = async () => {
      const { rows } = await world.pool.query<{ up: string; down: string }>(
        `SELECT coalesce(sum(bytes_up), 0)::text AS up, coalesce(sum(bytes_down), 0)::text AS down FROM meters`,
      );
      return { up: Number(rows[0]?.up), down: Number(rows[0]?.down) };
    };
    for (let tries = 0; tries < 400 && (await booked()).down < relayed.down; tries++) await delay(25);
    t.same(await booked(), relayed, 'every byte is booked once');
    await assertLedger(t, world.pool);
  },
);
