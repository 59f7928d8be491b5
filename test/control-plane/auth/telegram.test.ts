import { createHash, createHmac } from 'node:crypto';
import t from 'tap';
import { BOT_TOKEN, initData, newTelegramId, signedIn, startWorld } from '../../helpers/control-plane.js';

const nowS = () => Math.floor(Date.now() / 1000);

/** Login Widget data signed for `botToken`. */
function widget(fields: { id: number; auth_date: number; username?: string }, botToken = BOT_TOKEN) {
  const all: Record<string, string | number> = { first_name: 'Ann', ...fields };
  const lines = Object.entries(all)
    .map(([name, value]) => `${name}=${value}`)
    .sort();
  const key = createHash('sha256').update(botToken).digest();
  return { ...all, hash: createHmac('sha256', key).update(lines.join('\n')).digest('hex') };
}

t.test('signing in with Telegram', async (t) => {
  const world = await startWorld(t);
  const telegram = (body: object) => world.call('POST', '/api/auth/telegram', { body });

  await t.test('Mini App: makes the user once, takes the referral code', async (t) => {
    const inviter = await signedIn(world);
    const { rows } = await world.pool.query('SELECT referral_code FROM users WHERE id = $1', [
      inviter.userId,
    ]);
    const id = newTelegramId();
    const data = initData(
      { id, username: 'bob', language_code: 'ru' },
      { startParam: rows[0].referral_code },
    );
    const first = await telegram({ init_data: data });
    t.equal(first.status, 200);
    const me = await world.call('GET', '/api/user/me', { token: first.body.access_token });
    t.match(me.body, { telegram_id: id, username: 'bob', language: 'ru', is_verified: true });
    const again = await telegram({ init_data: initData({ id, username: 'robert' }) });
    const same = await world.call('GET', '/api/user/me', { token: again.body.access_token });
    t.equal(same.body.id, me.body.id);
    t.equal(same.body.username, 'robert', 'Telegram is the authority on names');
    const user = await world.pool.query('SELECT referred_by FROM users WHERE id = $1', [me.body.id]);
    t.equal(user.rows[0].referred_by, inviter.userId);
  });

  await t.test('the header alone, for the Mini App', async (t) => {
    const id = newTelegramId();
    const header = { 'x-telegram-init-data': initData({ id }) };
    const me = await world.call('GET', '/api/user/me', { headers: header });
    t.match([me.status, me.body.telegram_id], [200, id]);
    const bad = await world.call('GET', '/api/user/me', { headers: { 'x-telegram-init-data': 'hash=1' } });
    t.match([bad.status, bad.body.code], [401, 'invalid_telegram_data']);
  });

  await t.test('what is not signed for this bot, or too old', async (t) => {
    const id = newTelegramId();
    const good = initData({ id });
    const without = new URLSearchParams(good);
    without.delete('signature');
    const refused = {
      'another bot': initData({ id }, { botToken: '1:other' }),
      'another user': good.replace(String(id), String(id + 1)),
      'a day and a minute old': initData({ id }, { authDateS: nowS() - 86_460 }),
      'from the future': initData({ id }, { authDateS: nowS() + 3_600 }),
      'signature taken out': without.toString(),
      'no hash': 'user=%7B%7D&auth_date=1',
      nonsense: '%%%',
    };
    for (const [name, init_data] of Object.entries(refused)) {
      const answer = await telegram({ init_data });
      t.match([answer.status, answer.body.code], [401, 'invalid_telegram_data'], name);
    }
    t.equal((await telegram({ init_data: initData({ id }, { authDateS: nowS() - 86_300 }) })).status, 200);
  });

  await t.test('Login Widget', async (t) => {
    const id = newTelegramId();
    t.equal((await telegram(widget({ id, auth_date: nowS(), username: 'eve' }))).status, 200);
    t.equal((await telegram({ ...widget({ id, auth_date: nowS() }), id: id + 1 })).status, 401);
    t.equal((await telegram(widget({ id, auth_date: nowS() }, '1:other'))).status, 401);
    t.equal((await telegram({ ...widget({ id, auth_date: nowS() }), extra: '1' })).status, 400);
    t.equal((await telegram(widget({ id, auth_date: nowS() - 90_000 }))).status, 401);
  });
});

t.test('admins', async (t) => {
  const world = await startWorld(t, { env: { TS_ADMIN_IPS: '192.0.2.0/24' } });
  const bootstrap = (secret: string, telegramId: number) =>
    world.call('POST', '/api/admin/create_superadmin', { body: { secret, telegram_id: telegramId } });
  const login = (id: number, from: string) =>
    world.call('POST', '/api/admin/auth/login', { body: widget({ id, auth_date: nowS() }), from });
  const adminId = newTelegramId();

  await t.test('the first admin, once', async (t) => {
    const wrong = await bootstrap('not-the-bootstrap-secret', adminId);
    t.match([wrong.status, wrong.body.code], [401, 'invalid_secret']);
    const answers = await Promise.all(
      Array.from({ length: 5 }, (_, i) => bootstrap('test-bootstrap-secret', adminId + i)),
    );
    t.same(answers.map((a) => a.status).sort(), [201, 409, 409, 409, 409]);
    const made = answers.find((a) => a.status === 201);
    t.match(made?.body, { user_id: String, access_token: /^eyJ/, token_type: 'Bearer' });
    await world.pool.query('UPDATE users SET telegram_id = $2 WHERE id = $1', [
      made?.body.user_id,
      adminId + 100,
    ]);
    const me = await world.call('GET', '/api/admin/auth/me', {
      token: made?.body.access_token,
      from: '192.0.2.7',
    });
    t.equal(me.body.id, made?.body.user_id);
    t.equal((await bootstrap('test-bootstrap-secret', adminId)).body.code, 'superadmin_exists');
    t.equal(
      (await bootstrap('not-the-bootstrap-secret', adminId)).status,
      401,
      'a wrong secret learns nothing',
    );
  });

  await t.test('login by widget, from allowed addresses, audited', async (t) => {
    const answer = await login(adminId + 100, '192.0.2.7');
    t.equal(answer.status, 200);
    const elsewhere = await login(adminId + 100, '203.0.113.1');
    t.match([elsewhere.status, elsewhere.body.code], [403, 'ip_not_allowed']);
    const token = answer.body.access_token;
    t.equal(
      (await world.call('GET', '/api/admin/auth/me', { token, from: '203.0.113.1' })).body.code,
      'ip_not_allowed',
    );
    const user = await signedIn(world);
    t.match((await login(user.telegramId, '192.0.2.7')).body, { code: 'forbidden' });
    t.match((await login(newTelegramId(), '192.0.2.7')).body, { code: 'forbidden' });
    const { rows } = await world.pool.query('SELECT action, ip FROM audit_log ORDER BY id');
    t.same(
      rows.map((r) => r.action),
      ['superadmin_created', 'admin_login', ...Array(3).fill('admin_login_refused')],
    );
    t.match(rows[1], { ip: '192.0.2.7' });
  });

  await t.test('the audit log cannot be changed', async (t) => {
    await t.rejects(world.pool.query("UPDATE audit_log SET action = 'nothing'"), { code: '23001' });
    await t.rejects(world.pool.query('DELETE FROM audit_log'), { code: '23001' });
  });
});
