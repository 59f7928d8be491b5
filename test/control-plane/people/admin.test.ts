import { randomUUID } from 'node:crypto';
import t from 'tap';
import {
  newTelegramId,
  signedIn,
  startWorld,
  type TestWorld,
  withDevice,
} from '../../helpers/control-plane.js';

const start = (world: TestWorld, token: string, device_id: string, from = '198.51.100.3') =>
  world.call('POST', '/api/traffic/start', { token, from, body: { device_id, client_version: '1.0.0' } });

/** What gateways were told last. */
const lastCommand = async (world: TestWorld) => {
  const [entry] = (await world.redis.xrevrange('ts:commands', '+', '-', 'COUNT', '1')) as [
    string,
    string[],
  ][];
  return JSON.parse(entry?.[1][1] ?? 'null');
};

t.test('admins and users', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
    world.call(method, path, { token: admin.token, body, ...(headers ? { headers } : {}) });
  const audited = async (action: string, objectId: string) =>
    (
      await world.pool.query(
        'SELECT actor_role, actor_id, before, after FROM audit_log WHERE action = $1 AND object_id = $2',
        [action, objectId],
      )
    ).rows;

  await t.test('for admins alone', async (t) => {
    const user = await signedIn(world);
    const rows: [string, string, unknown?][] = [
      ['GET', '/api/admin/users'],
      ['POST', '/api/admin/users', { telegram_id: newTelegramId() }],
      ['GET', `/api/admin/users/${user.userId}`],
      ['PATCH', `/api/admin/users/${user.userId}`, { is_admin: true }],
      ['DELETE', `/api/admin/users/${user.userId}`],
      ['POST', `/api/admin/user/${user.userId}/ban`],
      ['POST', `/api/admin/user/${user.userId}/unban`],
      ['GET', '/api/admin/users-with-telegrams'],
      ['DELETE', `/api/admin/users/${user.userId}/telegrams/0`],
    ];
    for (const [method, path, body] of rows) {
      t.equal((await world.call(method, path, { body })).status, 401, `${method} ${path}: nobody`);
      t.equal((await world.call(method, path, { token: user.token, body })).status, 403, 'a user');
      const bot = await world.call(method, path, {
        headers: { 'x-bot-secret': 'test-bot-secret-0123' },
        body,
      });
      t.equal(bot.status, 403, 'the bot');
    }
    const { rows: now } = await world.pool.query('SELECT status, is_admin FROM users WHERE id = $1', [
      user.userId,
    ]);
    t.same(now, [{ status: 'active', is_admin: false }], 'nothing happened');
    const nobody = randomUUID();
    for (const [method, path, body] of [
      ['GET', `/api/admin/users/${nobody}`],
      ['PATCH', `/api/admin/users/${nobody}`, { language: 'ru' }],
      ['DELETE', `/api/admin/users/${nobody}`],
      ['POST', `/api/admin/user/${nobody}/ban`],
      ['POST', `/api/admin/user/${nobody}/unban`],
      ['DELETE', `/api/admin/users/${nobody}/telegrams/0`],
    ] as [string, string, unknown?][])
      t.equal((await asAdmin(method, path, body)).status, 404, `${method} ${path}`);
  });

  await t.test('list: how one finds somebody, page by page', async (t) => {
    const telegramId = newTelegramId();
    const made = await asAdmin('POST', '/api/admin/users', {
      telegram_id: telegramId,
      username: 'Zelda_50%off',
      email: 'Zelda@example.org',
      phone: '+998901112233',
      language: 'uz',
    });
    t.equal(made.status, 201);
    const find = async (query: string) =>
      (await asAdmin('GET', `/api/admin/users?${query}`)).body.items.map((u: { id: string }) => u.id);
    for (const query of [
      String(telegramId),
      made.body.id,
      made.body.referral_code,
      made.body.referral_code.toLowerCase(),
      'zelda_5',
      '@ZELDA_50%25',
      'zelda@EXAMPLE',
      '%2B99890111',
    ])
      t.same(await find(`query=${query}`), [made.body.id], query);
    t.same(await find('query=elda'), [], 'not in the middle');
    t.same(await find('query=zelda_%25zzz'), [], 'no pattern of the caller’s');
    t.same(await find('query=%25'), []);
    t.same(await find('query=zelda&status=banned'), []);

    const provider = await signedIn(world);
    const { deviceId } = await withDevice(world, provider);
    world.origins.set('198.51.100.200', { ok: true, country: 'IS', city: null, asn: 1 });
    t.equal((await start(world, provider.token, deviceId, '198.51.100.200')).status, 200);
    t.same(await find('country=IS'), [provider.userId]);
    t.same(await find('country=NO'), []);

    const all: string[] = [];
    let cursor: string | null = null;
    do {
      const page: { body: { items: { id: string }[]; next_cursor: string | null } } = await asAdmin(
        'GET',
        `/api/admin/users?limit=2${cursor === null ? '' : `&cursor=${cursor}`}`,
      );
      t.ok(page.body.items.length <= 2);
      all.push(...page.body.items.map((u) => u.id));
      cursor = page.body.next_cursor;
    } while (cursor !== null);
    const { rows } = await world.pool.query('SELECT id FROM users ORDER BY created_at DESC, id DESC');
    t.same(
      all,
      rows.map((row) => row.id),
      'each once, newest first',
    );
    for (const bad of ['cursor=x', 'limit=0', 'limit=201', 'country=de', 'status=gone', 'query=', 'name=x'])
      t.equal((await asAdmin('GET', `/api/admin/users?${bad}`)).status, 400, bad);
  });

  await t.test('create: once, whoever has the account', async (t) => {
    const telegramId = newTelegramId();
    const inviter = await signedIn(world);
    const { body: me } = await world.call('GET', '/api/user/me', { token: inviter.token });
    const body = { telegram_id: telegramId, referral_code: me.referral_code };
    const [a, b] = await Promise.all([
      asAdmin('POST', '/api/admin/users', body),
      asAdmin('POST', '/api/admin/users', body),
    ]);
    t.same([a.status, b.status].sort(), [201, 409]);
    const made = a.status === 201 ? a : b;
    const detail = await asAdmin('GET', `/api/admin/users/${made.body.id}`);
    t.match(detail.body, { telegram_id: telegramId, referred_by: inviter.userId, is_admin: false });
    t.equal((await audited('user_created', made.body.id)).length, 1);
    const refused = await asAdmin('POST', '/api/admin/users', { telegram_id: 1, referral_code: 'NOBODYS' });
    t.match([refused.status, refused.body.code], [422, 'unknown_referral_code']);
    const key = { 'idempotency-key': randomUUID() };
    const other = { telegram_id: newTelegramId() };
    const first = await asAdmin('POST', '/api/admin/users', other, key);
    t.same((await asAdmin('POST', '/api/admin/users', other, key)).body, first.body, 'replayed');
    for (const wrong of [{}, { telegram_id: '1' }, { telegram_id: 0 }, { telegram_id: 5, is_admin: true }])
      t.equal((await asAdmin('POST', '/api/admin/users', wrong)).status, 400, JSON.stringify(wrong));
  });

  await t.test('change: only what is given, with before and after', async (t) => {
    const user = await signedIn(world);
    const path = `/api/admin/users/${user.userId}`;
    await asAdmin('PATCH', path, { phone: '+12345678', settings: { wifi_only: true } });
    const changed = await asAdmin('PATCH', path, { language: 'ru', settings: { charging_only: true } });
    t.match(changed.body, {
      phone: '+12345678',
      language: 'ru',
      settings: { wifi_only: true, charging_only: true },
    });
    t.match((await audited('user_changed', user.userId))[1], {
      actor_role: 'admin',
      actor_id: admin.userId,
      before: { language: 'en', settings: { wifi_only: true } },
      after: { language: 'ru', settings: { charging_only: true } },
    });
    for (const wrong of [
      {},
      { status: 'banned' },
      { id: user.userId },
      { settings: { x: 1 } },
      { phone: 'x' },
    ])
      t.equal((await asAdmin('PATCH', path, wrong)).status, 400, JSON.stringify(wrong));
  });

  await t.test('an admin is left, however many step down at once', async (t) => {
    const second = await signedIn(world, 'admin');
    const answers = await Promise.all([
      asAdmin('PATCH', `/api/admin/users/${second.userId}`, { is_admin: false }),
      world.call('PATCH', `/api/admin/users/${admin.userId}`, {
        token: second.token,
        body: { is_admin: false },
      }),
    ]);
    const { rows } = await world.pool.query('SELECT id FROM users WHERE is_admin');
    t.equal(rows.length, 1, JSON.stringify(answers.map((a) => [a.status, a.body?.code])));
    // So that the tests after this one have their admin.
    await world.pool.query('UPDATE users SET is_admin = true WHERE id = $1', [admin.userId]);
    await world.pool.query('UPDATE users SET is_admin = false WHERE id = $1', [second.userId]);
    const last = await asAdmin('PATCH', `/api/admin/users/${admin.userId}`, { is_admin: false });
    t.match([last.status, last.body.code], [409, 'last_admin']);
  });

  await t.test('ban stops at once and keeps from starting', async (t) => {
    const user = await signedIn(world);
    const { deviceId, deviceKey } = await withDevice(world, user);
    const { body: started } = await start(world, deviceKey, deviceId);
    const ban = `/api/admin/user/${user.userId}/ban`;
    t.equal((await asAdmin('POST', ban, { reason: 'abuse' })).status, 200);
    t.match(await lastCommand(world), {
      kind: 'stop_session',
      sessionId: started.session_id,
      reason: 'banned',
    });
    const { rows } = await world.pool.query(
      `SELECT s.status, s.stop_reason, p.status AS offer FROM traffic_sessions s
         JOIN packages p ON p.session_id = s.id WHERE s.id = $1`,
      [started.session_id],
    );
    t.same(rows, [{ status: 'stopping', stop_reason: 'banned', offer: 'revoked' }]);
    const refused = await start(world, deviceKey, deviceId);
    t.match([refused.status, refused.body.code], [403, 'banned']);
    t.match((await world.call('GET', '/api/user/me', { token: user.token })).body, { status: 'banned' });
    t.match((await asAdmin('GET', `/api/admin/users/${user.userId}`)).body, {
      status: 'banned',
      ban_reason: 'abuse',
      device_list: [{ device_id: deviceId, state: { code: 'banned', earns: false } }],
      sessions: [{ id: started.session_id }],
    });
    t.match(await audited('user_banned', user.userId), [
      { after: { reason: 'abuse', sessions_stopped: [started.session_id] } },
    ]);
    t.equal((await asAdmin('POST', ban)).status, 200, 'again is harmless');
    t.equal((await audited('user_banned', user.userId)).length, 1);
    t.equal((await asAdmin('POST', `/api/admin/user/${user.userId}/unban`)).status, 200);
    t.equal((await start(world, deviceKey, deviceId)).status, 200);
    const self = await asAdmin('POST', `/api/admin/user/${admin.userId}/ban`);
    t.match([self.status, self.body.code], [409, 'is_admin']);
    t.equal((await asAdmin('POST', ban, { reason: '', x: 1 })).status, 400);
  });

  await t.test('of starts that meet a ban none goes on', async (t) => {
    const user = await signedIn(world);
    const { deviceId, deviceKey } = await withDevice(world, user);
    await Promise.all([
      ...Array.from({ length: 6 }, (_, i) => start(world, deviceKey, deviceId, `198.51.100.${10 + i}`)),
      asAdmin('POST', `/api/admin/user/${user.userId}/ban`),
    ]);
    const { rows } = await world.pool.query(
      "SELECT 1 FROM traffic_sessions WHERE user_id = $1 AND status = 'active'",
      [user.userId],
    );
    t.same(rows, []);
  });

  await t.test('deletion makes nobody of a user; money stays', async (t) => {
    const user = await signedIn(world);
    const { deviceId, deviceKey } = await withDevice(world, user);
    const { body: started } = await start(world, deviceKey, deviceId);
    await world.call('POST', '/api/user/update', {
      token: user.token,
      body: { phone: '+4712345678', email: 'gone@example.org', settings: { wifi_only: true } },
    });
    await asAdmin('POST', '/api/admin/credits', { user_id: user.userId, amount: '7', reason: 'a gift' });
    const payout = await world.call('POST', '/api/withdraw', {
      token: user.token,
      body: {
        amount: '5',
        method: 'cryptomus',
        network: 'TRON',
        currency: 'USDT',
        target: 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t',
      },
    });
    t.equal(payout.status, 201, JSON.stringify(payout.body));
    const remove = () => asAdmin('DELETE', `/api/admin/users/${user.userId}`);
    const early = await remove();
    t.match([early.status, early.body.code], [409, 'payout_open']);
    t.equal((await world.call('GET', '/api/user/me', { token: user.token })).status, 200);
    await world.call('POST', `/api/withdraw/${payout.body.payment_id}/cancel`, { token: user.token });

    t.equal((await remove()).status, 200);
    t.match(await lastCommand(world), { kind: 'stop_session', sessionId: started.session_id });
    t.equal((await world.call('GET', '/api/user/me', { token: user.token })).status, 401);
    t.equal((await world.call('GET', '/api/user/devices', { token: deviceKey })).status, 401);
    const { body: gone } = await asAdmin('GET', `/api/admin/users/${user.userId}`);
    t.match(gone, {
      status: 'deleted',
      telegram_id: null,
      username: null,
      phone: null,
      email: null,
      settings: {},
      telegrams: [],
      available: '7.000000',
      payments: [{ payment_id: payout.body.payment_id, status: 'cancelled' }],
      sessions: [{ id: started.session_id }],
    });
    const dump = JSON.stringify(
      (
        await world.pool.query(
          `SELECT (SELECT json_agg(u) FROM users u WHERE id = $1) AS users,
                  (SELECT json_agg(l) FROM logins l WHERE user_id = $1) AS logins,
                  (SELECT json_agg(d) FROM devices d WHERE user_id = $1) AS devices,
                  (SELECT json_agg(c) FROM consents c WHERE user_id = $1) AS consents`,
          [user.userId],
        )
      ).rows,
    );
    t.notMatch(dump, new RegExp(`${user.telegramId}|4712345678|gone@example|127.0.0.1|wifi_only`));
    t.equal((await remove()).status, 200, 'again is harmless');
    t.equal((await audited('user_deleted', user.userId)).length, 1);
    t.match((await asAdmin('PATCH', `/api/admin/users/${user.userId}`, { phone: null })).body, {
      code: 'user_deleted',
    });
    t.match((await asAdmin('POST', `/api/admin/user/${user.userId}/unban`)).body, { code: 'user_deleted' });

    const again = await asAdmin('POST', '/api/admin/users', { telegram_id: user.telegramId });
    t.equal(again.status, 201, 'the person may come back, as somebody new');
    t.not(again.body.id, user.userId);
    t.match((await asAdmin('DELETE', `/api/admin/users/${admin.userId}`)).body, { code: 'is_admin' });
  });
});
