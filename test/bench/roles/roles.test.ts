/** The roles of the phases under load, as processes on real sockets, at a small size. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import t, { type Test } from 'tap';
import { startGatewayRig } from '../../helpers/gateway.js';
import { startMoneyDatabase } from '../../helpers/money-world.js';
import { mixOf } from '../load/load-options.js';
import { until } from '../load/until.js';
import type { Endpoint, OriginCalls, Payload, Route } from '../protocol.js';
import { HOLD, RESPONSE } from '../protocol.js';
import { type Role, startRole } from '../role.js';
import { Books } from '../systems/books.js';
import { FLEET_NETWORK, fleetRecords } from '../systems/fleet.js';
import type { MixedCalls, MixedTraffic } from './mixed.js';
import type { OffersCalls } from './offers.js';
import type { TunnelsCalls } from './tunnels.js';

const TRAFFIC: Omit<MixedTraffic, 'usernames'> = {
  mix: mixOf(40),
  trickleBytes: 300,
  trickleEveryMs: 100,
  requestEveryMs: 100,
  bulkBytes: 1 << 20,
  bulkEveryMs: 100,
};

/** A role that ends with the test. */
function role<Calls extends object>(t: Test, name: string): Role<Calls> {
  const started = startRole<Calls>(name);
  t.teardown(() => started.stop());
  return started;
}

const direct = ({ host, port }: Endpoint): Route => ({
  kind: 'direct',
  host,
  port,
  username: '',
  password: '',
});
const payload = ({ bytesUp, bytesDown }: Payload): Payload => ({ bytesUp, bytesDown });

async function listen(t: Test, server: Server): Promise<Endpoint> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

t.test('devices serve mixed traffic, are cut off, vanish and come back', async (t) => {
  const origin = role<OriginCalls>(t, 'origin');
  const at = await origin.call.listen();
  const rig = await startGatewayRig({
    TS_TRUSTED_PROXIES: '127.0.0.1',
    TS_DEV_ALLOW: `${at.host}:${at.port}`,
  });
  t.teardown(() => rig.stop());
  const site = {
    tunnelUrl: `ws://127.0.0.1:${rig.gateway.tunnelPort}/tunnel`,
    redisUrl: rig.config.redisUrl,
  };
  const records = fleetRecords(4);
  const first = role<TunnelsCalls>(t, 'tunnels');
  await first.call.open(site, records);
  t.equal((await rig.status()).tunnels, 4);

  const client = role<MixedCalls>(t, 'mixed');
  const route: Route = {
    kind: 'socks5',
    host: '127.0.0.1',
    port: rig.gateway.proxyPort,
    username: rig.username,
    password: rig.password,
  };
  const usernames = records.map((_, n) => `${rig.username}-net-${FLEET_NETWORK}-session-s${n}`);
  await client.call.start(route, at, { ...TRAFFIC, usernames });
  const worked = await until(10_000, async () => {
    const { echoes, requests, transfers } = await client.call.figures();
    return echoes > 20 && requests > 4 && transfers > 4;
  });
  t.ok(worked, 'every kind of traffic');
  const counted = await client.call.finish();
  t.match(counted, { errors: 0, firstError: null, refused: 0 });
  t.same(payload(await origin.call.totals()), payload(counted), 'the origin counted the same');
  const sum = async () =>
    (await rig.meters()).reduce(
      (all, { bytesUp, bytesDown }) => ({
        bytesUp: all.bytesUp + bytesUp,
        bytesDown: all.bytesDown + bytesDown,
      }),
      { bytesUp: 0, bytesDown: 0 },
    );
  await until(5_000, async () => (await sum()).bytesDown >= counted.bytesDown);
  t.same(await sum(), payload(counted), 'so did the meters');
  t.same(
    new Set((await rig.meters()).map(({ sessionId }) => sessionId)),
    new Set(records.map(({ sessionId }) => sessionId)),
    'each device had its part',
  );

  const back = await first.call.cutAndReturn(10_000);
  t.match(back, { missing: 0, failures: 0, failure: null });
  t.equal(back.welcomedMs.length, 4);
  t.equal((await rig.status()).tunnels, 4);
  t.same(await first.call.losses(), { lost: 0, reason: null }, 'those cut here are not lost');

  t.teardown(() => first.kill()); // stopped, it would never end by itself
  process.kill(first.pid, 'SIGSTOP');
  const second = role<TunnelsCalls>(t, 'tunnels');
  t.match(await second.call.returnFrom(site, records, 10_000), { missing: 0, failures: 0 });
  t.equal((await rig.status()).tunnels, 4, 'the new tunnels took the place of the old ones');
  await first.kill();
  t.same(await second.call.losses(), { lost: 0, reason: null });

  await rig.gateway.stop(0);
  await until(5_000, async () => (await second.call.losses()).lost === 4);
  t.match(await second.call.losses(), { lost: 4, reason: /a tunnel closed: / });
  t.match(await second.call.returnFrom(site, records, 1_500), {
    missing: 4,
    welcomedMs: [],
    failure: /connect_failed/,
  });
});

