/** A gateway of three workers, then of two, beside a real control plane: the program as an operator starts it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect as dialTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as dialTls } from 'node:tls';
import { unpack } from 'msgpackr';
import t, { type Test } from 'tap';
import { readPresences } from '../../gateway/live/presence.js';
import type { GatewayStatus } from '../../gateway/private-server.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { signedIn, startWorld, type TestWorld } from '../helpers/control-plane.js';
import { NETWORKS } from '../helpers/fleet.js';
import { assertLedger } from '../helpers/ledger.js';
import { addBuyer } from '../helpers/money-world.js';
import { PlainDevice, type PlainOpen } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';
import { socksAssociate, udpReply, udpRequest } from '../helpers/socks-udp-client.js';
import { testCertificate } from '../helpers/test-certificate.js';
import { sharingProvider } from '../helpers/world-gateway.js';

const PASSWORD = 'q8Yt2LwR5mZx7Kc1';
const HOST = 'example.org';
/** The device of worker 1 is in the US, that of worker 2 in Germany; worker 3 has none of its own. */
const COUNTRY = { 1: 'US', 2: 'DE' } as const;
type Worker = keyof typeof COUNTRY;
const BOTH: readonly Worker[] = [1, 2];

let world: TestWorld;
let dataDir: string;
let account: string;
type Provider = Awaited<ReturnType<typeof sharingProvider>>;
/** In the order of their countries. */
const providers: Provider[] = [];
const devices = new Map<Worker, PlainDevice>();
/** Payload that went through the gateways and their devices, as the clients and devices know it. */
const relayed = { up: 0, down: 0 };

interface Running {
  process: ChildProcess;
  workers: number;
  proxyPort: number;
  tunnelPort: number;
  metricsPort: number;
  ended: Promise<number | null>;
  output: () => string;
}
let gateway: Running;
/** What a gateway with wrong settings said: it starts beside the others, which wait for each other. */
let misconfigured: Promise<string>;

/** The gateway as a process; the ports stay those of the first. */
async function start(workers: number, more: Record<string, string> = {}): Promise<Running> {
  const child = spawn(
    process.execPath,
    [projectPath('dist/deploy/cli.js'), 'gateway', '--workers', `${workers}`],
    {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: {
        PATH: process.env.PATH ?? '',
        TS_REDIS_URL: world.redisUrl,
        TS_GATEWAY_ID: 'duo',
        TS_GATEWAY_DATA_DIR: dataDir,
        TS_PROXY_HOST: '127.0.0.1',
        TS_PROXY_PORT: '0',
        TS_PROXY_TLS_CERT: join(dataDir, 'cert.pem'),
        TS_PROXY_TLS_KEY: join(dataDir, 'key.pem'),
        TS_TUNNEL_HOST: '127.0.0.1',
        TS_TUNNEL_PORT: '0',
        TS_METRICS_PORT: '0',
        TS_TRUSTED_PROXIES: '127.0.0.1',
        TS_LOOP_LAG_MS_MAX: '0',
        TS_DRAIN_MS: '20000',
        TS_LOG_LEVEL: 'warn',
        ...more,
      },
    },
  );
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text) => {
      output += text;
    });
  const ended = once(child, 'exit').then(([code]) => code as number | null);
  const ready = once(child, 'message').then(([message]) => message as Running);
  const started = await Promise.race([ready, ended]);
  if (started === null || typeof started === 'number') throw new Error(`it ended with ${started}: ${output}`);
  const { proxyPort, tunnelPort, metricsPort } = started;
  return { process: child, workers, proxyPort, tunnelPort, metricsPort, ended, output: () => output };
}

const get = (path: string) => fetch(`http://127.0.0.1:${gateway.metricsPort}${path}`);
const status = async () => (await (await get('/status')).json()) as Required<GatewayStatus>;
const passed = async () => {
  const text = await (await get('/metrics')).text();
  return [...text.matchAll(/^ts_worker_requests_passed_total\{worker="\d"\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
};

async function pidOf(worker: number): Promise<number> {
  const found = (await status()).workers.find((one) => one.worker === worker);
  if (found === undefined) throw new Error(`no worker ${worker}`);
  return found.pid;
}

async function until(probe: () => Promise<unknown>, what: string): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await probe()) return;
    await delay(25);
  }
  throw new Error(`never: ${what}; ${gateway.output()}`);
}

