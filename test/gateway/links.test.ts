/** Gateways that reach each other's devices, beside a real control plane. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect as dialTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as dialTls } from 'node:tls';
import { unpack } from 'msgpackr';
import t, { type Test } from 'tap';
import type { Gateway } from '../../gateway/gateway-contract.js';
import { readSummaries } from '../../gateway/live/summaries.js';
import type { GatewayStatus } from '../../gateway/private-server.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { ANY_PORTS } from '../helpers/any-ports.js';
import { signedIn, startWorld, type TestUser, type TestWorld } from '../helpers/control-plane.js';
import { NETWORKS } from '../helpers/fleet.js';
import { assertLedger } from '../helpers/ledger.js';
import { type LinkCa, startLinkCa } from '../helpers/link-certificates.js';
import { PlainDevice, type PlainOpen } from '../helpers/plain-device.js';
import { hasProgram, runProgram } from '../helpers/programs.js';
import { socksConnect } from '../helpers/socks-client.js';
import { socksAssociate, udpReply, udpRequest } from '../helpers/socks-udp-client.js';
import { UdpPeer } from '../helpers/udp-peer.js';
import { sharingProvider, worldGateway } from '../helpers/world-gateway.js';

const HOST = 'example.org';
type Name = 'a' | 'b' | 'c' | 'd' | 'x';

let world: TestWorld;
let admin: TestUser;
let ca: LinkCa;
let account: string;
/** Opens API and proxy. */
let token: string;
const gateways = new Map<Name, Pick<Gateway, 'proxyPort' | 'tunnelPort' | 'linkPort' | 'metricsPort'>>();
/** Payload that went through devices, as the clients know it. */
const relayed = { up: 0, down: 0 };

const at = (name: Name) => gateways.get(name) as Gateway;

async function until(probe: () => unknown, what: string): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await probe()) return;
    await delay(25);
  }
  throw new Error(`never: ${what}`);
}

const SETTINGS = { TS_TRUSTED_PROXIES: '127.0.0.1', TS_LOOP_LAG_MS_MAX: '0' };

async function start(name: Name, of = ca, certificate: string = name): Promise<Gateway> {
  const links = await of.settings(certificate);
  const { gateway } = await worldGateway(t, world, name, { ...SETTINGS, ...links });
  gateways.set(name, gateway);
  return gateway;
}

/** A gateway as a process of its own, to be killed. */
async function startProcess(name: Name): Promise<{ kill: () => Promise<unknown> }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'ts-links-'));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  const child = spawn(process.execPath, [projectPath('dist/deploy/cli.js'), 'gateway'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH ?? '',
      TS_REDIS_URL: world.redisUrl,
      TS_GATEWAY_ID: name,
      TS_GATEWAY_DATA_DIR: dataDir,
      ...ANY_PORTS,
      TS_LOG_LEVEL: 'error',
      ...SETTINGS,
      ...(await ca.settings(name)),
    },
  });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  const [ports] = (await Promise.race([once(child, 'message'), ended])) as [Gateway];
  if (typeof ports !== 'object') throw new Error(`it ended with ${ports}`);
  gateways.set(name, ports);
  return {
    kill: () => {
      child.kill('SIGKILL');
      return ended;
    },
  };
}

const status = async (name: Name) =>
  (await (await fetch(`http://127.0.0.1:${at(name).metricsPort}/status`)).json()) as Required<GatewayStatus>;

/** A device at that gateway, which echoes; at port 80 as an HTTP server would. */
async function share(name: Name, exitIp: string, provider?: Awaited<ReturnType<typeof sharingProvider>>) {
  const { ticket } = await (provider ?? (await sharingProvider(world))).start();
  const device = await PlainDevice.connect(at(name).tunnelPort, ticket, { 'x-forwarded-for': exitIp });
  await device.greet();
  device.echo();
  const echo = device.onFrame;
  const http = new Set<number>();
  device.onFrame = (frame) => {
    const { type, streamId, payload } = frame;
    if (type === 4 && (unpack(payload) as PlainOpen).port === 80) {
      http.add(streamId);
      device.send(5, streamId, Buffer.of(0));
    } else if (type === 6 && http.has(streamId)) {
      const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello');
      relayed.up += payload.length;
      relayed.down += answer.length;
      device.send(6, streamId, answer);
    } else echo(frame);
  };
  t.teardown(() => device.socket.terminate());
  return device;
}

