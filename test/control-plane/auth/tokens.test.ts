import { SignJWT } from 'jose';
import t from 'tap';
import { issueAccessToken } from '../../../control-plane/auth/access-token.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import {
  initData,
  newTelegramId,
  signedIn,
  startWorld,
  TEST_ENV,
  type TestWorld,
} from '../../helpers/control-plane.js';

const refresh = (world: TestWorld, token: string) =>
  world.call('POST', '/api/auth/refresh', { body: { refresh_token: token } });
const me = (world: TestWorld, token: string) => world.call('GET', '/api/user/me', { token });
const signIn = async (world: TestWorld, clock: ManualClock) =>
  (
    await world.call('POST', '/api/auth/telegram', {
      body: { init_data: initData({ id: newTelegramId() }, { authDateS: Math.floor(clock.nowMs() / 1000) }) },
    })
  ).body;

t.test('tokens', async (t) => {
  const clock = new ManualClock(Date.now());
  const world = await startWorld(t, { clock });

  await t.test('refresh rotates; reuse revokes the family', async (t) => {
    const first = await signIn(world, clock);
    const second = await refresh(world, first.refresh_token);
    t.equal(second.status, 200);
    t.not(second.body.refresh_token, first.refresh_token);
    const third = await refresh(world, second.body.refresh_token);
    t.equal(third.status, 200);

    const reuse = await refresh(world, first.refresh_token);
    t.match([reuse.status, reuse.body.code], [401, 'refresh_token_reused']);
    t.equal(
      (await refresh(world, third.body.refresh_token)).body.code,
      'invalid_refresh_token',
      'the newest, too',
    );
    for (const pair of [first, second.body, third.body])
      t.equal((await me(world, pair.access_token)).body.code, 'invalid_token', 'and every access token');
    const { rows } = await world.pool.query("SELECT 1 FROM audit_log WHERE action = 'refresh_token_reused'");
    t.equal(rows.length, 1);
  });

  await t.test('of two refreshes at once one wins, and the login is revoked', async (t) => {
    const pair = await signIn(world, clock);
    const answers = await Promise.all([
      refresh(world, pair.refresh_token),
      refresh(world, pair.refresh_token),
    ]);
    t.same(answers.map((a) => a.status).sort(), [200, 401]);
  });

  await t.test('expiry', async (t) => {
    const pair = await signIn(world, clock);
    clock.advance(901_000);
    t.equal((await me(world, pair.access_token)).status, 401);
    t.equal((await refresh(world, pair.refresh_token)).status, 200);
    const other = await signIn(world, clock);
    clock.advance(31 * 86_400_000);
    t.equal((await refresh(world, other.refresh_token)).body.code, 'invalid_refresh_token');
  });

  await t.test('refresh tokens are stored as hashes', async (t) => {
    const pair = await signIn(world, clock);
    const { rows } = await world.pool.query("SELECT encode(token_hash, 'escape') AS h FROM refresh_tokens");
    t.ok(rows.length > 0 && rows.every((r) => !r.h.includes(pair.refresh_token)));
  });

  await t.test('logout ends this login, all ends every one', async (t) => {
    const user = await signedIn(world);
    const init = { authDateS: Math.floor(clock.nowMs() / 1000) };
    const pairs = [];
    for (let i = 0; i < 3; i++)
      pairs.push(
        (
          await world.call('POST', '/api/auth/telegram', {
            body: { init_data: initData({ id: user.telegramId }, init) },
          })
        ).body,
      );
    const [a, b, c] = pairs;
    t.equal((await world.call('POST', '/api/auth/logout', { token: a.access_token })).status, 200);
    t.equal((await me(world, a.access_token)).status, 401);
    t.equal((await refresh(world, a.refresh_token)).status, 401);
    t.equal((await me(world, b.access_token)).status, 200);
    await world.call('POST', '/api/auth/logout', { token: b.access_token, body: { all: true } });
    t.equal((await me(world, c.access_token)).status, 401);
    t.equal((await me(world, user.token)).status, 401);
  });

  await t.test('tokens that are not ours', async (t) => {
    const { userId, loginId } = await signedIn(world);
    const nowMs = clock.nowMs();
    const claims = { userId, loginId, role: 'user' as const, ttlS: 100 };
    const key = new TextEncoder().encode(TEST_ENV.TS_JWT_SECRET);
    const forged = {
      'another secret': await issueAccessToken('x'.repeat(32), claims, nowMs),
      'no algorithm': `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(
        JSON.stringify({ sub: userId, sid: loginId, role: 'admin', iss: 'traffic-share', exp: 9e9 }),
      ).toString('base64url')}.`,
      'another issuer': await new SignJWT({ sid: loginId, role: 'user' })
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(userId)
        .setIssuer('else')
        .setExpirationTime('1h')
        .sign(key),
      'no expiry': await new SignJWT({ sid: loginId, role: 'user' })
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(userId)
        .setIssuer('traffic-share')
        .sign(key),
      'admin role of a user': await issueAccessToken(
        TEST_ENV.TS_JWT_SECRET,
        { ...claims, role: 'admin' },
        nowMs,
      ),
      'login of another': await issueAccessToken(
        TEST_ENV.TS_JWT_SECRET,
        { ...claims, loginId: (await signedIn(world)).loginId },
        nowMs,
      ),
      nonsense: 'abc',
      'a device key': `tsd_${'x'.repeat(43)}`,
      'a buyer token': 'tsbxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
    };
    for (const [name, token] of Object.entries(forged)) {
      const path = name.includes('admin') ? '/api/admin/auth/me' : '/api/user/me';
      const answer = await world.call('GET', path, { token });
      t.match([answer.status, answer.body.code], [401, 'invalid_token'], name);
    }
    const none = await world.call('GET', '/api/user/me');
    t.match([none.status, none.body.code], [401, 'unauthenticated']);
    t.ok(none.headers.get('www-authenticate'));
    t.equal(
      (await world.call('GET', '/api/user/me', { headers: { authorization: 'Basic eDp5' } })).status,
      401,
    );
  });

  await t.test('roles are kept apart', async (t) => {
    const user = await signedIn(world);
    const admin = await signedIn(world, 'admin');
    t.equal((await world.call('GET', '/api/admin/auth/me', { token: user.token })).status, 403);
    t.equal((await world.call('GET', '/api/user/me', { token: admin.token })).status, 403);
    t.match((await world.call('GET', '/api/admin/auth/me', { token: admin.token })).body, {
      id: admin.userId,
      role: 'admin',
    });
    await world.pool.query('UPDATE users SET is_admin = false WHERE id = $1', [admin.userId]);
    t.equal((await world.call('GET', '/api/admin/auth/me', { token: admin.token })).status, 401, 'at once');
  });

  await t.test('shared secrets', async (t) => {
    const bot = (secret: string) =>
      world.call('GET', '/api/user/me', { headers: { 'x-bot-secret': secret } });
    t.equal((await bot('wrong-secret-012345')).body.code, 'invalid_secret');
    t.equal((await bot(TEST_ENV.TS_BOT_SECRET)).status, 403, 'known, but not for this call');
  });

  await t.test('logins: list and revoke', async (t) => {
    const user = await signedIn(world);
    const other = await signedIn(world);
    const list = await world.call('GET', '/api/user/logins', { token: user.token });
    t.match(list.body, {
      items: [{ id: user.loginId, current: true, user_agent: 'test' }],
      next_cursor: null,
    });
    const theirs = await world.call('DELETE', `/api/user/logins/${other.loginId}`, { token: user.token });
    t.equal(theirs.status, 404);
    t.equal((await me(world, other.token)).status, 200);
    t.equal(
      (await world.call('DELETE', `/api/user/logins/${user.loginId}`, { token: user.token })).status,
      200,
    );
    t.equal((await me(world, user.token)).status, 401);
  });
});