/**
 * Brings the device of that country to that worker: the others stand still while it connects. The tunnel that it had
 * before is closed then, wherever it was.
 */
async function share(worker: number, of: Worker): Promise<void> {
  const { ticket } = await (providers[of - 1] as Provider).start();
  const others = (await status()).workers.filter(
    (one) => one.worker !== worker && one.worker <= gateway.workers,
  );
  const before = devices.get(of);
  for (const { pid } of others) process.kill(pid, 'SIGSTOP');
  try {
    const origin = { 'x-forwarded-for': NETWORKS[COUNTRY[of]](of) };
    const device = await PlainDevice.connect(gateway.tunnelPort, ticket, origin);
    const { gateway_id: id } = await device.greet();
    if (id !== (worker === 1 ? 'duo' : `duo-w${worker}`)) throw new Error(`at ${id}`);
    serve(device);
    t.teardown(() => device.socket.terminate());
    devices.set(of, device);
  } finally {
    for (const { pid } of others) process.kill(pid, 'SIGCONT');
  }
  await before?.untilClosed();
}

/**
 * Echoes; at port 80 it answers each piece as an HTTP server would, at 53 each datagram. It answers pings: without a sign of
 * life it would be taken for dead when a stream has to wait.
 */
function serve(device: PlainDevice): void {
  device.echo();
  const echo = device.onFrame;
  const http = new Set<number>();
  device.onFrame = (frame) => {
    const { type, streamId, payload } = frame;
    if (type === 4 && (unpack(payload) as PlainOpen).network === 'udp')
      device.send(5, streamId, Buffer.of(0));
    else if (type === 10) device.send(10, streamId, payload);
    else if (type === 11) device.send(12, streamId, payload);
    else if (type === 4 && (unpack(payload) as PlainOpen).port === 80) {
      http.add(streamId);
      device.send(5, streamId, Buffer.of(0));
    } else if (type === 6 && http.has(streamId)) {
      const answer = Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello`);
      relayed.up += payload.length;
      relayed.down += answer.length;
      device.send(6, streamId, answer);
    } else echo(frame);
  };
}

const username = (worker: Worker, more = '') => `${account}-cc-${COUNTRY[worker].toLowerCase()}${more}`;

/** Sends so much, half-closes and reads it all again. */
async function transfer(t: Test, socket: Socket, bytes: number, what: string): Promise<void> {
  const sent = Buffer.alloc(bytes, 'abcdefg');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {});
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  socket.end(sent);
  await closed;
  t.ok(Buffer.concat(chunks).equals(sent), what);
  relayed.up += bytes;
  relayed.down += bytes;
}

/** Asks by CONNECT; gives the socket and the answer's head. */
async function httpConnect(name: string, tls = false): Promise<{ socket: Socket; head: string }> {
  const at = { port: gateway.proxyPort, host: '127.0.0.1', allowHalfOpen: true };
  const socket = tls ? dialTls({ ...at, rejectUnauthorized: false }) : dialTcp(at);
  socket.on('error', () => {});
  const login = Buffer.from(`${name}:${PASSWORD}`).toString('base64');
  socket.write(
    `CONNECT ${HOST}:443 HTTP/1.1\r\nHost: ${HOST}\r\nProxy-Authorization: Basic ${login}\r\n\r\n`,
  );
  const [head] = (await once(socket, 'data')) as [Buffer];
  socket.pause();
  return { socket, head: head.toString() };
}

const socks = (name: string, tls = false) =>
  socksConnect({
    proxyPort: gateway.proxyPort,
    username: name,
    password: PASSWORD,
    host: HOST,
    port: 443,
    tls,
  });

/** One plain HTTP request. */
async function plain(agent: Agent, name: string, host = HOST): Promise<{ status: number; body: string }> {
  const login = Buffer.from(`${name}:${PASSWORD}`).toString('base64');
  const asking = request({
    agent,
    port: gateway.proxyPort,
    path: `http://${host}/`,
    headers: { host, 'proxy-authorization': `Basic ${login}` },
  });
  asking.end();
  const [answer] = await once(asking, 'response');
  let body = '';
  for await (const chunk of answer) body += chunk;
  return { status: answer.statusCode, body };
}

