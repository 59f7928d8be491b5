import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { Measures } from '../../control-plane/measures.js';
import { ControlPlaneMetrics } from '../../control-plane/metrics.js';
import { MoneyWatch } from '../../control-plane/reconciliation/figures.js';
import { RecordWatch } from '../../control-plane/system/record-figures.js';
import { reportMeters } from '../../gateway/live/meters.js';
import { startPrivateServer } from '../../gateway/runtime/private-server.js';
import { signedIn, startWorld } from '../helpers/control-plane.js';
import { addBuyer, addSession, addUser, TestMeter } from '../helpers/money-world.js';

/** The samples of a scrape: name with its labels → value. */
const samples = (text: string) =>
  new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const at = line.lastIndexOf(' ');
        return [line.slice(0, at), Number(line.slice(at + 1))] as const;
      }),
  );

t.test('metrics of the control plane', async (t) => {
  const world = await startWorld(t);
  const { pool, redis, call, services, collaborators } = world;
  const { clock, log } = collaborators;
  const money = new MoneyWatch({ pool, clock, log, maxAgeMs: 0 });
  const metrics = new ControlPlaneMetrics({ ...collaborators, ...services, telegramQueue: null, money });
  const server = await startPrivateServer({
    host: '127.0.0.1',
    port: 0,
    metrics: metrics.registry,
    status: () => metrics.status(),
    ailments: () => metrics.ailments(),
  });
  t.teardown(() => server.stop());
  await migrateJobQueue(world.databaseUrl);
  const get = (path: string) =>
    fetch(`http://127.0.0.1:${server.port}${path}`, { headers: { connection: 'close' } });
  const scrape = async () => samples(await (await get('/metrics')).text());
  // The sums are known once every transaction of this Postgres has ended that was open at the first look, also those
  // of tests beside this one.
  const booksKnown = async () => {
    for (;;) {
      const now = await scrape();
      if (now.has('ts_ledger_sum_micros{of="entries"}')) return now;
      await setTimeout(20);
    }
  };
  const health = async () => ({ status: (await get('/health')).status, ailments: metrics.ailments() });

  const first = await scrape();
  t.ok(Number.isNaN(first.get('ts_books_off_micros')), 'not known yet, which is not zero');
  t.notOk(first.has('ts_ledger_sum_micros{of="entries"}'));
  t.equal(first.get('ts_ledger_sum_micros{of="accounts"}'), 0);
  t.equal(first.get('ts_settlement_set_aside_total{reason="unreadable"}'), 0);
  t.ok(first.has('process_cpu_seconds_total'));

  const buyerId = await addBuyer(pool);
  const admin = await signedIn(world, 'admin');
  const credit = (owner: object, amount: string) =>
    call('POST', '/api/admin/credits', { token: admin.token, body: { ...owner, amount, reason: 'test' } });
  await credit({ buyer_id: buyerId }, '10');
  const session = await addSession(pool, await addUser(pool, await addUser(pool)));
  const meter = new TestMeter('gw-m', session.sessionId, buyerId).count(400_000_000, 600_000_000);
  await reportMeters(redis, 'gw-m', [meter.report()]);
  await services.settlement.settleNow();

  await t.test('settlement and the books', async (t) => {
    const now = await booksKnown();
    const expected: Record<string, number> = {
      ts_settlement_meters_booked_total: 1,
      ts_settlement_bytes_booked_total: 1_000_000_000,
      ts_settlement_charged_micros_total: 2_000_000,
      ts_settlement_earned_micros_total: 500_000,
      ts_settlement_failures_total: 0,
      ts_books_off_micros: 0,
      'ts_ledger_sum_micros{of="entries"}': 0,
      'ts_ledger_sum_micros{of="accounts"}': 0,
      ts_meters_open: 1,
      ts_wallet_overheld_buyers: 0,
    };
    for (const [name, value] of Object.entries(expected)) t.equal(now.get(name), value, name);
    t.ok((now.get('ts_settlement_passes_total') ?? 0) > 0);
    t.ok((now.get('ts_settlement_last_pass_age_seconds') ?? 99) < 5);
    t.ok((now.get('ts_postgres_connections{state="idle"}') ?? 0) > 0);
    t.match(await health(), { status: 200, ailments: [] });
    t.match(await (await get('/status')).json(), { settlement: { bytesBooked: '1000000000', failures: 0 } });
    t.equal((await get('/')).status, 404);
  });

  await t.test('payouts, flags and wallets', async (t) => {
    const user = await signedIn(world);
    await credit({ user_id: user.userId }, '50');
    for (const amount of ['5', '6.5'])
      await call('POST', '/api/withdraw', {
        token: user.token,
        body: {
          amount,
          method: 'cryptomus',
          network: 'TRON',
          currency: 'USDT',
          target: 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t',
        },
      });
    await pool.query(
      `INSERT INTO reconciliation_flags (session_id, kind, metered_bytes, difference_bytes, detail)
       VALUES ($1, 'books', 1, 1, 'test')`,
      [session.sessionId],
    );
    await pool.query(
      `INSERT INTO wallet_holds (kind, owner_id, gateway_id, run, granted, spent)
       VALUES ('buyer', $1, 'gw-m', repeat('a', 24), 7000000, 1000000)`,
      [buyerId],
    );
    const now = await scrape();
    t.equal(now.get('ts_payouts{state="pending"}'), 2);
    t.equal(now.get('ts_payouts_micros{state="pending"}'), 11_500_000);
    t.equal(now.get('ts_payouts{state="completed"}'), 0);
    t.equal(now.get('ts_reconciliation_flags_open{kind="books"}'), 1);
    t.equal(now.get('ts_reconciliation_flags_open{kind="device_report"}'), 0);
    t.equal(now.get('ts_wallet_held_micros'), 6_000_000);
    t.equal(now.get('ts_wallet_overheld_buyers'), 0);
  });

  await t.test('the API, settlement, queues and jobs', async (t) => {
    const before = await scrape();
    t.ok((before.get('ts_api_requests_total{route="POST /api/withdraw",status="2xx"}') ?? 0) >= 2);
    t.equal(before.get('ts_api_problems_total{code="not_found"}'), 0, 'there before there is any');
    await call('GET', `/api/nowhere/${buyerId}`);
    await call('GET', `/api/admin/buyers/${session.sessionId}`, { token: admin.token });
    await call('HEAD', '/api/system/version');
    await pool.query(
      `INSERT INTO outbox (kind, payload, due_at) VALUES ('a', '{}', now() - interval '90 s'), ('a', '{}', now() + interval '1 h')`,
    );
    await pool.query(
      `INSERT INTO admin_alerts (key, detail) VALUES ('gateway_lost:a', ''), ('gateway_lost:b', '')`,
    );
    await pool.query(
      `INSERT INTO job_runs (job, attempt, outcome, ended_at, result)
       VALUES ('stats', 1, 'succeeded', now() - interval '50 s', '{}'), ('stats', 1, 'failed', now(), NULL),
              ('backup', 1, 'succeeded', now(), '{"skipped": "backup_not_configured"}')`,
    );
    const record = new RecordWatch({ pool, clock, log, jobs: () => services.jobs.names, maxAgeMs: 0 });
    const fresh = new ControlPlaneMetrics({ ...collaborators, ...services, record, telegramQueue: null });
    const now = samples(await fresh.registry.metrics());
    t.equal(now.get('ts_api_requests_total{route="none",status="4xx"}'), 1);
    t.equal(now.get('ts_api_requests_total{route="GET /api/admin/buyers/:id",status="4xx"}'), 1);
    t.equal(now.get('ts_api_requests_total{route="GET /api/system/version",status="2xx"}'), 1, 'HEAD is GET');
    t.equal(now.get('ts_api_problems_total{code="not_found"}'), 2);
    t.equal(now.get('ts_api_request_seconds_count{route="GET /api/admin/buyers/:id"}'), 1);
    t.notOk([...now.keys()].some((key) => key.includes(buyerId) || key.includes(session.sessionId)));
    t.equal(now.get('ts_settlement_lag_seconds_count'), 1);
    t.equal(now.get('ts_queue_due{queue="outbox"}'), 1, 'what is due later does not count');
    t.ok((now.get('ts_queue_oldest_seconds{queue="outbox"}') ?? 0) >= 90);
    t.equal(now.get('ts_queue_due{queue="jobs"}'), 0);
    t.equal(now.get('ts_sessions{state="active"}'), 1);
    t.equal(now.get('ts_alerts_raised{kind="gateway_lost"}'), 2);
    t.ok((now.get('ts_job_last_success_age_seconds{task="stats"}') ?? 0) >= 50);
    t.notOk(now.has('ts_job_last_success_age_seconds{task="backup"}'), 'skipped is not done');
    t.equal(now.get('ts_jobs_failed_total{task="stats"}'), 0);
    t.equal(now.get('ts_redis_connected{connection="live"}'), 1);
    t.equal(now.get('ts_bot_updates_total{result="handled"}'), 0);
    t.equal(now.get('ts_record_figures_failures_total'), 0);
  });

  await t.test('one micro-dollar that is not booked as it should is seen', async (t) => {
    // Nobody but a superuser can do this: the database's guards are switched off.
    const forge = async (kind: string, by: number) => {
      await pool.query('ALTER TABLE ledger_entries DISABLE TRIGGER USER');
      await pool.query(
        `INSERT INTO ledger_entries (transaction_id, account_id, kind, amount_micros, account_version, balance_after_micros)
         SELECT transaction_id, account_id, $1, $2, account_version + 1000000 + $3, 0 FROM ledger_entries LIMIT 1`,
        [kind, by, Math.floor(Math.random() * 1e6)],
      );
      await pool.query('ALTER TABLE ledger_entries ENABLE TRIGGER USER');
    };
    await forge('traffic_earning', 1);
    let now = await scrape();
    t.equal(now.get('ts_books_off_micros'), -1, 'a provider got a micro-dollar that no buyer paid');
    t.equal(now.get('ts_ledger_sum_micros{of="entries"}'), 1);
    t.equal((await health()).status, 503);
    await forge('topup', -1);
    now = await scrape();
    t.equal(now.get('ts_books_off_micros'), -1);
    t.equal(
      now.get('ts_ledger_sum_micros{of="entries"}'),
      0,
      'the ledger sums to zero, the books are off all the same',
    );
    t.match(await health(), { status: 503, ailments: ['the books are off'] });
    await pool.query('ALTER TABLE ledger_accounts DISABLE TRIGGER USER');
    await pool.query(
      'UPDATE ledger_accounts SET balance_micros = balance_micros - 5000000 WHERE owner_id = $1',
      [buyerId],
    );
    await pool.query('ALTER TABLE ledger_accounts ENABLE TRIGGER USER');
    now = await scrape();
    t.equal(now.get('ts_ledger_sum_micros{of="accounts"}'), -5_000_000);
    t.equal(now.get('ts_wallet_overheld_buyers'), 1, 'less is left than is held');
  });

  await t.test('an entry whose transaction was slow is not lost to the sums', async (t) => {
    const off = async () => (await scrape()).get('ts_books_off_micros');
    await pool.query('ALTER TABLE ledger_entries DISABLE TRIGGER USER');
    const insert = (n: number) =>
      `INSERT INTO ledger_entries (transaction_id, account_id, kind, amount_micros, account_version, balance_after_micros)
       SELECT transaction_id, account_id, 'traffic_earning', 10, account_version + 5000000 + ${n}, 0
         FROM ledger_entries ORDER BY id LIMIT 1`;
    const slow = await pool.connect();
    t.teardown(() => slow.release());
    await slow.query('BEGIN');
    await slow.query(insert(1)); // takes the lower number, commits last
    await pool.query(insert(2));
    t.equal(await off(), -11);
    await scrape();
    await scrape();
    await slow.query('COMMIT');
    t.equal(await off(), -21);
    await scrape();
    t.equal(await off(), -21, 'nor counted twice');
  });

  await t.test('while Postgres is away nothing looks well', async (t) => {
    const nowhere = { connect: () => Promise.reject(new Error('away')) } as unknown as typeof pool;
    const away = new MoneyWatch({
      pool: nowhere,
      clock,
      log,
    });
    const unread = new RecordWatch({ pool: nowhere, clock, log, jobs: () => [] });
    const blind = new ControlPlaneMetrics({
      ...collaborators,
      ...services,
      telegramQueue: null,
      measures: new Measures(),
      money: away,
      record: unread,
    });
    const now = samples(await blind.registry.metrics());
    t.ok(Number.isNaN(now.get('ts_books_off_micros')));
    t.ok(Number.isNaN(now.get('ts_wallet_overheld_buyers')));
    t.notOk([...now.keys()].some((name) => name.startsWith('ts_ledger_sum_micros')));
    t.ok(away.failures > 0);
    t.equal(unread.failures, 1, 'asked once for all of them');
    t.notOk([...now.keys()].some((name) => name.startsWith('ts_queue_') || name.startsWith('ts_sessions')));
  });
});
