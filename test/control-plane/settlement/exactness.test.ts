import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { chargeMicros } from '../../../control-plane/ledger/money.js';
import { offerPackage } from '../../../control-plane/packages/offer.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { runOf } from '../../../gateway/live/records.js';
import {
  addBuyer,
  addSession,
  addUser,
  startMoneyDatabase,
  startMoneyRedis,
  TestMeter,
} from '../../helpers/money-world.js';
import {
  addSubUser,
  breakingPool,
  bytesUsed,
  createWorker,
  deliver,
  fund,
  grant,
  readHold,
} from './world.js';

const EPOCH = '12'.repeat(16);
const PRICES = { provider: '500000', buyer: '2000000' };
const ROLLED = { provider: '333333', buyer: '999999999' };

t.test('whatever breaks, each byte is booked once', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis } = await startMoneyRedis(t);
  const inviter = await addUser(pool);
  const invited = await addUser(pool, inviter);
  const buyers = [await addBuyer(pool), await addBuyer(pool)] as const;
  await fund(pool, buyers);
  const subUserId = await addSubUser(pool, buyers[0]);
  const worker = createWorker(pool, redis);
  const sessions = [await addSession(pool, invited), await addSession(pool, await addUser(pool))] as const;
  for (const session of sessions)
    await offerPackage(pool, { ...session, country: 'DE', city: null, asn: null, sizeBytes: 10_000_000 });

  /** An allocation whose price changed, one of a sub-user, one that only that buyer has. */
  const newMeters = (epoch = EPOCH): TestMeter[] => {
    const rolled = randomUUID();
    const of = (session: number, buyer: number, allocation = randomUUID(), prices = PRICES, sub = false) =>
      new TestMeter(
        `gw-${session}`,
        (sessions[session] as { sessionId: string }).sessionId,
        buyers[buyer] as string,
        allocation,
        prices,
        null,
        sub ? subUserId : null,
        epoch,
      );
    return [of(0, 0, rolled), of(0, 0, rolled, ROLLED), of(0, 0, randomUUID(), PRICES, true), of(1, 1)];
  };
  const booked = async (m: TestMeter) =>
    (
      await pool.query(
        `SELECT bytes_up::text AS up, bytes_down::text AS down, charged_micros::text AS charged,
                earned_micros::text AS earned, referral_micros::text AS referral
           FROM meters WHERE allocation_id = $1 AND buyer_price_micros_per_gb = $2`,
        [m.allocationId, m.prices.buyer],
      )
    ).rows;
  const expected = (m: TestMeter) => {
    const total = BigInt(m.bytesUp + m.bytesDown);
    const earned = chargeMicros(total, BigInt(m.prices.provider));
    const wasInvited = m.sessionId === sessions[0].sessionId;
    return [
      {
        up: `${m.bytesUp}`,
        down: `${m.bytesDown}`,
        charged: `${chargeMicros(total, BigInt(m.prices.buyer))}`,
        earned: `${earned}`,
        referral: wasInvited ? `${earned / 10n}` : '0',
      },
    ];
  };

  await t.test('a crash before any statement', async (t) => {
    const meters = newMeters();
    await grant(pool, meters[0] as TestMeter, 'buyer', buyers[0], 10n ** 12n);
    await grant(pool, meters[3] as TestMeter, 'buyer', buyers[1], 10n ** 12n);
    let crashes = 0;
    for (let statement = 0; ; statement++) {
      for (const [i, m] of meters.entries()) m.count(1_234_567 + i, 89);
      await deliver(redis, meters);
      const crashed = await createWorker(breakingPool(pool, { before: (n) => n >= statement }), redis, {
        batchesInFlight: 1,
      })
        .settleNow()
        .then(
          () => false,
          () => true,
        );
      // Every few statements in the middle, so that partial batches are looked at as well.
      if (statement % 12 === 0) t.same(await invariants(pool), [], `after a crash at statement ${statement}`);
      if (!crashed) break;
      crashes++;
    }
    t.ok(crashes > 30, `${crashes} places to crash at`);
    await worker.settleNow();
    for (const m of meters) t.same(await booked(m), expected(m));
    const charged = meters
      .filter((m) => m.buyerId === buyers[0])
      .reduce((sum, m) => sum + BigInt(expected(m)[0]?.charged ?? 0), 0n);
    t.equal((await readHold(pool, meters[0] as TestMeter, 'buyer', buyers[0]))?.spent, charged);
    const ofSubUser = meters.find((m) => m.subUserId === subUserId) as TestMeter;
    t.equal(await bytesUsed(pool, subUserId), BigInt(ofSubUser.bytesUp + ofSubUser.bytesDown));
    t.same(await invariants(pool), []);
  });

  await t.test('a COMMIT whose answer is lost', async (t) => {
    const meters = newMeters('34'.repeat(16));
    let losing = false;
    let lost = 0;
    const deaf = createWorker(
      breakingPool(pool, { after: (text) => losing && text === 'COMMIT' && ++lost > 0 }),
      redis,
    );
    await deaf.settleNow(); // past its first sweep: from here on it looks at dirty meters only
    // One gateway at a time: a pass ends with the first answer that is lost, and Redis names gateways in any order.
    for (const gatewayId of ['gw-0', 'gw-1']) {
      const its = meters.filter((m) => m.gatewayId === gatewayId);
      losing = true;
      for (let i = 0; i < 3; i++) {
        for (const m of its) m.count(777_777, 1);
        await deliver(redis, its);
        await t.rejects(deaf.settleNow(), { code: '57P01' });
        for (const m of its) t.same(await booked(m), expected(m), 'committed all the same');
      }
      losing = false;
      await deaf.settleNow();
      for (const m of its) t.same(await booked(m), expected(m), 'and not once more');
    }
    t.equal(lost, 6, 'one answer a pass');
    await worker.settleNow();
    for (const m of meters) t.same(await booked(m), expected(m));
    t.same(await invariants(pool), []);
  });

  await t.test('a gateway that cannot be settled does not keep another from it', async (t) => {
    const meters = newMeters('56'.repeat(16));
    for (const [broken, other] of [
      ['gw-0', 'gw-1'],
      ['gw-1', 'gw-0'],
    ] as const) {
      const dirty = liveKeys.dirtyMeters(broken);
      for (const m of meters) m.count(555_555, 2);
      await deliver(redis, meters);
      await redis.rename(dirty, `${dirty}:kept`);
      await redis.set(dirty, 'not a set');
      await t.rejects(worker.settleNow(), /WRONGTYPE/);
      for (const m of meters.filter((m) => m.gatewayId === other)) t.same(await booked(m), expected(m));
      await redis.rename(`${dirty}:kept`, dirty);
      await worker.settleNow();
      for (const m of meters) t.same(await booked(m), expected(m));
    }
    t.same(await invariants(pool), []);
  });

  await t.test('four settlers over the same dirty meters, duplicates and reordering', async (t) => {
    const settlers = Array.from({ length: 4 }, (_, i) =>
      createWorker(pool, redis, { batchMetersMax: 1 + 2 * i, batchesInFlight: 1 + (i % 3) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            counts: fc.array(fc.nat(900_000_000), { minLength: 4, maxLength: 4 }),
            /** Which of the past reports are delivered again, before or after the new ones. */
            late: fc.array(fc.record({ meter: fc.nat(3), back: fc.nat(4), after: fc.boolean() })),
            settlers: fc.subarray([0, 1, 2, 3], { minLength: 2 }),
          }),
          { minLength: 2, maxLength: 6 },
        ),
        async (rounds) => {
          const meters = newMeters(randomUUID().replaceAll('-', ''));
          for (const buyer of buyers)
            for (const m of [meters[0], meters[3]] as TestMeter[])
              if (m.buyerId === buyer) await grant(pool, m, 'buyer', buyer, 10n ** 10n);
          const past = meters.map((m) => [m.report()]);
          for (const round of rounds) {
            const again = async (after: boolean) => {
              for (const l of round.late.filter((l) => l.after === after)) {
                const reports = past[l.meter] ?? [];
                const report = reports[Math.max(0, reports.length - 1 - l.back)];
                if (report) await reportMeters(redis, (meters[l.meter] as TestMeter).gatewayId, [report]);
              }
            };
            for (const [i, m] of meters.entries()) past[i]?.push(m.count(round.counts[i] ?? 0, i).report());
            const settling = round.settlers.map((n) => settlers[n]?.settleNow());
            await again(false);
            await deliver(redis, meters);
            await again(true);
            settling.push(...round.settlers.map((n) => settlers[n]?.settleNow()));
            await Promise.all(settling);
          }
          await deliver(redis, meters, { final: true, allocationEnded: true });
          await Promise.all(settlers.map((s) => s.settleNow()));
          for (const m of meters)
            if (JSON.stringify(await booked(m)) !== JSON.stringify(expected(m)))
              throw new Error(
                `booked ${JSON.stringify(await booked(m))}, not ${JSON.stringify(expected(m))}`,
              );
          const { rows } = await pool.query('SELECT 1 FROM wallet_holds WHERE run = $1 AND spent = 0', [
            runOf((meters[0] as TestMeter).epoch),
          ]);
          if (rows.length > 0 && rounds.some((r) => r.counts.every((c) => c > 1_000_000)))
            throw new Error('a hold was not spent from');
        },
      ),
      { numRuns: 10 },
    );
    t.same(await invariants(pool), []);
    t.same(
      settlers.map((s) => s.counts.failures),
      [0, 0, 0, 0],
    );
  });
});
