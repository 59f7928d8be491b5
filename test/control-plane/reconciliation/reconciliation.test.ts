import { randomUUID } from 'node:crypto';
import t from 'tap';
import { compareSessions } from '../../../control-plane/reconciliation/compare.js';
import { Reconciler } from '../../../control-plane/reconciliation/reconciler.js';
import { reportMeters } from '../../../gateway/live/meters.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';
import { assertLedger } from '../../helpers/ledger.js';
import { addBuyer, addSession, addUser, TestMeter } from '../../helpers/money-world.js';

t.test('reconciliation', async (t) => {
  const errors: string[] = [];
  const log = {
    ...silentLog,
    error: (_: object, message: string) => errors.push(message),
  } as typeof silentLog;
  const world = await startWorld(t, { env: { TS_API_REQUESTS_PER_MINUTE: '100000' }, log });
  const { pool, redis, call } = world;
  const { reconciler, settlement } = world.services;
  const admin = await signedIn(world, 'admin');
  const get = async (path: string) => (await call('GET', path, { token: admin.token })).body;
  const side = async (id: string) => get(`/api/admin/sessions/${id}/reconciliation`);
  const open = async (id: string) => {
    const body = await side(id);
    return body.flags.filter((f: { resolved_at: string | null }) => f.resolved_at === null);
  };
  const buyerId = await addBuyer(pool);
  const inviter = await addUser(pool);
  let gateways = 0;

  /** A session that relayed 1 GB over two meters and was completed; what its device and buyer said of it. */
  async function relayed(reports: { device?: number; buyer?: number } = {}) {
    const session = await addSession(pool, await addUser(pool, inviter));
    const gatewayId = `gw-r${++gateways}`;
    const meters = [0, 1].map(() => new TestMeter(gatewayId, session.sessionId, buyerId));
    for (const meter of meters) meter.count(200_000_001, 300_000_000);
    await reportMeters(
      redis,
      gatewayId,
      meters.map((m) => m.report()),
    );
    await settlement.settleNow();
    for (const meter of meters) meter.count(0, 7);
    await reportMeters(
      redis,
      gatewayId,
      meters.map((m) => m.report({ final: true, allocationEnded: true })),
    );
    await settlement.settleNow();
    await pool.query(
      `UPDATE traffic_sessions SET status = 'completed', stopped_at = now(), completed_at = now(),
              reported_bytes_tx = $2 WHERE id = $1`,
      [session.sessionId, reports.device ?? 0],
    );
    if (reports.buyer !== undefined)
      await pool.query('UPDATE allocations SET reported_bytes = $2 WHERE id = $1', [
        meters[0]?.allocationId,
        reports.buyer,
      ]);
    return { ...session, meters };
  }

  await t.test('everyone’s figures side by side, and nothing flagged when they agree', async (t) => {
    const { sessionId, meters } = await relayed({ device: 1_000_000_016, buyer: 500_000_008 });
    t.match(await reconciler.runOnce(), { sessions: Number });
    const body = await side(sessionId);
    t.match(body, {
      session_id: sessionId,
      status: 'completed',
      meters: {
        bytes: 1_000_000_016,
        charged: '2.000000',
        earned: '0.500000',
        referral: '0.050000',
        count: 2,
        open: 0,
      },
      session: { bytes: 1_000_000_016, charged: '2.000000', earned: '0.500000' },
      ledger: { charged: '2.000000', earned: '0.500000', referral: '0.050000' },
      device: { bytes: 1_000_000_016, difference_bytes: 0, difference_percent: 0 },
      flags: [],
    });
    const reported = body.buyers.find(
      (b: { allocation_id: string }) => b.allocation_id === meters[0]?.allocationId,
    );
    t.match(reported, { bytes: 500_000_008, reported_bytes: 500_000_008, difference_bytes: 0 });
    t.equal(body.meter_list.length, 2);
    t.match(body.meter_list[0], { gateway_id: 'gw-r1', final: true, bytes_up: 200_000_001 });
    t.equal(
      (await call('GET', `/api/admin/sessions/${randomUUID()}/reconciliation`, { token: admin.token }))
        .status,
      404,
    );
    const user = await signedIn(world);
    t.equal((await call('GET', '/api/admin/reconciliation', { token: user.token })).status, 403);
  });

  await t.test('a device or buyer who counted otherwise is flagged, never paid', async (t) => {
    const near = await relayed({ device: 1_019_000_000 });
    const far = await relayed({ device: 1_100_000_000, buyer: 400_000_000 });
    const before = await pool.query('SELECT id, balance_micros::text AS b FROM ledger_accounts ORDER BY id');
    await reconciler.runOnce();
    const after = await pool.query('SELECT id, balance_micros::text AS b FROM ledger_accounts ORDER BY id');
    t.same(after.rows, before.rows, 'no micro-dollar moves');
    t.same(await open(near.sessionId), []);
    const flags = await open(far.sessionId);
    t.match(flags, [
      { kind: 'device_report', allocation_id: null, difference_bytes: 99_999_984, difference_percent: 9.99 },
      {
        kind: 'buyer_report',
        allocation_id: far.meters[0]?.allocationId,
        difference_bytes: -100_000_008,
        difference_percent: -20,
      },
    ]);
    const flagged = await get('/api/admin/reconciliation?flagged=true');
    t.same(
      flagged.items.map((i: { session_id: string }) => i.session_id),
      [far.sessionId],
    );
    const others = await get('/api/admin/reconciliation?flagged=false&limit=1');
    t.equal(others.items[0].session_id, near.sessionId);
    const next = await get(`/api/admin/reconciliation?flagged=false&limit=1&cursor=${others.next_cursor}`);
    t.equal(next.items.length, 1);
    t.not(next.items[0].session_id, near.sessionId);
    t.equal((await get(`/api/admin/reconciliation?session_id=${near.sessionId}`)).items.length, 1);
    t.same((await get('/api/admin/reconciliation?to=2001-01-01T00:00:00Z')).items, []);
    t.equal((await get('/api/admin/reconciliation?from=2001-01-01T00:00:00Z')).items.length, 3);

    // First seen stays, last seen goes on; what is right again is resolved.
    const again = await open(far.sessionId);
    await reconciler.runOnce();
    const later = await open(far.sessionId);
    t.equal(later[0].first_seen_at, again[0].first_seen_at);
    t.ok(later[0].last_seen_at > again[0].last_seen_at);
    await pool.query('UPDATE traffic_sessions SET reported_bytes_tx = 1000000000 WHERE id = $1', [
      far.sessionId,
    ]);
    await reconciler.runOnce();
    t.match(await open(far.sessionId), [{ kind: 'buyer_report' }], 'only the other one is left');
    const resolved = (await side(far.sessionId)).flags.find(
      (f: { kind: string }) => f.kind === 'device_report',
    );
    t.ok(resolved.resolved_at);
    await call('PATCH', '/api/admin/settings', { token: admin.token, body: { reconciliation_percent: 30 } });
    await reconciler.runOnce();
    t.same(await open(far.sessionId), [], 'the tolerance is a setting');
    await call('PATCH', '/api/admin/settings', { token: admin.token, body: { reconciliation_percent: 2 } });
  });

  await t.test(
    'books that are off by one byte or micro-dollar are an alarm, live sessions’ too',
    async (t) => {
      const done = await relayed();
      const live = await addSession(pool, await addUser(pool));
      const meter = new TestMeter('gw-live', live.sessionId, buyerId).count(1_000_000, 0);
      await reportMeters(redis, 'gw-live', [meter.report()]);
      await settlement.settleNow();
      await reconciler.runOnce();
      t.same([await open(done.sessionId), await open(live.sessionId)], [[], []]);
      t.same(errors, []);

      await pool.query('UPDATE traffic_sessions SET earned_micros = earned_micros + 1 WHERE id = $1', [
        done.sessionId,
      ]);
      await pool.query('UPDATE traffic_sessions SET bytes_up = bytes_up - 1 WHERE id = $1', [live.sessionId]);
      await reconciler.runOnce();
      t.match(await open(done.sessionId), [
        {
          kind: 'books',
          difference_bytes: 0,
          difference: '0.000001',
          detail: /earned: session 500001, meters 500000/,
        },
      ]);
      t.match(await open(live.sessionId), [{ kind: 'books', difference_bytes: -1, difference: '0.000000' }]);
      t.same(errors, ['books_do_not_add_up', 'books_do_not_add_up']);
      await reconciler.runOnce();
      t.equal(errors.length, 2, 'told once, not every minute');

      await pool.query('UPDATE traffic_sessions SET earned_micros = earned_micros - 1 WHERE id = $1', [
        done.sessionId,
      ]);
      await pool.query('UPDATE traffic_sessions SET bytes_up = bytes_up + 1 WHERE id = $1', [live.sessionId]);
      await reconciler.runOnce();
      t.same([await open(done.sessionId), await open(live.sessionId)], [[], []], 'resolved');

      // A ledger that lost an entry of one meter (nobody but a superuser can take one away).
      await pool.query('ALTER TABLE ledger_transactions DISABLE TRIGGER USER');
      await pool.query(
        `UPDATE ledger_transactions SET source_id = 'gone' WHERE source_id =
         (SELECT min(t.source_id) FROM ledger_transactions t JOIN meters m ON m.session_id = $1
           WHERE t.source_id LIKE 'meter:' || m.id || ':%')`,
        [done.sessionId],
      );
      await pool.query('ALTER TABLE ledger_transactions ENABLE TRIGGER USER');
      await reconciler.runOnce();
      const [flag] = await open(done.sessionId);
      t.match(flag, { kind: 'books', detail: /charged: ledger 1000000, meters 2000000/ });
      await assertLedger(t, pool);
    },
  );

  await t.test('the job goes on where it was, in turns, and comes back to what changed later', async (t) => {
    const late = await relayed({ device: 1_000_000_016 });
    const other = new Reconciler({ pool, log, tolerance: () => ({ percent: 2, bytesMin: 1 }) });
    await pool.query("UPDATE reconciliation_state SET leased_until = now() + interval '1 minute'");
    t.equal(await reconciler.runOnce(), null, 'another control plane is at it');
    await pool.query("UPDATE reconciliation_state SET leased_until = now() - interval '1 second'");
    t.ok(await reconciler.runOnce(), 'one that died gives its turn back');
    await pool.query(
      "UPDATE traffic_sessions SET completed_at = now() - interval '1 hour' WHERE completed_at IS NOT NULL",
    );
    await pool.query("UPDATE reconciliation_state SET completed_until = now() - interval '10 minutes'");
    await pool.query('UPDATE traffic_sessions SET reported_bytes_tx = 1 WHERE id = $1', [late.sessionId]);
    await other.runOnce();
    t.match(await open(late.sessionId), [{ kind: 'device_report' }], 'found by the walk over old ones');

    // A walk in small steps comes around to every session.
    const small = new Reconciler({
      pool,
      log,
      tolerance: () => ({ percent: 2, bytesMin: 1 }),
      sweepSessions: 2,
    });
    await pool.query('UPDATE traffic_sessions SET reported_bytes_tx = 2 WHERE completed_at IS NOT NULL');
    const { rows } = await pool.query('SELECT id FROM traffic_sessions WHERE completed_at IS NOT NULL');
    for (let i = 0; i <= rows.length / 2; i++) await small.runOnce();
    for (const { id } of rows)
      t.ok(
        (await open(id)).some((f: { kind: string }) => f.kind === 'device_report'),
        'each was looked at',
      );
    const { rows: states } = await pool.query(
      "SELECT completed_until < now() - interval '5 minutes' AS kept, leased_until = '-infinity' AS free FROM reconciliation_state",
    );
    t.same(states, [{ kept: true, free: true }]);
  });

  await t.test('the ledger of a session is found by index', async (t) => {
    const client = await pool.connect();
    t.teardown(() => client.release());
    await client.query('BEGIN');
    await client.query('SET LOCAL enable_seqscan = off');
    const { rows } = await client.query(
      `EXPLAIN SELECT 1 FROM meters x JOIN ledger_transactions t ON t.kind = 'traffic'
         AND t.source_id >= 'meter:' || x.id || ':' AND t.source_id < 'meter:' || x.id || ';' WHERE x.session_id = $1`,
      [randomUUID()],
    );
    await client.query('ROLLBACK');
    const plan = rows.map((r) => r['QUERY PLAN']).join('\n');
    t.match(plan, /ledger_transactions_kind_source_id_key/);
    t.match(plan, /Index Cond: .*source_id >=/);
    t.same(await compareSessions(pool, [randomUUID()]), []);
  });
});
