import t from 'tap';
import { dailyReportJob } from '../../../control-plane/figures/daily-report.js';
import { DAYS_MAX, materialiseDays } from '../../../control-plane/figures/figures.js';
import { post } from '../../../control-plane/ledger/ledger.js';
import { parseCsv } from '../../../control-plane/packages/csv.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

const { signal } = new AbortController();

t.test('figures for admins', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const { pool } = world;
  const get = async (path: string) => world.call('GET', path, { token: admin.token });
  const { rows: days } = await pool.query<{ today: string; yesterday: string }>(
    'SELECT utc_day() AS today, utc_day() - 1 AS yesterday',
  );
  const { today, yesterday } = days[0] as { today: string; yesterday: string };
  const { rows: buyers } = await pool.query<{ id: string }>(
    `INSERT INTO buyers (id, account, name) VALUES (gen_random_uuid(), 'acme', '=HYPERLINK("http://x.example")'),
       (gen_random_uuid(), 'other', 'Other') RETURNING id`,
  );
  const [acme, other] = buyers.map((b) => b.id);
  for (const [buyer, day, country, up, down, charged] of [
    [acme, today, 'DE', 100, 900, 2_000],
    [acme, today, 'US', 10, 90, 200],
    [acme, yesterday, 'US', 0, 5_000, 10_000],
    [other, yesterday, 'DE', 1, 1, 4],
  ])
    await pool.query('INSERT INTO usage_daily_buyer VALUES ($1, $2, $3, $4, $5, $6)', [
      buyer,
      day,
      country,
      up,
      down,
      charged,
    ]);
  await pool.query('INSERT INTO usage_daily_provider VALUES ($1, $2, 110, 990, 550)', [user.userId, today]);
  const account = (
    kind: 'buyer_prepaid' | 'provider_pending' | 'platform_revenue' | 'platform_funding',
    ownerId: string | null,
  ) => ({
    kind,
    ownerId,
  });
  await post(pool, [
    {
      kind: 'topup',
      sourceId: '1',
      entries: [
        { account: account('buyer_prepaid', acme ?? ''), entryKind: 'topup', amountMicros: 5_000_000n },
        { account: account('platform_funding', null), entryKind: 'topup', amountMicros: -5_000_000n },
      ],
    },
    {
      kind: 'traffic',
      sourceId: '1',
      entries: [
        { account: account('buyer_prepaid', acme ?? ''), entryKind: 'traffic_charge', amountMicros: -2_200n },
        {
          account: account('provider_pending', user.userId),
          entryKind: 'traffic_earning',
          amountMicros: 550n,
        },
        {
          account: account('provider_pending', admin.userId),
          entryKind: 'referral_bonus',
          amountMicros: 55n,
        },
        { account: account('platform_revenue', null), entryKind: 'platform_revenue', amountMicros: 1_595n },
      ],
    },
  ]);
  await pool.query(
    `INSERT INTO payouts (id, user_id, amount_micros, method, network, currency, target, status, created_at, ended_at) VALUES
       (gen_random_uuid(), $1, 6000000, 'cryptomus', 'TRON', 'USDT', 'T', 'completed', now(), now()),
       (gen_random_uuid(), $1, 7000000, 'cryptomus', 'TRON', 'USDT', 'T', 'failed', now(), now()),
       (gen_random_uuid(), $1, 8000000, 'cryptomus', 'TRON', 'USDT', 'T', 'pending', now(), NULL)`,
    [user.userId],
  );
  const expected = {
    day: today,
    new_users: 2,
    new_buyers: 2,
    active_providers: 1,
    active_buyers: 1,
    sessions_completed: 0,
    bytes_up: 110,
    bytes_down: 990,
    charged: '0.002200',
    earned: '0.000550',
    referrals: '0.000055',
    revenue: '0.001595',
    top_ups: '5.000000',
    payouts_completed: 1,
    paid_out: '6.000000',
  };

  const paths = [
    '/api/admin/dashboard/summary',
    '/api/admin/stats',
    '/api/admin/reports/daily',
    ...['users', 'traffic', 'revenue', 'payouts', 'buyers', 'countries'].map(
      (c) => `/api/admin/charts/${c}-daily`,
    ),
  ];
  for (const path of paths) {
    t.equal((await world.call('GET', path)).status, 401, path);
    t.equal((await world.call('GET', path, { token: user.token })).status, 403, path);
    t.equal((await get(path)).status, 200, path);
    if (path.endsWith('summary')) continue;
    const wrong = path.endsWith('reports/daily')
      ? ['format=xls', 'day=2026-02-30', 'day=0001-01-01']
      : ['days=0', `days=${DAYS_MAX + 1}`];
    for (const query of [...wrong, 'nothing=1'])
      t.equal((await get(`${path}?${query}`)).status, 400, `${path}?${query}`);
  }

  await t.test('at a glance', async (t) => {
    t.match((await get('/api/admin/dashboard/summary')).body, {
      users: 2,
      buyers: 2,
      devices_online: 0,
      payouts_pending: 1,
      payouts_pending_amount: '8.000000',
      today: expected,
    });
  });

  await t.test('today as it is when somebody looks, anew after a minute', async (t) => {
    const shown = async () => (await get('/api/admin/stats?days=2')).body;
    const [first, second] = await Promise.all([shown(), shown()]);
    t.match(first, { as_of: String, days: [{ day: yesterday, bytes_down: 0 }, expected] });
    t.same(second, first);
    await pool.query(`UPDATE usage_daily_provider SET user_id = $1`, [admin.userId]);
    await pool.query('INSERT INTO usage_daily_provider VALUES ($1, $2, 1, 1, 0)', [user.userId, today]);
    t.same(await shown(), first, 'the same within the minute');
    await pool.query(`UPDATE daily_figures SET computed_at = computed_at - interval '1 minute'`);
    t.match(await shown(), { days: [{ day: yesterday }, { ...expected, active_providers: 2 }] });
    await pool.query('DELETE FROM usage_daily_provider WHERE user_id = $1', [user.userId]);
  });

  await t.test('series, as the job adds them up', async (t) => {
    await pool.query(`UPDATE users SET created_at = created_at - interval '3 days' WHERE id = $1`, [
      admin.userId,
    ]);
    t.equal(await materialiseDays(pool, signal), 4, 'every day since the first user');
    t.equal(await materialiseDays(pool, signal), 2, 'then today and yesterday');
    const { body } = await get('/api/admin/stats?days=2');
    t.match(body, { as_of: String, days: [{ day: yesterday, bytes_down: 5_001, active_buyers: 2 }] });
    t.same(body.days[1], { ...expected, new_users: 1 });
    const point = async (chart: string) => (await get(`/api/admin/charts/${chart}-daily?days=1`)).body.series;
    t.same(await point('users'), [{ day: today, new_users: 1, active_providers: 1, sessions_completed: 0 }]);
    t.same(await point('traffic'), [{ day: today, bytes_up: 110, bytes_down: 990, sessions_completed: 0 }]);
    t.match(await point('revenue'), [{ charged: '0.002200', revenue: '0.001595', top_ups: '5.000000' }]);
    t.same(await point('payouts'), [{ day: today, payouts_completed: 1, paid_out: '6.000000' }]);
    t.same(await point('buyers'), [{ day: today, new_buyers: 2, active_buyers: 1, charged: '0.002200' }]);
    const countries = (await get('/api/admin/charts/countries-daily?days=2')).body.series;
    t.same(
      countries.map((c: { day: string; country: string; bytes_down: number }) => [
        c.day,
        c.country,
        c.bytes_down,
      ]),
      [
        [yesterday, 'US', 5_000],
        [yesterday, 'DE', 1],
        [today, 'DE', 900],
        [today, 'US', 90],
      ],
    );
  });

  await t.test('the daily report, as JSON, as CSV and in the outbox', async (t) => {
    const json = (await get('/api/admin/reports/daily')).body;
    t.match(json, {
      day: yesterday,
      bytes_down: 5_001,
      buyers: [{ account: 'acme' }, { account: 'other', charged: '0.000004' }],
    });
    const csv = await get('/api/admin/reports/daily?format=csv');
    t.match(csv.headers.get('content-type'), /^text\/csv/);
    t.match(csv.headers.get('content-disposition'), `report-${yesterday}.csv`);
    const parsed = parseCsv(String(csv.body));
    t.ok(parsed.ok);
    if (!parsed.ok) return;
    t.equal(parsed.rows.length, 4);
    t.same(parsed.rows[2]?.slice(1, 8), [
      'buyer',
      acme,
      'acme',
      `'=HYPERLINK("http://x.example")`,
      '0',
      '5000',
      '0.010000',
    ]);
    const job = dailyReportJob(pool);
    t.same(await job.run({ signal }), { day: yesterday, sent: true });
    t.same(await job.run({ signal }), { day: yesterday, sent: false }, 'once a day');
    const { rows } = await pool.query(`SELECT key, payload FROM outbox WHERE kind = 'daily_report'`);
    t.same(rows, [{ key: yesterday, payload: json }]);
  });

  await t.test('a day of the ledger is found by its block ranges', async (t) => {
    const client = await pool.connect();
    await client.query('SET enable_seqscan = off');
    const { rows } = await client.query(
      `EXPLAIN SELECT sum(amount_micros) FROM ledger_entries
        WHERE created_at >= '2026-01-01'::timestamptz AND created_at < '2026-01-02'::timestamptz`,
    );
    client.release(true);
    t.match(rows.map((row) => row['QUERY PLAN']).join('\n'), /ledger_entries_day/);
  });
});
