import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import t, { type Test } from 'tap';
import { bookUsageBatch } from '../../../control-plane/usage/book.js';
import { readUsage } from '../../../control-plane/usage/usage-batch.js';
import { UsageWorker } from '../../../control-plane/usage/worker.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import { readBookedUsage } from '../../../gateway/live/usage.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import {
  addBuyer,
  addSession,
  addUser,
  startMoneyDatabase,
  startMoneyRedis,
} from '../../helpers/money-world.js';
import { newRun, TestRun, usage } from './world.js';

const DAY_MS = 86_400_000;

async function start(t: Test) {
  const pool = await startMoneyDatabase(t);
  const { redis } = await startMoneyRedis(t);
  const worker = () =>
    new UsageWorker({ pool, redis, clock: systemClock, log: silentLog, intervalMs: 60_000 });
  const session = await addSession(pool, await addUser(pool), { exitIp: '198.51.100.7', country: 'FR' });
  return { pool, redis, worker, session, buyerId: await addBuyer(pool) };
}

const totals = async (pool: pg.Pool) =>
  (
    await pool.query(
      `SELECT coalesce(sum(bytes_up), 0)::int AS up, coalesce(sum(bytes_down), 0)::int AS down,
              coalesce(sum(streams), 0)::int AS streams, count(*)::int AS rows FROM destination_usage`,
    )
  ).rows[0];

t.test('a batch is booked with what the session knows, and is then gone from Redis', async (t) => {
  const { pool, redis, worker, session, buyerId } = await start(t);
  const run = new TestRun(redis);
  const at = Date.now();
  const allocationId = randomUUID();
  const one = usage({
    sessionId: session.sessionId,
    buyerId,
    allocationId,
    tag: 'x',
    firstAtMs: at - 5_000,
    lastAtMs: at,
  });
  await run.deliver([one, { ...one, bytesUp: 1, firstAtMs: at - 9_000, lastAtMs: at - 9_000, streams: 0 }]);
  await run.deliver([
    { ...one, host: '(other)', port: 0, tag: '(other)', sessionName: '(other)' },
    { ...one, tag: null },
  ]);
  const w = worker();
  t.equal(await w.runOnce(), 2);
  const { rows } = await pool.query(
    `SELECT day::text, user_id, host(exit_ip) AS exit_ip, country, host, port, tag, session_name, bytes_up::int,
            bytes_down::int, streams::int, first_at, last_at FROM destination_usage WHERE tag = 'x'`,
  );
  t.same(rows, [
    {
      day: new Date(at).toISOString().slice(0, 10),
      user_id: session.userId,
      exit_ip: '198.51.100.7',
      country: 'FR',
      host: 'www.example.com',
      port: 443,
      tag: 'x',
      session_name: null,
      bytes_up: 11,
      bytes_down: 200,
      streams: 1,
      first_at: new Date(at - 9_000),
      last_at: new Date(at),
    },
  ]);
  t.match(await totals(pool), { rows: 3, up: 31 });
  t.equal(await redis.exists(liveKeys.usage('gw-usage')), 0);
  t.same(await readBookedUsage(redis, 'gw-usage', run.run), [[1, 3]]);
  t.match(w.counts, { batches: 2, duplicates: 0, entries: 4, failures: 0 });
});

t.test('twice, late and out of order: each batch once', async (t) => {
  const { pool, redis, worker, session, buyerId } = await start(t);
  const w = worker();
  const run = new TestRun(redis);
  const entry = usage({ sessionId: session.sessionId, buyerId });
  for (const seq of [5, 2, 5, 1]) {
    await run.deliver([entry], seq);
    await w.runOnce();
  }
  t.same(await readBookedUsage(redis, 'gw-usage', run.run), [
    [1, 3],
    [5, 6],
  ]);
  await redis.flushall();
  for (const seq of [1, 2, 3, 4, 5]) await run.deliver([entry], seq);
  await w.runOnce();
  t.match(await totals(pool), { up: 50, down: 500, streams: 5, rows: 1 });
  t.match(w.counts, { batches: 5, duplicates: 4 });
  t.same(
    await readBookedUsage(redis, 'gw-usage', run.run),
    [[1, 6]],
    'told anew to a Redis that was emptied',
  );
  const another = new TestRun(redis);
  await another.deliver([entry]);
  await w.runOnce();
  t.match(await totals(pool), { up: 60 }, 'another run has numbers of its own');
});

t.test('several control planes at once, batches that keep coming back', async (t) => {
  const { pool, redis, worker, session, buyerId } = await start(t);
  const workers = [worker(), worker(), worker(), worker()];
  const runs = ['gw-a', 'gw-b'].map((id) => new TestRun(redis, id));
  let up = 0;
  const hosts = ['a.example', 'b.example', 'c.example'];
  const allocationId = randomUUID();
  const firsts = new Map<TestRun, unknown[]>();
  for (let round = 0; round < 8; round++) {
    for (const run of runs)
      for (let i = 0; i < 4; i++) {
        // The same rows for all, in differing orders.
        const entries = [0, 1, 2].map((n) =>
          usage({
            sessionId: session.sessionId,
            buyerId,
            allocationId,
            host: hosts[(n + i + round) % 3] as string,
            bytesUp: n + 1,
          }),
        );
        await run.deliver(entries);
        if (run.seq === 1) firsts.set(run, entries);
        up += 6;
      }
    const again = runs.map((run) => run.deliver(firsts.get(run) ?? [], 1));
    await Promise.all([...workers.map((w) => w.runOnce()), ...again]);
  }
  await Promise.all(workers.map((w) => w.runOnce()));
  t.match(await totals(pool), { up, streams: 8 * 2 * 4 * 3, rows: 3 });
  t.equal(
    workers.reduce((n, w) => n + w.counts.batches, 0),
    64,
    'of all workers together, each batch once',
  );
  t.equal(
    workers.reduce((n, w) => n + w.counts.failures, 0),
    0,
  );
});