t.test('streams that break, and connections that never become one, are told apart', async (t) => {
  const breaks = await listen(
    t,
    createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (bytes) => {
        if (bytes[0] === HOLD) socket.write(Buffer.of(HOLD));
        else socket.destroy();
      });
    }),
  );
  const shut = await listen(
    t,
    createServer((socket) => socket.destroy()),
  );
  const client = role<MixedCalls>(t, 'mixed');
  const mix = { idle: 2, trickle: 0, request: 1, bulk: 0 };
  await client.call.start(direct(breaks), breaks, { ...TRAFFIC, mix, usernames: [''] });
  const socks: Route = { ...direct(shut), kind: 'socks5' };
  await client.call.start(socks, shut, { ...TRAFFIC, mix: { ...mix, idle: 0 }, usernames: [''] });
  const both = await until(5_000, async () => {
    const { errors, refused } = await client.call.figures();
    return errors > 0 && refused > 0;
  });
  t.ok(both);
  t.match(await client.call.finish(), { firstError: 'a request: 0 of 185 bytes', requests: 0 });
});

t.test('an open loop: what was done, refused and held back', async (t) => {
  let accepted = 0;
  const at = await listen(
    t,
    createServer((socket) => {
      socket.on('error', () => {});
      accepted++;
      if (accepted % 4 === 0) socket.destroy();
      else socket.once('data', () => socket.end(RESPONSE));
    }),
  );
  const client = role<OffersCalls>(t, 'offers');
  const result = await client.call.offer(direct(at), at, { perSecond: 200, durationMs: 500, openMax: 1_000 });
  t.match(result, { due: 100, heldBack: 0, lost: 0, firstLoss: null });
  t.equal(result.begun, accepted);
  const refused = result.refusalMs.length;
  t.equal(result.done + refused, result.begun);
  t.equal(refused, Math.floor(accepted / 4));
  t.equal(
    Object.values(result.refusals).reduce((sum, n) => sum + n, 0),
    refused,
  );
  t.ok(result.doneInTime > 0 && result.doneInTime <= result.done);
  t.equal(result.requests.filter(({ tookMs }) => tookMs === null).length, refused);

  const slow = await listen(
    t,
    createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => setTimeout(() => socket.end(RESPONSE), 300));
    }),
  );
  const few = await client.call.offer(direct(slow), slow, { perSecond: 100, durationMs: 500, openMax: 5 });
  t.equal(few.due, 50);
  t.ok(few.begun <= 10 && few.heldBack > 0, 'five at a time, and nothing waits for its turn');
});

t.test('sessions for the devices are in the books, which add up', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { connectionString } = pool.options as { connectionString: string };
  const books = new Books(connectionString);
  t.teardown(() => books.close());
  const records = fleetRecords(300);
  t.equal(new Set(records.map(({ exitIp }) => exitIp)).size, 300, 'an exit for each');
  await books.addSessions(records);
  t.same(await books.booked(), { bytesUp: 0, bytesDown: 0 });
  t.equal(await books.sessionsUsed(records), 0);
  t.equal(await books.ledgerSum(), 0);
  t.same(await books.faults(), []);
  const { rows } = await pool.query("SELECT count(*)::int AS n FROM packages WHERE status = 'available'");
  t.same(rows, [{ n: 300 }]);
});
