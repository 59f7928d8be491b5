import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { startRedis as startRedisServer } from '../../../deploy/standalone/services/redis.js';
import { connectLive, type LiveRedis } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { readDirtyMeters, readMeters, readSettled, settleMeters } from '../../../gateway/live/meters.js';
import type { MeterReport, SettledMark } from '../../../gateway/live/records.js';
import { MeterDelivery } from '../../../gateway/metering/delivery.js';
import type { MeteringSettings } from '../../../gateway/metering/limits.js';
import type { MeterSink } from '../../../gateway/metering/meter-sink.js';
import { redisMeterSink } from '../../../gateway/metering/redis-sink.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { freePort, redisKinds, startRedis } from '../../helpers/services.js';
import { crash, folder, GATEWAY, type Metering, mustOpen, startMetering, subject } from './harness.js';

function connected(t: Test, url: string): LiveRedis {
  const redis = connectLive({ url, log: silentLog, commandTimeoutMs: 500, reconnectDelayMaxMs: 50 });
  t.teardown(() => redis.disconnect());
  return redis;
}

function deliveryOf(
  t: Test,
  metering: Metering,
  sink: MeterSink,
  settings: Partial<MeteringSettings> = {},
): MeterDelivery {
  const delivery = new MeterDelivery({
    gatewayId: GATEWAY,
    registry: metering.registry,
    sink,
    clock: systemClock,
    log: silentLog,
    settings: { ...metering.settings, ...settings },
  });
  t.teardown(() => delivery.stop());
  return delivery;
}

/** Postgres and settlement as far as a gateway sees them: marks never fall, what is committed is told. */
class Settlement {
  readonly marks = new Map<string, SettledMark>();
  readonly #redis: LiveRedis;
  constructor(redis: LiveRedis) {
    this.#redis = redis;
  }
  async book(reports: Map<string, MeterReport>): Promise<void> {
    for (const [key, report] of reports) {
      const mark = this.marks.get(key) ?? { bytesUp: 0, bytesDown: 0, final: false };
      if (mark.final && (report.bytesUp > mark.bytesUp || report.bytesDown > mark.bytesDown))
        throw new Error('a FINAL meter grew');
      this.marks.set(key, {
        bytesUp: Math.max(mark.bytesUp, report.bytesUp),
        bytesDown: Math.max(mark.bytesDown, report.bytesDown),
        final: mark.final || report.final,
      });
    }
  }
  async tell(keys: Iterable<string>): Promise<void> {
    await settleMeters(
      this.#redis,
      GATEWAY,
      [...keys].map((key) => ({ key, ...(this.marks.get(key) as SettledMark) })),
    );
  }
  /** One round: what is dirty is booked, and told. */
  async round(): Promise<void> {
    const dirty = await readDirtyMeters(this.#redis, GATEWAY, 1_000);
    await this.book(dirty);
    await this.tell(dirty.keys());
  }
  get bytes(): number {
    let sum = 0;
    for (const mark of this.marks.values()) sum += mark.bytesUp + mark.bytesDown;
    return sum;
  }
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 15_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`never: ${what}`);
    await delay(5);
  }
}

for (const kind of redisKinds())
  t.test(`from count to commit on ${kind}`, async (t) => {
    const server = await startRedis(kind);
    t.teardown(() => server.stop());
    const redis = connected(t, server.url);
    const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
    const { registry, journal } = metering;
    const settlement = new Settlement(redis);
    const delivery = deliveryOf(t, metering, redisMeterSink(redis));

    const binding = mustOpen(registry);
    binding.countUp(1_000);
    const { key } = binding.meter;
    t.ok(await delivery.tick());
    t.strictSame((await readMeters(redis, GATEWAY)).get(key), binding.meter.report());
    t.strictSame(await redis.smembers(liveKeys.gateways()), [GATEWAY]);
    await settlement.round();
    binding.countDown(500);
    t.ok(await delivery.tick());
    registry.close(binding, { allocationEnded: true });
    await settlement.round();
    await delivery.tick();
    t.equal(journal.slotsUsed, 1, 'FINAL is delivered, not committed: the slot stays');
    t.strictSame(settlement.marks.get(key), { bytesUp: 1_000, bytesDown: 500, final: false });

    // Postgres has committed, the gateway dies before it hears of it: the next process delivers once more.
    await settlement.book(await readDirtyMeters(redis, GATEWAY, 10));
    const second = await startMetering(t, crash(metering));
    t.equal(second.registry.finalCount, 1);
    const secondDelivery = deliveryOf(t, second, redisMeterSink(redis));
    t.ok(await secondDelivery.tick());
    t.equal(second.journal.slotsUsed, 1);
    await settlement.round();
    t.ok(await secondDelivery.tick());
    t.equal(second.journal.slotsUsed, 0);
    t.equal(second.registry.meterCount, 0);
    t.equal((await readSettled(redis, GATEWAY)).size, 0, 'the mark is forgotten');
    t.equal((await readMeters(redis, GATEWAY)).size, 0);
    t.equal(settlement.bytes, 1_500);
  });

