import { randomUUID } from 'node:crypto';
import t from 'tap';
import { signedIn, startWorld, type TestUser } from '../../helpers/control-plane.js';
import { assertLedger } from '../../helpers/ledger.js';

t.test('promo codes', async (t) => {
  const world = await startWorld(t, { env: { TS_REQUESTS_PER_MINUTE: '100000' } });
  const admin = await signedIn(world, 'admin');
  const asAdmin = (method: string, path = '', body?: unknown) =>
    world.call(method, `/api/admin/promo_codes${path}`, { token: admin.token, body });
  const redeem = (user: TestUser, code: string, headers?: Record<string, string>) =>
    world.call('POST', '/api/promo/redeem', {
      token: user.token,
      body: { code },
      ...(headers ? { headers } : {}),
    });
  const refusal = async (user: TestUser, code: string) => {
    const { status, body } = await redeem(user, code);
    return [status, body.code];
  };

  await t.test('redeem: a ledger transaction, once', async (t) => {
    const made = await asAdmin('POST', '', { code: 'welcome-5', bonus: '5.25', uses_max: 3 });
    t.match(
      [made.status, made.body],
      [
        201,
        { code: 'WELCOME-5', bonus: '5.250000', uses: 0, uses_max: 3, per_user_max: 1, status: 'active' },
      ],
    );
    const user = await signedIn(world);
    const key = { 'idempotency-key': randomUUID() };
    const first = await redeem(user, 'Welcome-5', key);
    t.match([first.status, first.body], [200, { ok: true, bonus: '5.250000', available: '5.250000' }]);
    t.same((await redeem(user, 'Welcome-5', key)).body, first.body, 'replayed');
    t.same(await refusal(user, 'WELCOME-5'), [409, 'promo_redeemed']);
    const entries = await world.call('GET', '/api/balance/entries', { token: user.token });
    t.match(entries.body.items, [
      { kind: 'promo_bonus', account: 'available', amount: '5.250000', description: 'WELCOME-5' },
    ]);
    t.equal(entries.body.items.length, 1);
    t.match((await asAdmin('GET', `/${made.body.id}`)).body, { uses: 1 });
    const { rows } = await world.pool.query(
      "SELECT actor_id, after FROM audit_log WHERE action = 'promo_redeemed' AND object_id = $1",
      [made.body.id],
    );
    t.match(rows, [{ actor_id: user.userId, after: { transaction_id: first.body.transaction_id } }]);
  });

  await t.test('100 redeemers at once, 10 uses: 10', async (t) => {
    await asAdmin('POST', '', { code: 'RACE', bonus: '1', uses_max: 10 });
    const users = await Promise.all(Array.from({ length: 100 }, () => signedIn(world)));
    const answers = await Promise.all(users.map((user) => redeem(user, 'RACE')));
    t.equal(answers.filter((a) => a.status === 200).length, 10);
    t.ok(
      answers.every((a) => a.status === 200 || a.body.code === 'promo_used_up'),
      JSON.stringify(answers.map((a) => a.body.code)),
    );
    const { rows } = await world.pool.query(
      `SELECT (SELECT uses FROM promo_codes WHERE code = 'RACE') AS uses,
              (SELECT count(*)::int FROM promo_redemptions r JOIN promo_codes p ON p.id = r.promo_id
                WHERE p.code = 'RACE') AS redemptions,
              (SELECT sum(e.amount_micros)::text FROM ledger_entries e JOIN ledger_transactions t ON t.id = e.transaction_id
                JOIN ledger_accounts a ON a.id = e.account_id
                WHERE t.description = 'RACE' AND a.kind = 'provider_available') AS micros`,
    );
    t.same(rows, [{ uses: 10, redemptions: 10, micros: '10000000' }]);
  });

  await t.test('one user, 20 at once, three each: three', async (t) => {
    await asAdmin('POST', '', { code: 'THRICE', bonus: '0.5', uses_max: 100, per_user_max: 3 });
    const user = await signedIn(world);
    const answers = await Promise.all(Array.from({ length: 20 }, () => redeem(user, 'THRICE')));
    t.equal(answers.filter((a) => a.status === 200).length, 3);
    const { body } = await world.call('GET', '/api/balance', { token: user.token });
    t.equal(body.available, '1.500000');
  });

  await t.test('refused', async (t) => {
    const user = await signedIn(world);
    t.same(await refusal(user, 'NOBODYS'), [422, 'unknown_promo_code']);
    const { body: late } = await asAdmin('POST', '', {
      code: 'LATE',
      bonus: '1',
      uses_max: 1,
      expires_at: new Date(Date.now() - 1).toISOString(),
    });
    t.same(await refusal(user, 'LATE'), [422, 'promo_expired']);
    await asAdmin('PATCH', `/${late.id}`, { expires_at: null, status: 'disabled' });
    t.same(await refusal(user, 'LATE'), [422, 'unknown_promo_code'], 'a disabled one is not told of');
    await asAdmin('PATCH', `/${late.id}`, { status: 'active' });
    const banned = await signedIn(world);
    await world.pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [banned.userId]);
    t.same(await refusal(banned, 'LATE'), [403, 'banned']);
    t.equal((await redeem(user, 'LATE')).status, 200);
    t.equal((await asAdmin('DELETE', `/${late.id}`)).status, 200);
    t.same(await refusal(await signedIn(world), 'LATE'), [422, 'unknown_promo_code']);
    const again = await asAdmin('POST', '', { code: 'late', bonus: '9', uses_max: 1 });
    t.match([again.status, again.body.code], [409, 'promo_code_taken']);
    for (const method of ['GET', 'DELETE']) t.equal((await asAdmin(method, `/${late.id}`)).status, 404);
    t.equal((await asAdmin('PATCH', `/${late.id}`, { uses_max: 5 })).status, 404);
    for (const code of ['', 'ab', 'x'.repeat(33), 'a b c', "'; DROP"])
      t.equal((await redeem(user, code)).status, 400, code);
    for (const body of [
      { code: 'OK1', bonus: '0', uses_max: 1 },
      { code: 'OK1', bonus: '-1', uses_max: 1 },
      { code: 'OK1', bonus: '1', uses_max: 0 },
      { code: 'OK1', bonus: 1, uses_max: 1 },
      { code: 'OK1', bonus: '1', uses_max: 1, uses: 5 },
      { code: 'OK1', bonus: '1' },
    ])
      t.equal((await asAdmin('POST', '', body)).status, 400, JSON.stringify(body));
    t.equal((await asAdmin('PATCH', `/${late.id}`, { bonus: '2' })).status, 400, 'the bonus never changes');
  });

  await t.test('guessing is limited', async (t) => {
    const user = await signedIn(world);
    const answers = [];
    for (let i = 0; i < 31; i++) answers.push((await redeem(user, `GUESS${i}`)).status);
    t.equal(answers.at(-1), 429);
    t.equal(answers.filter((status) => status === 422).length, 30);
  });

  await t.test('roles', async (t) => {
    const user = await signedIn(world);
    t.equal((await world.call('POST', '/api/promo/redeem', { body: { code: 'RACE' } })).status, 401);
    t.equal((await redeem(admin, 'RACE')).status, 403);
    const path = `/${randomUUID()}`;
    for (const [method, route, body] of [
      ['GET', ''],
      ['POST', '', { code: 'MINE', bonus: '1000', uses_max: 1 }],
      ['GET', path],
      ['PATCH', path, { uses_max: 1 }],
      ['DELETE', path],
    ] as [string, string, unknown?][])
      t.equal(
        (await world.call(method, `/api/admin/promo_codes${route}`, { token: user.token, body })).status,
        403,
      );
  });

  await assertLedger(t, world.pool);
});
