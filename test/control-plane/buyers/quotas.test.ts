/** Bytes a day and month: counted by settlement, granted within what is left, refused by the database beyond it. */
import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import t from 'tap';
import { setByteQuotas } from '../../../control-plane/buyers/quotas.js';
import { withTransaction } from '../../../control-plane/db/pool.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { answerWallets, type WalletQuestion } from '../../../control-plane/wallets/wallets.js';
import { runOf, type WalletOwner } from '../../../gateway/live/records.js';
import {
  addBuyer,
  addSession,
  addUser,
  startMoneyDatabase,
  startMoneyRedis,
  TestMeter,
} from '../../helpers/money-world.js';
import { addSubUser, createWorker, deliver, fund, readHold } from '../settlement/world.js';

const MiB = 2n ** 20n;
const PRICE = { defaultBuyerPriceMicrosPerGb: 2_000_000n };

/** Of trigger held_within_quota. */
const REFUSED = { message: /would be held of .* than are left/ };

interface QuotaRow {
  day_bytes: bigint;
  month_bytes: bigint;
  is_today: boolean;
}

const readQuota = async (pool: pg.Pool, ownerId: string) =>
  (
    await pool.query<QuotaRow>(
      'SELECT day_bytes, month_bytes, day = utc_day() AS is_today FROM byte_quotas WHERE owner_id = $1',
      [ownerId],
    )
  ).rows[0];

const setQuotas = (
  pool: pg.Pool,
  ownerId: string,
  bytesPerDayMax: bigint | null,
  bytesPerMonthMax: bigint | null,
) =>
  withTransaction(pool, (client) =>
    setByteQuotas(client, ownerId, {
      bytesPerDayMax: bytesPerDayMax === null ? null : Number(bytesPerDayMax),
      bytesPerMonthMax: bytesPerMonthMax === null ? null : Number(bytesPerMonthMax),
    }),
  );

/** As if the row had last been written yesterday, or a month ago. */
const age = (pool: pg.Pool, ownerId: string, by: 'day' | 'month') =>
  pool.query(
    by === 'day'
      ? 'UPDATE byte_quotas SET day = day - 1 WHERE owner_id = $1'
      : "UPDATE byte_quotas SET day = day - 31, month = (month - interval '1 month')::date WHERE owner_id = $1",
    [ownerId],
  );

