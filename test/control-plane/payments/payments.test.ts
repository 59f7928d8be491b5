import { randomUUID } from 'node:crypto';
import t from 'tap';
import { orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { paymentsQuery } from '../../../control-plane/payments/payments.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { signedIn, TEST_ENV } from '../../helpers/control-plane.js';
import { startPaymentsWorld } from '../../helpers/payments-world.js';

t.test('approving and rejecting', async (t) => {
  const world = await startPaymentsWorld(t, { env: { TS_PAYOUT_TWO_ADMIN_MICROS_MIN: '20000000' } });
  const { call, pool, admin, admin2, approve, reject } = world;

  await t.test('one admin up to the limit, two different ones above it', async (t) => {
    const user = await world.provider('100');
    const small = await world.withdraw(user, '20');
    t.match(await approve(small), { status: 200, body: { status: 'processing', approvals: { length: 1 } } });
    t.match(await approve(small), { status: 409, body: { code: 'payout_not_pending', from: 'processing' } });

    const large = await world.withdraw(user, '20.000001');
    for (let i = 0; i < 3; i++)
      t.match(await approve(large), {
        status: 200,
        body: { status: 'pending', send_state: null, approvals: [{ admin_id: admin.userId }] },
      });
    t.match(await approve(large, admin2), {
      status: 200,
      body: { status: 'processing', send_state: 'queued', approvals: { length: 2 } },
    });
    const { rows } = await pool.query(
      "SELECT actor_id, after FROM audit_log WHERE object_id = $1 AND action = 'payout_approved' ORDER BY id",
      [large],
    );
    t.equal(rows.length, 4);
    t.match(rows.at(-1), { actor_id: admin2.userId, after: { approvals: 2, approvals_needed: 2 } });
    await t.rejects(pool.query('DELETE FROM payout_approvals'), { code: '23001' });

    const third = await signedIn(world, 'admin');
    const other = await world.withdraw(user, '21');
    await approve(other, third);
    await pool.query('UPDATE users SET is_admin = false WHERE id = $1', [third.userId]);
    t.match(
      await approve(other),
      { body: { status: 'pending' } },
      'one who is no admin any more does not count',
    );
    t.match(await approve(other, admin2), { body: { status: 'processing' } });
  });

  await t.test('approvals and a cancel at once: either all or nothing', async (t) => {
    for (let round = 0; round < 5; round++) {
      const user = await world.provider('50');
      const id = await world.withdraw(user, '30');
      const cancel = () => call('POST', `/api/withdraw/${id}/cancel`, { token: user.token });
      await Promise.all([approve(id), cancel(), approve(id, admin2), reject(id), approve(id)]);
      const { status } = await world.payment(id);
      t.match(status, /^(cancelled|processing)$/);
      t.equal(await world.available(user), status === 'cancelled' ? '50.000000' : '20.000000');
    }
    t.same(await invariants(pool), []);
  });

  await t.test('who may not', async (t) => {
    const user = await world.provider('50');
    const id = await world.withdraw(user, '10');
    await call('POST', '/api/admin/credits', {
      token: admin.token,
      body: { user_id: admin.userId, amount: '50', reason: 'test' },
    });
    // An admin is a provider, too, with a provider's token.
    const own = await pool.query<{ id: string }>(
      `INSERT INTO payouts (id, user_id, amount_micros, method, network, currency, target)
       VALUES ($1, $2, 5000000, 'cryptomus', 'TRON', 'USDT', 'T') RETURNING id`,
      [randomUUID(), admin.userId],
    );
    const ownId = own.rows[0]?.id as string;
    t.match(await approve(ownId), { status: 403, body: { code: 'own_payout' } });
    t.match(await world.payment(ownId), { status: 'pending', approvals: [] });
    for (const act of ['approve', 'reject']) {
      const path = (of: string) => `/api/admin/payments/${of}/${act}`;
      const body = act === 'reject' ? { reason: 'because' } : undefined;
      t.equal((await call('POST', path(id), { token: user.token, body })).status, 403);
      t.equal((await call('POST', path(id), { body })).status, 401);
      t.equal((await call('POST', path(randomUUID()), { token: admin.token, body })).status, 404);
      t.equal((await call('POST', path('x'), { token: admin.token, body })).status, 400);
    }
    for (const body of [{}, { reason: 'x' }, { reason: 'because', more: 1 }])
      t.equal(
        (await call('POST', `/api/admin/payments/${id}/reject`, { token: admin.token, body })).status,
        400,
      );
    t.match(await world.payment(id), { status: 'pending', approvals: [] });

    t.match(await reject(id), { status: 200, body: { status: 'cancelled', failure_reason: 'not today' } });
    t.equal(await world.available(user), '50.000000');
    t.match(await reject(id), { status: 409, body: { code: 'payout_not_pending', from: 'cancelled' } });
    t.match(await approve(id), { status: 409 });
  });

  await t.test('create_payout: Cryptomus is called once however often it is', async (t) => {
    const user = await world.provider('50');
    const id = await world.withdraw(user, '12');
    const create = (options: object, body: object = { payment_id: id }) =>
      call('POST', '/api/payments/cryptomus/create_payout', { body, ...options });
    const internal = { headers: { 'x-internal-secret': TEST_ENV.TS_INTERNAL_SECRET } };
    t.match(await create({ token: admin.token }), {
      status: 409,
      body: { code: 'payout_not_released', from: 'pending' },
    });
    t.equal(world.cryptomus.payouts.has(orderIdOf(id)), false, 'nobody approved it');
    await approve(id);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => create(i % 2 ? internal : { token: admin.token })),
    );
    t.ok(answers.every((a) => a.status === 200));
    t.match(await create(internal), { status: 200, body: { send_state: 'accepted', calls: 1 } });
    const sent = world.cryptomus.callsOf('/v1/payout').filter((body) => body.order_id === orderIdOf(id));
    t.equal(sent.length, 1);
    t.equal((await create({ token: user.token })).status, 403);
    t.equal((await create({})).status, 401);
    t.equal((await create(internal, { payment_id: randomUUID() })).status, 404);
    for (const body of [{}, { payment_id: 'x' }, { payment_id: id, more: 1 }])
      t.equal((await create(internal, body)).status, 400);
  });

  await t.test('the list: filters, pages; days', async (t) => {
    const user = await world.provider('90');
    const ids: string[] = [];
    for (const amount of ['5', '6', '7']) ids.unshift(await world.withdraw(user, amount));
    await reject(ids[2] as string);
    const buyer = await world.buyer();
    const topUp = await call('POST', '/api/buyer/topups', { token: buyer.token, body: { amount: '25' } });
    const list = async (query: string) =>
      (await call('GET', `/api/admin/payments${query}`, { token: admin.token })).body;
    const idsOf = (page: { items: { payment_id: string }[] }) => page.items.map((item) => item.payment_id);
    t.same(idsOf(await list(`?user_id=${user.userId}`)), ids);
    t.same(idsOf(await list(`?user_id=${user.userId}&status=cancelled`)), [ids[2]]);
    t.same(idsOf(await list(`?user_id=${user.userId}&kind=topup`)), []);
    t.same(idsOf(await list(`?user_id=${user.userId}&kind=topup&status=completed`)), []);
    t.same(idsOf(await list(`?user_id=${user.userId}&buyer_id=${buyer.id}&kind=topup`)), [topUp.body.id]);
    t.same(idsOf(await list(`?buyer_id=${buyer.id}`)), [topUp.body.id]);
    t.same(idsOf(await list('?kind=topup&status=pending')), [topUp.body.id]);
    t.same(idsOf(await list('?limit=4')), [topUp.body.id, ...ids], 'both kinds, latest first');
    const first = await list('?limit=2');
    t.same(idsOf(await list(`?limit=2&cursor=${first.next_cursor}`)), ids.slice(1));
    for (const query of [
      '?limit=0',
      '?limit=201',
      '?status=paid',
      '?kind=x',
      '?user_id=x',
      '?cursor=x',
      '?more=1',
    ])
      t.equal((await call('GET', `/api/admin/payments${query}`, { token: admin.token })).status, 400, query);
    t.equal((await call('GET', '/api/admin/payments', { token: user.token })).status, 403);
    t.equal((await call('GET', '/api/admin/payments')).status, 401);

    await approve(ids[0] as string);
    await world.services.payouts.work(ids[0] as string);
    world.cryptomus.change(orderIdOf(ids[0] as string), { status: 'paid', is_final: true });
    await world.services.payouts.work(ids[0] as string);
    const days = (await call('GET', '/api/admin/payments/daily?days=3', { token: admin.token })).body.items;
    t.equal(days.length, 3);
    t.match(days[2], { payouts: 1, payouts_amount: '7.000000', topups: 0, topups_amount: '0.000000' });
    t.equal((await call('GET', '/api/admin/payments/daily?days=0', { token: admin.token })).status, 400);
    t.equal((await call('GET', '/api/admin/payments/daily', { token: user.token })).status, 403);
  });

  await t.test('every filter of the list reads an index', async (t) => {
    const client = await pool.connect();
    t.teardown(() => client.release());
    await client.query('SET enable_seqscan = off; SET enable_bitmapscan = off'); // the tables are small here
    const cursor = Buffer.from(
      JSON.stringify(['-created_at', '2026-01-01T00:00:00.000000Z', randomUUID()]),
    ).toString('base64url');
    for (const filter of [
      {},
      { status: 'pending' as const },
      { kind: 'topup' as const },
      { userId: randomUUID() },
      { buyerId: randomUUID() },
      { userId: randomUUID(), status: 'failed' as const },
    ]) {
      const { text, values } = paymentsQuery(filter, { limit: 50, cursor, sort: '-created_at' });
      const { rows } = await client.query(`EXPLAIN ${text}`, values);
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      t.notMatch(plan, /Seq Scan on (payouts|topups)/, JSON.stringify(filter));
      t.match(plan, /Index Scan using (payouts|topups)_/);
    }
  });
});

