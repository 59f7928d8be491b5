/** Links that break: of two gateways on one Redis, with what can break in between. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import type { Gateway } from '../../../gateway/gateway-contract.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import type { MeterReport } from '../../../gateway/live/records.js';
import type { GatewayStatus } from '../../../gateway/private-server.js';
import { Link } from '../../faults/link.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { startLinkCa } from '../../helpers/link-certificates.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { freePort } from '../../helpers/services.js';
import { socksConnect } from '../../helpers/socks-client.js';

const PING_MS = 500;
/** What a stream may have on its way on a link: its window, and what operating systems hold. */
const UNDER_WAY_BYTES_MAX = 12 * 1024 * 1024;
/** Streams that nobody reads, and what each may hold: windows at both gateways and at both ends in this process. */
const STALLED = 8;
const HELD_BYTES_MAX = 4 * 1024 * 1024;
const PROVIDERS = {
  there: '00000000-0000-4000-8000-000000000001',
  here: '00000000-0000-4000-8000-000000000002',
};

let rig: GatewayRig;
/** The entry gateway is the rig's; this one has the devices in France. */
let far: Gateway;
let way: Link;
/** Payload that the far device was given. */
let given = 0;
/** Payload that buyers had of it, and streams that were cut. */
let received = 0;
let cutStreams = 0;

async function until(probe: () => unknown, what: string): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await probe()) return;
    await delay(25);
  }
  throw new Error(`never: ${what}`);
}

const statusOf = async ({ metricsPort }: Pick<Gateway, 'metricsPort'>) =>
  (await (await fetch(`http://127.0.0.1:${metricsPort}/status`)).json()) as Required<GatewayStatus>;

async function share({ tunnelPort }: Gateway, providerId: string, country: string): Promise<PlainDevice> {
  const { text } = await rig.ticket({ providerId, country });
  const device = await PlainDevice.connect(tunnelPort, text);
  await device.greet();
  device.echo();
  t.teardown(() => device.socket.terminate());
  return device;
}

const socks = (username = `${rig.username}-cc-fr`) =>
  socksConnect({
    proxyPort: rig.gateway.proxyPort,
    username,
    password: rig.password,
    host: 'example.org',
    port: 443,
  });

const served = (username?: string) =>
  until(async () => {
    const { socket, reply } = await socks(username);
    socket.destroy();
    return reply === 0;
  }, 'it is served');

/** Sends without end; what came back, and how it ended. */
function pour(socket: Socket): { received: () => number; ended: Promise<string | undefined> } {
  let received = 0;
  let code: string | undefined;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    code = error.code;
  });
  const piece = Buffer.alloc(65_536, 'x');
  const go = () => {
    while (socket.writable && socket.write(piece));
  };
  socket.on('drain', go);
  go();
  return {
    received: () => received,
    ended: new Promise((resolve) => socket.once('close', () => resolve(code))),
  };
}

/** Sends so much and reads it all again. */
async function transfer(t: Test, bytes: number): Promise<void> {
  const { socket, reply } = await socks();
  t.equal(reply, 0);
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.resume();
  socket.end(Buffer.alloc(bytes, 'y'));
  await once(socket, 'close');
  t.equal(received, bytes);
}

/** What of the far gateway's meters lies in Redis. */
async function metered(): Promise<{ up: number; down: number }> {
  const reports = Object.values(await rig.redis.hgetall(liveKeys.meters('far'))).map(
    (text) => JSON.parse(text) as MeterReport,
  );
  const sum = (of: 'bytesUp' | 'bytesDown') => reports.reduce((all, report) => all + Number(report[of]), 0);
  return { up: sum('bytesUp'), down: sum('bytesDown') };
}

t.setTimeout(120_000);

t.before(async () => {
  const ca = await startLinkCa(t);
  const linkPort = await freePort();
  way = await Link.to(linkPort);
  const settings = async (name: string) => ({
    ...(await ca.settings(name)),
    TS_GATEWAY_LINK_PING_MS: String(PING_MS),
    TS_GATEWAY_LINK_CONNECT_TIMEOUT_MS: '500',
    TS_ALLOCATION_IDLE_MS: '1000',
  });
  rig = await startGatewayRig(await settings('test'));
  far = await rig.another('far', {
    ...(await settings('far')),
    TS_DEV_LOOPBACK_COUNTRY: 'FR',
    TS_GATEWAY_LINK_PORT: String(linkPort),
    TS_GATEWAY_LINK_ADDRESS: `127.0.0.1:${way.port}`,
  });
  t.teardown(async () => {
    await rig.stop();
    await way.close();
  });
  const device = await share(far, PROVIDERS.there, 'FR');
  const echo = device.onFrame;
  device.onFrame = (frame) => {
    device.frames.length = 0; // it would keep all that ever came
    if (frame.type === 6) given += frame.payload.length;
    echo(frame);
  };
  await share(rig.gateway, PROVIDERS.here, 'US');
  await served();
});

