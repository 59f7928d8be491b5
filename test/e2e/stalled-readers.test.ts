/**
 * 200 streams whose reader has stopped, all on one tunnel, beside streams that are read: what the gateway holds for the
 * ones, and how fast the others still are. Gateway and device are processes of their own.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { availableParallelism, loadavg } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { residentBytes } from '../bench/processes.js';
import { type Destination, startTcpDestination } from '../helpers/destination.js';
import { startMigratedPostgres } from '../helpers/services.js';
import { socksConnect } from '../helpers/socks-client.js';
import { removeData, type Standalone, startStandalone } from '../helpers/standalone.js';

const MiB = 2 ** 20;
const STALLED = 200;
const GROWTH_BYTES_MAX = 64 * MiB;
const SIBLINGS = 4;
const SPEED_MIN = 0.8;
/**
 * Windows without stalled streams differ by less than this, lowest to highest, on a machine that does nothing else; where
 * they differ by more, or the machine is busy, others take its time and only SPEED_MIN_NOISY is asked for.
 */
const QUIET_SPREAD = 0.7;
const busyBefore = (loadavg()[0] as number) > availableParallelism();
const SPEED_MIN_NOISY = 0.4;
/** Gateway, device and this process alone make it 3 at most on two cores. */
const busyNow = () => (loadavg()[0] as number) > 2 * availableParallelism();
/** Garbage is collected when there is time for it. Streams that keep a buffer each of what came would be above this. */
const GROWTH_BYTES_MAX_NOISY = 96 * MiB;
const WINDOW_MS = 400;
/** Windows without and beside stalled streams take turns. A noisy machine gets more of them. */
const TURNS_MIN = 3;
const TURNS_MAX = 6;
/**
 * Writers to stalled streams write so much, about what the kernel's buffers at one end take, and then a step at a time
 * until nothing of it goes on. Without end they would fill socket buffers at all ends, over 1 GiB, and a kernel short of
 * memory for those slows all connections down.
 */
const FIRST = Buffer.alloc(MiB, 's');
/** Above a first window, so that what a step leaves behind has filled it. */
const STEP = Buffer.alloc(256 * 1024, 's');
/** Nothing moves any more when this many looks in a row find the same. */
const LOOKS = 2;
const LOOK_MS = 40;

const BLOCK = Buffer.alloc(256 * 1024, 'b');

/** A minute by itself, and as long again beside other tests. */
t.setTimeout(300_000);

/** Windows that are not looked at, until the compiler has seen what is hot. */
let warmUpsLeft = 4;

let destination: Destination;
let system: Standalone;
let gatewayPid: number;

/** Writes without end, as fast as it is taken. */
function pump(socket: Socket): void {
  const more = () => {
    while (!socket.destroyed && socket.write(BLOCK));
  };
  socket.on('drain', more);
  more();
}

/** Destinations of streams whose reader stalls. */
const senders = new Set<Socket>();

/** `D`: sends without end. `S`: sends what the test says; `GET`: the same in HTTP. `R`: never reads again. */
function serve(socket: Socket): void {
  socket.once('data', (first: Buffer) => {
    socket.pause();
    const word = String.fromCharCode(first[0] as number);
    if (word === 'D') pump(socket);
    else if (word === 'S') senders.add(socket);
    else if (word === 'G') {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      senders.add(socket);
    }
  });
}

/**
 * Socket buffers of 200 stalled streams at three ends would hold over 1 GiB of kernel memory, and then it is the kernel
 * that slows siblings down. In a network namespace of its own (root, Linux) they are small, as is the memory they take.
 */
const INSIDE = 'TS_STALLED_NETNS';
const NAMESPACE_SETUP = `
ip link set lo up &&
for of in rmem wmem; do echo '4096 65536 262144' >/proc/sys/net/ipv4/tcp_$of; done &&
exec "$@"`;
const namespace = ['--net', 'sh', '-c', NAMESPACE_SETUP, 'sh'];
const separate =
  process.env[INSIDE] === undefined &&
  spawnSync('unshare', [...namespace, 'true'], { stdio: 'ignore' }).status === 0;

