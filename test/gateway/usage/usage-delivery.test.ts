import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { connectLive, type LiveRedis } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import {
  type DestinationUsage,
  deliverUsage,
  forgetUsageGatewayWhenGone,
  listUsageBatches,
  readUsageBatch,
  readUsageGateways,
  type SeqRange,
  settleUsage,
} from '../../../gateway/live/usage.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { USAGE_DEFAULTS, type UsageSettings } from '../../../gateway/usage/limits.js';
import { RefusalBook } from '../../../gateway/usage/refusal-book.js';
import { UsageBook, type UsageSubject } from '../../../gateway/usage/usage-book.js';
import { UsageDelivery } from '../../../gateway/usage/usage-delivery.js';
import { redisKinds, startRedis } from '../../helpers/services.js';

const GATEWAY = 'gw-1';
const newRun = () => randomBytes(12).toString('hex');

interface Rig {
  redis: LiveRedis;
  clock: ManualClock;
  book: UsageBook;
  delivery: UsageDelivery;
  run: string;
  refusals: RefusalBook;
  /** One stream with so many bytes, to a host of its own. */
  stream: (bytes: number, host?: string) => void;
  waiting: () => Promise<number[]>;
  /** What a control plane does with a batch once Postgres has committed it. */
  settle: (seq: number, booked: SeqRange[]) => Promise<DestinationUsage[]>;
  killRedis: () => Promise<void>;
}

async function start(
  t: Test,
  kind: Parameters<typeof startRedis>[0],
  given: Partial<UsageSettings> = {},
): Promise<Rig> {
  const server = await startRedis(kind);
  t.teardown(() => server.stop());
  const redis = connectLive({ url: server.url, log: silentLog, commandTimeoutMs: 300 });
  t.teardown(() => redis.disconnect());
  const clock = new ManualClock();
  const settings = { ...USAGE_DEFAULTS, ...given };
  const book = new UsageBook(clock, settings);
  const refusals = new RefusalBook(clock, settings);
  const run = newRun();
  const delivery = new UsageDelivery({
    gatewayId: GATEWAY,
    run,
    book,
    refusals,
    redis,
    clock,
    log: silentLog,
    settings,
  });
  let streams = 0;
  return {
    redis,
    clock,
    book,
    refusals,
    delivery,
    run,
    stream: (bytes, host = `h${++streams}.example`) => {
      const counts = { bytesUp: 0, bytesDown: 0 };
      const subject: UsageSubject = {
        sessionId: 's',
        allocationId: 'a',
        buyerId: 'b',
        subUserId: null,
        host,
        port: 443,
        tag: null,
        sessionName: null,
      };
      const flow = book.open(subject, counts);
      counts.bytesDown = bytes;
      flow.end();
    },
    waiting: async () => (await listUsageBatches(redis, GATEWAY)).map(({ seq }) => seq),
    settle: async (seq, booked) => {
      const text = await readUsageBatch(redis, GATEWAY, { run, seq });
      await settleUsage(redis, GATEWAY, { run, seq }, booked);
      return JSON.parse(text ?? 'null');
    },
    killRedis: () => server.kill(),
  };
}