/** Runs it for both devices until requests were passed between workers: which one accepts is up to the kernel. */
async function crossing(t: Test, what: string, work: (worker: Worker) => Promise<void>): Promise<void> {
  const before = await passed();
  let rounds = 0;
  do for (const worker of BOTH) await work(worker);
  while (++rounds < 4 || ((await passed()) === before && rounds < 20));
  t.ok((await passed()) > before, `${what}: some were passed on`);
}

// Programs start and end here, on a busy machine above all.
t.setTimeout(240_000);

t.before(async () => {
  world = await startWorld(t, { background: true, env: { TS_OFFER_BYTES: '1000000000' } });
  dataDir = await mkdtemp(join(tmpdir(), 'ts-workers-'));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  await writeFile(join(dataDir, 'cert.pem'), testCertificate.cert);
  await writeFile(join(dataDir, 'key.pem'), testCertificate.key);
  await writeFile(join(dataDir, 'no-key.pem'), 'no key');
  const more = {
    TS_GATEWAY_DATA_DIR: join(dataDir, 'wrong'),
    TS_PROXY_TLS_KEY: join(dataDir, 'no-key.pem'),
  };
  misconfigured = start(2, more).then(
    () => 'it started',
    (error: Error) => error.message,
  );
  const buyerId = await addBuyer(world.pool, 2_000_000n);
  await world.pool.query(
    `INSERT INTO buyer_tokens (id, buyer_id, kind, token_hash, prefix, scopes)
     VALUES ($1, $2, 'proxy_password', $3, 'x', '{proxy}')`,
    [randomUUID(), buyerId, createHash('sha256').update(PASSWORD).digest()],
  );
  const admin = await signedIn(world, 'admin');
  const credit = { buyer_id: buyerId, amount: '100', reason: 'a test' };
  await world.call('POST', '/api/admin/credits', { token: admin.token, body: credit });
  await world.call('PATCH', `/api/admin/buyers/${buyerId}`, {
    token: admin.token,
    body: { limits: { udp: true, streams_max: 1_000, connections_per_second_max: 1_000 } },
  });
  const { rows } = await world.pool.query<{ account: string }>('SELECT account FROM buyers WHERE id = $1', [
    buyerId,
  ]);
  account = rows[0]?.account as string;
  gateway = await start(3);
  for (const worker of BOTH) {
    providers.push(await sharingProvider(world));
    await share(worker, worker);
  }
});

t.test('whichever worker accepts, the device of the other is reached', async (t) => {
  await crossing(t, 'SOCKS5', async (worker) => {
    const { socket, reply } = await socks(username(worker));
    t.equal(reply, 0);
    await transfer(t, socket, 300_000, 'SOCKS5');
  });
  await crossing(t, 'CONNECT', async (worker) => {
    const { socket, head } = await httpConnect(username(worker));
    t.match(head, /^HTTP\/1.1 200/);
    await transfer(t, socket, 300_000, 'CONNECT');
  });
  await crossing(t, 'SOCKS5 in TLS', async (worker) => {
    const { socket, reply } = await socks(username(worker), true);
    t.equal(reply, 0);
    await transfer(t, socket, 300_000, 'SOCKS5 in TLS');
  });
  await crossing(t, 'CONNECT in TLS', async (worker) => {
    const { socket, head } = await httpConnect(username(worker), true);
    t.match(head, /^HTTP\/1.1 200/);
    await transfer(t, socket, 300_000, 'CONNECT in TLS');
  });
  // Both devices on one connection: it stays where it is, the requests do not.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  await crossing(t, 'plain HTTP', async (worker) => {
    t.same(await plain(agent, username(worker)), { status: 200, body: 'hello' });
  });
  await crossing(t, 'the echo page', async (worker) => {
    const { status, body } = await plain(agent, username(worker), 'echo.traffic-share.internal');
    t.equal(status, 200);
    t.match(JSON.parse(body), { country: COUNTRY[worker] });
  });
  t.equal(Object.values(agent.freeSockets).flat().length, 1, 'on one connection');
});