/** Nothing is left of the streams; every byte that the device was given is metered, once, and those that came back. */
async function nothingIsLeft(t: Test): Promise<void> {
  await until(async () => (await statusOf(far)).streams === 0, 'streams end at the device');
  await until(async () => (await rig.status()).streams === 0, 'and at the entry');
  await until(async () => {
    const { streamsIn } = (await statusOf(far)).links;
    return streamsIn === 0 && (await statusOf(rig.gateway)).links.streamsOut === 0;
  }, 'and on the link');
  const { bytesUp, bytesDown } = await statusOf(far);
  t.equal(bytesUp, given, 'what the device was given');
  t.ok(
    bytesDown >= received && bytesDown <= received + cutStreams * UNDER_WAY_BYTES_MAX,
    `of ${bytesDown} bytes counted down ${received} came`,
  );
  await until(async () => {
    const { up, down } = await metered();
    return up === bytesUp && down === bytesDown;
  }, 'it is metered');
  await until(
    async () => (await rig.redis.keys('*claim*')).every((key) => !key.includes(PROVIDERS.there)),
    'the exit is free again',
  );
}

t.test('cut: streams are reset at once, and the link comes back by itself', async (t) => {
  const streams = await Promise.all([1, 2, 3].map(async () => pour((await socks()).socket)));
  await until(() => streams.every((stream) => stream.received() > 300_000), 'all are under way');
  way.mode = 'cut';
  cutStreams += streams.length;
  const sinceMs = performance.now();
  for (const code of await Promise.all(streams.map(({ ended }) => ended)))
    t.match(code, /^(ECONNRESET|EPIPE)$/, 'the buyer is told: it was reading, or writing');
  t.ok(performance.now() - sinceMs < 2_000, 'at once');
  received += streams.reduce((sum, stream) => sum + stream.received(), 0);
  const { socket, reply } = await socks();
  t.not(reply, 0, 'what only the other has is refused');
  socket.destroy();
  const here = await socks(rig.username);
  t.equal(here.reply, 0, 'a device here serves');
  here.socket.destroy();
  await nothingIsLeft(t);
  way.mode = 'pass';
  await served();
  await transfer(t, 300_000);
  received += 300_000;
  await nothingIsLeft(t);
});

t.test('silent: found by its pings, streams are reset, and others do not wait for it', async (t) => {
  const before = await statusOf(far);
  const streams = await Promise.all([1, 2, 3].map(async () => pour((await socks()).socket)));
  await until(() => streams.every((stream) => stream.received() > 300_000), 'all are under way');
  way.mode = 'stall';
  cutStreams += streams.length;
  const sinceMs = performance.now();
  for (let i = 0; i < 3; i++) {
    const here = await socks(rig.username);
    t.equal(here.reply, 0, 'a device here serves');
    here.socket.destroy();
  }
  for (const code of await Promise.all(streams.map(({ ended }) => ended)))
    t.match(code, /^(ECONNRESET|EPIPE)$/, 'the buyer is told: it was reading, or writing');
  // Twice the ping, and the beats (1 s) that look for it.
  t.ok(
    performance.now() - sinceMs < 2 * PING_MS + 4_000,
    `after ${Math.round(performance.now() - sinceMs)} ms`,
  );
  received += streams.reduce((sum, stream) => sum + stream.received(), 0);
  const { socket, reply } = await socks();
  t.not(reply, 0, 'what only the other has is refused');
  socket.destroy();
  await nothingIsLeft(t);
  way.mode = 'pass';
  await served();
  const since = await statusOf(far);
  await transfer(t, 300_000);
  received += 300_000;
  const { bytesUp, bytesDown } = await statusOf(far);
  t.same(
    { up: bytesUp - since.bytesUp, down: bytesDown - since.bytesDown },
    { up: 300_000, down: 300_000 },
    'nothing of before is counted again',
  );
  t.ok(bytesUp > before.bytesUp);
  await nothingIsLeft(t);
});

t.test('readers that stand still: both gateways hold little, and the link serves others', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heldBytes = () => {
    collect();
    return process.memoryUsage().external;
  };
  const before = heldBytes();
  const slow = await Promise.all(Array.from({ length: STALLED }, async () => (await socks()).socket));
  const streams = slow.map(pour);
  for (const socket of slow) socket.pause();
  let last = -1;
  await until(async () => {
    const { bytesDown } = await statusOf(far);
    const stands = bytesDown === last;
    last = bytesDown;
    await delay(200);
    return stands;
  }, 'all stand');
  const grownBytes = heldBytes() - before;
  t.ok(grownBytes < STALLED * HELD_BYTES_MAX, `${grownBytes} bytes held in both for ${STALLED} streams`);
  await transfer(t, 1_000_000);
  cutStreams += slow.length;
  for (const socket of slow) socket.resetAndDestroy();
  await Promise.all(streams.map(({ ended }) => ended));
  received += 1_000_000 + streams.reduce((sum, stream) => sum + stream.received(), 0);
  await nothingIsLeft(t);
});