for (const kind of redisKinds())
  t.test(`on ${kind}`, async (t) => {
    t.test('batches are numbered, kept until they are booked, then dropped', async (t) => {
      const rig = await start(t, kind, { usageBatchEntriesMax: 2 });
      t.ok(await rig.delivery.tick());
      t.same(await rig.waiting(), [], 'nothing to tell, nothing sent');
      for (const bytes of [1, 2, 3]) rig.stream(bytes);
      t.ok(await rig.delivery.tick());
      t.same(await rig.waiting(), [1, 2]);
      t.same(await readUsageGateways(rig.redis), [GATEWAY]);
      t.equal(rig.delivery.pendingBatches, 2);
      t.match(await rig.settle(1, [[1, 2]]), [
        { host: 'h1.example', bytesDown: 1 },
        { host: 'h2.example', bytesDown: 2 },
      ]);
      t.same(await rig.waiting(), [2]);
      await rig.delivery.tick();
      t.equal(rig.delivery.pendingBatches, 1);
      await rig.settle(2, [[1, 3]]);
      rig.stream(4);
      await rig.delivery.tick();
      t.equal(rig.delivery.pendingBatches, 1);
      t.same(await rig.waiting(), [3], 'numbers go on');
    });

    t.test('refusals go along, within the size of a batch', async (t) => {
      const rig = await start(t, kind, { usageBatchEntriesMax: 2 });
      rig.stream(1);
      rig.refusals.refused('b', { ok: false, code: 'NO_PEER' });
      rig.refusals.refused('b', { ok: false, code: 'BAD_PARAM', detail: 'country' });
      rig.refusals.refused('c', { ok: false, code: 'NO_PEER' });
      await rig.delivery.tick();
      t.same(await rig.waiting(), [1, 2]);
      t.match(await rig.settle(1, [[1, 2]]), [
        { buyerId: 'b', code: 'NO_PEER', refusals: 1, lastDetail: null },
        { buyerId: 'b', code: 'BAD_PARAM', refusals: 1, lastDetail: 'country' },
      ]);
      t.match(await rig.settle(2, [[1, 3]]), [
        { buyerId: 'c', code: 'NO_PEER' },
        { host: 'h1.example', bytesDown: 1 },
      ]);
      rig.refusals.refused('c', { ok: false, code: 'NO_PEER' });
      await rig.delivery.stop();
      t.same(await rig.waiting(), [3], 'at stop as well, without any usage');
    });

    t.test('what Redis lost comes again, unchanged; what is booked does not', async (t) => {
      const rig = await start(t, kind, { usageBatchEntriesMax: 1 });
      for (const bytes of [1, 2, 3]) rig.stream(bytes);
      await rig.delivery.tick();
      const before = await readUsageBatch(rig.redis, GATEWAY, { run: rig.run, seq: 2 });
      await rig.settle(3, [[3, 4]]); // out of order
      await rig.redis.hdel(liveKeys.usage(GATEWAY), `${rig.run}.1`, `${rig.run}.2`);
      await rig.delivery.tick();
      t.same(await rig.waiting(), [], 'not before its time');
      rig.clock.advance(USAGE_DEFAULTS.usageResendMs);
      await rig.delivery.tick();
      t.same(await rig.waiting(), [1, 2]);
      t.equal(await readUsageBatch(rig.redis, GATEWAY, { run: rig.run, seq: 2 }), before);
      await rig.redis.flushall();
      rig.delivery.resendAll();
      await rig.delivery.tick();
      t.same(await rig.waiting(), [1, 2], 'at once after a wipe that was noticed');
      t.same(await readUsageGateways(rig.redis), [GATEWAY]);
      t.equal(rig.delivery.pendingBatches, 2);
    });

    t.test('while nothing is booked, usage adds up within its bound and loses no byte', async (t) => {
      const limits = {
        usageBatchEntriesMax: 4,
        usageBatchesMax: 3,
        usageEntriesMax: 32,
        usageEntriesPerBuyerMax: 16,
      };
      const rig = await start(t, kind, limits);
      let bytes = 0;
      for (let round = 0; round < 50; round++) {
        for (let i = 0; i < 20; i++) rig.stream(++bytes);
        await rig.delivery.tick();
      }
      t.same(await rig.waiting(), [1, 2, 3]);
      t.ok(rig.book.size <= 17, 'the book is full, not larger');
      t.ok(rig.book.folded > 0);
      let told = 0;
      let seq = 0;
      while (rig.delivery.pendingBatches + rig.book.size > 0) {
        for (const next of await rig.waiting()) {
          t.equal(next, ++seq);
          for (const usage of await rig.settle(next, [[1, next + 1]])) told += usage.bytesDown;
        }
        await rig.delivery.tick();
      }
      t.equal(told, (bytes * (bytes + 1)) / 2);
    });

    t.test('a Redis that is away fails the tick and nothing else', async (t) => {
      const rig = await start(t, kind);
      rig.stream(1);
      await rig.delivery.tick();
      await rig.killRedis();
      rig.stream(2);
      t.equal(await rig.delivery.tick(), false);
      t.equal(await rig.delivery.tick(), false);
      t.equal(rig.delivery.failures, 2);
      t.equal(rig.book.size + rig.delivery.pendingBatches, 2, 'all is kept');
      t.equal(rig.delivery.entriesLost, 0);
    });

    t.test('the acknowledgements of earlier runs are cleared away', async (t) => {
      const rig = await start(t, kind);
      const earlier = newRun();
      await deliverUsage(rig.redis, GATEWAY, { run: earlier, seq: 7 }, '[]');
      await settleUsage(rig.redis, GATEWAY, { run: earlier, seq: 7 }, [[1, 8]]);
      rig.stream(1);
      await rig.delivery.tick();
      await rig.settle(1, [[1, 2]]);
      await rig.delivery.tick();
      t.same(await rig.redis.hkeys(liveKeys.usageBooked(GATEWAY)), [rig.run]);
    });
  });

