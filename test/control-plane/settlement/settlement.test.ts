import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type pg from 'pg';
import t from 'tap';
import { chargeMicros } from '../../../control-plane/ledger/money.js';
import { offerPackage } from '../../../control-plane/packages/offer.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { SETTLEMENT_DEFAULTS } from '../../../control-plane/settlement/settings.js';
import { createSettlement } from '../../../control-plane/settlement/settlement.js';
import { connectLive } from '../../../gateway/live/connection.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { readSettled, reportMeters } from '../../../gateway/live/meters.js';
import { deletePresence, writePresence } from '../../../gateway/live/presence.js';
import type { MeterReport } from '../../../gateway/live/records.js';
import { meterKey } from '../../../gateway/live/records.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import {
  addBuyer,
  addSession,
  addUser,
  startMoneyDatabase,
  startMoneyRedis,
  TestMeter,
} from '../../helpers/money-world.js';
import { createWorker, deliver } from './world.js';

const GATEWAYS = ['gw-a', 'gw-b'];

/** A pool whose connections break at the n-th statement from now, as a crash of the worker would. */
function crashingPool(pool: pg.Pool, statement: number): pg.Pool {
  let left = statement;
  return new Proxy(pool, {
    get(target, name) {
      if (name !== 'connect') return Reflect.get(target, name).bind?.(target) ?? Reflect.get(target, name);
      return async () => {
        const client = await target.connect();
        const query = client.query.bind(client);
        return new Proxy(client, {
          get(c, property) {
            if (property !== 'query') {
              const value = Reflect.get(c, property);
              return typeof value === 'function' ? value.bind(c) : value;
            }
            return async (...args: Parameters<typeof query>) => {
              if (left-- <= 0) throw Object.assign(new Error('crashed here'), { code: '57P01' });
              return query(...args);
            };
          },
        });
      };
    },
  });
}