t.test('an association of a client is where its device is', async (t) => {
  await crossing(t, 'UDP', async (worker) => {
    const { control, reply, address, port } = await socksAssociate({
      proxyPort: gateway.proxyPort,
      username: username(worker),
      password: PASSWORD,
    });
    t.equal(reply, 0);
    t.equal(address, '127.0.0.1');
    const udp = createSocket('udp4');
    const answered = once(udp, 'message') as Promise<[Buffer]>;
    // A datagram may be lost, also on loopback.
    const asking = setInterval(() => udp.send(udpRequest('8.8.8.8', 53, 'who'), port, address), 50);
    const [answer] = await answered;
    clearInterval(asking);
    t.equal(udpReply(answer).data.toString(), 'who');
    udp.close();
    control.destroy();
  });
});

t.test('a session keeps its exit, whoever accepts, and follows its device to another worker', async (t) => {
  const exitOf = async (name: string) => {
    const { socket, head } = await httpConnect(name);
    socket.destroy();
    return /X-TS-Exit-Id: (\S+)/i.exec(head)?.[1] ?? head;
  };
  for (const worker of BOTH) {
    const names = [1, 2, 3].map((n) => username(worker, `-session-s${n}of${worker}-strict-1`));
    for (const name of names) {
      const exits = new Set(await Promise.all(Array.from({ length: 6 }, () => exitOf(name))));
      t.equal(exits.size, 1, `${name}: one exit`);
      t.match([...exits][0], /^[\w-]{16}$/);
    }
  }
  const old = devices.get(2) as PlainDevice;
  const name = username(2, '-session-s1of2-strict-1');
  const exit = await exitOf(name);
  await share(1, 2);
  t.equal(old.goaway?.code, 'replaced', 'the tunnel before is told why it is closed');
  await until(async () => (await exitOf(name)) === exit, 'the strict session goes on at the other worker');
  const { tunnels } = await status();
  t.equal(tunnels, 2);
  const present = await readPresences(world.redis, Date.now());
  t.same(
    present.map(({ gatewayId }) => gatewayId),
    ['duo', 'duo'],
    'the live state knows where both are',
  );
  await share(2, 2);
});