const socks = (name: Name, username: string) =>
  socksConnect({ proxyPort: at(name).proxyPort, username, password: token, host: HOST, port: 443 });

async function httpConnect(name: Name, username: string): Promise<{ socket: Socket; head: string }> {
  const socket = dialTcp({ port: at(name).proxyPort, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  const login = Buffer.from(`${username}:${token}`).toString('base64');
  socket.write(
    `CONNECT ${HOST}:443 HTTP/1.1\r\nHost: ${HOST}\r\nProxy-Authorization: Basic ${login}\r\n\r\n`,
  );
  const [head] = (await once(socket, 'data')) as [Buffer];
  socket.pause();
  return { socket, head: head.toString() };
}

async function plain(agent: Agent, name: Name, username: string, host = HOST) {
  const login = Buffer.from(`${username}:${token}`).toString('base64');
  const asking = request({
    agent,
    port: at(name).proxyPort,
    path: `http://${host}/`,
    headers: { host, 'proxy-authorization': `Basic ${login}` },
  });
  asking.end();
  const [answer] = await once(asking, 'response');
  let body = '';
  for await (const chunk of answer) body += chunk;
  return { status: answer.statusCode as number, body, exit: answer.headers['x-ts-exit-id'] as string };
}

/** Sends so much, half-closes and reads it all again. */
async function transfer(t: Test, socket: Socket, bytes: number, what: string): Promise<void> {
  const sent = Buffer.alloc(bytes, 'abcdefg');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  socket.end(sent);
  await closed;
  t.ok(Buffer.concat(chunks).equals(sent), what);
  relayed.up += bytes;
  relayed.down += bytes;
}

t.setTimeout(240_000);

t.before(async () => {
  world = await startWorld(t, { background: true, env: { TS_OFFER_BYTES: '1000000000' } });
  ca = await startLinkCa(t);
  admin = await signedIn(world, 'admin');
  const asAdmin = async (path: string, body: unknown) =>
    (await world.call('POST', path, { token: admin.token, body })).body;
  const buyer = await asAdmin('/api/admin/buyers', { name: 'B', kyc_status: 'approved' });
  account = buyer.account;
  token = (await asAdmin(`/api/admin/buyers/${buyer.id}/tokens`, {})).token;
  await asAdmin('/api/admin/credits', { buyer_id: buyer.id, amount: '100', reason: 'a test' });
  const udp = { limits: { udp: true } };
  await world.call('PATCH', `/api/admin/buyers/${buyer.id}`, { token: admin.token, body: udp });
  await world.call('POST', '/api/buyer/accept_policy', { token });
  await start('a');
  await start('b');
});

/** Until the gateway has read what the others have. */
const served = (name: Name, username: string) =>
  until(async () => {
    const { socket, reply } = await socks(name, username);
    socket.destroy();
    return reply === 0;
  }, `${username} is served at ${name}`);

const exitOf = async (name: Name, username: string) => {
  const { socket, head } = await httpConnect(name, username);
  socket.destroy();
  return /X-TS-Exit-Id: (\S+)/i.exec(head)?.[1] ?? head;
};

/** What is booked. */
async function booked(): Promise<{ up: number; down: number }> {
  const { rows } = await world.pool.query<{ up: string; down: string }>(
    'SELECT coalesce(sum(bytes_up), 0)::text AS up, coalesce(sum(bytes_down), 0)::text AS down FROM meters',
  );
  return { up: Number(rows[0]?.up), down: Number(rows[0]?.down) };
}

/** One datagram there and back. */
async function datagram(t: Test, entry: Name, login: { username: string; password: string }): Promise<void> {
  const { control, reply, address, port } = await socksAssociate({
    proxyPort: at(entry).proxyPort,
    ...login,
  });
  t.equal(reply, 0, `UDP by ${entry}`);
  const client = await UdpPeer.open(t);
  const sent = Buffer.alloc(1_200, entry);
  client.send(udpRequest('8.8.8.8', 53, sent), port, address);
  t.same(udpReply((await client.next()).bytes), { host: '8.8.8.8', port: 53, data: sent });
  relayed.up += sent.length;
  relayed.down += sent.length;
  control.destroy();
}

t.test('a buyer at one gateway reaches the device of another', async (t) => {
  await share('b', NETWORKS.US(1));
  await served('a', `${account}-cc-us`);
  {
    const { socket, reply } = await socks('a', `${account}-cc-us`);
    t.equal(reply, 0);
    await transfer(t, socket, 3_000_000, 'SOCKS5');
  }
  {
    const { socket, head } = await httpConnect('a', `${account}-cc-us`);
    t.match(head, /^HTTP\/1.1 200/);
    await transfer(t, socket, 300_000, 'CONNECT');
  }
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  for (let i = 0; i < 3; i++) {
    const { status, body } = await plain(agent, 'a', `${account}-cc-us`);
    t.same({ status, body }, { status: 200, body: 'hello' }, 'plain HTTP');
  }
  const echo = await plain(agent, 'a', `${account}-cc-us`, 'echo.traffic-share.internal');
  t.equal(echo.status, 200, 'the echo page');
  t.match(JSON.parse(echo.body), { country: 'US' });
  const medianMs = async (name: Name) => {
    const took: number[] = [];
    for (let i = 0; i < 40; i++) {
      const sinceMs = performance.now();
      const { socket } = await socks(name, `${account}-cc-us`);
      took.push(performance.now() - sinceMs);
      socket.destroy();
    }
    return took.sort((one, other) => one - other)[20] as number;
  };
  const [near, far] = [await medianMs('b'), await medianMs('a')];
  t.comment(
    `set-up: ${near.toFixed(2)} ms at the device's gateway, ${far.toFixed(2)} ms by the link (in one process)`,
  );
  t.same((await status('a')).links?.to, ['b']);
  t.same((await status('b')).links?.from, ['a']);
  const { out } = await runProgram(
    process.execPath,
    [projectPath('dist/deploy/cli.js'), 'health', 'gateway'],
    {
      env: { TS_METRICS_PORT: String(at('a').metricsPort) },
    },
  );
  t.equal(out, 'gateway: well; links to b, from none\n', 'traffic-share health');
});

t.test('the other way round, and by curl', async (t) => {
  await share('a', NETWORKS.DE(1));
  await served('b', `${account}-cc-de`);
  const { socket, reply } = await socks('b', `${account}-cc-de`);
  t.equal(reply, 0);
  await transfer(t, socket, 300_000, 'SOCKS5');
  if (await hasProgram(t, 'curl'))
    for (const scheme of ['socks5h', 'http']) {
      const proxy = `${scheme}://${account}-cc-de:${token}@127.0.0.1:${at('b').proxyPort}`;
      const { out, err } = await runProgram('curl', ['-sS', '-x', proxy, `http://${HOST}/`]);
      t.same({ out, err }, { out: 'hello', err: '' }, `curl by ${scheme}`);
    }
  const { code } = JSON.parse((await plain(new Agent(), 'b', `${account}-cc-fr`)).body);
  t.equal(code, undefined);
  t.match((await plain(new Agent(), 'b', `${account}-cc-fr`)).status, 503, 'what nobody has is refused');
});

t.test('a named session keeps its exit, wherever its buyer enters, and follows its device', async (t) => {
  await start('c');
  const provider = await sharingProvider(world);
  const device = await share('b', NETWORKS.FR(1), provider);
  const name = `${account}-cc-fr-session-one-strict-1`;
  await served('a', name);
  const exit = await exitOf('a', name);
  t.match(exit, /^[\w-]{16}$/);
  for (const entry of ['b', 'c', 'a', 'c'] as const) t.equal(await exitOf(entry, name), exit, `by ${entry}`);
  const { socket } = await socks('c', name);
  await transfer(t, socket, 100_000, 'bytes');
  device.socket.terminate();
  await until(async () => (await status('b')).tunnels === 1, 'its gateway has lost it');
  await share('c', NETWORKS.FR(1), provider);
  for (const entry of ['c', 'b', 'a'] as const)
    await until(async () => (await exitOf(entry, name)) === exit, `it goes on by ${entry}`);
});

t.test('a pulled package is served where its exit is', async (t) => {
  const provider = await sharingProvider(world);
  const ip = NETWORKS.IT(7);
  await share('c', ip, provider);
  const made = await world.call('POST', '/api/admin/packages/bulk_create', {
    token: admin.token,
    body: [{ user_id: provider.userId, ip, size_bytes: 2_000_000_000 }],
  });
  t.equal(made.body.created, 1, JSON.stringify(made.body));
  const pulled = await world.call('POST', '/api/buyer/packets/pull', {
    token,
    body: { max_count: 1, min_bytes: 2_000_000_000 },
  });
  const { username, password } = pulled.body.packages?.[0]?.proxy ?? {};
  t.ok(username, JSON.stringify(pulled.body));
  for (const entry of ['a', 'b', 'c'] as const) {
    const { socket, reply } = await socksConnect({
      proxyPort: at(entry).proxyPort,
      username,
      password,
      host: HOST,
      port: 443,
    });
    t.equal(reply, 0, `by ${entry}`);
    await transfer(t, socket, 50_000, 'bytes');
    await datagram(t, entry, { username, password });
  }
});

t.test('every byte is booked once, at the gateway of its device', async (t) => {
  await until(async () => {
    const now = await booked();
    return now.up >= relayed.up && now.down >= relayed.down;
  }, 'all is booked');
  t.same(await booked(), relayed, 'and no byte more');
  await assertLedger(t, world.pool);
});

t.test('who has no certificate of a gateway gets nowhere', async (t) => {
  const before = await refusedLinks();
  /** What the handshake came to, read until it is closed. */
  const dial = async (settings: Record<string, string>, header: string) => {
    const { readFileSync } = await import('node:fs');
    const file = (name: string) =>
      settings[name]
        ? { [name === 'TS_GATEWAY_LINK_TLS_CERT' ? 'cert' : 'key']: readFileSync(settings[name] as string) }
        : {};
    const socket = dialTls({
      host: '127.0.0.1',
      port: at('b').linkPort,
      rejectUnauthorized: false,
      ...file('TS_GATEWAY_LINK_TLS_CERT'),
      ...file('TS_GATEWAY_LINK_TLS_KEY'),
    });
    let said = '';
    socket.on('data', (text) => {
      said += text;
    });
    socket.on('error', (error) => {
      said += error.message;
    });
    socket.write(
      `GET /link HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTraffic-Share-Gateway: ${header}\r\n` +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n' +
        'Sec-WebSocket-Protocol: traffic-share.v1\r\n\r\n',
    );
    await new Promise((resolve) => socket.once('close', resolve));
    return said;
  };
  const others = await startLinkCa(t);
  t.match(await dial({}, 'a'), /certificate required/, 'none');
  t.notMatch(await dial(await others.settings('a'), 'a'), /HTTP/, 'of another CA');
  t.match(await dial(await ca.settings('y'), 'a'), /^HTTP\/1.1 403 /, "another gateway's");
  t.equal(await refusedLinks(), before + 3, 'counted');

  // It says it is x and has devices that nobody else has; its certificate says otherwise.
  await start('x', others);
  await share('x', NETWORKS.FR(9));
  await share('x', NETWORKS.IT(9));
  await until(async () => (await exitOf('a', `${account}-cc-it-net-any`)) !== '', 'asked');
  t.same((await status('x')).links?.from, []);
  const text = await (await fetch(`http://127.0.0.1:${at('a').metricsPort}/metrics`)).text();
  t.match(text, /^ts_links\{way="out"\} [12]$/m);
});

async function refusedLinks(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${at('b').metricsPort}/metrics`)).text();
  return Number(/^ts_link_failures_total\{way="in"\} (\d+)$/m.exec(text)?.[1]);
}

t.test('a reader that stands still holds little, and nobody else up', async (t) => {
  await share('b', NETWORKS.FR(2));
  const { socket: slow } = await socks('a', `${account}-cc-us`);
  slow.pause();
  const piece = Buffer.alloc(1_000_000);
  let taken = 0;
  const pour = () => {
    while (slow.writable && taken < 200_000_000) {
      taken += piece.length;
      if (!slow.write(piece)) return void slow.once('drain', pour);
    }
  };
  pour();
  let before = -1;
  await until(async () => {
    const now = (await status('b')).bytesDown;
    const stands = now === before;
    before = now;
    await delay(300);
    return stands && now > 0;
  }, 'it stands');
  t.ok(taken < 100_000_000, `the sender waits after ${taken} bytes`);
  const { socket, reply } = await socks('a', `${account}-cc-us`);
  t.equal(reply, 0);
  await transfer(t, socket, 1_000_000, 'another stream of the link goes on');
  slow.resetAndDestroy();
  await until(async () => (await status('b')).streams === 0, 'its stream ends at the device');
});

t.test('a gateway that drains finishes what it has; new requests go elsewhere', async (t) => {
  // a knows what b has once it has read what b has written.
  await until(
    async () => (await readSummaries(world.redis)).some((one) => one.gatewayId === 'b' && one.devices.FR),
    'b tells of it',
  );
  await delay(1_500);
  const { socket, reply } = await socks('a', `${account}-cc-fr-session-one`);
  t.equal(reply, 0);
  await until(async () => (await status('c')).links?.streamsIn === 1, 'it runs through c');
  const stopped = (gateways.get('c') as Gateway).stop(20_000);
  for (let i = 0; i < 20; i++) {
    const one = await socks('a', `${account}-cc-fr`);
    t.equal(one.reply, 0, 'a new connection');
    await transfer(t, one.socket, 10_000, 'is served');
    if (i === 10) await transfer(t, socket, 500_000, 'the old one goes on');
  }
  await stopped;
  await until(async () => !(await status('a')).links?.to.includes('c'), 'the link is gone');
});

t.test('killed gateways: streams are reset at both sides, and what was relayed is booked once', async (t) => {
  const before = await status('b');
  const { kill } = await startProcess('d');
  await share('d', NETWORKS.IT(3));
  await served('d', `${account}-cc-us`);
  await served('a', `${account}-cc-it`);
  const entering = await socks('d', `${account}-cc-us`);
  const through = await socks('a', `${account}-cc-it`);
  t.same([entering.reply, through.reply], [0, 0]);
  let echoed = 0;
  const said = Buffer.from('0123456789'.repeat(10_000));
  const reset = new Promise((resolve) => through.socket.once('close', resolve));
  through.socket.on('data', (chunk: Buffer) => {
    t.ok(
      chunk.equals(said.subarray(echoed, echoed + chunk.length)) || echoed > said.length,
      'a part of what was sent',
    );
    echoed += chunk.length;
  });
  let failure: NodeJS.ErrnoException | null = null;
  through.socket.on('error', (error) => {
    failure = error;
  });
  through.socket.write(said);
  entering.socket.write(said);
  entering.socket.resume();
  await until(() => echoed > 50_000, 'both are under way');
  await until(async () => (await status('b')).links?.streamsIn === 1, 'one comes by the link');
  await kill();
  await reset;
  t.match(failure, { code: 'ECONNRESET' }, 'a client behind the link is told');
  await until(async () => (await status('b')).streams === before.streams, 'a device behind it, too');
  const { socket, reply } = await socks('a', `${account}-cc-us`);
  t.equal(reply, 0, 'others are served');
  await transfer(t, socket, 10_000, 'as before');
  await until(async () => {
    const { bytesDown } = await status('b');
    const { rows } = await world.pool.query(
      `SELECT sum(bytes_down)::text AS down FROM meters WHERE gateway_id = 'b'`,
    );
    return Number(rows[0]?.down) === bytesDown;
  }, 'what b has counted is booked, and no more');
  await assertLedger(t, world.pool);
});