t.test('at stop what is left is delivered, and what can not be is counted', async (t) => {
  const settings = { usageFlushTimeoutMs: 500, usageBatchEntriesMax: 1, usageBatchesMax: 2 };
  const rig = await start(t, 'auto', settings);
  const counts = { bytesUp: 0, bytesDown: 0 };
  rig.stream(1);
  const subject = {
    sessionId: 's',
    allocationId: 'a',
    buyerId: 'b',
    subUserId: null,
    tag: null,
    sessionName: null,
  };
  rig.book.open({ ...subject, host: 'live.example', port: 443 }, counts);
  counts.bytesUp = 9;
  await rig.delivery.stop();
  t.same(await rig.waiting(), [1, 2]);
  t.equal(rig.delivery.entriesLost, 0);
  t.match(await rig.settle(2, [[1, 3]]), [{ host: 'live.example', bytesUp: 9 }]);

  const other = await start(t, 'auto', settings);
  for (let i = 0; i < 5; i++) other.stream(i);
  await other.killRedis();
  const clock = setInterval(() => other.clock.advance(100), 50);
  t.teardown(() => clearInterval(clock));
  await other.delivery.stop();
  t.equal(other.delivery.entriesLost, 5);
});

t.test('what is in Redis and no batch is removed; a gateway without sign of life is left out', async (t) => {
  const { redis, run } = await start(t, 'auto');
  const key = liveKeys.usage(GATEWAY);
  await deliverUsage(redis, GATEWAY, { run, seq: 10 }, '[]');
  await deliverUsage(redis, GATEWAY, { run, seq: 9 }, '[]');
  await redis.hset(key, 'no batch', 'x', `${run}.0`, 'x', `${run}.1e3`, 'x');
  t.same(
    (await listUsageBatches(redis, GATEWAY)).map(({ seq }) => seq),
    [9, 10],
    'by number, not by text',
  );
  t.equal(await redis.hlen(key), 2);
  await forgetUsageGatewayWhenGone(redis, GATEWAY);
  t.same(await readUsageGateways(redis), [GATEWAY], 'something waits');
  for (const seq of [9, 10]) await settleUsage(redis, GATEWAY, { run, seq }, [[9, 11]]);
  await redis.set(liveKeys.gateway(GATEWAY), JSON.stringify(presence));
  await forgetUsageGatewayWhenGone(redis, GATEWAY);
  t.same(await readUsageGateways(redis), [GATEWAY], 'it lives');
  await redis.del(liveKeys.gateway(GATEWAY));
  await forgetUsageGatewayWhenGone(redis, GATEWAY);
  t.same(await readUsageGateways(redis), []);
  t.equal(await redis.exists(liveKeys.usageBooked(GATEWAY)), 0);
});

const presence = {
  gatewayId: GATEWAY,
  epoch: 'a'.repeat(32),
  version: '1',
  startedAtMs: 1,
  tunnels: 0,
  streams: 0,
  draining: false,
};
