import { randomUUID } from 'node:crypto';
import { Api } from 'grammy';
import t from 'tap';
import { createStarsApi } from '../../../control-plane/bot/stars-client.js';
import { invariants } from '../../../control-plane/settlement/invariants.js';
import { StarTopUps } from '../../../control-plane/topups/star-topups.js';
import { starWatchJob } from '../../../control-plane/topups/star-watch.js';
import { cancelUnpaidStarTopUps } from '../../../control-plane/topups/stars.js';
import { refusal } from '../../helpers/bot-api.js';
import { startBotWorld } from '../../helpers/bot-world.js';
import type { Charge, Person } from '../../helpers/telegram-model.js';

const { signal } = new AbortController();

t.test('top-ups in Telegram Stars', async (t) => {
  const world = await startBotWorld(t);
  const { telegram, api, pool, call, settle } = world;
  const topUps = async (token: string) => (await call('GET', '/api/buyer/topups', { token })).body.items;
  const open = async (token: string, amount: unknown = '25', headers = {}) =>
    call('POST', '/api/buyer/topups', { token, body: { amount, method: 'telegram_stars' }, headers });
  const opened = async (amount = '25') => {
    const buyer = await world.buyer();
    const made = await open(buyer.token, amount);
    t.equal(made.status, 201);
    return { ...buyer, topUp: made.body, person: world.person() };
  };
  /** Pays, while the bot works as it does in a process of its own. */
  const pay = async (person: Person, link: string, tamper = {}) => {
    const paid = await telegram.pay(person, link, tamper);
    await settle();
    return paid;
  };
  const paidUp = async (amount = '25') => {
    const one = await opened(amount);
    const paid = await pay(one.person, one.topUp.url);
    if (!paid.ok) throw new Error(`not paid: ${paid.error}`);
    return { ...one, charge: paid.charge, update: paid.update };
  };
  const payment = async (chargeId: string) =>
    (await pool.query('SELECT * FROM star_payments WHERE charge_id = $1', [chargeId])).rows[0];
  const refund = (id: string, token = world.admin.token, reason = 'by mistake') =>
    call('POST', `/api/admin/payments/${id}/refund`, { token, body: { reason } });
  const deliver = () => world.services.outbox.deliverDue(signal);
  t.afterEach(async () => t.same(await invariants(pool), []));

  await t.test('an invoice with a price in whole Stars', async (t) => {
    const { topUp, token, id } = await opened();
    t.match(topUp, {
      method: 'telegram_stars',
      status: 'pending',
      stars: 1_924, // 25 / 0.013 = 1923.08
      amount: '25.012000',
      credited: null,
      url: /^https:\/\/t\.me\/\$/,
      expires_at: String,
      refunded_at: null,
    });
    t.same(await topUps(token), [topUp]);
    t.match(telegram.calls.at(-1), {
      method: 'createInvoiceLink',
      body: { payload: topUp.id, currency: 'XTR', provider_token: '', prices: [{ amount: 1_924 }] },
    });
    const { rows } = await pool.query(
      "SELECT after FROM audit_log WHERE object_id = $1 AND action = 'topup_opened'",
      [topUp.id],
    );
    t.match(rows, [{ after: { amount: '25.012000', method: 'telegram_stars' } }]);
    t.equal(await world.prepaid(id), '0.000000', 'an invoice is no money');
    const listed = await world.payment(topUp.id);
    t.match(listed, {
      kind: 'topup',
      method: 'telegram_stars',
      buyer_id: id,
      status: 'pending',
      amount: '25.012000',
    });
  });

  await t.test('paid: credited once, however often Telegram says so', async (t) => {
    const { topUp, token, id, person, charge, update } = await paidUp();
    t.match(await topUps(token), [
      { id: topUp.id, status: 'completed', credited: '25.012000', tx_reference: charge.id, ended_at: String },
    ]);
    t.equal(await world.prepaid(id), '25.012000');
    t.match(world.textsTo(person), [/25\.012/]);
    await Promise.all(Array.from({ length: 50 }, () => telegram.deliver(update)));
    // And under other update ids, as if Telegram had counted anew.
    await Promise.all(Array.from({ length: 10 }, () => telegram.reportPayment(person, charge)));
    await settle();
    t.equal(await world.prepaid(id), '25.012000');
    const { rows } = await pool.query("SELECT kind FROM ledger_transactions WHERE kind LIKE 'topup_stars%'");
    t.equal(rows.length, 1);
    t.match(await payment(charge.id), { state: 'credited', credited_micros: 25_012_000n });
  });

  await t.test('a checkout is refused when the order is not what it says', async (t) => {
    const { topUp, person, token, id } = await opened();
    const refused = async (tamper: object) => {
      const paid = await pay(person, topUp.url, tamper);
      return paid.ok ? 'paid' : paid.error;
    };
    t.match(await refused({ stars: 1 }), /amount/);
    t.match(await refused({ currency: 'USD' }), /amount/);
    for (const payload of ['', 'x', randomUUID(), "'; DROP TABLE topups; --"])
      t.match(await refused({ payload }), /no such invoice/);
    t.equal(telegram.charges.filter((charge) => charge.payload === topUp.id).length, 0, 'nothing was taken');
    await pool.query('UPDATE topups SET expires_at = now() WHERE id = $1', [topUp.id]);
    t.match(await refused({}), /too old/);
    await pool.query("UPDATE topups SET expires_at = now() + interval '1 hour' WHERE id = $1", [topUp.id]);
    await pool.query("UPDATE buyers SET status = 'suspended' WHERE id = $1", [id]);
    t.match(await refused({}), /not active/);
    await pool.query("UPDATE buyers SET status = 'active' WHERE id = $1", [id]);
    t.match((await topUps(token))[0], { status: 'pending' });
    const russian = { ...person, language_code: 'ru' };
    const paid = await telegram.pay(russian, topUp.url, { stars: 2 });
    t.match(paid, { ok: false, error: /Сумма/ });
    t.equal(await refused({}), 'paid', 'the right one is taken all the same');
    t.match(await refused({}), /paid or cancelled/);
  });

  await t.test('a checkout is answered at once', async (t) => {
    const { topUp, person } = await opened();
    const paid = await telegram.pay(person, topUp.url, { stars: 5 });
    t.match(paid, { ok: false });
    t.ok(!paid.ok && paid.afterMs < 5_000, 'far below the ten seconds that Telegram gives');
  });

  await t.test(
    'two people, one link: one is told to wait, and who paid all the same gets the Stars back',
    async (t) => {
      const { topUp, person, id } = await opened();
      const other = world.person();
      const both = await Promise.all([telegram.pay(person, topUp.url), telegram.pay(other, topUp.url)]);
      await settle();
      t.equal(both.filter((paid) => paid.ok).length, 1);
      // One whose checkout was answered by a bot that has since crashed.
      const late = telegram.charge(other, { stars: topUp.stars, payload: topUp.id });
      await telegram.reportPayment(other, late);
      await settle();
      t.equal(await world.prepaid(id), '25.012000');
      t.match(await payment(late.id), { state: 'refused', credited_micros: null });
      t.match(world.textsTo(other).at(-1), /come back/);
      t.match(await deliver(), { delivered: 1, failed: 0 });
      t.equal(late.refunded, true);
      t.match(await payment(late.id), { state: 'refunded' });
      t.equal(
        both.some((paid) => paid.ok && paid.charge.refunded),
        false,
        'the first one’s stay',
      );
      await telegram.reportRefund(other, late);
      await settle();
      t.equal(await world.prepaid(id), '25.012000', 'never credited, so nothing to take back');
    },
  );

  await t.test('a payment of another amount or of no order is not credited, and goes back', async (t) => {
    const { topUp, person, id } = await opened();
    const wrong: Charge[] = [
      telegram.charge(person, { stars: 1, payload: topUp.id }),
      telegram.charge(person, { stars: 5, payload: randomUUID() }),
      telegram.charge(person, { stars: 5, payload: 'not ours' }),
    ];
    for (const charge of wrong) await telegram.reportPayment(person, charge);
    await settle();
    t.equal(await world.prepaid(id), '0.000000');
    t.match(await deliver(), { delivered: 3, failed: 0 });
    t.ok(wrong.every((charge) => charge.refunded));
    const { rows } = await pool.query(
      "SELECT after->>'reason' AS r FROM audit_log WHERE action = 'star_payment_refused' ORDER BY id DESC LIMIT 3",
    );
    t.same(rows.map((row) => row.r).sort(), ['unknown_order', 'unknown_order', 'wrong_amount']);
  });

  await t.test('refunded by an admin: the balance at once, the Stars once', async (t) => {
    const { topUp, token, id, person, charge } = await paidUp();
    t.equal((await refund(topUp.id, '')).status, 401);
    t.equal((await refund(topUp.id, token)).status, 403);
    t.equal((await refund(topUp.id, world.admin.token, '')).status, 400);
    t.equal((await refund(randomUUID())).status, 404);
    const answers = await Promise.all(Array.from({ length: 10 }, () => refund(topUp.id)));
    t.same(answers.map((answer) => answer.status).sort(), [202, ...Array(9).fill(409)]);
    t.match(answers.find((answer) => answer.status === 202)?.body, { refunding: '25.012000' });
    t.equal(await world.prepaid(id), '0.000000');
    t.equal(charge.refunded, false, 'in the background');
    t.match(await deliver(), { delivered: 1 });
    t.equal(charge.refunded, true);
    t.match(await topUps(token), [{ status: 'completed', refunded_at: String }]);
    t.match(await world.payment(topUp.id), { refunded_at: String });
    await telegram.reportRefund(person, charge);
    await telegram.reportRefund(person, charge);
    await settle();
    t.equal(await world.prepaid(id), '0.000000', 'booked once, although Telegram tells of it, too');
    t.equal((await refund(topUp.id)).status, 409);
  });

  await t.test('a refund whose answer is lost is asked for again, and done once', async (t) => {
    const { topUp, id, charge } = await paidUp();
    await refund(topUp.id);
    let calls = 0;
    api.failing = (method) => {
      if (method !== 'refundStarPayment' || calls++ > 0) return null;
      charge.refunded = true; // it was done
      return 'cut';
    };
    t.match(await deliver(), { failed: 1 });
    t.match(await payment(charge.id), { state: 'refunding' });
    await pool.query("UPDATE outbox SET due_at = now() WHERE state = 'waiting'");
    t.match(await deliver(), { delivered: 1 });
    api.failing = () => null;
    t.equal(calls, 2);
    t.match(await payment(charge.id), { state: 'refunded' });
    t.equal(await world.prepaid(id), '0.000000');
  });

  await t.test(
    'a refund that Telegram refuses: the buyer has the money again, and it may be tried again',
    async (t) => {
      const { topUp, id, token, charge } = await paidUp();
      await refund(topUp.id);
      api.failing = (method) =>
        method === 'refundStarPayment' ? refusal(400, 'Bad Request: USER_ID_INVALID') : null;
      t.match(await deliver(), { delivered: 1 });
      api.failing = () => null;
      t.match(await payment(charge.id), { state: 'credited', last_error: /USER_ID_INVALID/ });
      t.equal(await world.prepaid(id), '25.012000');
      t.match(await topUps(token), [{ refunded_at: null }]);
      t.equal((await refund(topUp.id)).status, 202);
      t.match(await deliver(), { delivered: 1 });
      t.equal(await world.prepaid(id), '0.000000');
      t.equal(charge.refunded, true);
    },
  );

  await t.test('what is spent or held can not be refunded', async (t) => {
    const { topUp, id } = await paidUp();
    await call('POST', '/api/admin/credits', {
      token: world.admin.token,
      body: { buyer_id: id, amount: '-0.01', reason: 'spent' },
    });
    const refused = await refund(topUp.id);
    t.match([refused.status, refused.body.code], [422, 'held_by_traffic']);
    t.match(await deliver(), { delivered: 0 });
  });

  await t.test(
    'given back past us: what is left of it leaves the balance, the platform pays the rest',
    async (t) => {
      const { topUp, id, token, person, charge } = await paidUp();
      await call('POST', '/api/admin/credits', {
        token: world.admin.token,
        body: { buyer_id: id, amount: '-20', reason: 'spent' },
      });
      await telegram.reportRefund(person, charge);
      await telegram.reportRefund(person, charge);
      await settle();
      t.equal(await world.prepaid(id), '0.000000');
      const { rows } = await pool.query(
        `SELECT a.kind, e.amount_micros FROM ledger_transactions x JOIN ledger_entries e ON e.transaction_id = x.id
         JOIN ledger_accounts a ON a.id = e.account_id WHERE x.source_id = $1 ORDER BY a.kind`,
        [`${charge.id}:1`],
      );
      t.same(rows, [
        { kind: 'buyer_prepaid', amount_micros: -5_012_000n },
        { kind: 'platform_funding', amount_micros: 25_012_000n },
        { kind: 'platform_revenue', amount_micros: -20_000_000n },
      ]);
      t.match(await topUps(token), [{ id: topUp.id, refunded_at: String }]);
    },
  );

  await t.test('the refund comes before the payment: nothing is lost', async (t) => {
    const { topUp, id, person } = await opened();
    const charge = telegram.charge(person, { stars: topUp.stars, payload: topUp.id });
    const paid = telegram.messageUpdate(person, {});
    await telegram.reportRefund(person, charge);
    await settle();
    // The earlier update arrives late.
    Object.assign(paid.message as object, {
      successful_payment: {
        currency: 'XTR',
        total_amount: charge.stars,
        invoice_payload: charge.payload,
        telegram_payment_charge_id: charge.id,
        provider_payment_charge_id: '',
      } satisfies Record<string, unknown>,
    });
    await telegram.deliver(paid);
    await settle();
    await pool.query("UPDATE telegram_updates SET due_at = now() WHERE state = 'waiting'");
    await settle();
    t.equal(await world.prepaid(id), '0.000000');
    t.match(await payment(charge.id), { state: 'refunded', credited_micros: 25_012_000n });
  });

  await t.test('what no update told of is booked by the job, once', async (t) => {
    const stars = createStarsApi(new Api('1:t', { apiRoot: api.url }));
    const job = starWatchJob({ pool, log: world.collaborators.log, stars, live: world.services.live });
    await job.run({ signal }); // what earlier subtests left
    t.match(await job.run({ signal }), { seen: 0, credited: 0, refunded: 0 });
    const { topUp, id, person } = await opened();
    telegram.otherTransfer();
    const foreign = telegram.charge(person, { stars: 5, payload: 'sold by another program' });
    const charge = telegram.charge(person, { stars: topUp.stars, payload: topUp.id });
    t.match(await job.run({ signal }), { seen: 3, credited: 1, refunded: 0 });
    t.equal(await world.prepaid(id), '25.012000');
    t.equal(await payment(foreign.id), undefined, 'what is not ours is left alone');
    await telegram.reportPayment(person, charge); // after all
    await settle();
    t.equal(await world.prepaid(id), '25.012000');
    api.failing = (method) => (method === 'getStarTransactions' ? refusal(502, 'Bad Gateway') : null);
    await t.rejects(job.run({ signal }), /Stars can not be read/);
    api.failing = () => null;
    t.equal((await stars.refund(person.id, charge.id)).outcome, 'done'); // past us, and its update is lost
    t.match(await job.run({ signal }), { seen: 1, credited: 0, refunded: 1 });
    t.equal(await world.prepaid(id), '0.000000');
    t.match(await job.run({ signal }), { seen: 0 });
    t.match(await deliver(), { failed: 0 });
  });

  await t.test('not paid in time: cancelled; paid all the same: credited', async (t) => {
    const { topUp, id, token, person } = await opened();
    await pool.query('UPDATE topups SET expires_at = now() WHERE id = $1', [topUp.id]);
    t.equal(await cancelUnpaidStarTopUps(pool), 1);
    t.match(await topUps(token), [{ status: 'cancelled', failure_reason: 'not paid in time' }]);
    const charge = telegram.charge(person, { stars: topUp.stars, payload: topUp.id });
    await telegram.reportPayment(person, charge);
    await settle();
    t.equal(await world.prepaid(id), '25.012000');
    t.match(await topUps(token), [{ status: 'completed', failure_reason: null }]);
    const busy = await opened();
    const paying = await telegram.pay(busy.person, busy.topUp.url, { stars: 3 });
    t.equal(paying.ok, false);
    await pool.query(
      "UPDATE topups SET expires_at = now(), checkout_at = now(), status = 'processing' WHERE id = $1",
      [busy.topUp.id],
    );
    t.equal(await cancelUnpaidStarTopUps(pool), 0, 'not while somebody is paying');
  });

  await t.test('bounds, prices, a Telegram that refuses or is away', async (t) => {
    const buyer = await world.buyer();
    t.match((await open(buyer.token, '4.99')).body, { code: 'topup_out_of_bounds' });
    t.match((await open(buyer.token, '10001')).body, { code: 'topup_out_of_bounds' });
    t.equal((await open(buyer.token, '5.001')).status, 400);
    const unknown = await call('POST', '/api/buyer/topups', {
      token: buyer.token,
      body: { amount: '25', method: 'cash' },
    });
    t.equal(unknown.status, 400);
    t.match(
      (await open(buyer.token, '500')).body,
      { status: 422, code: 'payment_refused' },
      'above 10 000 Stars',
    );
    api.failing = () => 'cut';
    t.match((await open(buyer.token)).body, { status: 503, code: 'payments_unavailable' });
    api.failing = () => null;
    t.match(
      (await topUps(buyer.token)).map((item: { status: string }) => item.status),
      ['failed', 'failed'],
    );
    const price = (star_price: string) =>
      call('PATCH', '/api/admin/settings', { token: world.admin.token, body: { star_price } });
    t.equal((await price('0.02')).status, 200);
    t.match((await open(buyer.token)).body, { stars: 1_250, amount: '25.000000' });
    t.equal((await price('0')).status, 200);
    t.match((await open(buyer.token)).body, { status: 422, code: 'stars_unavailable' });
    t.equal((await price('-1')).status, 400);
    t.equal((await price('0.013')).status, 200);
    const key = { 'idempotency-key': randomUUID() };
    const twice = [await open(buyer.token, '25', key), await open(buyer.token, '25', key)];
    t.same(twice[0]?.body, twice[1]?.body);
  });

  await t.test('/topup in the bot', async (t) => {
    const buyer = await world.buyer();
    const person = world.person();
    await telegram.say(person, '/topup 25');
    const { body } = await call('POST', '/api/buyer/telegrams/link', { token: buyer.token });
    await world.openLink(person, body.start);
    for (const text of ['/topup', '/topup abc', '/topup 4', '/topup -25', '/topup 1e3'])
      await telegram.say(person, text);
    await settle();
    t.match(world.textsTo(person), [
      /not linked/,
      /^Link this Telegram account/,
      /^Done/,
      ...Array(5).fill(/How many dollars\? From 5\.00 to 10000\.00/),
    ]);
    const update = await telegram.say(person, '/topup $10,50');
    await telegram.deliver(update);
    await settle();
    const [topUp, ...more] = await topUps(buyer.token);
    t.match(
      [topUp, more],
      [{ status: 'pending', method: 'telegram_stars', stars: 808, amount: '10.504000' }, []],
    );
    t.match(telegram.calls.at(-1), {
      method: 'sendInvoice',
      body: { chat_id: person.id, payload: topUp.id },
    });
    const paid = await pay(person, `message:${topUp.id}`);
    t.equal(paid.ok, true);
    t.equal(await world.prepaid(buyer.id), '10.504000');
    await pool.query("UPDATE buyers SET status = 'suspended' WHERE id = $1", [buyer.id]);
    await telegram.say(person, '/topup 25');
    await settle();
    t.match(world.textsTo(person).at(-1), /not active/);
  });

  await t.test('many at once: each charge once', async (t) => {
    const all = await Promise.all(Array.from({ length: 20 }, () => opened('5')));
    await Promise.all(
      all.map(async ({ person, topUp }) => {
        const paid = await telegram.pay(person, topUp.url);
        if (!paid.ok) return t.fail(paid.error ?? 'refused');
        await Promise.all([telegram.deliver(paid.update), telegram.reportPayment(person, paid.charge)]);
      }),
    );
    await settle();
    for (const { id } of all) t.equal(await world.prepaid(id), '5.005000');
  });
});

t.test('no bot: no Stars', async (t) => {
  const world = await startBotWorld(t);
  const none = new StarTopUps({
    pool: world.pool,
    log: world.collaborators.log,
    stars: null,
    starPriceMicros: async () => 1n,
    invoiceLifetimeS: 60,
  });
  t.same(await none.open(randomUUID(), 5_000_000n, async () => {}), { ok: false, code: 'unavailable' });
});
