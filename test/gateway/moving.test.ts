/** Devices that move from a gateway that stops to another one, with streams on them, beside a real control plane. */
import type { Socket } from 'node:net';
import t from 'tap';
import { signedIn, startWorld, type TestWorld } from '../helpers/control-plane.js';
import { NETWORKS } from '../helpers/fleet.js';
import { assertLedger } from '../helpers/ledger.js';
import { startLinkCa } from '../helpers/link-certificates.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { echoedWhole, socksConnect } from '../helpers/socks-client.js';
import { sharingProvider, worldGateway } from '../helpers/world-gateway.js';

const DRAIN = 13;
const SETTINGS = { TS_TRUSTED_PROXIES: '127.0.0.1', TS_LOOP_LAG_MS_MAX: '0' };
const DEVICES = 3;
/** Sent and echoed by each short stream, and by each long one. */
const SHORT_BYTES = 1_000;
const LONG_BYTES = 300_000;

let world: TestWorld;
let login: { username: string; password: string };
const relayed = { up: 0, down: 0 };

t.before(async () => {
  world = await startWorld(t, { background: true, env: { TS_OFFER_BYTES: '1000000000' } });
  const { token: adminToken } = await signedIn(world, 'admin');
  const asAdmin = async (path: string, body: unknown) =>
    (await world.call('POST', path, { token: adminToken, body })).body;
  const buyer = await asAdmin('/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  const { token } = await asAdmin(`/api/admin/buyers/${buyer.id}/tokens`, {});
  login = { username: buyer.account, password: token };
  await asAdmin('/api/admin/credits', { buyer_id: buyer.id, amount: '100', reason: 'a test' });
  await world.call('POST', '/api/buyer/accept_policy', { token });
});

/** Whether it came back whole; counted as relayed, there and back. */
async function finish(socket: Socket, sent: Buffer): Promise<boolean> {
  relayed.up += sent.length;
  relayed.down += sent.length;
  return echoedWhole(socket, sent);
}

t.test(
  'nobody is refused, nothing is cut, a session keeps its exit, every byte is booked once',
  async (t) => {
    const ca = await startLinkCa(t);
    const start = async (name: string) =>
      (await worldGateway(t, world, name, { ...SETTINGS, ...(await ca.settings(name)) })).gateway;
    const a = await start('a');
    const b = await start('b');
    const connect = (proxyPort: number, username = login.username) =>
      socksConnect({ proxyPort, username, password: login.password, host: 'example.org', port: 443 });

    /** Does as SPEC 2.9 says: told to drain, it opens the next tunnel and then says `paused` on this one. */
    const moved: Promise<void>[] = [];
    for (let n = 0; n < DEVICES; n++) {
      const provider = await sharingProvider(world);
      const join = async (tunnelPort: number) => {
        const { ticket } = await provider.start();
        const device = await PlainDevice.connect(tunnelPort, ticket, {
          'x-forwarded-for': NETWORKS.US(1 + n),
        });
        await device.greet();
        device.echo();
        t.teardown(() => device.socket.terminate());
        return device;
      };
      const device = await join(a.tunnelPort);
      moved.push(
        device
          .next(({ type }) => type === DRAIN)
          .then(async () => {
            await join(b.tunnelPort);
            device.status({ paused: true });
          }),
      );
    }

    const strict = `${login.username}-session-s-strict-1`;
    /** One stream through each device, the last of them the session's. */
    const long: Socket[] = [];
    for (let n = 0; n < DEVICES; n++) {
      const { socket, reply } = await connect(a.proxyPort, n === DEVICES - 1 ? strict : login.username);
      t.equal(reply, 0);
      long.push(socket);
    }
    // b serves as well once it has read that a has devices.
    for (let reply: number | null = null; reply !== 0; ) {
      const first = await connect(b.proxyPort);
      reply = first.reply;
      first.socket.destroy();
    }
    let phase = 'before';
    let stopped = false;
    const replies = new Map<string, number>();
    const count = (what: string) => replies.set(what, (replies.get(what) ?? 0) + 1);
    const clients = [a, b].flatMap(({ proxyPort }) =>
      [login.username, strict].map(async (username) => {
        while (!stopped) {
          const { socket, reply } = await connect(proxyPort, username);
          if (reply !== 0) {
            count(`${phase}, ${username} at ${proxyPort === a.proxyPort ? 'a' : 'b'}: ${reply}`);
            socket.destroy();
          } else count((await finish(socket, Buffer.alloc(SHORT_BYTES, 'short'))) ? 'whole' : 'torn');
          // A balancer sends a's clients to the other one once it moves.
          if (proxyPort === a.proxyPort && phase === 'moved') return;
        }
      }),
    );
    phase = 'moving';
    const stopping = a.stop(20_000);
    await Promise.all(moved);
    phase = 'moved';
    const { socket, reply } = await connect(b.proxyPort);
    t.equal(reply, 0, 'where they are now');
    t.ok(await finish(socket, Buffer.alloc(SHORT_BYTES)));
    for (const stream of long)
      t.ok(await finish(stream, Buffer.alloc(LONG_BYTES, 'long')), 'a stream of before goes on');
    stopped = true;
    await Promise.all(clients);
    await stopping;
    t.same([...replies.keys()], ['whole'], JSON.stringify([...replies]));

    const booked = async () => {
      const { rows } = await world.pool.query<{ up: string; down: string; gateways: string }>(
        `SELECT coalesce(sum(bytes_up), 0)::text AS up, coalesce(sum(bytes_down), 0)::text AS down FROM meters`,
      );
      return { up: Number(rows[0]?.up), down: Number(rows[0]?.down) };
    };
    for (let tries = 0; tries < 400 && (await booked()).down < relayed.down; tries++)
      await new Promise((resolve) => setTimeout(resolve, 25));
    t.same(await booked(), relayed, 'and no byte more');
    await assertLedger(t, world.pool);
  },
);
