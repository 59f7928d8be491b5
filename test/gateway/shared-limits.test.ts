/** A buyer's limits over several gateways: real ones on a real Redis, entered at each and by links. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Gateway } from '../../gateway/gateway-contract.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { markReady, writeAccount, writeLiveSettings, writeProviderPrice } from '../../gateway/live/store.js';
import { floodDevice } from '../helpers/flood-device.js';
import { startGatewayRig } from '../helpers/gateway.js';
import {
  type Asked,
  buyer,
  echoDevice,
  INTERVAL_MS,
  LIMITED,
  open,
  openMany,
  served,
  sum,
  thenExactly,
  told,
  until,
} from '../helpers/limited-buyer.js';
import { startLinkCa } from '../helpers/link-certificates.js';

t.setTimeout(240_000);

const MB = 1_000_000;

async function rigOfTwo(t: Test, env: Record<string, string> = {}) {
  const rig = await startGatewayRig(env);
  t.teardown(() => rig.stop());
  const b = await rig.another('b', env);
  return { rig, a: rig.gateway, b };
}

t.test('streams: entered at each of two gateways', async (t) => {
  const { rig, a, b } = await rigOfTwo(t);
  for (const at of [a, b]) await echoDevice(t, rig, at);
  const who = await buyer(rig, { streamsMax: 10 });
  const live = served((await Promise.all([openMany(20, rig, a, who), openMany(20, rig, b, who)])).flat());
  t.ok(
    live.length >= 10 && live.length <= 20,
    `${live.length} at once: each may not have heard of the other`,
  );
  await until(async () => sum(await told(rig, who)) === live.length, 'all are known');
  await delay(2 * INTERVAL_MS);
  for (const at of [a, b])
    for (const { reply } of await openMany(10, rig, at, who)) t.equal(reply, LIMITED, 'no more');
  t.ok(
    live.every(({ socket }) => !socket.destroyed),
    'nobody is cut',
  );
  await thenExactly(t, rig, [[a], [b]], who, live);
  await until(async () => sum(await told(rig, who)) === 0, 'nothing is left');
  await until(async () => (await rig.redis.exists(liveKeys.limitUse(who.buyerId))) === 0, 'nor a record');
});

t.test('streams: linked ones count where the device is, and nowhere else', async (t) => {
  const ca = await startLinkCa(t);
  const rig = await startGatewayRig(await ca.settings('test'));
  t.teardown(() => rig.stop());
  const [a, b] = [rig.gateway, await rig.another('b', await ca.settings('b'))];
  for (let i = 0; i < 4; i++) await echoDevice(t, rig, b);
  const stranger = await buyer(rig, {});
  await until(async () => served(await openMany(1, rig, a, stranger)).length === 1, 'a knows what b has');

  const rated = await buyer(rig, { connectionsPerSecondMax: 30 });
  // One device for all of them, which the first one takes.
  const asked = served([
    ...(await openMany(1, rig, a, rated, '-session-one')),
    ...(await openMany(29, rig, a, rated, '-session-one')),
  ]);
  t.equal(asked.length, 30, 'a connection by a link uses up one of thirty a second, not two');
  t.same(Object.keys(await told(rig, rated)), ['b']);

  const who = await buyer(rig, { streamsMax: 10 });
  const live = served([
    ...(await openMany(1, rig, a, who, '-session-one')),
    ...(await openMany(39, rig, a, who, '-session-one')),
  ]);
  t.equal(live.length, 10, 'all ten at one gateway: exactly, at once');
  await until(async () => (await told(rig, who)).b === 10, 'ten are known');
  t.same(await told(rig, who), { b: 10 }, 'and not at the gateway they entered');
  for (const { socket } of [...asked, ...live]) socket.destroy();
});

t.test('streams: entered at one gateway, devices at both', async (t) => {
  const ca = await startLinkCa(t);
  const env = { TS_DEV_LOOPBACK_COUNTRY: 'FR' };
  const rig = await startGatewayRig(await ca.settings('test'));
  t.teardown(() => rig.stop());
  const [a, b] = [rig.gateway, await rig.another('b', { ...env, ...(await ca.settings('b')) })];
  await echoDevice(t, rig, a, 'US');
  await echoDevice(t, rig, b, 'FR');
  const who = await buyer(rig, { streamsMax: 10 });
  await until(async () => {
    const { socket, reply } = await open(rig, a, who, '-cc-fr');
    socket.destroy();
    return reply === 0;
  }, 'a knows what b has');
  const ways = [
    [a, '-cc-us-session-one'],
    [a, '-cc-fr-session-two'],
  ] as const;
  const live: Asked[] = [];
  for (const way of ways) live.push(...served([await open(rig, way[0], who, way[1])]));
  t.equal(live.length, 2, 'one at each');
  const many = await Promise.all(ways.map(([at, more]) => openMany(19, rig, at, who, more)));
  live.push(...served(many.flat()));
  t.ok(live.length >= 6 && live.length <= 20, `${live.length} at once`);
  await until(async () => sum(await told(rig, who)) === live.length, 'each is known once');
  t.same(Object.keys(await told(rig, who)).sort(), ['b', 'test'], 'at its device');
  await thenExactly(t, rig, ways, who, live);
});

t.test('connections a second over two gateways', async (t) => {
  const { rig, a, b } = await rigOfTwo(t);
  for (const at of [a, b]) await echoDevice(t, rig, at);
  const RATE = 20;
  const who = await buyer(rig, { connectionsPerSecondMax: RATE });
  const counts = [0, 0];
  let over = false;
  /** Five in turn ask all the time: some two hundred a second. */
  const ask = async (at: Gateway, n: number) => {
    while (!over) {
      const { socket, reply } = await open(rig, at, who);
      socket.destroy();
      if (reply === 0) counts[n] = (counts[n] ?? 0) + 1;
      else await delay(20);
    }
  };
  const asking = [a, b].flatMap((at, n) => Array.from({ length: 5 }, () => ask(at, n)));
  await delay(3_000);
  const [before, startMs] = [[...counts], performance.now()];
  await delay(6_000);
  const got = counts.map((count, n) => count - (before[n] ?? 0));
  const tookS = (performance.now() - startMs) / 1_000;
  over = true;
  await Promise.all(asking);
  const perSecond = got.reduce((all, one) => all + one) / tookS;
  t.comment(`${got} in ${tookS.toFixed(1)} s`);
  t.ok(perSecond <= 1.1 * RATE && perSecond >= 0.75 * RATE, `${perSecond} a second`);
  t.ok(
    got.every((one) => one > RATE * tookS * 0.2),
    'nobody starves',
  );
});

