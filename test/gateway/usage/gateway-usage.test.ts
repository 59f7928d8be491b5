import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { liveKeys } from '../../../gateway/live/keys.js';
import { markReady, writeAccount } from '../../../gateway/live/store.js';
import { type DestinationUsage, settleUsage } from '../../../gateway/live/usage.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { usageBatches } from '../../helpers/usage-batches.js';

let rig: GatewayRig;
t.before(async () => {
  rig = await startGatewayRig({
    TS_USAGE_DELIVERY_INTERVAL_MS: '20',
    TS_USAGE_SWEEP_INTERVAL_MS: '40',
  });
});
t.teardown(() => rig?.stop());

const batches = () => usageBatches(rig.redis, 'test');

/** Waits until all batches in Redis together tell so many bytes down; gives their entries. */
async function untilTold(bytesDown: number): Promise<DestinationUsage[]> {
  for (let tries = 0; tries < 200; tries++) {
    const entries = (await batches()).flatMap((batch) => batch.entries);
    if (entries.reduce((n, e) => n + e.bytesDown, 0) === bytesDown) return entries;
    await delay(25);
  }
  throw new Error(`never: ${bytesDown} bytes told`);
}

const connect = (parameters: string, host: string, port = 443) =>
  socksConnect({
    proxyPort: rig.gateway.proxyPort,
    username: `${rig.username}${parameters}`,
    password: rig.password,
    host,
    port,
  });

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${rig.gateway.metricsPort}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

t.test('from the username and the request into Redis; kept through a wipe until it is booked', async (t) => {
  const { text, record } = await rig.ticket();
  const device = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  await device.greet();
  device.echo();
  const { socket, reply } = await connect('-session-s1-tag-Ads.1', 'WWW.Example.ORG.', 80);
  t.equal(reply, 0);
  let echoed = 0;
  socket.on('data', (chunk: Buffer) => {
    echoed += chunk.length;
  });
  socket.write(Buffer.alloc(1_000));
  const told = await untilTold(1_000);
  t.equal(
    told.reduce((n, e) => n + e.streams, 0),
    1,
  );
  t.match(told.at(-1), {
    sessionId: record.sessionId,
    buyerId: rig.account.buyerId,
    subUserId: null,
    host: 'www.example.org',
    port: 80,
    tag: 'Ads.1',
    sessionName: 's1',
  });
  const [meter] = await rig.meters();
  t.equal(told[0]?.allocationId, meter?.allocationId);

  const before = await batches();
  t.ok(before.every(({ run }) => run === meter?.epoch.slice(0, 24)));
  await rig.redis.flushall();
  await writeAccount(rig.redis, rig.account); // an account that is gone when all is rebuilt would be cut
  await markReady(rig.redis);
  await untilTold(1_000);
  t.same(await batches(), before, 'the same batches again');
  t.equal(await metric('ts_usage_batches_pending'), before.length);
  for (const { run, seq } of before) await settleUsage(rig.redis, 'test', { run, seq }, [[1, seq + 1]]);
  for (let tries = 0; (await metric('ts_usage_batches_pending')) > 0 && tries < 200; tries++) await delay(25);
  t.equal(await metric('ts_usage_batches_pending'), 0);
  t.equal(await rig.redis.exists(liveKeys.usage('test')), 0, 'what is booked does not come again');
  socket.end(Buffer.alloc(500));
  await once(socket, 'close');
  t.equal(echoed, 1_500);
  const rest = await untilTold(500);
  for (let tries = 0; (await metric('ts_usage_flows')) > 0 && tries < 200; tries++) await delay(25);
  t.equal(await metric('ts_usage_flows'), 0, 'a stream that is over is let go of');
  t.same([rest.reduce((n, e) => n + e.bytesUp, 0), rest.reduce((n, e) => n + e.streams, 0)], [500, 0]);
  await rig.redis.del(liveKeys.usage('test'));
  device.socket.terminate();
});

t.test('refusals are told by buyer and code, those of logins where the account is known', async (t) => {
  const told = async () => {
    const sums: Record<string, number> = {};
    for (const { refusals } of await batches())
      for (const { buyerId, code, refusals: count, lastDetail } of refusals) {
        t.equal(buyerId, rig.account.buyerId);
        const name = lastDetail === null ? code : `${code} ${lastDetail}`;
        sums[name] = (sums[name] ?? 0) + count;
      }
    return sums;
  };
  const wrong = { proxyPort: rig.gateway.proxyPort, password: 'wrong', host: 'www.example.org', port: 80 };
  t.equal((await connect('', 'www.example.org', 25)).reply, 2);
  t.equal((await connect('', 'www.example.org', 80)).reply, 3);
  t.equal((await connect('', 'www.example.org', 80)).reply, 3);
  t.equal((await connect('-cuontry-us', 'www.example.org')).auth, 4);
  t.equal((await socksConnect({ ...wrong, username: rig.username })).auth, 1);
  t.equal((await socksConnect({ ...wrong, username: 'nobodyknows' })).auth, 1);
  const wanted = { PORT_BLOCKED: 1, NO_PEER: 2, 'BAD_PARAM cuontry': 1, AUTH_FAILED: 1 };
  for (let tries = 0; tries < 200; tries++) {
    if (Object.keys(await told()).length === Object.keys(wanted).length) break;
    await delay(25);
  }
  t.same(await told(), wanted);
});
