/** Refused connections: from batches into Postgres, to the buyer, and away after a week. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { forgetOldRefusals, readRefusals } from '../../../control-plane/usage/refusals.js';
import { UsageWorker } from '../../../control-plane/usage/worker.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { addBuyer, startMoneyDatabase, startMoneyRedis } from '../../helpers/money-world.js';
import { TestRun } from './world.js';

const HOUR_MS = 3_600_000;

t.test('booked once, by buyer, code and hour', async (t) => {
  const pool = await startMoneyDatabase(t);
  const { redis } = await startMoneyRedis(t);
  const buyerId = await addBuyer(pool);
  const other = await addBuyer(pool);
  const worker = new UsageWorker({ pool, redis, clock: systemClock, log: silentLog, intervalMs: 60_000 });
  const run = new TestRun(redis);
  const hourMs = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
  const refused = (code: string, refusals: number, more = {}) => ({
    buyerId,
    code,
    refusals,
    lastAtMs: hourMs,
    lastDetail: null,
    ...more,
  });
  const first = [
    refused('BAD_PARAM', 2, { lastDetail: 'country' }),
    refused('BAD_PARAM', 1, { lastAtMs: hourMs + 1, lastDetail: 'city' }),
    refused('NO_PEER', 5, { lastAtMs: hourMs - 2 * HOUR_MS }),
    refused('NO_PEER', 9, { buyerId: other }),
  ];
  const seq = await run.deliver(first);
  t.equal(await worker.runOnce(), 1);
  await run.deliver(first, seq);
  await run.deliver([refused('BAD_PARAM', 1, { lastDetail: 'ttl' })]);
  await worker.runOnce();
  t.equal(worker.counts.duplicates, 1);

  const day = await readRefusals(pool, buyerId, 24);
  t.same(day.byCode, [
    { code: 'NO_PEER', refusals: 5n, lastAt: new Date(hourMs - 2 * HOUR_MS), lastDetail: null },
    { code: 'BAD_PARAM', refusals: 4n, lastAt: new Date(hourMs + 1), lastDetail: 'city' },
  ]);
  t.same(day.byHour, [
    { hour: new Date(hourMs - 2 * HOUR_MS), refusals: 5n },
    { hour: new Date(hourMs), refusals: 4n },
  ]);
  t.same(
    (await readRefusals(pool, buyerId, 2)).byCode.map(({ code }) => code),
    ['BAD_PARAM'],
    'no further back than asked',
  );
  t.match(await readRefusals(pool, randomUUID(), 24), { from: Date, byCode: [], byHour: [] });

  await t.test('what can not be is left out, and told', async (t) => {
    await run.deliver([
      refused('no code', 1),
      refused('NO_PEER', 0),
      refused('NO_PEER', 1.5),
      refused('NO_PEER', 1, { lastDetail: '<b>' }),
      refused('NO_PEER', 1, { buyerId: 'x' }),
      refused('NO_PEER', 1, { buyerId: randomUUID() }),
      refused('DNS_FAIL', 1, { lastAtMs: hourMs + 100 * 86_400_000 }),
    ]);
    await worker.runOnce();
    t.same(worker.counts.setAside, { unreadable: 5, unknown: 1 });
    const { byCode } = await readRefusals(pool, buyerId, 24);
    t.equal(byCode.find(({ code }) => code === 'NO_PEER')?.refusals, 5n);
    const dns = byCode.find(({ code }) => code === 'DNS_FAIL');
    t.ok(dns && dns.lastAt.getTime() <= Date.now(), 'a time that can not be is now');
  });

  await t.test('forgotten after a week', async (t) => {
    t.equal(await forgetOldRefusals(pool), 0);
    await pool.query(
      `UPDATE buyer_refusals SET hour = hour - interval '169 hours' WHERE code = 'NO_PEER' AND buyer_id = $1`,
      [buyerId],
    );
    t.equal(await forgetOldRefusals(pool), 1);
  });
});