t.test('webhooks of payouts', async (t) => {
  const world = await startPaymentsWorld(t);
  const { pool, cryptomus, webhook } = world;
  const sent = async () => {
    const user = await world.provider('10');
    const id = await world.withdraw(user, '7');
    await world.approve(id);
    await world.services.payouts.work(id);
    return { user, id, orderId: orderIdOf(id) };
  };
  t.afterEach(async () => t.same(await invariants(pool), []));

  await t.test('a webhook is a hint: what Cryptomus says when asked counts', async (t) => {
    const { user, id, orderId } = await sent();
    t.match(await webhook(cryptomus.webhook(orderId, { status: 'fail', is_final: true })), { status: 200 });
    t.match(await world.payment(id), { status: 'processing', provider_status: 'process' }, 'it is not so');
    t.equal(await world.available(user), '3.000000');
    cryptomus.change(orderId, { status: 'paid', is_final: true, txid: 'chain' });
    t.same((await webhook(cryptomus.webhook(orderId))).body, { ok: true });
    t.match(await world.payment(id), { status: 'completed', tx_reference: 'chain' });
  });

  await t.test('replayed 50 times at once, `cancel` after `paid`, `process` after both', async (t) => {
    for (const [status, left] of [
      ['paid', '3.000000'],
      ['fail', '10.000000'],
    ] as const) {
      const { user, id, orderId } = await sent();
      const late = cryptomus.webhook(orderId);
      cryptomus.change(orderId, { status, is_final: true });
      const body = cryptomus.webhook(orderId);
      const answers = await Promise.all(Array.from({ length: 50 }, () => webhook(body)));
      t.ok(answers.every((a) => a.status === 200));
      const after = await world.payment(id);
      t.equal(after.status, status === 'paid' ? 'completed' : 'failed');
      cryptomus.change(orderId, { status: status === 'paid' ? 'cancel' : 'paid' });
      t.equal((await webhook(cryptomus.webhook(orderId))).status, 200);
      t.equal((await webhook(late)).status, 200);
      t.same(await world.payment(id), after, 'nothing moves any more');
      t.equal(await world.available(user), left);
      const { rows } = await pool.query(
        'SELECT kind FROM ledger_transactions WHERE source_id = $1 ORDER BY kind',
        [id],
      );
      t.same(
        rows.map((r) => r.kind),
        status === 'paid' ? ['payout'] : ['payout', 'payout_refund'],
      );
    }
  });

  await t.test('a webhook while the payout is looked at is not lost', async (t) => {
    const { id, orderId } = await sent();
    cryptomus.disturb('/v1/payout/info', { kind: 'answer', status: 502, body: '' });
    cryptomus.change(orderId, { status: 'paid', is_final: true });
    t.equal((await webhook(cryptomus.webhook(orderId))).status, 200, 'Cryptomus does not answer');
    t.match(await world.payment(id), { status: 'processing' });
    await world.due(id);
    await world.services.payouts.runOnce();
    t.match(await world.payment(id), { status: 'completed' });
  });

  await t.test('a bad signature is 401 and audited, and moves nothing', async (t) => {
    const { id, orderId } = await sent();
    const calls = cryptomus.calls.length;
    cryptomus.change(orderId, { status: 'paid', is_final: true });
    const body = cryptomus.webhook(orderId);
    const ofPayment = cryptomus.signedWebhook({
      type: 'payment',
      order_id: orderId,
      status: 'paid',
      is_final: true,
    });
    const tampered = [
      body.replace('7.000000', '7.000001'),
      body.replace('"paid"', '"fail"'),
      body.replace(/"sign":"./, '"sign":"x'),
      body.replace(/,"sign":"[0-9a-f]+"/, ''),
      ofPayment.replace('"type":"payment"', '"type":"payout"'),
      '{}',
    ];
    for (const bad of tampered)
      t.match(await webhook(bad), { status: 401, body: { code: 'invalid_signature' } }, bad.slice(-60));
    for (const bad of ['', 'x', '[]', '"paid"', 'null'])
      t.match((await webhook(bad)).status, /^40[01]$/, bad);
    t.equal(cryptomus.calls.length, calls, 'Cryptomus is not asked');
    t.match(await world.payment(id), { status: 'processing' });
    const { rows } = await pool.query(
      "SELECT actor_role, object_id, ip FROM audit_log WHERE action = 'webhook_refused' ORDER BY id",
    );
    t.equal(rows.length, tampered.length);
    t.match(rows[0], { actor_role: 'none', object_id: id });
  });

  await t.test('unknown orders are 200 and change nothing', async (t) => {
    for (const orderId of [orderIdOf(randomUUID()), 'of-another-shop', null])
      for (const type of ['payout', 'payment', 'wallet'])
        t.same((await webhook(cryptomus.signedWebhook({ type, order_id: orderId, status: 'paid' }))).body, {
          ok: true,
        });
    const pending = await world.withdraw(await world.provider('10'), '7');
    t.equal(
      (
        await webhook(
          cryptomus.signedWebhook({
            type: 'payout',
            order_id: orderIdOf(pending),
            status: 'paid',
            is_final: true,
          }),
        )
      ).status,
      200,
    );
    t.match(await world.payment(pending), { status: 'pending' }, 'a payout nobody released');
  });
});