async function startSystem(): Promise<void> {
  destination = await startTcpDestination(serve);
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  system = await startStandalone({
    env: {
      TS_DATABASE_URL: database.url,
      TS_DEV_ALLOW: `127.0.0.1:${destination.port}`,
      // hundreds of GB must be paid for and fit the package
      TS_OFFER_BYTES: String(1e14),
      TS_BUYER_PRICE_MICROS_PER_GB: '2000',
      TS_PROVIDER_PRICE_MICROS_PER_GB: '1000',
    },
  });
  const { api_url, buyer, admin } = system.file;
  const raised = await fetch(`${api_url}/api/admin/buyers/${buyer.id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${admin.token}` },
    body: JSON.stringify({ limits: { streams_max: 10_000, connections_per_second_max: 10_000 } }),
  });
  if (!raised.ok) throw new Error(await raised.text());
  gatewayPid = system.childPids('gateway/main')[0] as number;
}

t.teardown(async () => {
  await system?.stop();
  if (system) await removeData(system.dataDir);
  await destination?.stop();
});

async function open(tls = false): Promise<Socket> {
  const { username, password } = system.file.buyer;
  const { socket, reply } = await socksConnect({
    proxyPort: system.file.proxy_port,
    username,
    password,
    host: '127.0.0.1',
    port: destination.port,
    tls,
  });
  if (reply !== 0) throw new Error(`reply ${reply}`);
  return socket;
}

/** A stalled stream as its buyer has it, and who writes into it. */
interface Stalled {
  buyer: Socket;
  /** null: its destination. */
  writer: Socket | null;
}

/** How a stream comes to stall. */
const kinds: Record<string, { name: string; open(): Promise<Stalled> }> = {
  down: {
    name: 'buyers who do not read',
    open: async () => {
      const buyer = await open();
      buyer.pause();
      buyer.write('S');
      return { buyer, writer: null };
    },
  },
  http: {
    name: 'buyers of plain HTTP who do not read',
    open: async () => {
      const { username, password } = system.file.buyer;
      const buyer = connect(system.file.proxy_port, '127.0.0.1');
      buyer.on('error', () => {}); // the test cuts both ends
      buyer.pause();
      buyer.write(
        `GET http://127.0.0.1:${destination.port}/ HTTP/1.1\r\nHost: 127.0.0.1:${destination.port}\r\n` +
          `Proxy-Authorization: Basic ${Buffer.from(`${username}:${password}`).toString('base64')}\r\n\r\n`,
      );
      return { buyer, writer: null };
    },
  },
  tls: {
    name: 'buyers inside TLS who do not read',
    open: async () => {
      const buyer = await open(true);
      buyer.pause();
      buyer.write('S');
      return { buyer, writer: null };
    },
  },
  up: {
    name: 'destinations that do not read',
    open: async () => {
      const buyer = await open();
      buyer.write('R');
      return { buyer, writer: buyer };
    },
  },
};

/** Bytes the gateway has counted, both ways: everything that goes on is counted before. */
async function counted(): Promise<number> {
  const { bytesUp, bytesDown } = await system.status();
  return bytesUp + bytesDown;
}

async function untilStill(): Promise<number> {
  let before = -1;
  for (let same = 0; same < LOOKS; await delay(LOOK_MS)) {
    const now = await counted();
    same = now === before ? same + 1 : 0;
    before = now;
  }
  return before;
}

/** Opens the streams and writes into them until nothing goes on, and one step more, to fill what there is to fill. */
async function stall(kind: string): Promise<Stalled[]> {
  senders.clear();
  const stalled = await Promise.all(
    Array.from({ length: STALLED }, () => kinds[kind]?.open() as Promise<Stalled>),
  );
  while (kind !== 'up' && senders.size < STALLED) await delay(LOOK_MS);
  const writers = stalled.flatMap(({ writer }) => writer ?? []).concat(...senders);
  for (let before = -1, last = false; ; ) {
    for (const writer of writers) writer.write(before < 0 ? FIRST : STEP);
    const now = await untilStill();
    if (last) return stalled;
    last = now === before;
    before = now;
  }
}

async function unstall(stalled: Stalled[]): Promise<void> {
  for (const { buyer } of stalled) buyer.destroy();
  for (const socket of destination.connections) socket.destroy();
  while ((await system.status()).streams > 0) await delay(LOOK_MS);
}

