import t from 'tap';
import { forgetOldUpdates } from '../../../control-plane/bot/updates.js';
import { startBotWorld, WEBHOOK_SECRET } from '../../helpers/bot-world.js';

t.test('updates by webhook', async (t) => {
  const world = await startBotWorld(t);
  const { pool, telegram } = world;
  const rows = async (updateId: number) =>
    (await pool.query('SELECT * FROM telegram_updates WHERE update_id = $1', [updateId])).rows[0];

  await t.test('only with the secret', async (t) => {
    const update = telegram.messageUpdate(world.person(), { text: 'hello' });
    for (const secret of [null, '', 'x', WEBHOOK_SECRET.slice(1), `${WEBHOOK_SECRET}0`])
      t.equal(await telegram.post(update, secret), 401);
    t.equal(await rows(update.update_id), undefined, 'nothing was written down');
    const answer = await world.call('POST', '/api/webhook/telegram', { body: update });
    t.match(answer.body, { code: 'invalid_secret' });
  });

  await t.test('what is no update', async (t) => {
    for (const body of [{}, { update_id: -1 }, { update_id: 'x' }, [], 'text', { update_id: 2 ** 60 }])
      t.equal(await telegram.post(body, WEBHOOK_SECRET), 400, JSON.stringify(body));
    t.equal(
      await telegram.post({ update_id: 1, something_new: {} }, WEBHOOK_SECRET),
      200,
      'of a later Bot API',
    );
    await world.settle();
    t.match(await rows(1), { state: 'done', payload: null });
  });

  await t.test('delivered 50 times, at once and later: handled once', async (t) => {
    const person = world.person();
    const update = telegram.messageUpdate(person, {
      text: '/start',
      entities: [{ type: 'bot_command', offset: 0, length: 6 }],
    });
    const statuses = await Promise.all(
      Array.from({ length: 50 }, () => telegram.post(update, WEBHOOK_SECRET)),
    );
    t.ok(statuses.every((status) => status === 200));
    await world.settle();
    for (let again = 0; again < 3; again++) await telegram.deliver(update);
    await world.settle();
    t.equal(world.textsTo(person).length, 1);
    t.match(await rows(update.update_id), { state: 'done', attempts: 1, payload: null }, 'no words are kept');
    const { rows: audit } = await pool.query(
      "SELECT count(*)::int AS n FROM audit_log WHERE action = 'user_registered' AND after->>'telegram_id' = $1",
      [String(person.id)],
    );
    t.equal(audit[0].n, 1);
  });

  await t.test('one chat in order, although delivered the other way round', async (t) => {
    const person = world.person();
    const texts = ['/start', '/paysupport', '/start'].map((text) =>
      telegram.messageUpdate(person, {
        text,
        entities: [{ type: 'bot_command', offset: 0, length: text.length }],
      }),
    );
    // Written down together, newest first, so that the worker could choose any.
    await world.services.bot?.worker.idle();
    for (const update of texts.toReversed())
      await pool.query('INSERT INTO telegram_updates (update_id, chat_id, payload) VALUES ($1, $2, $3)', [
        update.update_id,
        person.id,
        JSON.stringify(update),
      ]);
    await world.settle();
    const said = world.textsTo(person);
    t.match(said[0], /^Welcome to/);
    t.match(said[1], /payment/);
    t.match(said[2], /^Welcome back/);
  });

  await t.test('one that fails is tried again, and its chat waits for it; others do not', async (t) => {
    const [first, other] = [world.person(), world.person()];
    const update = telegram.messageUpdate(first, {
      refunded_payment: {
        currency: 'XTR',
        total_amount: 1,
        invoice_payload: 'x',
        telegram_payment_charge_id: 'nobody',
      },
    });
    await telegram.deliver(update);
    await telegram.say(first, '/start');
    await telegram.say(other, '/start');
    await world.settle();
    t.match(await rows(update.update_id), { state: 'waiting', attempts: 1, error: 'Error' });
    t.same(world.textsTo(first), []);
    t.equal(world.textsTo(other).length, 1);
    for (let attempt = 2; attempt <= 8; attempt++) {
      await pool.query('UPDATE telegram_updates SET due_at = now() WHERE update_id = $1', [update.update_id]);
      await world.settle();
    }
    t.match(await rows(update.update_id), { state: 'failed', attempts: 8 });
    await world.settle();
    t.equal(world.textsTo(first).length, 1, 'then the next one comes');
  });

  await t.test('what was handled is forgotten after a week', async (t) => {
    await pool.query(
      "UPDATE telegram_updates SET ended_at = now() - interval '8 days' WHERE state = 'failed'",
    );
    t.equal(await forgetOldUpdates(pool), 1);
  });
});

t.test('no webhook where the bot polls', async (t) => {
  const world = await startBotWorld(t, { TS_BOT_UPDATES: 'polling' });
  t.equal(await world.telegram.post({ update_id: 1 }, WEBHOOK_SECRET), 401);
});