t.test('a booking that fails leaves neither sums nor number behind', async (t) => {
  const { pool, session, buyerId } = await start(t);
  const batch = readUsage(
    { run: newRun(), seq: 1 },
    JSON.stringify([usage({ sessionId: session.sessionId, buyerId })]),
    Date.now(),
  );
  await t.rejects(
    bookUsageBatch(pool, 'gw', { ...batch, claims: [{ ...batch.claims[0], day: '1999-01-01' } as never] }),
    {
      code: '23514',
    },
  );
  await pool.query('TRUNCATE usage_runs');
  const client = await pool.connect();
  await client.query('SELECT make_destination_usage_partition(current_date)');
  await client.query('BEGIN');
  t.match(await bookUsageBatch(client, 'gw', batch), { fresh: true, unknown: 0, booked: [[1, 2]] });
  await client.query('ROLLBACK');
  t.match(await totals(pool), { rows: 0 });
  t.match(await bookUsageBatch(client, 'gw', batch), { fresh: true });
  t.match(await bookUsageBatch(client, 'gw', batch), { fresh: false, booked: [[1, 2]] });
  client.release();
  t.match(await totals(pool), { rows: 1, up: 10 });
});

t.test('what is no usage is left out, counted, and does not come again', async (t) => {
  const { pool, redis, worker, session, buyerId } = await start(t);
  const good = usage({ sessionId: session.sessionId, buyerId });
  const bad: object[] = [
    { ...good, sessionId: "x'; DROP TABLE users; --" },
    { ...good, host: 'a b' },
    { ...good, host: '' },
    { ...good, host: 'x'.repeat(256) },
    { ...good, host: 'null\0byte' },
    { ...good, port: 65_536 },
    { ...good, tag: 'no-dash' },
    { ...good, sessionName: 5 },
    { ...good, bytesUp: -1 },
    { ...good, bytesDown: 2 ** 53 },
    { ...good, streams: 1.5 },
    { ...good, lastAtMs: 'now' },
    [],
  ];
  const run = new TestRun(redis);
  await run.deliver([...bad, null, good]);
  await run.deliver([{ ...good, sessionId: randomUUID() }, { ...good, buyerId: randomUUID() }, good]);
  await redis.hset(liveKeys.usage('gw-usage'), `${run.run}.3`, '{"not": "a list"');
  const w = worker();
  await w.runOnce();
  t.match(w.counts, {
    batches: 3,
    entries: 2,
    setAside: { unreadable: bad.length + 2, unknown: 2 },
    failures: 0,
  });
  t.match(await totals(pool), { up: 20, rows: 1 });
  t.same(await readBookedUsage(redis, 'gw-usage', run.run), [[1, 4]]);
});

t.test('times of a clock that is wrong become now; late ones stay', async (t) => {
  const { pool, redis, worker, session, buyerId } = await start(t);
  const nowMs = Date.now();
  const at = (firstAtMs: number, lastAtMs: number, host: string) =>
    usage({ sessionId: session.sessionId, buyerId, host, firstAtMs, lastAtMs });
  await new TestRun(redis).deliver([
    at(nowMs + 366 * DAY_MS, nowMs + 366 * DAY_MS, 'ahead.example'),
    at(1, nowMs - 400 * DAY_MS, 'behind.example'),
    at(nowMs - 20 * DAY_MS - 1_000, nowMs - 20 * DAY_MS, 'late.example'),
    at(nowMs, nowMs - 60_000, 'turned.example'),
  ]);
  await worker().runOnce();
  const { rows } = await pool.query<{ host: string; first_at: Date; last_at: Date }>(
    'SELECT host, first_at, last_at FROM destination_usage ORDER BY host',
  );
  const ages = rows.map((r) => [
    r.host,
    Math.round((nowMs - r.first_at.getTime()) / 60_000),
    Math.round((nowMs - r.last_at.getTime()) / 60_000),
  ]);
  const twentyDays = 20 * 24 * 60;
  t.same(ages, [
    ['ahead.example', 0, 0],
    ['behind.example', 0, 0],
    ['late.example', twentyDays, twentyDays],
    ['turned.example', 1, 1],
  ]);
});

t.test('a round fails while Postgres refuses, and the next one books', async (t) => {
  const { pool, redis, worker, session, buyerId } = await start(t);
  const w = worker();
  await new TestRun(redis).deliver([usage({ sessionId: session.sessionId, buyerId })]);
  await pool.query('ALTER TABLE destination_usage ADD CONSTRAINT never CHECK (bytes_up < 0) NOT VALID');
  t.equal(await w.runOnce(), 0);
  t.equal(w.counts.failures, 1);
  await pool.query('ALTER TABLE destination_usage DROP CONSTRAINT never');
  t.equal(await w.runOnce(), 1);
  t.match(await totals(pool), { rows: 1 });
});
