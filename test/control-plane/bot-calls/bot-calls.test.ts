import t from 'tap';
import {
  newTelegramId,
  signedIn,
  startWorld,
  TEST_ENV,
  type TestWorld,
  withDevice,
} from '../../helpers/control-plane.js';

const bot = { 'x-bot-secret': TEST_ENV.TS_BOT_SECRET };
const asBot = (world: TestWorld, row: string, body: unknown) =>
  world.call('POST', `/api/bot/${row}`, { headers: bot, body });

t.test('what the bot asks for', async (t) => {
  const world = await startWorld(t, { env: { TS_CODES_PER_ID_PER_HOUR: '2' } });
  const user = await signedIn(world);
  const admin = await signedIn(world, 'admin');
  const me = { telegram_id: user.telegramId };

  await t.test('a login code', async (t) => {
    t.same((await asBot(world, 'send_login_code', me)).body, { ok: true });
    const code = world.codes.at(-1);
    t.match(code, { telegramId: user.telegramId, code: /^\d{6}$/, language: 'en' });
    const signed = await world.call('POST', '/api/auth/verify_code', { body: { ...me, code: code?.code } });
    t.equal(signed.status, 200);
    t.equal((await asBot(world, 'send_login_code', me)).status, 200);
    const many = await asBot(world, 'send_login_code', me);
    t.match([many.status, many.body.code], [429, 'rate_limited']);
    t.ok(Number(many.headers.get('retry-after')) > 0);
    t.equal(world.codes.length, 2);
  });

  await t.test('tell the admins: each of them, or in their channel', async (t) => {
    t.same((await asBot(world, 'notify_admin', { message: 'Help' })).body, { ok: true, queued: 1 });
    t.match(world.messages.at(-1), { chatId: admin.telegramId, text: 'Help', kind: 'bot_notice' });
    const channel = await startWorld(t, { env: { TS_ADMIN_CHAT_ID: '-1001234567890' } });
    t.same((await asBot(channel, 'notify_admin', { message: 'Help', kind: 'alarm' })).body.queued, 1);
    t.match(channel.messages, [{ chatId: -1001234567890, kind: 'alarm' }]);
    for (const body of [{}, { message: '' }, { message: 'x', chat_id: 5 }, { message: 'x', kind: 'A B' }])
      t.equal((await asBot(world, 'notify_admin', body)).status, 400, JSON.stringify(body));
  });

  await t.test('the balance, in the user’s language', async (t) => {
    await world.call('POST', '/api/admin/credits', {
      token: admin.token,
      body: { user_id: user.userId, amount: '2.5', reason: 'a gift' },
    });
    await world.call('POST', '/api/user/update', { token: user.token, body: { language: 'uz' } });
    const { status, body } = await asBot(world, 'update_balance', me);
    t.match([status, body], [200, { ok: true, balance: { available: '2.500000' } }]);
    t.match(world.messages.at(-1), { chatId: user.telegramId, text: /Balansingiz: \$2\.500000/ });
  });

  await t.test('live traffic, and why there is none', async (t) => {
    const { deviceId } = await withDevice(world, user);
    const { body: started } = await world.call('POST', '/api/traffic/start', {
      token: user.token,
      body: { device_id: deviceId, client_version: '1.0.0' },
    });
    await world.pool.query(
      'UPDATE traffic_sessions SET bytes_up = 1500000, bytes_down = 500000, earned_micros = 1000 WHERE id = $1',
      [started.session_id],
    );
    const { status, body } = await asBot(world, 'live_traffic', me);
    t.match(
      [status, body],
      [
        200,
        {
          ok: true,
          sessions: 1,
          bytes: 2_000_000,
          earned: '0.001000',
          devices: [{ state: { code: 'offline' } }],
        },
      ],
    );
    t.match(world.messages.at(-1)?.text, /2\.00 MB, \$0\.001000\nQurilma ulanmagan\./);
  });

  await t.test('for the bot alone', async (t) => {
    for (const row of ['send_login_code', 'update_balance', 'live_traffic', 'notify_admin']) {
      const path = `/api/bot/${row}`;
      const body = row === 'notify_admin' ? { message: 'x' } : me;
      t.equal((await world.call('POST', path, { body })).status, 401, row);
      t.equal((await world.call('POST', path, { body, token: user.token })).status, 403, row);
      t.equal((await world.call('POST', path, { body, token: admin.token })).status, 403, row);
      const wrong = await world.call('POST', path, {
        body,
        headers: { 'x-bot-secret': 'wrong-secret-0123456' },
      });
      t.equal(wrong.status, 401, row);
      if (row !== 'notify_admin') {
        t.equal((await asBot(world, row, { telegram_id: newTelegramId() })).status, 404, row);
        t.equal((await asBot(world, row, { ...me, text: 'x' })).status, 400, row);
        t.equal((await asBot(world, row, {})).status, 400, row);
      }
    }
  });
});

t.test('a full queue is told, not waited for', async (t) => {
  const world = await startWorld(t, {
    telegram: { push: (message) => message.onDelivery?.('queue_full'), withdraw: () => false },
  });
  const user = await signedIn(world);
  const full = await asBot(world, 'update_balance', { telegram_id: user.telegramId });
  t.match([full.status, full.body.code], [503, 'bot_queue_full']);
  await signedIn(world, 'admin');
  t.same((await asBot(world, 'notify_admin', { message: 'x' })).body, { ok: true, queued: 0 });
});