t.test('a wiped or rolled back Redis fills again by itself', async (t) => {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const redis = connected(t, server.url);
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const { registry } = metering;
  const settlement = new Settlement(redis);
  const delivery = deliveryOf(t, metering, redisMeterSink(redis), {
    deliveryIntervalMs: 10,
    deliveryResendMs: 50,
  });
  delivery.start();
  const bindings = Array.from({ length: 20 }, () => mustOpen(registry));
  for (const b of bindings) b.countUp(100);
  for (const b of bindings.slice(0, 5)) registry.close(b, { allocationEnded: true });
  await until('delivered', async () => (await readMeters(redis, GATEWAY)).size === 20);
  const keys = [liveKeys.meters(GATEWAY), liveKeys.dirtyMeters(GATEWAY)];
  const old = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  await redis.flushall();
  await until('filled again', async () => (await readMeters(redis, GATEWAY)).size === 20);
  t.equal((await readDirtyMeters(redis, GATEWAY, 100)).size, 20, 'and settlement is told');

  for (const b of bindings.slice(5)) b.countDown(11);
  await until('grown', async () =>
    [...(await readMeters(redis, GATEWAY)).values()].every((r) => r.final || r.bytesDown === 11),
  );
  await settlement.round();
  // Rolled back to a snapshot of before: old counts, old marks.
  const rollBack = (redis as unknown as Redis).multi().flushall();
  for (const [i, key] of keys.entries()) rollBack.restore(key, 0, old[i] as Buffer);
  await rollBack.exec();
  await until('rolled forward', async () => {
    const meters = [...(await readMeters(redis, GATEWAY)).values()];
    return meters.filter((r) => r.bytesDown === 11).length === 15;
  });
  registry.closeAll({ allocationEnded: true });
  await until('all committed', async () => {
    await settlement.round();
    return registry.meterCount === 0;
  });
  t.equal(settlement.bytes, 20 * 100 + 15 * 11);
  t.equal(metering.journal.slotsUsed, 0);
});

t.test('Redis away: counting goes on, and nothing is missing when it is back', async (t) => {
  const port = await freePort();
  let server = await startRedisServer({ prefer: 'auto', port });
  t.teardown(() => server.stop());
  const redis = connected(t, server.url);
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const { registry } = metering;
  const settlement = new Settlement(redis);
  const delivery = deliveryOf(t, metering, redisMeterSink(redis), {
    deliveryIntervalMs: 10,
    deliveryTimeoutMs: 300,
    deliveryBackoffMsMax: 50,
    deliveryResendMs: 1_000_000,
  });
  delivery.start();
  const idle = mustOpen(registry);
  idle.countUp(77);
  const busy = mustOpen(registry);
  busy.countUp(1);
  await until('delivered', async () => (await readMeters(redis, GATEWAY)).size === 2);
  t.equal(delivery.connected, true);

  await server.kill();
  t.ok(busy.countUp(1));
  await until('noticed', () => !delivery.connected);
  for (let i = 0; i < 100; i++) t.ok(busy.countDown(1_000));
  t.ok(delivery.deliveryLagMs > 0);
  t.equal(delivery.unsettledMeters, 2);
  const lag = delivery.deliveryLagMs;
  await until('more attempts', () => delivery.failures >= 3);
  t.ok(delivery.deliveryLagMs > lag, 'the lag grows while nothing arrives');

  server = await startRedisServer({ prefer: 'auto', port });
  await until(
    'brought again',
    async () => (await readMeters(redis, GATEWAY).catch(() => new Map())).size === 2,
  );
  await until('caught up', () => delivery.deliveryLagMs === 0);
  const meters = await readMeters(redis, GATEWAY);
  t.match(meters.get(busy.meter.key), { bytesUp: 2, bytesDown: 100_000 });
  t.match(meters.get(idle.meter.key), { bytesUp: 77 }, 'also what had not changed meanwhile');

  const flushing = delivery.flush(10_000);
  await until('settled', async () => {
    await settlement.round();
    return registry.meterCount === 0;
  });
  t.strictSame(await flushing, { settled: true, unsettledMeters: 0 });
  t.equal(settlement.bytes, 77 + 2 + 100_000);
});