t.test('settlement', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis, url } = await startMoneyRedis(t);
  const inviter = await addUser(pool);
  const invited = await addUser(pool, inviter);
  const alone = await addUser(pool);
  const sessions = await Promise.all([
    addSession(pool, invited),
    addSession(pool, alone),
    addSession(pool, alone),
  ]);
  const buyers = [await addBuyer(pool), await addBuyer(pool)];
  const worker = createWorker(pool, redis);

  const booked = async (m: TestMeter) => {
    const { rows } = await pool.query(
      `SELECT sum(bytes_up)::text AS up, sum(bytes_down)::text AS down, sum(charged_micros)::text AS charged,
              sum(earned_micros)::text AS earned, sum(referral_micros)::text AS referral, bool_and(final) AS final
         FROM meters WHERE epoch = $1`,
      [m.epoch],
    );
    return rows[0];
  };
  const expected = (m: TestMeter) => {
    const total = BigInt(m.bytesUp + m.bytesDown);
    const earned = chargeMicros(total, BigInt(m.prices.provider));
    return {
      up: `${m.bytesUp}`,
      down: `${m.bytesDown}`,
      charged: `${chargeMicros(total, BigInt(m.prices.buyer))}`,
      earned: `${earned}`,
      referral: m.sessionId === sessions[0]?.sessionId ? `${earned / 10n}` : '0',
    };
  };

  await t.test('books what meters gained, once, and acknowledges what is committed', async (t) => {
    const meter = new TestMeter('gw-a', sessions[0]?.sessionId ?? '', buyers[0] ?? '').count(
      400_000,
      1_100_000,
    );
    await deliver(redis, [meter]);
    await worker.settleNow();
    t.match(await booked(meter), { ...expected(meter), final: false });
    t.equal((await booked(meter)).charged, '3000');
    t.same((await readSettled(redis, 'gw-a')).get(meterKey(meter.report())), {
      bytesUp: 400_000,
      bytesDown: 1_100_000,
      final: false,
    });
    t.equal(await redis.scard(liveKeys.dirtyMeters('gw-a')), 0);

    await worker.settleNow();
    await deliver(redis, [meter]);
    await worker.settleNow();
    t.match(await booked(meter), expected(meter), 'the same report brings nothing');

    meter.count(7, 0);
    await deliver(redis, [meter], { final: true, allocationEnded: true });
    await worker.settleNow();
    t.match(await booked(meter), { ...expected(meter), final: true });
    t.equal(await redis.hlen(liveKeys.meters('gw-a')), 0, 'a committed FINAL leaves Redis');
    const { rows } = await pool.query(
      'SELECT status, package_id, bytes_up::int FROM allocations WHERE id = $1',
      [meter.allocationId],
    );
    t.match(rows, [{ status: 'completed', package_id: null, bytes_up: 400_007 }]);
    t.same(await invariants(pool), []);
  });

  await t.test('a price change is a new meter of the same allocation, each at its price', async (t) => {
    const first = new TestMeter('gw-a', sessions[1]?.sessionId ?? '', buyers[0] ?? '').count(0, 333_333_333);
    const second = new TestMeter('gw-a', first.sessionId, first.buyerId, first.allocationId, {
      provider: '700001',
      buyer: '1234567',
    }).count(0, 666_666_667);
    await deliver(redis, [first], { final: true });
    await deliver(redis, [second]);
    await worker.settleNow();
    t.match(await booked(first), expected(first));
    t.match(await booked(second), expected(second));
    const { rows } = await pool.query(
      'SELECT status, charged_micros::text AS charged FROM allocations WHERE id = $1',
      [first.allocationId],
    );
    t.match(rows, [
      {
        status: 'in_progress',
        charged: `${BigInt(expected(first).charged) + BigInt(expected(second).charged)}`,
      },
    ]);
    await deliver(redis, [second], { final: true, allocationEnded: true });
    await worker.settleNow();
    t.same(await invariants(pool), []);
  });

  await t.test('takes the offer on connect, completes it with the allocation, offers again', async (t) => {
    const session = await addSession(pool, alone);

    await offerPackage(pool, { ...session, country: 'DE', city: null, asn: null, sizeBytes: 42 });
    const meter = new TestMeter('gw-b', session.sessionId, buyers[1] ?? '').count(1, 1);
    await deliver(redis, [meter]);
    await worker.settleNow();
    const packages = () =>
      pool
        .query(
          'SELECT status, size_bytes::int AS size FROM packages WHERE session_id = $1 ORDER BY created_at',
          [session.sessionId],
        )
        .then((r) => r.rows);
    t.same(await packages(), [{ status: 'in_progress', size: 42 }]);

    const other = new TestMeter('gw-b', session.sessionId, buyers[0] ?? '').count(1, 1);
    await deliver(redis, [other]);
    await worker.settleNow();
    const { rows } = await pool.query('SELECT package_id FROM allocations WHERE id = $1', [
      other.allocationId,
    ]);
    t.same(rows, [{ package_id: null }], 'another one meanwhile is booked without a package');

    await deliver(redis, [meter], { final: true, allocationEnded: true });
    await worker.settleNow();
    t.same(await packages(), [
      { status: 'completed', size: 42 },
      { status: 'available', size: 5_000_000 },
    ]);

    // Three allocations that lived and ended between two passes, and the next one.
    const quick = [1, 2, 3].map(() =>
      new TestMeter('gw-b', session.sessionId, buyers[0] ?? '').count(10, 20),
    );
    await deliver(redis, quick, { final: true, allocationEnded: true });
    const next = new TestMeter('gw-b', session.sessionId, buyers[1] ?? '').count(1, 2);
    await deliver(redis, [next]);
    await worker.settleNow();
    t.same((await packages()).map((p) => p.status).sort(), [
      'completed',
      'completed',
      'completed',
      'completed',
      'in_progress',
    ]);
    await deliver(redis, [next, other], { final: true, allocationEnded: true });
    await worker.settleNow();
    t.equal((await packages()).filter((p) => p.status === 'available').length, 1);
    t.same(await invariants(pool), []);
  });

  await t.test('a stopped session completes with its last FINAL, once the tunnel is gone', async (t) => {
    const session = await addSession(pool, alone, { status: 'stopping' });
    const status = async () =>
      (await pool.query('SELECT status FROM traffic_sessions WHERE id = $1', [session.sessionId])).rows[0]
        .status;
    const presence = {
      sessionId: session.sessionId,
      deviceId: session.deviceId,
      providerId: alone,
      country: 'DE',
      city: null,
      asn: null,
      networkType: 'unknown' as const,
      gatewayId: 'gw-a',
      exitIp: session.exitIp,
      connectedAtMs: Date.now(),
      streams: 0,
      rttMs: 1,
      status: 'draining' as const,
    };
    await writePresence(redis, presence, Date.now());
    const meter = new TestMeter('gw-a', session.sessionId, buyers[0] ?? '').count(1_000_000, 0);
    await deliver(redis, [meter]);
    await worker.settleNow();
    t.equal(await status(), 'stopping');
    await deliver(redis, [meter], { final: true, allocationEnded: true });
    await worker.settleNow();
    t.equal(await status(), 'stopping', 'the tunnel may still hold a meter nobody heard of');
    await deletePresence(redis, session.deviceId, presence.gatewayId);
    await worker.settleNow();
    t.equal(await status(), 'completed');

    const late = new TestMeter('gw-b', session.sessionId, buyers[0] ?? '').count(5_000_000, 0);
    await deliver(redis, [late], { final: true, allocationEnded: true });
    await worker.settleNow();
    const { rows } = await pool.query(
      `SELECT status, bytes_up::int, earned_micros::int,
              (SELECT count(*)::int FROM packages WHERE session_id = s.id) AS packages
         FROM traffic_sessions s WHERE id = $1`,
      [session.sessionId],
    );
    t.same(rows, [{ status: 'completed', bytes_up: 6_000_000, earned_micros: 3_000, packages: 0 }]);
    t.same(await invariants(pool), []);
  });

  await t.test('sets aside what it cannot book and goes on with the rest', async (t) => {
    const aside = createWorker(pool, redis, { sweepIntervalMs: 3_600_000 });
    await aside.settleNow(); // past its first sweep
    const sound = new TestMeter('gw-a', sessions[1]?.sessionId ?? '', buyers[0] ?? '').count(10, 10);
    const unknownSession = new TestMeter('gw-a', randomUUID(), buyers[0] ?? '').count(10, 10);
    const unknownBuyer = new TestMeter('gw-a', sessions[1]?.sessionId ?? '', randomUUID()).count(10, 10);
    const stolen = new TestMeter('gw-a', sound.sessionId, buyers[1] ?? '', sound.allocationId).count(1, 1);
    await deliver(redis, [sound]);
    await aside.settleNow();
    await deliver(redis, [unknownSession, unknownBuyer, stolen, sound.count(5, 5)]);
    for (const [key, text] of [
      ['garbage', 'not json'],
      ['number', '7'],
      ['other', JSON.stringify(sound.report())],
      [meterKey({ ...sound.report(), epoch: 'x' }), JSON.stringify({ ...sound.report(), epoch: 'x' })],
      [
        meterKey({ ...sound.report(), buyerPriceMicrosPerGb: '-1' }),
        JSON.stringify({ ...sound.report(), buyerPriceMicrosPerGb: '-1' }),
      ],
    ] as const) {
      await redis.hset(liveKeys.meters('gw-a'), key, text);
      await redis.sadd(liveKeys.dirtyMeters('gw-a'), key);
    }
    await aside.settleNow();
    t.match(await booked(sound), expected(sound));
    t.match(aside.counts.setAside, {
      unknown_session: 1,
      unknown_buyer: 1,
      allocation_of_another_buyer: 1,
      unreadable: 4,
      key_mismatch: 1,
    });
    await aside.settleNow();
    t.equal(aside.counts.setAside.unknown_session, 1, 'not tried again while it says the same');
    t.equal((await redis.hlen(liveKeys.meters('gw-a'))) > 7, true, 'and kept');

    await pool.query(`INSERT INTO buyers (id, account, name) VALUES ($1, 'latecomer', 'Late')`, [
      unknownBuyer.buyerId,
    ]);
    await createWorker(pool, redis).settleNow();
    t.match(await booked(unknownBuyer), expected(unknownBuyer), 'a sweep finds what has become bookable');

    const over = new TestMeter('gw-a', sound.sessionId, sound.buyerId).count(10, 0);
    await deliver(redis, [over], { final: true });
    await aside.settleNow();
    await deliver(redis, [over.count(1, 0)], { final: true });
    await aside.settleNow();
    t.equal(aside.counts.setAside.grew_after_final, 1);
    t.equal((await booked(over)).up, '10', 'what grows after its FINAL is an alarm, not money');
    await redis.flushall();
    t.same(await invariants(pool), []);
  });

  await t.test('a crash at any statement loses nothing and doubles nothing', async (t) => {
    const meters = sessions.map((s, i) =>
      new TestMeter(GATEWAYS[i % 2] ?? '', s.sessionId, buyers[i % 2] ?? '').count(1_000_003 * (i + 1), 17),
    );
    let crashes = 0;
    for (let statement = 0; ; statement++) {
      for (const m of meters) m.count(1_234_567, 89);
      await deliver(redis, meters);
      const crash = await createWorker(crashingPool(pool, statement), redis)
        .settleNow()
        .then(
          () => false,
          () => true,
        );
      if (!crash) break;
      crashes++;
      // Proving everything takes longer than the crash: every few statements, in the middle of ranges and after them.
      if (statement % 4 === 0) t.same(await invariants(pool), [], `after a crash at statement ${statement}`);
    }
    t.ok(crashes > 15, `${crashes} places to crash at`);
    await deliver(redis, meters, { final: true, allocationEnded: true });
    await worker.settleNow();
    for (const m of meters) t.match(await booked(m), expected(m));
  });

  await t.test(
    'random histories end exact: duplicates, reordering, several workers, lost acks, empty Redis',
    async (t) => {
      const deaf = connectLive({ url, log: silentLog, commandTimeoutMs: 10_000 });
      t.teardown(() => deaf.disconnect());
      const killed = () => Promise.reject(new Error('killed between commit and acknowledgement'));
      Object.defineProperty(deaf, 'settleMeters', { value: killed, configurable: true });
      const workers = [worker, createWorker(pool, redis, { batchMetersMax: 2 }), createWorker(pool, deaf)];
      const METERS = 6;
      const step = fc.oneof(
        {
          weight: 6,
          arbitrary: fc.record({
            do: fc.constant('count' as const),
            meter: fc.nat(METERS - 1),
            up: fc.nat(50_000_000),
            down: fc.nat(900_000_000),
          }),
        },
        {
          weight: 5,
          arbitrary: fc.record({
            do: fc.constant('deliver' as const),
            meter: fc.nat(METERS - 1),
            back: fc.nat(3),
          }),
        },
        {
          weight: 4,
          arbitrary: fc.record({
            do: fc.constant('settle' as const),
            workers: fc.subarray([0, 1, 2], { minLength: 1 }),
          }),
        },
        { weight: 1, arbitrary: fc.record({ do: fc.constant('flush' as const) }) },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
          const allocation = randomUUID();
          const meters = Array.from(
            { length: METERS },
            (_, i) =>
              new TestMeter(
                GATEWAYS[i % 2] ?? '',
                sessions[i % 3]?.sessionId ?? '',
                buyers[i % 2] ?? '',
                // Two meters of one allocation: the price changed.
                i === 0 || i === 2 ? allocation : randomUUID(),
                i === 2 ? { provider: '333333', buyer: '999999999' } : undefined,
              ),
          );
          const history: MeterReport[][] = meters.map((m) => [m.report()]);
          for (const s of steps) {
            if (s.do === 'count')
              history[s.meter]?.push((meters[s.meter] as TestMeter).count(s.up, s.down).report());
            else if (s.do === 'deliver') {
              const past = history[s.meter] as MeterReport[];
              const m = meters[s.meter] as TestMeter;
              await reportMeters(redis, m.gatewayId, [
                past[Math.max(0, past.length - 1 - s.back)] as MeterReport,
              ]);
            } else if (s.do === 'settle')
              await Promise.allSettled(s.workers.map((w) => workers[w]?.settleNow()));
            else await redis.flushall();
          }
          const last = meters.map((m) => m.report({ final: true, allocationEnded: true }));
          for (const [i, r] of last.entries()) await reportMeters(redis, meters[i]?.gatewayId ?? '', [r]);
          await Promise.allSettled(workers.map((w) => w.settleNow()));
          await worker.settleNow();
          for (const m of meters) {
            const is = await booked(m);
            const should = { ...expected(m), final: true };
            if (JSON.stringify(is) !== JSON.stringify(should))
              throw new Error(`booked ${JSON.stringify(is)}, not ${JSON.stringify(should)}`);
          }
        }),
        { numRuns: 25 },
      );
      t.same(await invariants(pool), []);
      const { rows } = await pool.query(
        `SELECT 1 FROM packages WHERE status IN ('allocated', 'in_progress') GROUP BY user_id, exit_ip HAVING count(*) > 1`,
      );
      t.equal(rows.length, 0);
    },
  );

  await t.test('earnings come of age after the hold, once', async (t) => {
    const user = await addUser(pool);
    const session = await addSession(pool, user);
    const balances = async () => {
      const { rows } = await pool.query(
        `SELECT kind, balance_micros::int AS micros FROM ledger_accounts WHERE owner_id = $1`,
        [user],
      );
      return Object.fromEntries(rows.map((r) => [r.kind, r.micros]));
    };
    const HOUR = 3_600_000;
    const recordNowMs = async () => Date.now() + offsetMs;
    let offsetMs = 0;
    const holding = createSettlement({
      pool,
      redis,
      // This machine's clock a year ahead releases nothing.
      clock: { nowMs: () => Date.now() + 365 * 24 * HOUR, monotonicMs: () => performance.now() },
      recordNowMs,
      log: silentLog,
      settings: () => ({ ...SETTLEMENT_DEFAULTS, holdMs: 24 * HOUR }),
    });
    const meter = new TestMeter('gw-a', session.sessionId, buyers[0] ?? '').count(0, 2_000_000_000);
    await deliver(redis, [meter]);
    await holding.settleNow();
    t.same(await balances(), { provider_pending: 1_000_000 });
    offsetMs = 23 * HOUR;
    await holding.settleNow();
    t.same(await balances(), { provider_pending: 1_000_000 });
    offsetMs = 25 * HOUR;
    await Promise.all([1, 2, 3].map(() => createHolding().settleNow()));
    t.same(await balances(), { provider_pending: 0, provider_available: 1_000_000 });
    offsetMs = 0;
    await deliver(redis, [meter.count(0, 2_000_000_000)]);
    await holding.settleNow();
    t.same(await balances(), { provider_pending: 1_000_000, provider_available: 1_000_000 });
    await worker.settleNow();
    t.same(
      await balances(),
      { provider_pending: 0, provider_available: 2_000_000 },
      'a hold of 0 releases at once',
    );
    t.same(await invariants(pool), []);

    function createHolding() {
      return createSettlement({
        pool,
        redis,
        clock: systemClock,
        recordNowMs,
        log: silentLog,
        settings: () => ({ ...SETTLEMENT_DEFAULTS, holdMs: 24 * HOUR }),
      });
    }
  });

  await t.test('the loop books by itself and outlives a Redis that is away', async (t) => {
    const looping = createWorker(pool, redis, { intervalMs: 10 });
    looping.start();
    t.teardown(() => looping.stop());
    const meter = new TestMeter('gw-b', sessions[1]?.sessionId ?? '', buyers[0] ?? '').count(1, 2);
    await deliver(redis, [meter]);
    while ((await booked(meter)).up !== '1') await new Promise((resolve) => setTimeout(resolve, 5));
    t.match(await booked(meter), expected(meter));
  });
});
