import t from 'tap';
import { initData, newTelegramId, signedIn, startWorld, TEST_ENV } from '../../helpers/control-plane.js';

t.test('several Telegram accounts on one user', async (t) => {
  const world = await startWorld(t, { env: { TS_BOT_USERNAME: 'sharebot' } });
  const bot = { 'x-bot-secret': TEST_ENV.TS_BOT_SECRET };
  const link = (token: string) => world.call('POST', '/api/user/telegrams/link', { token });
  const confirm = (token: string, telegram_id: number, username?: string) =>
    world.call('POST', '/api/bot/confirm_link', {
      headers: bot,
      body: { token, telegram_id, ...(username ? { username } : {}) },
    });
  const list = async (token: string) =>
    (await world.call('GET', '/api/user/telegrams', { token })).body.items;
  const signIn = (id: number) =>
    world.call('POST', '/api/auth/telegram', { body: { init_data: initData({ id, username: `u${id}` }) } });
  const whoIs = async (id: number) => {
    const { body } = await signIn(id);
    return (await world.call('GET', '/api/user/me', { token: body.access_token })).body.id;
  };

  await t.test('link, sign in with it, unlink', async (t) => {
    const user = await signedIn(world);
    const made = await link(user.token);
    t.match(made.body, { url: `https://t.me/sharebot?start=link_${made.body.token}`, expires_in: 900 });
    t.ok(made.body.start.length <= 64, 'Telegram takes 64 characters');
    const { rows } = await world.pool.query(
      "SELECT encode(token_hash, 'escape') AS h FROM telegram_link_tokens WHERE user_id = $1",
      [user.userId],
    );
    t.notMatch(JSON.stringify(rows), made.body.token);
    const second = newTelegramId();
    const linked = await confirm(made.body.start, second, 'second');
    t.match([linked.status, linked.body], [200, { ok: true, user_id: user.userId, index: 1 }]);
    t.equal((await confirm(made.body.token, second)).body.code, 'link_expired', 'once');
    t.match(await list(user.token), [
      { index: 0, telegram_id: user.telegramId, main: true },
      { index: 1, telegram_id: second, main: false, username: 'second' },
    ]);
    t.equal(await whoIs(second), user.userId, 'either account signs in');
    t.equal(await whoIs(user.telegramId), user.userId);
    await world.call('POST', '/api/auth/request_login_code', { body: { telegram_id: second } });
    t.equal(world.codes.at(-1)?.telegramId, second, 'a code goes to the account that asked');
    const balance = await world.call('GET', `/api/user/balance/${second}`, { token: user.token });
    t.equal(balance.status, 200);

    const gone = await world.call('DELETE', '/api/user/telegrams/0', { token: user.token });
    t.match(gone.body.items, [{ index: 1, telegram_id: second, main: true }], 'the index stays');
    t.equal((await world.call('DELETE', '/api/user/telegrams/0', { token: user.token })).status, 404);
    const last = await world.call('DELETE', '/api/user/telegrams/1', { token: user.token });
    t.match([last.status, last.body.code], [409, 'last_telegram']);
    t.not(await whoIs(user.telegramId), user.userId, 'the unlinked account is somebody else now');
    const { rows: audit } = await world.pool.query(
      "SELECT action FROM audit_log WHERE object_id = $1 AND action LIKE 'telegram%' ORDER BY id",
      [user.userId],
    );
    t.same(
      audit.map((row) => row.action),
      ['telegram_link_created', 'telegram_linked', 'telegram_unlinked'],
    );
  });

  await t.test('another’s account is not taken; links die', async (t) => {
    const user = await signedIn(world);
    const other = await signedIn(world);
    const { body } = await link(user.token);
    t.match((await confirm(body.token, other.telegramId)).body, { status: 409, code: 'telegram_taken' });
    t.equal((await confirm(body.token, user.telegramId)).body.index, 0, 'one’s own changes nothing');
    const { body: late } = await link(user.token);
    await world.pool.query('UPDATE telegram_link_tokens SET expires_at = now() WHERE user_id = $1', [
      user.userId,
    ]);
    t.match((await confirm(late.token, newTelegramId())).body, { status: 422, code: 'link_expired' });
    t.equal((await confirm('x'.repeat(43), newTelegramId())).status, 422);
    t.equal((await confirm('short', newTelegramId())).status, 400);
  });

  await t.test(
    'of two users who link one account at once one gets it, and nobody is made of it',
    async (t) => {
      const account = newTelegramId();
      const users = [await signedIn(world), await signedIn(world), await signedIn(world)];
      const tokens = await Promise.all(users.map(async (u) => (await link(u.token)).body.token));
      const answers = await Promise.all([...tokens.map((token) => confirm(token, account)), signIn(account)]);
      const { rows } = await world.pool.query(
        'SELECT user_id FROM telegram_accounts WHERE telegram_id = $1',
        [account],
      );
      t.equal(rows.length, 1);
      t.ok(answers.filter((a) => a.body.ok === true).length <= 1, 'at most one link');
      t.equal(answers.at(-1)?.status, 200, 'signing in works whoever has it');
      t.equal(await whoIs(account), rows[0].user_id);
    },
  );

  await t.test('no more than five', async (t) => {
    const user = await signedIn(world);
    const tokens = await Promise.all(
      Array.from({ length: 5 }, async () => (await link(user.token)).body.token),
    );
    const answers = await Promise.all(tokens.map((token) => confirm(token, newTelegramId())));
    t.same(answers.map((a) => a.status).sort(), [200, 200, 200, 200, 409]);
    t.equal((await link(user.token)).body.code, 'too_many_telegrams');
    const before = await list(user.token);
    const one = await world.call('DELETE', '/api/user/telegrams', { token: user.token });
    t.match(one.body.items, [{ telegram_id: before.at(-1).telegram_id, main: true }]);
    t.equal(one.body.items.length, 1);
    t.equal((await world.call('DELETE', '/api/user/telegrams', { token: user.token })).status, 200);
  });

  await t.test('admins: one account, and the console only by the main one', async (t) => {
    const admin = await signedIn(world, 'admin');
    const user = await signedIn(world);
    const asUser = (await signIn(admin.telegramId)).body.access_token;
    t.equal((await link(asUser)).body.code, 'is_admin');
    const second = newTelegramId();
    await confirm((await link(user.token)).body.token, second);
    const found = await world.call('GET', `/api/admin/users-with-telegrams?query=${second}`, {
      token: admin.token,
    });
    t.match(found.body.items, [{ id: user.userId, telegrams: [{ index: 0 }, { index: 1 }] }]);
    const path = `/api/admin/users/${user.userId}/telegrams`;
    t.equal((await world.call('DELETE', `${path}/7`, { token: admin.token })).status, 404);
    t.equal((await world.call('DELETE', `${path}/1`, { token: admin.token })).status, 200);
    t.equal((await world.call('DELETE', `${path}/0`, { token: admin.token })).status, 409);
    t.equal((await world.call('DELETE', `${path}/x`, { token: admin.token })).status, 400);
  });

  await t.test('roles', async (t) => {
    const user = await signedIn(world);
    const admin = await signedIn(world, 'admin');
    for (const [method, path] of [
      ['GET', '/api/user/telegrams'],
      ['POST', '/api/user/telegrams/link'],
      ['DELETE', '/api/user/telegrams/0'],
      ['DELETE', '/api/user/telegrams'],
    ] as const) {
      t.equal((await world.call(method, path)).status, 401, path);
      t.equal((await world.call(method, path, { token: admin.token })).status, 403, path);
    }
    const body = { token: 'x'.repeat(43), telegram_id: 1 };
    t.equal((await world.call('POST', '/api/bot/confirm_link', { body })).status, 401);
    t.equal((await world.call('POST', '/api/bot/confirm_link', { body, token: user.token })).status, 403);
    await world.pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [user.userId]);
    t.equal((await link(user.token)).body.code, 'banned');
  });
});