interface Window {
  bytesPerSecond: number;
  /** Of the gateway, the least that was seen: garbage comes and goes. */
  residentBytes: number;
}

/** Siblings of the stalled streams, new ones each time, download as fast as they can. */
async function measureWindow(): Promise<Window> {
  let bytes = 0;
  const siblings = await Promise.all(
    Array.from({ length: SIBLINGS }, async () => {
      const socket = await open();
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      socket.write('D');
      return socket;
    }),
  );
  await delay(WINDOW_MS / 2);
  const resident: number[] = [];
  bytes = 0;
  const fromMs = performance.now();
  while (performance.now() - fromMs < WINDOW_MS) {
    await delay(WINDOW_MS / 10);
    resident.push(residentBytes([gatewayPid]));
  }
  const bytesPerSecond = (bytes / (performance.now() - fromMs)) * 1_000;
  for (const socket of siblings) socket.destroy();
  return { bytesPerSecond, residentBytes: Math.min(...resident) };
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] as number;

/** The speed beside stalled streams as a share of that without, each window between its two neighbours. */
function shareKept(without: Window[], beside: Window[]): number {
  const speedOf = (windows: Window[], at: number) => windows[at]?.bytesPerSecond as number;
  return median(
    beside.map((window, i) => (2 * window.bytesPerSecond) / (speedOf(without, i) + speedOf(without, i + 1))),
  );
}

/** Times the kernel ran short of memory for sockets since it started. */
function kernelShortages(): number {
  const [names = '', values = ''] = readFileSync('/proc/net/netstat', 'utf8').split('\n');
  return Number(values.split(' ')[names.split(' ').indexOf('TCPMemoryPressures')] ?? 0);
}

const list = (windows: Window[]) =>
  windows
    .map((w) => `${(w.bytesPerSecond / 1e6).toFixed(0)} MB/s with ${(w.residentBytes / MiB).toFixed(0)} MiB`)
    .join(', ');

async function measure(t: Test, kind: string): Promise<void> {
  const shortages = kernelShortages();
  for (; warmUpsLeft > 0; warmUpsLeft--) await measureWindow();
  const without = [await measureWindow()];
  const beside: Window[] = [];
  do {
    const stalled = await stall(kind);
    beside.push(await measureWindow());
    await unstall(stalled);
    without.push(await measureWindow());
  } while (
    beside.length < TURNS_MIN ||
    (shareKept(without, beside) < SPEED_MIN && beside.length < TURNS_MAX)
  );
  t.comment(`without: ${list(without)}`);
  t.comment(`beside: ${list(beside)}`);
  const speeds = without.map((window) => window.bytesPerSecond);
  const quiet = !busyBefore && !busyNow() && Math.min(...speeds) >= QUIET_SPREAD * Math.max(...speeds);
  const grownBytes = Math.max(...beside.map((w) => w.residentBytes)) - (without[0]?.residentBytes ?? 0);
  const grown = `the gateway grows by ${(grownBytes / MiB).toFixed(1)} MiB`;
  if (quiet) t.ok(grownBytes <= GROWTH_BYTES_MAX, `${grown} of at most ${GROWTH_BYTES_MAX / MiB}`);
  else t.ok(grownBytes <= GROWTH_BYTES_MAX_NOISY, `${grown} on a noisy machine`);
  const share = shareKept(without, beside);
  const kept = `siblings keep ${(share * 100).toFixed(0)} % of their speed`;
  if (kernelShortages() > shortages)
    t.comment(`${kept}, on a kernel short of memory for sockets: not judged`);
  else if (quiet) t.ok(share >= SPEED_MIN, kept);
  else t.ok(share >= SPEED_MIN_NOISY, `${kept} on a noisy machine`);
}

if (separate) {
  const { TS_TEST_POSTGRES_URL: _outside, ...env } = process.env;
  const own = [...process.execArgv, ...process.argv.slice(1)];
  t.spawn(
    'unshare',
    [...namespace, process.execPath, ...own],
    { env: { ...env, [INSIDE]: '1' }, timeout: 300_000 },
    'in a namespace',
  );
} else {
  t.before(startSystem);
  for (const [kind, { name }] of Object.entries(kinds)) t.test(`${STALLED} ${name}`, (t) => measure(t, kind));
}
