import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { startRedis as startRedisServer } from '../../../deploy/standalone/services/redis.js';
import { connectLive } from '../../../gateway/live/connection.js';
import type { MeterReport, SettledMark } from '../../../gateway/live/records.js';
import { MeterDelivery } from '../../../gateway/metering/delivery.js';
import {
  DirectDeliveryError,
  directMeterSink,
  type FailoverSink,
  failoverMeterSink,
} from '../../../gateway/metering/direct-sink.js';
import type { MeterSink } from '../../../gateway/metering/meter-sink.js';
import { redisMeterSink } from '../../../gateway/metering/redis-sink.js';
import { ManualClock, systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startWorld, TEST_ENV, type TestWorld } from '../../helpers/control-plane.js';
import { addBuyer, addSession, addUser } from '../../helpers/money-world.js';
import { freePort, startMigratedPostgres } from '../../helpers/services.js';
import { crash, folder, GATEWAY, type Metering, mustOpen, startMetering, subject } from './harness.js';

const SECRET = TEST_ENV.TS_INTERNAL_SECRET;

function directOf(world: TestWorld, secret = SECRET): MeterSink {
  return directMeterSink({ controlPlaneUrl: world.url, secret, timeoutMs: 5_000 });
}

/** Delivery as the gateway wires it, over a Redis that is tried on the given URL. */
function startDelivery(
  t: Test,
  world: TestWorld,
  redisUrl: string,
  metering: Metering,
): { sink: FailoverSink; delivery: MeterDelivery } {
  const redis = connectLive({
    url: redisUrl,
    log: silentLog,
    commandTimeoutMs: 300,
    reconnectDelayMaxMs: 50,
  });
  t.teardown(() => redis.disconnect());
  const sink = failoverMeterSink({
    redis: redisMeterSink(redis),
    direct: directOf(world),
    directAfterMs: 300,
    atOnce: metering.journal.replayed.length > 0,
    probeIntervalMs: 50,
    clock: systemClock,
    log: silentLog,
  });
  const delivery = new MeterDelivery({
    gatewayId: GATEWAY,
    registry: metering.registry,
    sink,
    clock: systemClock,
    log: silentLog,
    settings: {
      ...metering.settings,
      deliveryIntervalMs: 20,
      deliveryResendMs: 200,
      deliveryBackoffMsMax: 100,
    },
  });
  t.teardown(() => delivery.stop());
  delivery.start();
  return { sink, delivery };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited too long: ${what}`);
    await delay(10);
  }
}

t.test('meters go straight to settlement while Redis is away', async (t) => {
  const postgres = await startMigratedPostgres();
  t.teardown(() => postgres.stop());
  const port = await freePort();
  let server = await startRedisServer({ prefer: 'auto', port });
  t.teardown(() => server.stop());
  const redisUrl = server.url;
  const world = await startWorld(t, { background: true, share: { databaseUrl: postgres.url, redisUrl } });
  const { pool } = world;
  const session = await addSession(pool, await addUser(pool));
  const buyerId = await addBuyer(pool);
  const given = () => subject({ sessionId: session.sessionId, buyerId });
  const booked = async () =>
    Number((await pool.query('SELECT coalesce(sum(bytes_up + bytes_down), 0) AS n FROM meters')).rows[0].n);

  const path = join(folder(t), 'meters.journal');
  const first = await startMetering(t, path);
  const { sink, delivery } = startDelivery(t, world, redisUrl, first);
  const open = [mustOpen(first.registry, given()), mustOpen(first.registry, given())];
  let counted = 0;
  const count = (bytes: number) => {
    for (const binding of open) {
      binding.countUp(bytes);
      counted += bytes;
    }
  };

  await t.test('through Redis while it is there', async (t) => {
    count(10_000);
    await until('booked through Redis', async () => (await booked()) === counted);
    t.equal(sink.direct, false);
    t.equal(sink.reportsDirect, 0);
  });

  await t.test('direct within seconds once it is gone, FINAL meters are freed', async (t) => {
    await server.stop();
    count(50_000);
    const startMs = performance.now();
    await until('booked directly', async () => (await booked()) === counted);
    t.ok(performance.now() - startMs < 10_000, 'within seconds');
    t.equal(sink.direct, true);
    count(1_000);
    first.registry.close(open.pop() as never, { allocationEnded: true });
    await until('the FINAL is committed and its slot free', () => first.registry.meterCount === 1);
    t.equal(await booked(), counted);
    t.ok(delivery.connected, 'and the delivery counts as working');
  });

  await t.test('back to Redis as soon as it answers, empty, and nothing twice', async (t) => {
    server = await startRedisServer({ prefer: 'auto', port });
    await until('back', () => !sink.direct);
    count(7_000);
    await until('booked again', async () => (await booked()) === counted);
    // From here on: one that was under way when Redis answered has gone the direct way.
    const direct = sink.reportsDirect;
    count(3_000);
    await until('booked through Redis', async () => (await booked()) === counted);
    await until('everything was sent again', () => delivery.reportsSent > direct + 20);
    await world.services.settlement.settleNow();
    t.equal(await booked(), counted);
    t.equal(sink.reportsDirect, direct, 'none went the direct way');
    t.same(await invariants(pool), []);
  });

  await t.test('a start with meters of an earlier run does not wait for Redis', async (t) => {
    count(3_000);
    await delivery.stop();
    const copy = crash(first);
    await server.stop();
    const second = await startMetering(t, copy);
    t.equal(second.journal.replayed.length, 1);
    const restarted = startDelivery(t, world, redisUrl, second);
    await until('the replayed meter is committed', () => second.registry.meterCount === 0);
    t.equal(restarted.sink.direct, true);
    t.equal(await booked(), counted);
    server = await startRedisServer({ prefer: 'auto', port });
    await until('back', () => !restarted.sink.direct);
    t.same(await invariants(pool), []);
  });

  await t.test('only with the secret, and checked like any report', async (t) => {
    const path = '/internal/meters';
    const headers = { 'x-internal-secret': SECRET };
    const body = { gateway_id: GATEWAY, reports: [] as object[] };
    t.equal((await world.call('POST', path, { body })).status, 401);
    t.equal(
      (await world.call('POST', path, { body, headers: { 'x-internal-secret': 'wrong' } })).status,
      401,
    );
    await t.rejects(directOf(world, 'wrong').report(GATEWAY, [{ ...reportOf(first), bytesUp: 1 }]), {
      code: 'DIRECT_DELIVERY_FAILED',
      status: 401,
    });
    const before = await booked();
    const odd = { ...reportOf(first), bytesUp: -1, bytesDown: 2 ** 60 };
    const answer = await world.call('POST', path, {
      headers,
      body: { ...body, reports: [odd, {}, { ...reportOf(first), buyerId: 'nobody' }] },
    });
    t.same(answer.body, { marks: [] }, 'what cannot be booked is not acknowledged');
    t.equal(await booked(), before);
    const many = Array.from({ length: 1_001 }, () => ({}));
    t.equal((await world.call('POST', path, { headers, body: { ...body, reports: many } })).status, 400);
    const large = [{ text: 'x'.repeat(1_100_000) }];
    t.equal((await world.call('POST', path, { headers, body: { ...body, reports: large } })).status, 413);
  });
});

const reportOf = (metering: Metering): MeterReport => metering.registry.snapshot()[0] as MeterReport;

t.test('when to take which way', async (t) => {
  const clock = new ManualClock();
  let redisWorks = true;
  const mark: SettledMark = { bytesUp: 1, bytesDown: 2, final: true };
  const calls: string[] = [];
  const sinkOf = (name: string, works: () => boolean): MeterSink => {
    const call =
      <T>(what: string, answer: T) =>
      async () => {
        if (!works()) throw new Error('away');
        calls.push(`${name} ${what}`);
        return answer;
      };
    return {
      report: call('report', undefined),
      settled: call('settled', name === 'direct' ? [mark, null] : [null, null]),
      forget: call('forget', undefined),
      marked: call('marked', { cursor: '0', keys: [] }),
    };
  };
  const make = (atOnce: boolean) =>
    failoverMeterSink({
      redis: sinkOf('redis', () => redisWorks),
      direct: sinkOf('direct', () => true),
      directAfterMs: 3_000,
      atOnce,
      clock,
      log: silentLog,
    });
  const sink = make(false);
  await sink.report('g', []);
  redisWorks = false;
  await t.rejects(sink.report('g', []), 'not at the first failure');
  clock.advance(2_999);
  await t.rejects(sink.report('g', []));
  clock.advance(1);
  calls.length = 0;
  await sink.report('g', []);
  t.same(calls, ['direct report']);
  t.same(await sink.settled('g', ['a', 'b']), [mark, null], 'marks of the direct way are found');
  clock.advance(1_000);
  redisWorks = true;
  await sink.report('g', []);
  await delay(0);
  calls.length = 0;
  t.equal(sink.direct, false, 'the probe beside it brought it back');
  await sink.report('g', []);
  t.same(calls, ['redis report']);
  t.same(await sink.settled('g', ['a', 'b']), [mark, null], 'and they stand afterwards');

  redisWorks = false;
  await t.rejects(sink.report('g', []), 'counted anew after a success');
  const started = make(true);
  await started.report('g', []);
  t.equal(started.direct, true, 'at once after a start with old meters');
  t.ok(new DirectDeliveryError(503).message.includes('503'));
});
