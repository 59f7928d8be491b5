import { randomUUID } from 'node:crypto';
import t from 'tap';
import { chargeMicros } from '../../../control-plane/ledger/money.js';
import { invariants, overusedPackages } from '../../../control-plane/settlement/invariants.js';
import { readHeld } from '../../../control-plane/wallets/held.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import {
  addBuyer,
  addSession,
  addUser,
  startMoneyDatabase,
  startMoneyRedis,
  TestMeter,
} from '../../helpers/money-world.js';
import { addSubUser, bytesUsed, createWorker, deliver, fund, grant, readHold } from './world.js';

t.test('wallet holds and sub-users', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis } = await startMoneyRedis(t);
  const user = await addUser(pool);
  const buyer = await addBuyer(pool);
  const other = await addBuyer(pool);
  await fund(pool, [buyer, other]);
  const worker = createWorker(pool, redis);
  const EPOCH = 'ab'.repeat(16);
  const PRICES = { provider: '500000', buyer: '2000000' };
  const meterOf = async (more: { subUserId?: string; packageId?: string; epoch?: string } = {}) =>
    new TestMeter(
      'gw-a',
      (await addSession(pool, user)).sessionId,
      buyer,
      randomUUID(),
      PRICES,
      more.packageId ?? null,
      more.subUserId ?? null,
      more.epoch ?? EPOCH,
    );

  await t.test("charges are spent from the run's hold with the booking, over all its epochs", async (t) => {
    const first = await meterOf();
    const second = await meterOf({ epoch: `${EPOCH.slice(0, 24)}00112233` });
    const elsewhere = await meterOf({ epoch: 'cd'.repeat(16) });
    await grant(pool, first, 'buyer', buyer, 1_000_000n);
    await grant(pool, elsewhere, 'buyer', buyer, 7_000_000n);
    await deliver(redis, [
      first.count(1_000_000, 0),
      second.count(0, 2_000_000),
      elsewhere.count(3_000_000, 1),
    ]);
    await worker.settleNow();
    t.equal((await readHold(pool, first, 'buyer', buyer))?.spent, 6_000n);
    t.equal((await readHold(pool, elsewhere, 'buyer', buyer))?.spent, 6_000n);
    await worker.settleNow();
    await deliver(redis, [first, second]);
    await worker.settleNow();
    t.equal((await readHold(pool, first, 'buyer', buyer))?.spent, 6_000n, 'once');

    await pool.query('UPDATE wallet_holds SET closed_at = now() WHERE run = $1', [EPOCH.slice(0, 24)]);
    await deliver(redis, [first.count(499_999, 1)]);
    await worker.settleNow();
    t.equal((await readHold(pool, first, 'buyer', buyer))?.spent, 7_000n, 'a closed one is added to as well');
    t.same(await invariants(pool), []);

    const unheld = new TestMeter('gw-b', first.sessionId, other).count(5_000_000, 0);
    await deliver(redis, [unheld]);
    await worker.settleNow();
    t.same(
      await readHold(pool, unheld, 'buyer', other),
      { granted: 0n, spent: 10_000n, closed: false },
      'a hold that a restored record does not know is taken up, with nothing granted',
    );
    t.equal((await readHeld(pool, 'buyer', [other])).get(other), 0n);
    t.same(await invariants(pool), []);
  });

  await t.test("a sub-user's bytes count against it, and are its own", async (t) => {
    const subUserId = await addSubUser(pool, buyer);
    const meter = await meterOf({ subUserId });
    await grant(pool, meter, 'sub_user', subUserId, 10_000n);
    await deliver(redis, [meter.count(700, 300)]);
    await worker.settleNow();
    t.equal(await bytesUsed(pool, subUserId), 1_000n);
    t.equal((await readHold(pool, meter, 'sub_user', subUserId))?.spent, 1_000n);
    const { rows } = await pool.query('SELECT sub_user_id FROM allocations WHERE id = $1', [
      meter.allocationId,
    ]);
    t.same(rows, [{ sub_user_id: subUserId }]);

    const foreign = await meterOf({ subUserId: await addSubUser(pool, other) });
    const unknown = await meterOf({ subUserId: randomUUID() });
    const changed = new TestMeter(
      'gw-a',
      meter.sessionId,
      buyer,
      meter.allocationId,
      PRICES,
      null,
      null,
      EPOCH,
    );
    const before = worker.counts.setAside.unknown_sub_user;
    await deliver(redis, [foreign.count(9, 9), unknown.count(9, 9)]);
    await worker.settleNow();
    t.equal(worker.counts.setAside.unknown_sub_user - before, 2);
    await redis.hset(
      liveKeys.meters('gw-a'),
      `${changed.sessionId}.${changed.allocationId}.${changed.epoch}.500000.2000000`,
      JSON.stringify(changed.count(5_000, 5_000).report()),
    );
    await redis.sadd(
      liveKeys.dirtyMeters('gw-a'),
      `${changed.sessionId}.${changed.allocationId}.${changed.epoch}.500000.2000000`,
    );
    await worker.settleNow();
    t.equal(worker.counts.setAside.unknown_sub_user - before, 3, 'a meter does not change hands');
    t.equal(await bytesUsed(pool, subUserId), 1_000n);
    await redis.flushall();
    t.same(await invariants(pool), []);
  });

  await t.test("a pulled package's bytes are spent from its hold", async (t) => {
    const packageId = randomUUID();
    await pool.query(
      `INSERT INTO packages (id, user_id, exit_ip, country, size_bytes, status, origin)
       VALUES ($1, $2, '198.51.100.77', 'DE', 1000, 'allocated', 'ingest')`,
      [packageId, user],
    );
    const meter = await meterOf({ packageId });
    await grant(pool, meter, 'package', meter.allocationId, 1_000n);
    await deliver(redis, [meter.count(400, 600)]);
    await worker.settleNow();
    t.equal((await readHold(pool, meter, 'package', meter.allocationId))?.spent, 1_000n);
    t.same(await overusedPackages(pool), []);
    await deliver(redis, [meter.count(0, 1)]);
    await worker.settleNow();
    t.match(await overusedPackages(pool), [`package ${packageId}: 1001 of 1000 bytes`]);
    t.same(await invariants(pool), []);
  });

  await t.test('the invariants notice a wrong hold, use or balance', async (t) => {
    const subUserId = await addSubUser(pool, buyer);
    const meter = await meterOf({ subUserId, epoch: 'ef'.repeat(16) });
    await grant(pool, meter, 'buyer', buyer, 5_000_000n);
    await deliver(redis, [meter.count(3_000_000, 0)]);
    await worker.settleNow();
    t.same(await invariants(pool), []);
    t.equal(
      (await readHold(pool, meter, 'buyer', buyer))?.spent,
      chargeMicros(3_000_000n, BigInt(PRICES.buyer)),
    );
    await pool.query('UPDATE sub_users SET bytes_used = bytes_used + 1 WHERE id = $1', [subUserId]);
    await pool.query('UPDATE wallet_holds SET spent = spent + 1 WHERE run = $1 AND closed_at IS NULL', [
      'ef'.repeat(12),
    ]);
    const poor = await addBuyer(pool);
    await fund(pool, [poor], 100n);
    const poorMeter = new TestMeter('gw-z', meter.sessionId, poor);
    await grant(pool, poorMeter, 'buyer', poor, 100n);
    // Counted without a hold of its run: what is left is less than what is held.
    await deliver(redis, [new TestMeter('gw-y', meter.sessionId, poor).count(1_000_000, 0)]);
    await worker.settleNow();
    const faults = (await invariants(pool)).sort();
    t.match(faults, [
      /^buyer .* has -1900 left and 100 held$/,
      /^hold of buyer .*: spent 6001, metered 6000$/,
      /^sub-user .* has used 3000001, its meters say 3000000$/,
    ]);
  });
});
