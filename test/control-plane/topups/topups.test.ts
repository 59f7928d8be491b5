import { randomUUID } from 'node:crypto';
import t from 'tap';
import { CryptomusClient, orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { cryptomusOf } from '../../../control-plane/services.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { TopUpKeeper } from '../../../control-plane/topups/keeper.js';
import { readCommands, readLastCommandId } from '../../../gateway/live/commands.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startPaymentsWorld } from '../../helpers/payments-world.js';

t.test('top-ups', async (t) => {
  const world = await startPaymentsWorld(t);
  const { call, pool, redis, cryptomus, webhook } = world;
  const keeper = world.services.topUps;
  const topUp = (token: string, amount: unknown, headers = {}) =>
    call('POST', '/api/buyer/topups', { token, body: { amount }, headers });
  const opened = async (amount = '25') => {
    const buyer = await world.buyer();
    const made = await topUp(buyer.token, amount);
    t.equal(made.status, 201);
    const id: string = made.body.id;
    return {
      buyer,
      id,
      orderId: orderIdOf(id),
      list: async () => (await call('GET', '/api/buyer/topups', { token: buyer.token })).body.items,
    };
  };
  /** The buyer pays so much of what the invoice asks. */
  const paid = (orderId: string, status: string, payment: string, more = {}) =>
    cryptomus.change(orderId, {
      status,
      is_final: true,
      payer_amount: '25.10000000',
      payer_currency: 'USDT',
      payment_amount: payment,
      payment_amount_usd: '1.00',
      txid: 'chain',
      ...more,
    });
  t.afterEach(async () => t.same(await invariants(pool), []));

  await t.test('an invoice: where to pay, how much, until when', async (t) => {
    const { buyer, id, orderId, list } = await opened('25.5');
    const [item] = await list();
    t.match(item, {
      id,
      status: 'pending',
      amount: '25.500000',
      credited: null,
      currency: 'USD',
      url: `https://pay.example/pay/${orderId}`,
      expires_at: String,
      ended_at: null,
    });
    t.match(cryptomus.callsOf('/v1/payment').at(-1), {
      amount: '25.50',
      currency: 'USD',
      order_id: orderId,
      lifetime: 3600,
      url_callback: 'https://api.example/api/webhook/cryptomus',
    });
    t.equal(await world.prepaid(buyer.id), '0.000000');
    t.match(await world.payment(id), { kind: 'topup', buyer_id: buyer.id, status: 'pending', approvals: [] });
    for (const act of ['approve', 'reject'])
      t.equal(
        (
          await call('POST', `/api/admin/payments/${id}/${act}`, {
            token: world.admin.token,
            ...(act === 'reject' && { body: { reason: 'because' } }),
          })
        ).status,
        404,
        `${act} is for payouts`,
      );
  });

  await t.test('credited by a webhook once, by what was really paid', async (t) => {
    const cases: [status: string, payment: string, credited: string][] = [
      ['paid', '25.10000000', '25.000000'],
      ['paid_over', '50.20000000', '50.000000'],
      ['wrong_amount', '12.55000000', '12.500000'],
      ['wrong_amount', '0.00000301', '0.000002'],
    ];
    for (const [status, payment, credited] of cases) {
      const { buyer, id, orderId, list } = await opened();
      const early = cryptomus.webhook(orderId);
      const before = await readLastCommandId(redis);
      paid(orderId, status, payment);
      const body = cryptomus.webhook(orderId);
      const answers = await Promise.all(Array.from({ length: 50 }, () => webhook(body)));
      t.ok(answers.every((a) => a.status === 200));
      t.equal(await world.prepaid(buyer.id), credited, `${status} ${payment}`);
      const [item] = await list();
      t.match(item, { status: 'completed', credited, tx_reference: 'chain' });
      cryptomus.change(orderId, { status: 'cancel' });
      await webhook(cryptomus.webhook(orderId));
      await webhook(early);
      await webhook(cryptomus.webhook(orderId, { status: 'refund_paid' }));
      await world.due(id);
      await keeper.runOnce();
      t.same((await list())[0], item, 'nothing moves any more');
      t.equal(await world.prepaid(buyer.id), credited);
      const { rows } = await pool.query(
        "SELECT 1 FROM ledger_transactions WHERE kind = 'topup' AND source_id = $1",
        [id],
      );
      t.equal(rows.length, 1);
      const { account } = (await call('GET', `/api/admin/buyers/${buyer.id}`, { token: world.admin.token }))
        .body;
      const told = (await readCommands(redis, before, 10, 0)).map((entry) => entry.command);
      t.same(told, [{ kind: 'account_changed', account }], 'gateways are told once');
      const { rows: audit } = await pool.query(
        'SELECT actor_role, action FROM audit_log WHERE object_id = $1 ORDER BY id',
        [id],
      );
      t.same(audit, [
        { actor_role: 'buyer', action: 'topup_opened' },
        { actor_role: 'system', action: 'topup_credited' },
      ]);
    }
  });

  await t.test('where the rate is not told, by the dollars paid; where nothing is, by nobody', async (t) => {
    const first = await opened();
    paid(first.orderId, 'wrong_amount', '0.5', { payer_amount: null, payment_amount_usd: '12.3456789' });
    await webhook(cryptomus.webhook(first.orderId));
    t.equal(await world.prepaid(first.buyer.id), '12.345678');
    const second = await opened();
    paid(second.orderId, 'paid', '', { payment_amount: null, payment_amount_usd: null });
    await webhook(cryptomus.webhook(second.orderId));
    t.equal(await world.prepaid(second.buyer.id), '0.000000');
    t.match((await second.list())[0], { status: 'pending' });
  });

  await t.test('what a webhook claims does not count: Cryptomus is asked', async (t) => {
    const { buyer, orderId, list } = await opened();
    const claims = { status: 'paid', is_final: true, payment_amount: '25.1', payer_amount: '25.1' };
    t.equal((await webhook(cryptomus.webhook(orderId, claims))).status, 200);
    t.match((await list())[0], { status: 'pending' });
    cryptomus.change(orderId, { status: 'paid', is_final: false, payer_amount: '25', payment_amount: '25' });
    await webhook(cryptomus.webhook(orderId));
    t.equal(await world.prepaid(buyer.id), '0.000000', 'not final');
    for (const changes of [{ amount: '250.00' }, { amount: '25.00', currency: 'EUR' }]) {
      paid(orderId, 'paid', '25.1', changes);
      await webhook(cryptomus.webhook(orderId));
      t.equal(await world.prepaid(buyer.id), '0.000000', 'another invoice than ours');
    }
    paid(orderId, 'paid', '25.1', { amount: '25.00', currency: 'USD' });
    const body = cryptomus.webhook(orderId);
    t.match(await webhook(body.replace('25.1', '99.1')), {
      status: 401,
      body: { code: 'invalid_signature' },
    });
    t.match(await webhook(body.replace('"type":"payment"', '"type":"payout"')), { status: 401 });
    t.equal(await world.prepaid(buyer.id), '0.000000', 'and badly signed ones ask nobody');
    await webhook(body);
    t.equal(await world.prepaid(buyer.id), '25.000000');
  });

  await t.test('lost webhooks: invoices are looked up', async (t) => {
    const { buyer, id, orderId, list } = await opened();
    cryptomus.change(orderId, { status: 'confirm_check' });
    await world.due(id);
    await keeper.runOnce();
    t.match((await list())[0], { status: 'processing' });
    paid(orderId, 'paid', '25.1');
    await world.due(id);
    await keeper.runOnce();
    t.equal(await world.prepaid(buyer.id), '25.000000');
  });

  await t.test('expired, and paid late all the same', async (t) => {
    const { buyer, id, orderId, list } = await opened();
    cryptomus.change(orderId, { status: 'cancel', is_final: true });
    await webhook(cryptomus.webhook(orderId));
    t.match((await list())[0], {
      status: 'cancelled',
      ended_at: String,
      failure_reason: 'Cryptomus: cancel',
    });
    await world.due(id);
    t.equal((await keeper.runOnce()) >= 0, true);
    paid(orderId, 'paid', '25.1');
    await webhook(cryptomus.webhook(orderId));
    t.match((await list())[0], { status: 'completed', credited: '25.000000', failure_reason: null });
    t.equal(await world.prepaid(buyer.id), '25.000000');
    await t.rejects(
      pool.query("UPDATE topups SET status = 'failed', credited_micros = NULL WHERE buyer_id = $1", [
        buyer.id,
      ]),
      { code: '23514' },
      'the database keeps what is credited',
    );
  });

  await t.test('workers and webhooks at once: credited once', async (t) => {
    const { buyer, orderId } = await opened();
    paid(orderId, 'paid', '25.1');
    const body = cryptomus.webhook(orderId);
    await pool.query('UPDATE topups SET next_at = now() WHERE buyer_id = $1', [buyer.id]);
    await Promise.all([
      ...Array.from({ length: 10 }, () => webhook(body)),
      keeper.runOnce(),
      keeper.runOnce(),
    ]);
    await keeper.runOnce();
    t.equal(await world.prepaid(buyer.id), '25.000000');
  });

  await t.test('Cryptomus away, silent, refusing', async (t) => {
    const buyer = await world.buyer();
    const list = async () => (await call('GET', '/api/buyer/topups', { token: buyer.token })).body.items;
    cryptomus.disturb('/v1/payment', { kind: 'cut' });
    t.match(await topUp(buyer.token, '25'), { status: 503, body: { code: 'payments_unavailable' } });
    t.match((await list())[0], { status: 'pending', url: null });
    await world.due((await list())[0].id);
    await keeper.runOnce();
    t.match((await list())[0], { status: 'pending', url: /^https:/ }, 'the invoice was made and is found');
    cryptomus.disturb('/v1/payment', {
      kind: 'answer',
      status: 422,
      body: '{"state":1,"message":"Minimum amount"}',
    });
    t.match(await topUp(buyer.token, '25'), { status: 422, body: { code: 'payment_refused' } });
    t.match((await list())[0], { status: 'failed', failure_reason: 'Cryptomus: Minimum amount' });
    cryptomus.disturb('/v1/payment', { kind: 'drop' });
    t.equal((await topUp(buyer.token, '25')).status, 503);
    const { id } = (await list())[0];
    await world.due(id);
    await keeper.runOnce();
    t.match((await list())[0], { id, status: 'pending', url: null }, 'it may still arrive');
    const patient = new TopUpKeeper({
      pool,
      log: silentLog,
      cryptomus: new CryptomusClient(cryptomusOf(world.config) as never),
      live: { accountsChanged: async () => {} },
      callbackUrl: null,
      timeoutMs: 2_000,
      invoiceLifetimeS: 3_600,
      intervalMs: 1_000,
      neverMadeAfterS: 0,
    });
    await world.due(id);
    await patient.runOnce();
    t.match((await list())[0], { id, status: 'failed', failure_reason: 'the invoice was not made' });
    const { rows } = await pool.query('SELECT next_at FROM topups WHERE id = $1', [id]);
    t.same(rows, [{ next_at: null }], 'nobody looks any more');
  });

  await t.test('bounds, roles, one Idempotency-Key', async (t) => {
    const { token } = await world.buyer();
    for (const amount of ['4.99', '10000.01', '0', '99999999'])
      t.match(await topUp(token, amount), {
        status: 422,
        body: { code: 'topup_out_of_bounds', minimum: '5.000000', maximum: '10000.000000' },
      });
    for (const amount of ['5.001', '-5', '5e1', '', ' 5', 5, null])
      t.match(await topUp(token, amount), { status: 400 }, String(amount));
    t.equal((await call('POST', '/api/buyer/topups', { token, body: { amount: '5', more: 1 } })).status, 400);
    for (const amount of ['5', '10000']) t.equal((await topUp(token, amount)).status, 201);
    const user = await world.provider('5');
    for (const method of ['GET', 'POST']) {
      const body = method === 'POST' ? { amount: '5' } : undefined;
      t.equal((await call(method, '/api/buyer/topups', { token: user.token, body })).status, 403);
      t.equal((await call(method, '/api/buyer/topups', { body })).status, 401);
    }
    const key = { 'idempotency-key': randomUUID() };
    const first = await topUp(token, '7', key);
    t.same((await topUp(token, '7', key)).body, first.body);
    t.match(await topUp(token, '8', key), { status: 409, body: { code: 'idempotency_key_reused' } });
    const list = async (query: string) => (await call('GET', `/api/buyer/topups${query}`, { token })).body;
    const all = await list('');
    t.equal(all.items.length, 3);
    const page = await list('?limit=2');
    t.same([...page.items, ...(await list(`?limit=2&cursor=${page.next_cursor}`)).items], all.items);
    for (const query of ['?limit=0', '?cursor=x', '?more=1'])
      t.equal((await call('GET', `/api/buyer/topups${query}`, { token })).status, 400, query);
    t.match(
      await call('PATCH', '/api/admin/settings', {
        token: world.admin.token,
        body: { topup_min: '10000.01' },
      }),
      { status: 400, body: { errors: [{ path: '/body/topup_min' }] } },
    );
    await call('PATCH', '/api/admin/settings', {
      token: world.admin.token,
      body: { topup_min: '1', topup_max: '2' },
    });
    t.match(
      await topUp(token, '7'),
      { body: { minimum: '1.000000', maximum: '2.000000' } },
      'in force at once',
    );
  });
});