t.test('late and repeated reports change nothing', async (t) => {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const redis = connected(t, server.url);
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const { registry } = metering;
  const settlement = new Settlement(redis);
  const real = redisMeterSink(redis);
  const sent: MeterReport[][] = [];
  const sink: MeterSink = {
    ...real,
    async report(gatewayId, reports) {
      sent.push(reports);
      await real.report(gatewayId, reports);
      await real.report(gatewayId, sent[Math.floor(Math.random() * sent.length)] as MeterReport[]);
    },
  };
  const delivery = deliveryOf(t, metering, sink);
  const bindings = [mustOpen(registry), mustOpen(registry), mustOpen(registry)];
  let counted = 0;
  for (let i = 0; i < 60; i++) {
    const binding = bindings[i % 3] as (typeof bindings)[0];
    if (binding.countUp(i)) counted += i;
    if (i === 40) registry.close(bindings[0] as (typeof bindings)[0], { allocationEnded: true });
    await delivery.tick();
    if (i % 4 === 0) await settlement.round();
  }
  registry.closeAll({ allocationEnded: true });
  for (let i = 0; i < 5; i++) {
    await delivery.tick();
    await settlement.round();
  }
  t.equal(registry.meterCount, 0);
  t.equal(settlement.bytes, counted);

  // A report that came after its meter was freed is booked as nothing, and marked once more: that mark goes, too.
  for (const reports of sent.slice(-3)) await real.report(GATEWAY, reports);
  await settlement.round();
  t.ok((await readSettled(redis, GATEWAY)).size > 0);
  const live = mustOpen(registry);
  live.countUp(1);
  await delivery.tick();
  await settlement.round();
  for (let i = 0; i < 90; i++) await delivery.tick();
  t.strictSame([...(await readSettled(redis, GATEWAY)).keys()], [live.meter.key]);
  t.equal(settlement.bytes, counted + 1);
});

/** A sink in memory that can hang or fail. */
class ScriptedSink implements MeterSink {
  mode: 'works' | 'fails' | 'hangs' = 'works';
  readonly batches: string[][] = [];
  readonly asked: string[][] = [];
  marks = new Map<string, SettledMark>();
  async #gate(): Promise<void> {
    if (this.mode === 'fails') throw new Error('away');
    if (this.mode === 'hangs') await new Promise(() => {});
  }
  async report(_gatewayId: string, reports: MeterReport[]): Promise<void> {
    await this.#gate();
    this.batches.push(reports.map((r) => r.sessionId));
  }
  async settled(_gatewayId: string, keys: string[]): Promise<Array<SettledMark | null>> {
    await this.#gate();
    this.asked.push(keys);
    return keys.map((key) => this.marks.get(key) ?? null);
  }
  async forget(): Promise<void> {}
  async marked(): Promise<{ cursor: string; keys: string[] }> {
    return { cursor: '0', keys: [] };
  }
}

t.test('a tick does a bounded amount of work', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const { registry } = metering;
  const sink = new ScriptedSink();
  const delivery = deliveryOf(t, metering, sink, {
    deliveryBatchMeters: 4,
    deliveryBatchesPerTick: 3,
    deliveryPollMeters: 5,
    deliveryIntervalMs: 1,
    deliveryResendMs: 1_000_000,
  });
  const bindings = Array.from({ length: 30 }, () => mustOpen(registry));
  await delivery.tick();
  t.strictSame(
    sink.batches.slice(0, 3).map((b) => b.length),
    [4, 4, 4],
  );
  t.ok(sink.batches.length <= 4, 'and at most a share of what is sent again');
  await delivery.tick();
  await delivery.tick();
  t.equal(new Set(sink.batches.flat()).size, 30, 'the rest follows');
  for (const b of bindings.slice(0, 12)) registry.close(b, { allocationEnded: true });
  for (let i = 0; i < 3; i++) await delivery.tick();
  t.strictSame(
    sink.asked.map((keys) => keys.length),
    [5, 5, 5],
  );
  t.equal(new Set(sink.asked.flat()).size, 12, 'all in turn');
});

t.test('a meter that counts while it is sent is sent once a tick', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const binding = mustOpen(metering.registry);
  const sink = new ScriptedSink();
  const report = sink.report.bind(sink);
  sink.report = async (gatewayId, reports) => {
    binding.countDown(1_000);
    await report(gatewayId, reports);
  };
  const delivery = deliveryOf(t, metering, sink, { deliveryResendMs: 1_000_000_000 });
  binding.countDown(1_000);
  for (const ticks of [1, 2, 3]) {
    await delivery.tick();
    t.equal(sink.batches.length, ticks, 'nor is it sent again as one that was not sent for long');
  }
  t.equal(metering.registry.changeCount, 1, 'what came meanwhile waits for the next tick');
});