t.test('bandwidth over two gateways', async (t) => {
  const { rig, a, b } = await rigOfTwo(t);
  for (const at of [a, b]) {
    const device = await floodDevice(at.tunnelPort, (await rig.ticket()).text);
    t.teardown(() => device.socket.terminate());
  }
  const RATE = 4 * MB;
  const who = await buyer(rig, { bandwidthBytesPerSecondMax: RATE });
  const statusOf = async ({ metricsPort }: Gateway) => {
    const status = (await (await fetch(`http://127.0.0.1:${metricsPort}/status`)).json()) as {
      bytesDown: number;
    };
    return status.bytesDown;
  };
  /** Counted bytes a second at each over so many ms. */
  const measure = async (ms: number) => {
    const read = async () => ({ bytes: await Promise.all([a, b].map(statusOf)), atMs: performance.now() });
    const before = await read();
    await delay(ms);
    const after = await read();
    return after.bytes.map(
      (bytes, n) => ((bytes - (before.bytes[n] ?? 0)) * 1_000) / (after.atMs - before.atMs),
    );
  };
  const ofA = served(await openMany(3, rig, a, who));
  await delay(2_000);
  const [alone = 0] = await measure(2_000);
  t.ok(alone > 0.85 * RATE && alone <= 1.1 * RATE, `${alone} at one alone`);
  const startMs = performance.now();
  const ofB = served(await openMany(1, rig, b, who));
  const [first = 0, second = 0] = await measure(3_000);
  t.ok(first + second <= 1.1 * RATE, `${first} + ${second} while the other comes`);
  const [most = 0, least = 0] = await measure(5_000);
  t.comment(`${most} + ${least}, ${performance.now() - startMs} ms after`);
  t.ok(most + least <= 1.1 * RATE && most + least > 0.85 * RATE, `${most} + ${least}`);
  t.ok(least > 0.15 * RATE && most > 0.5 * RATE, 'by streams that wait');
  for (const { socket } of ofA) socket.destroy();
  await until(async () => ((await measure(500))[1] ?? 0) > 0.85 * RATE, 'b has all of it');
  const [none = 0, all = 0] = await measure(2_000);
  t.ok(none + all <= 1.1 * RATE, `${none} + ${all}`);
  for (const { socket } of ofB) socket.destroy();
});

t.test('Redis killed, and back empty', async (t) => {
  const { rig, a, b } = await rigOfTwo(t);
  for (const at of [a, b]) await echoDevice(t, rig, at);
  const who = await buyer(rig, { streamsMax: 10 });
  const live = served(await openMany(6, rig, a, who));
  t.equal(live.length, 6);
  live.push(...served(await openMany(1, rig, b, who)));
  await until(async () => sum(await told(rig, who)) === 7, 'seven are known');
  await delay(2 * INTERVAL_MS);
  const restart = await rig.killRedis();
  live.push(...served(await openMany(10, rig, b, who)));
  t.equal(live.length, 10, 'six are known to be at a');
  await restart();
  await until(() => rig.redis.status === 'ready', 'it is back');
  await writeAccount(rig.redis, who);
  await writeProviderPrice(rig.redis, { microsPerGb: '500000', effectiveFromMs: 0 });
  await writeLiveSettings(rig.redis, {
    ...{ policyVersion: 1, termsVersion: '1' },
    ...{ deniedDomains: [], deniedIps: [] },
  });
  await markReady(rig.redis);
  const tookMs = await until(async () => {
    const counts = await told(rig, who);
    return counts.test === 6 && counts.b === 4;
  }, 'all is known again');
  t.comment(`known again ${Math.round(tookMs)} ms after`);
  await delay(2 * INTERVAL_MS);
  for (const at of [a, b])
    for (const { reply } of await openMany(5, rig, at, who)) t.not(reply, 0, 'no more than ten');
  for (const { socket } of live) socket.destroy();
});