t.test('bytes a day and month', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis } = await startMoneyRedis(t);
  const worker = createWorker(pool, redis);
  const user = await addUser(pool);
  const ask = async (owner: WalletOwner, wantGranted: bigint, more: Partial<WalletQuestion> = {}) => {
    const question = {
      owner,
      gatewayId: 'gw-a',
      run: randomBytes(12).toString('hex'),
      wantGranted,
      renounced: 0n,
      withdrawn: 0n,
      finished: false,
      again: true,
      ...more,
    };
    const [reply] = await withTransaction(pool, (client) => answerWallets(client, [question], PRICE));
    if (!reply) throw new Error('no reply');
    return reply;
  };
  const newBuyer = async () => {
    const id = await addBuyer(pool);
    await fund(pool, [id]);
    return id;
  };
  const relay = async (
    buyerId: string,
    bytes: number,
    subUserId: string | null = null,
    meter?: TestMeter,
  ) => {
    const prices = { provider: '500000', buyer: '2000000' };
    const { sessionId } = await addSession(pool, user);
    const one = meter ?? new TestMeter('gw-a', sessionId, buyerId, randomUUID(), prices, null, subUserId);
    await deliver(redis, [one.count(bytes - 1, 1)]);
    await worker.settleNow();
    return one;
  };

  await t.test('a first quota begins with what is booked of the period; settlement adds to it', async (t) => {
    const buyer = await newBuyer();
    await relay(buyer, 5_000);
    t.equal(await readQuota(pool, buyer), undefined, 'nothing is counted without a quota');
    const today = new Date();
    const otherDay = today.getUTCDate() === 1 ? 2 : 1;
    await pool.query(
      `INSERT INTO usage_daily_buyer (buyer_id, day, country, bytes_up, bytes_down, charged_micros)
       VALUES ($1, utc_month() + $2::int, 'DE', 600, 400, 0), ($1, utc_month() - 1, 'DE', 77, 0, 0)`,
      [buyer, otherDay - 1],
    );
    await setQuotas(pool, buyer, 10n * MiB, null);
    t.match(await readQuota(pool, buyer), { day_bytes: 5_000n, month_bytes: 6_000n, is_today: true });
    const subUser = await addSubUser(pool, buyer);
    await setQuotas(pool, subUser, null, 10n * MiB);
    await relay(buyer, 100, subUser);
    await relay(buyer, 10);
    t.match(await readQuota(pool, buyer), { day_bytes: 5_110n, month_bytes: 6_110n }, 'sub-users included');
    t.match(await readQuota(pool, subUser), { day_bytes: 100n, month_bytes: 100n });
    await setQuotas(pool, buyer, null, null);
    await relay(buyer, 1);
    t.match(await readQuota(pool, buyer), { day_bytes: 5_111n }, 'lifted: counted on');
    await setQuotas(pool, buyer, MiB, null);
    t.match(await readQuota(pool, buyer), { day_bytes: 5_111n }, 'set again: nothing is forgotten');
    await pool.query(
      'DELETE FROM usage_daily_buyer WHERE buyer_id = $1 AND (bytes_up = 600 OR bytes_up = 77)',
      [buyer],
    );
  });

  await t.test(
    'grants of all gateways together stay within what is left; spending frees nothing',
    async (t) => {
      const buyer = await newBuyer();
      await setQuotas(pool, buyer, 10n * MiB, 100n * MiB);
      const day: WalletOwner = { kind: 'day', ownerId: buyer };
      const meter = await relay(buyer, 1);
      const run = runOf(meter.epoch);
      let granted = 0n;
      for (const gatewayId of ['gw-a', 'gw-b', 'gw-c'])
        for (let i = 0; i < 8; i++) granted += (await ask(day, 50n * MiB, { gatewayId })).granted;
      t.equal(granted, 10n * MiB - 1n, 'all of it, and no byte more');
      t.match(await ask(day, 1n), { granted: 0n, state: 'wait' });
      t.match(await ask({ kind: 'month', ownerId: buyer }, 20n * MiB, { run }), {
        granted: 20n * MiB,
        state: 'open',
      });
      await relay(buyer, 1_000_000, null, meter);
      t.match(await readHold(pool, meter, 'month', buyer), { spent: 1_000_000n });
      t.match(await readQuota(pool, buyer), { day_bytes: 1_000_001n, month_bytes: 1_000_001n });
    },
  );

  await t.test('the database refuses a hold beyond what is left, whoever asks', async (t) => {
    const buyer = await newBuyer();
    await setQuotas(pool, buyer, 1_000n, 2_000n);
    await relay(buyer, 400);
    const hold = (kind: string, granted: number) =>
      pool.query(
        'INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted) VALUES ($1, $2, $3, $4, $5)',
        [kind, buyer, 'gw-x', randomBytes(12).toString('hex'), granted],
      );
    await t.rejects(hold('day', 601), REFUSED);
    await hold('day', 600);
    await t.rejects(hold('day', 1), REFUSED);
    await t.rejects(
      pool.query("UPDATE wallet_holds SET granted = 601 WHERE kind = 'day' AND owner_id = $1", [buyer]),
      REFUSED,
    );
    await t.rejects(hold('month', 1_601), REFUSED);
    await hold('month', 1_600);
  });

  await t.test('a period that is over counts nothing; what is held of it still does', async (t) => {
    const buyer = await newBuyer();
    await setQuotas(pool, buyer, 4n * MiB, 8n * MiB);
    const meter = await relay(buyer, Number(3n * MiB));
    const day: WalletOwner = { kind: 'day', ownerId: buyer };
    const month: WalletOwner = { kind: 'month', ownerId: buyer };
    const yesterday = await ask(day, 8n * MiB);
    t.equal(yesterday.granted, MiB);
    t.match(await ask(day, 8n * MiB), { granted: 0n, state: 'wait' });
    await age(pool, buyer, 'day');
    t.equal(
      (await ask(day, 3n * MiB, { gatewayId: 'gw-b' })).granted < 3n * MiB,
      true,
      'one of the four is still held',
    );
    let more = 0n;
    for (let i = 0; i < 5; i++) more += (await ask(day, 50n * MiB, { gatewayId: 'gw-c' })).granted;
    t.ok(more <= 3n * MiB);
    t.equal((await ask(month, 50n * MiB)).granted <= 5n * MiB, true, 'the month goes on');
    await relay(buyer, 7, null, meter);
    t.match(await readQuota(pool, buyer), { day_bytes: 7n, month_bytes: 3n * MiB + 7n, is_today: true });
    await age(pool, buyer, 'month');
    await relay(buyer, 2, null, meter);
    t.match(await readQuota(pool, buyer), { day_bytes: 2n, month_bytes: 2n, is_today: true });
    // A clock that goes back, or a transaction that waited over midnight: the day never falls.
    await pool.query('UPDATE byte_quotas SET day = day + 1 WHERE owner_id = $1', [buyer]);
    await relay(buyer, 3, null, meter);
    t.match(await readQuota(pool, buyer), { day_bytes: 5n, is_today: false });
  });

  await t.test('lowered below what is used, lifted, and nobody has one', async (t) => {
    const buyer = await newBuyer();
    const day: WalletOwner = { kind: 'day', ownerId: buyer };
    t.match(await ask(day, MiB), { granted: 0n, state: 'exhausted' }, 'no quota, no hold');
    await setQuotas(pool, buyer, 9n * MiB, null);
    await relay(buyer, Number(5n * MiB));
    await setQuotas(pool, buyer, 2n * MiB, null);
    t.match(await ask(day, MiB), { granted: 0n, state: 'exhausted' });
    await setQuotas(pool, buyer, null, null);
    t.match(await ask(day, 900n * MiB), { granted: 900n * MiB, state: 'open' });
  });

  t.same(await invariants(pool), []);
});
