import fc from 'fast-check';
import t from 'tap';
import { liveKeys } from '../../../gateway/live/keys.js';
import {
  forgetMeteringGateway,
  forgetSettled,
  readDirtyMeters,
  readMeteringGateways,
  readMeters,
  readSettled,
  reportMeters,
  settleMeters,
} from '../../../gateway/live/meters.js';
import { meterKey } from '../../../gateway/live/records.js';
import { meterReport, onEachRedis, recordingLog } from './servers.js';

const GATEWAY = 'gw-1';
const MAX = Number.MAX_SAFE_INTEGER;
const KEY = meterKey(meterReport());

onEachRedis(t, async (t, server) => {
  t.beforeEach(async (t) => {
    await server.connect(t).flushall();
  });

  t.test('a report arrives as it is and makes its meter dirty; the same again changes nothing', async (t) => {
    const redis = server.connect(t);
    const report = meterReport({ bytesUp: 10, bytesDown: 20 });
    t.equal(await reportMeters(redis, GATEWAY, [report]), 1);
    t.same([...(await readDirtyMeters(redis, GATEWAY, 10))], [[KEY, report]]);
    t.same([...(await readMeters(redis, GATEWAY))], [[KEY, report]]);
    t.equal(await reportMeters(redis, GATEWAY, [report]), 0);
    t.equal(await reportMeters(redis, GATEWAY, []), 0);
    t.same(await readMeteringGateways(redis), [GATEWAY]);
    await forgetMeteringGateway(redis, GATEWAY);
    t.same(await readMeteringGateways(redis), []);
  });

  t.test('counts never fall and FINAL stays, whatever order reports come in', async (t) => {
    const redis = server.connect(t);
    const count = fc.oneof(fc.nat(50), fc.integer({ min: MAX - 50, max: MAX }), fc.maxSafeNat());
    const step = fc.record({
      bytesUp: count,
      bytesDown: count,
      final: fc.boolean(),
      allocationEnded: fc.boolean(),
    });
    const history = fc.array(step, { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(history, fc.array(fc.nat(11), { maxLength: 12 }), async (steps, repeats) => {
        await redis.del(liveKeys.meters(GATEWAY), liveKeys.dirtyMeters(GATEWAY));
        const early = repeats.flatMap((i) => steps[i] ?? []); // some come twice, and before their turn
        await Promise.all(
          [...early, ...steps].map((one) => reportMeters(redis, GATEWAY, [meterReport(one)])),
        );
        const stored = (await readMeters(redis, GATEWAY)).get(KEY);
        t.same(stored, {
          ...meterReport(),
          bytesUp: Math.max(...steps.map((s) => s.bytesUp)),
          bytesDown: Math.max(...steps.map((s) => s.bytesDown)),
          final: steps.some((s) => s.final),
          allocationEnded: steps.some((s) => s.allocationEnded),
        });
      }),
      { numRuns: 60 },
    );
  });

  t.test('settled: clean when nothing is left, deleted when FINAL is committed', async (t) => {
    const redis = server.connect(t);
    await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: 5, bytesDown: 5 })]);
    const settle = (bytesUp: number, bytesDown: number, final: boolean) =>
      settleMeters(redis, GATEWAY, [{ key: KEY, bytesUp, bytesDown, final }]);
    const dirty = async () => (await readDirtyMeters(redis, GATEWAY, 10)).size;

    t.same(await settle(5, 4, false), [false]);
    t.equal(await dirty(), 1, 'a byte is not booked yet');
    t.same(await settle(5, 5, false), [true]);
    t.equal(await dirty(), 0);
    t.equal((await readMeters(redis, GATEWAY)).size, 1, 'not FINAL: the meter may grow');

    await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: MAX, bytesDown: 6, final: true })]);
    t.equal(await dirty(), 1);
    t.same(await settle(MAX, 6, false), [false], 'FINAL itself is not committed yet');
    t.equal(await dirty(), 1);
    t.same(await settle(MAX, 6, true), [true]);
    t.equal(await dirty(), 0);
    t.equal((await readMeters(redis, GATEWAY)).size, 0);
    t.same([...(await readSettled(redis, GATEWAY))], [[KEY, { bytesUp: MAX, bytesDown: 6, final: true }]]);

    t.same(await settle(5, 5, false), [true], 'an older commit that is told late');
    t.same(
      [...(await readSettled(redis, GATEWAY))],
      [[KEY, { bytesUp: MAX, bytesDown: 6, final: true }]],
      'marks never fall',
    );
    await forgetSettled(redis, GATEWAY, [KEY]);
    t.equal((await readSettled(redis, GATEWAY)).size, 0);
    await forgetSettled(redis, GATEWAY, []);
  });

  t.test('a late duplicate of a settled FINAL is cleaned up again', async (t) => {
    const redis = server.connect(t);
    const last = meterReport({ bytesUp: 7, final: true });
    const mark = { key: KEY, bytesUp: 7, bytesDown: 0, final: true };
    await reportMeters(redis, GATEWAY, [last]);
    await settleMeters(redis, GATEWAY, [mark]);
    await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: 3 })]);
    t.equal((await readDirtyMeters(redis, GATEWAY, 10)).size, 1);
    t.same(await settleMeters(redis, GATEWAY, [mark]), [true]);
    t.equal((await readMeters(redis, GATEWAY)).size, 0);
  });

  t.test('growth between reading and settling keeps the meter dirty', async (t) => {
    const redis = server.connect(t);
    await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: 1 })]);
    const read = (await readDirtyMeters(redis, GATEWAY, 10)).get(KEY);
    await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: 2 })]);
    t.same(
      await settleMeters(redis, GATEWAY, [
        { key: KEY, bytesUp: read?.bytesUp ?? 0, bytesDown: 0, final: false },
      ]),
      [false],
    );
    t.equal((await readDirtyMeters(redis, GATEWAY, 10)).get(KEY)?.bytesUp, 2);
  });

  t.test('any interleaving of reports, bookings and wipes books each byte once', async (t) => {
    const redis = server.connect(t);
    type Action = { kind: 'report' | 'settle' | 'wipe'; bytes: number; old: boolean };
    const action: fc.Arbitrary<Action> = fc.record({
      kind: fc.constantFrom('report', 'report', 'report', 'settle', 'settle', 'wipe'),
      bytes: fc.integer({ min: 1, max: 1_000 }),
      old: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
        await redis.flushall();
        let relayed = 0;
        let reportedBefore = 0;
        let booked = 0; // Postgres
        const settle = async () => {
          const report = (await readDirtyMeters(redis, GATEWAY, 10)).get(KEY);
          if (!report) return;
          booked = Math.max(booked, report.bytesUp);
          await settleMeters(redis, GATEWAY, [
            { key: KEY, bytesUp: booked, bytesDown: 0, final: report.final },
          ]);
        };
        for (const { kind, bytes, old } of actions) {
          if (kind === 'wipe') await redis.flushall();
          else if (kind === 'settle') await settle();
          else {
            const before = relayed;
            if (!old) relayed += bytes;
            await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: old ? reportedBefore : relayed })]);
            reportedBefore = before;
          }
          if (booked > relayed) t.fail(`booked ${booked} of ${relayed}`);
        }
        await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: relayed, final: true })]);
        await settle();
        t.equal(booked, relayed);
        t.equal((await readMeters(redis, GATEWAY)).size, 0);
        t.equal((await readDirtyMeters(redis, GATEWAY, 10)).size, 0);
      }),
      { numRuns: 30 },
    );
  });

  t.test('thousands at once', async (t) => {
    const redis = server.connect(t);
    const reports = Array.from({ length: 2_500 }, (_, i) =>
      meterReport({ sessionId: `s-${i}`, bytesUp: i + 1, final: true }),
    );
    t.equal(await reportMeters(redis, GATEWAY, reports), 2_500);
    t.equal((await readMeters(redis, GATEWAY)).size, 2_500);
    const some = await readDirtyMeters(redis, GATEWAY, 1_000);
    t.equal(some.size, 1_000, 'at most as many as asked for');
    const marks = reports.map((r) => ({ key: meterKey(r), bytesUp: r.bytesUp, bytesDown: 0, final: true }));
    t.ok((await settleMeters(redis, GATEWAY, marks)).every(Boolean));
    t.equal(await redis.exists(liveKeys.meters(GATEWAY)), 0);
  });

  t.test('rubbish: a dirty meter without a readable report goes, a report over rubbish stays', async (t) => {
    const log = recordingLog();
    const redis = server.connect(t, { log });
    await redis.sadd(liveKeys.dirtyMeters(GATEWAY), 'orphan');
    await redis.hset(liveKeys.meters(GATEWAY), KEY, '{"bytesUp":"many"}');
    await redis.sadd(liveKeys.dirtyMeters(GATEWAY), KEY);
    t.equal((await readDirtyMeters(redis, GATEWAY, 10)).size, 0);
    t.same(await redis.smembers(liveKeys.dirtyMeters(GATEWAY)), [KEY]);
    t.ok(log.events.includes('live_value_unreadable'));
    t.equal(await reportMeters(redis, GATEWAY, [meterReport({ bytesUp: 1 })]), 1);
    t.equal((await readMeters(redis, GATEWAY)).get(KEY)?.bytesUp, 1);
  });
});