t.test('what only grows is delivered in its time, what is new or FINAL at once', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'), {
    limits: { deliveryGrowthMs: 1_000 },
  });
  const { registry, clock } = metering;
  const sink = new ScriptedSink();
  const delivery = deliveryOf(t, metering, sink, { deliveryResendMs: 1_000_000_000 });
  const [growing, ending] = [mustOpen(registry), mustOpen(registry)];
  const tick = async (afterMs: number) => {
    clock.advance(afterMs);
    const from = sink.batches.length;
    await delivery.tick();
    return sink.batches.slice(from).flat();
  };
  t.equal((await tick(0)).length, 2, 'new ones at once');
  const startedMs = clock.nowMs();
  growing.countUp(1);
  ending.countUp(1);
  t.strictSame(await tick(250), []);
  growing.countUp(2);
  t.equal(growing.meter.report().activeAtMs, startedMs, 'the time is that of the first count that waits');
  registry.close(ending, { allocationEnded: true });
  t.strictSame(await tick(250), [ending.meter.identity.sessionId], 'FINAL ones do not wait');
  t.equal(registry.changeCount, 1);
  t.equal(registry.oldestChangeMs, clock.monotonicMs() - 500, 'what is FINAL waits no more');
  t.strictSame(await tick(499), []);
  t.strictSame(await tick(1), [growing.meter.identity.sessionId]);
  t.equal(registry.changeCount, 0);
  growing.countUp(4);
  t.equal(growing.meter.report().activeAtMs, clock.nowMs());
  t.strictSame(await tick(999), [], 'from the first count after a delivery');
  t.strictSame(await tick(1), [growing.meter.identity.sessionId]);

  growing.countUp(8);
  sink.report = async () => {
    throw new Error('away');
  };
  clock.advance(1_000);
  t.equal(await delivery.tick(), false);
  t.equal(registry.takeChanges(9).length, 1, 'what could not be delivered is due at once');
});

t.test('a live state that hangs counts as away', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const { registry } = metering;
  const sink = new ScriptedSink();
  const delivery = deliveryOf(t, metering, sink, { deliveryTimeoutMs: 30, deliveryResendMs: 1_000_000 });
  const binding = mustOpen(registry);
  binding.countUp(1);
  sink.mode = 'hangs';
  t.equal(await delivery.tick(), false);
  sink.mode = 'fails';
  t.equal(await delivery.tick(), false);
  t.equal(delivery.failures, 2);
  sink.mode = 'works';
  t.equal(await delivery.tick(), true);
  t.strictSame(sink.batches[0], [binding.meter.identity.sessionId]);
  t.ok(delivery.deliveryLagMs < 30, 'what is sent again at the return is not old');
  await delivery.tick();
  t.equal(delivery.deliveryLagMs, 0);

  // After an outage everything goes again at once, not only by the walk: Redis may have come back empty.
  for (let i = 0; i < 30; i++) mustOpen(registry);
  await delivery.tick();
  binding.countUp(1);
  sink.mode = 'fails';
  t.equal(await delivery.tick(), false);
  sink.mode = 'works';
  await delivery.tick();
  sink.batches.length = 0;
  await delivery.tick();
  t.equal(new Set(sink.batches.flat()).size, 31);
});

t.test('flush ends in time and says what is left; the journal keeps it', async (t) => {
  const metering = await startMetering(t, join(folder(t), 'journal'), { clock: systemClock });
  const { registry } = metering;
  const sink = new ScriptedSink();
  const delivery = deliveryOf(t, metering, sink, { deliveryTimeoutMs: 500 });
  const a = mustOpen(registry, subject());
  const b = mustOpen(registry, subject());
  a.countUp(5);
  b.countUp(6);
  sink.marks.set(a.meter.key, { bytesUp: 5, bytesDown: 0, final: true });
  sink.marks.set(b.meter.key, { bytesUp: 5, bytesDown: 0, final: true });
  t.strictSame(await delivery.flush(200), { settled: false, unsettledMeters: 1 });
  t.notOk(a.countUp(1), 'all meters are FINAL');
  t.ok(delivery.marksShort > 0, 'a FINAL mark that lacks bytes is told and not taken');
  sink.mode = 'hangs';
  t.strictSame(await delivery.flush(50), { settled: false, unsettledMeters: 1 });
  t.strictSame(
    delivery.snapshot().map((r) => [r.bytesUp, r.final]),
    [[6, true]],
  );
  const next = await startMetering(t, crash(metering));
  t.strictSame(next.registry.snapshot(), delivery.snapshot());
});