t.test('figures of both at one place', async (t) => {
  const { workers, tunnels, bytesUp } = await status();
  t.match(workers, [
    { worker: 1, gatewayId: 'duo', tunnels: 1 },
    { worker: 2, gatewayId: 'duo-w2', tunnels: 1 },
    { worker: 3, gatewayId: 'duo-w3', tunnels: 0 },
  ]);
  t.equal(tunnels, 2);
  t.equal(
    bytesUp,
    workers.reduce((sum, worker) => sum + worker.bytesUp, 0),
  );
  const text = await (await get('/metrics')).text();
  t.match(text, /^ts_tunnels\{worker="1"\} 1$/m);
  t.match(text, /^ts_tunnels\{worker="2"\} 1$/m);
  t.match(text, /^ts_worker_up\{worker="1"\} 1$/m);
  t.match(text, /^ts_connections_total\{outcome="OK",worker="2"\} \d+$/m);
  t.equal(text.match(/^# TYPE ts_tunnels /gm)?.length, 1, 'one text, as Prometheus wants it');
  t.same(await (await get('/health')).json(), { ok: true, ailments: [] });
});

/** What is booked, and whether that is all there is. */
async function booked(): Promise<{ up: number; down: number }> {
  const { rows } = await world.pool.query<{ up: string; down: string }>(
    'SELECT coalesce(sum(bytes_up), 0)::text AS up, coalesce(sum(bytes_down), 0)::text AS down FROM meters',
  );
  return { up: Number(rows[0]?.up), down: Number(rows[0]?.down) };
}

t.test('every byte is booked once, by whichever worker relayed it', async (t) => {
  const text = await (await get('/metrics')).text();
  const all = { up: relayed.up + udpBytes(text, 'up'), down: relayed.down + udpBytes(text, 'down') };
  await until(async () => {
    const now = await booked();
    return now.up >= all.up && now.down >= all.down;
  }, 'all is booked');
  const { up, down } = await booked();
  t.same({ up, down }, all, 'and no byte more');
  relayed.up = up;
  relayed.down = down;
  await assertLedger(t, world.pool);
});

t.test('a worker that is killed comes back with its journal; the others go on', async (t) => {
  const [first, second] = [await socks(username(1)), await socks(username(2))];
  const kept = transferring(first.socket);
  const torn = transferring(second.socket);
  kept.send(200_000);
  torn.send(200_000);
  await until(async () => kept.received === 200_000 && torn.received === 200_000, 'both are under way');
  const passedByOthers = async () => {
    const text = await (await get('/metrics')).text();
    return [...text.matchAll(/^ts_worker_requests_passed_total\{worker="[13]"\} (\d+)$/gm)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    );
  };
  const before = await passedByOthers();
  const pid = await pidOf(2);
  // It stands still: the others accept these and pass them to it.
  process.kill(pid, 'SIGSTOP');
  const passing = Array.from({ length: 5 }, () => dialTcp(gateway.proxyPort, '127.0.0.1'));
  const ended = passing.map(async (socket) => {
    socket.on('error', () => {});
    const login = Buffer.from(`${username(2)}:${PASSWORD}`).toString('base64');
    socket.write(
      `CONNECT ${HOST}:443 HTTP/1.1\r\nHost: ${HOST}\r\nProxy-Authorization: Basic ${login}\r\n\r\n`,
    );
    socket.resume();
    await once(socket, 'close');
  });
  // While one stands still each look takes two seconds: several at once.
  const looks = Array.from({ length: 10 }, async (_, n) => {
    await delay(n * 200);
    if ((await passedByOthers()) < before + 5) throw new Error('not yet');
  });
  await Promise.any(looks);
  process.kill(pid, 'SIGKILL');
  await until(async () => {
    const health = await get('/health');
    const { ailments } = (await health.json()) as { ailments: string[] };
    if (!ailments.includes('worker 2: does not serve')) return false;
    t.equal(health.status, 200, 'there is one that takes whoever comes');
    return true;
  }, 'it is told that one is away');
  t.match(await (await get('/metrics')).text(), /^ts_worker_up\{worker="2"\} 0$/m);
  await Promise.all(ended);
  t.pass('no client waits for a worker that is dead');
  await until(
    async () => (await status()).workers.some((one) => one.worker === 2 && one.pid !== pid),
    'back',
  );
  await until(
    async () => ((await (await get('/health')).json()) as { ailments: string[] }).ailments.length === 0,
    'well',
  );
  const text = await (await get('/metrics')).text();
  t.match(text, /^ts_worker_up\{worker="2"\} 1$/m);
  t.match(text, /^ts_worker_restarts_total\{worker="2"\} 1$/m);
  t.ok(torn.ended, 'its streams are gone');
  // What the dead one held in Redis stands for half a minute, and the device is at the other worker.
  const backAtMs = performance.now();
  await share(1, 2);
  await servesSoon(t, 'its device serves at the other worker', backAtMs);
  await share(2, 2);
  await servesSoon(t, 'and at its own', performance.now());
  kept.send(200_000);
  await until(async () => kept.received === kept.sent, 'a stream of the other worker goes on');
  first.socket.destroy();
  second.socket.destroy();
  const passedBefore = await passed();
  let rounds = 0;
  do {
    const { socket, reply } = await socks(username(2));
    t.equal(reply, 0, 'its device serves again, on the same exit');
    await transfer(t, socket, 100_000, 'after the kill');
  } while ((await passed()) === passedBefore && ++rounds < 40);
  t.ok((await passed()) > passedBefore, 'also by way of the other, on a new channel');
  relayed.up += kept.sent + torn.sent;
  relayed.down += kept.received + torn.received;
  await until(async () => (await booked()).down >= relayed.down, 'all is booked');
  const { up, down } = await booked();
  t.ok(up + down <= relayed.up + relayed.down + 65_536, 'and at most one piece more');
  relayed.up = up;
  relayed.down = down;
});

t.test('with fewer workers the journal of one that is left out is settled', async (t) => {
  await share(3, 2);
  await servesSoon(t, 'its device serves at the third worker', performance.now());
  const { socket, reply } = await socks(username(2));
  t.equal(reply, 0);
  const stream = transferring(socket);
  stream.send(500_000);
  await until(async () => stream.received === 500_000, 'relayed');
  const pids = (await status()).workers.map(({ pid }) => pid);
  for (const pid of [...pids, gateway.process.pid as number]) process.kill(pid, 'SIGKILL');
  await gateway.ended;
  t.ok(existsSync(join(dataDir, 'w3', 'meters.journal')));
  gateway = await start(2);
  const backAtMs = performance.now();
  await share(1, 2);
  await servesSoon(t, 'what worker 3 held is free at once', backAtMs);
  await until(async () => !existsSync(join(dataDir, 'w3')), 'settled, and the folder is gone');
  relayed.up += 500_000;
  relayed.down += 500_000;
  const { up, down } = await booked();
  t.ok(up >= relayed.up && down >= relayed.down, 'booked');
  t.ok(up + down <= relayed.up + relayed.down + 65_536, 'once');
  await assertLedger(t, world.pool);
});

t.test('a drain lets streams end, at each worker, and the parent waits', async (t) => {
  await until(
    async () => (await status()).workers.every(({ worker }) => worker <= 2),
    'the one that settled is gone',
  );
  for (const worker of BOTH) await share(worker, worker);
  await servesSoon(t, 'the device that came back serves', performance.now());
  const streams = await Promise.all(BOTH.map(async (worker) => (await socks(username(worker))).socket));
  const pids = (await status()).workers.map(({ pid }) => pid);
  gateway.process.kill('SIGTERM');
  await until(async () => {
    const socket = dialTcp(gateway.proxyPort, '127.0.0.1');
    const refused = await new Promise((resolve) => {
      socket.once('connect', () => resolve(false));
      socket.once('error', () => resolve(true));
    });
    socket.destroy();
    return refused;
  }, 'new connections are refused');
  for (const socket of streams) await transfer(t, socket, 100_000, 'what is open goes on');
  t.equal(await gateway.ended, 0, 'the program ends in order');
  for (const pid of pids) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' }, 'and its workers');
  await until(async () => (await booked()).down >= relayed.down, 'all is booked');
});

t.test('what is wrong with the settings is told once', async (t) => {
  const noKey = await misconfigured;
  t.match(noKey, /it ended with 1/);
  t.equal(noKey.match(/no-key\.pem/g)?.length, 1);
});

/** Payload of the datagrams that were passed on: three bytes each. */
function udpBytes(metrics: string, direction: 'up' | 'down'): number {
  const passed = metrics.matchAll(
    new RegExp(`^ts_datagrams_total\\{direction="${direction}",worker="\\d"\\} (\\d+)$`, 'gm'),
  );
  return [...passed].reduce((sum, [, count]) => sum + Number(count) * 3, 0);
}

/** The device in Germany is given to a buyer before a dead process's claim on it would have lapsed. */
async function servesSoon(t: Test, what: string, sinceMs: number): Promise<void> {
  await until(async () => {
    const { socket, reply } = await socks(username(2));
    socket.destroy();
    return reply === 0;
  }, what);
  const tookMs = Math.round(performance.now() - sinceMs);
  t.ok(tookMs < 10_000, `${what} after ${tookMs} ms`);
}

/** A stream that stays open. */
function transferring(socket: Socket) {
  const stream = {
    sent: 0,
    received: 0,
    ended: false,
    send(bytes: number) {
      stream.sent += bytes;
      socket.write(Buffer.alloc(bytes, 7));
    },
  };
  socket.on('data', (chunk: Buffer) => {
    stream.received += chunk.length;
  });
  socket.on('error', () => {});
  for (const end of ['end', 'close'])
    socket.once(end, () => {
      stream.ended = true;
    });
  socket.resume();
  return stream;
}
