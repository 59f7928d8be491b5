import type pg from 'pg';
import t from 'tap';
import { makeUsagePartition, UsageRetention } from '../../../control-plane/usage/partitions.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { startMoneyDatabase } from '../../helpers/money-world.js';

/** Rows so many days old, each in a partition that is made for it. */
async function fill(pool: pg.Pool, agesDays: readonly number[], rows = 1): Promise<void> {
  for (const age of agesDays) {
    const { rows: dates } = await pool.query<{ day: string }>(
      `SELECT ((now() AT TIME ZONE 'UTC')::date - $1::int)::text AS day`,
      [age],
    );
    const day = dates[0]?.day as string;
    await makeUsagePartition(pool, day);
    await pool.query(
      `INSERT INTO destination_usage (day, session_id, allocation_id, buyer_id, user_id, exit_ip, country, host, port,
                                      bytes_up, bytes_down, streams, first_at, last_at)
       SELECT $1::date, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '198.51.100.1', 'DE',
              'h' || n, 443, 1, 1, 1, $1::date, $1::date FROM generate_series(1, $2::int) n`,
      [day, rows],
    );
  }
}

const ages = async (pool: pg.Pool) =>
  (
    await pool.query<{ age: number }>(
      `SELECT DISTINCT (now() AT TIME ZONE 'UTC')::date - day AS age FROM destination_usage ORDER BY 1`,
    )
  ).rows.map((r) => r.age);
const partitions = async (pool: pg.Pool) =>
  (
    await pool.query<{ name: string }>(
      "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'destination_usage'::regclass ORDER BY 1",
    )
  ).rows.map((r) => r.name);

t.test('what is too old goes, to the day; whole months as partitions', async (t) => {
  const pool = await startMoneyDatabase(t);
  let keptDays = 90;
  const retention = new UsageRetention({
    pool,
    log: silentLog,
    retentionDays: () => keptDays,
    deleteRowsMax: 3,
  });
  await fill(pool, [0, 1, 89, 90, 91, 92, 150, 400], 10);
  const { months } = await retention.runOnce();
  t.same(await ages(pool), [0, 1, 89, 90]);
  t.ok(months >= 2, 'those of 150 and 400 days ago');
  t.same(await retention.runOnce(), { months: 0, rows: 0 }, 'nothing left to do');

  keptDays = 1;
  await retention.runOnce();
  t.same(await ages(pool), [0, 1]);
});

t.test('by many at once: once each', async (t) => {
  const pool = await startMoneyDatabase(t);
  const retention = new UsageRetention({ pool, log: silentLog, retentionDays: () => 1, deleteRowsMax: 3 });
  const old = Array.from({ length: 20 }, (_, n) => 100 + 30 * n);
  for (let round = 0; round < 3; round++) {
    await fill(pool, [0, 1, 40, ...old]);
    const before = await partitions(pool);
    const all = await Promise.all(Array.from({ length: 4 }, () => retention.runOnce()));
    t.same(await ages(pool), [0, 1]);
    const months = all.reduce((sum, deleted) => sum + deleted.months, 0);
    const left = await partitions(pool);
    t.equal(months, before.filter((name) => !left.includes(name)).length, `${months} months`);
    t.ok(months >= old.length - 1);
  }
});

t.test('partitions of this month and the next are made ahead, by many at once', async (t) => {
  const pool = await startMoneyDatabase(t);
  const retention = new UsageRetention({ pool, log: silentLog, retentionDays: () => 90 });
  t.same(await partitions(pool), []);
  await Promise.all([1, 2, 3, 4].map(() => retention.runOnce()));
  const { rows } = await pool.query<{ name: string }>(
    `SELECT 'destination_usage_' || to_char((now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY_MM') AS name
       FROM generate_series(0, 1) n`,
  );
  t.same(
    await partitions(pool),
    rows.map((r) => r.name),
  );
});

t.test('a month that is being read for long is emptied, and dropped another time', async (t) => {
  const pool = await startMoneyDatabase(t);
  const retention = new UsageRetention({ pool, log: silentLog, retentionDays: () => 90 });
  await fill(pool, [200]);
  const reader = await pool.connect();
  await reader.query('BEGIN');
  await reader.query('SELECT count(*) FROM destination_usage');
  t.match(await retention.runOnce(), { months: 0, rows: 1 });
  await reader.query('COMMIT');
  reader.release();
  t.match(await retention.runOnce(), { months: 1, rows: 0 });
});

t.test('the time kept is a business setting', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const settings = (body: object) => world.call('PATCH', '/api/admin/settings', { token: admin.token, body });
  t.equal(
    (await world.call('GET', '/api/admin/settings', { token: admin.token })).body.destination_retention_days,
    90,
  );
  for (const days of [0, 3_651, 1.5, '90'])
    t.equal((await settings({ destination_retention_days: days })).status, 400);
  t.match(await settings({ destination_retention_days: 7 }), {
    status: 200,
    body: { destination_retention_days: 7 },
  });
  await fill(world.pool, [5, 8]);
  await world.services.usageRetention.runOnce();
  t.same(await ages(world.pool), [5]);
});
