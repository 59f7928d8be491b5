import t from 'tap';
import { CODE_ANSWER_MS_MIN } from '../../../control-plane/auth/plugin.js';
import { ManualClock } from '../../../gateway/runtime/clock.js';
import { newTelegramId, startWorld, type TestWorld } from '../../helpers/control-plane.js';

const last = (world: TestWorld, telegramId: number) =>
  world.codes.findLast((sent) => sent.telegramId === telegramId)?.code ?? '';
const register = (world: TestWorld, body: object) => world.call('POST', '/api/auth/register', { body });
const request = (world: TestWorld, telegramId: number) =>
  world.call('POST', '/api/auth/request_login_code', { body: { telegram_id: telegramId } });
const verify = (world: TestWorld, telegramId: number, code: string) =>
  world.call('POST', '/api/auth/verify_code', { body: { telegram_id: telegramId, code } });
const wrong = (code: string) => String((Number(code) + 1) % 1_000_000).padStart(6, '0');

t.test('login codes', async (t) => {
  const clock = new ManualClock(Date.now());
  const world = await startWorld(t, {
    clock,
    env: {
      TS_CODE_CALLS_PER_IP_PER_HOUR: '1000',
      TS_CODE_TRIES_PER_IP_PER_HOUR: '1000',
      TS_CODES_PER_ID_PER_HOUR: '5',
    },
  });

  await t.test('register, verify, use the token', async (t) => {
    const telegramId = newTelegramId();
    const registered = await register(world, {
      telegram_id: telegramId,
      phone: '+998901234567',
      username: 'ann',
    });
    t.equal(registered.status, 201);
    t.equal(registered.body.message, 'verification_sent');
    const code = last(world, telegramId);
    t.match(code, /^\d{6}$/);
    const tokens = await verify(world, telegramId, code);
    t.equal(tokens.status, 200);
    t.match(tokens.body, {
      access_token: /^eyJ/,
      refresh_token: /^tsr_/,
      expires_in: 900,
      token_type: 'Bearer',
    });
    const me = await world.call('GET', '/api/user/me', { token: tokens.body.access_token });
    t.match(me.body, {
      id: registered.body.user_id,
      telegram_id: telegramId,
      phone: '+998901234567',
      username: 'ann',
      is_verified: true,
      consent: null,
      balance: { available: '0.000000', pending: '0.000000', currency: 'USD' },
    });
    t.equal((await verify(world, telegramId, code)).status, 401, 'a code is good once');
  });

  await t.test('registering again answers alike and changes nothing', async (t) => {
    const telegramId = newTelegramId();
    const first = await register(world, { telegram_id: telegramId, username: 'real', phone: '+12345678' });
    const again = await register(world, {
      telegram_id: telegramId,
      username: 'attacker',
      phone: '+99999999',
    });
    t.equal(again.status, first.status);
    t.same(again.body, first.body);
    const { rows } = await world.pool.query('SELECT username, phone FROM users WHERE telegram_id = $1', [
      telegramId,
    ]);
    t.same(rows, [{ username: 'real', phone: '+12345678' }]);
  });

  await t.test('the answer never tells whether the id exists', async (t) => {
    const known = newTelegramId();
    await register(world, { telegram_id: known });
    const [a, b] = [await request(world, known), await request(world, newTelegramId())];
    t.same([a.status, a.body], [b.status, b.body]);
    const startedMs = performance.now();
    await request(world, newTelegramId());
    const tookMs = performance.now() - startedMs;
    t.ok(tookMs > CODE_ANSWER_MS_MIN - 2, `an unknown id takes as long as a code does: ${tookMs} ms`);
    const [c, d] = [
      await verify(world, known, wrong(last(world, known))),
      await verify(world, newTelegramId(), '123456'),
    ];
    t.same([c.status, { ...c.body, request_id: '' }], [d.status, { ...d.body, request_id: '' }]);
  });

  await t.test('five tries, then the code is dead even when right', async (t) => {
    const telegramId = newTelegramId();
    await register(world, { telegram_id: telegramId });
    const code = last(world, telegramId);
    for (let i = 0; i < 5; i++)
      t.equal((await verify(world, telegramId, wrong(code))).body.code, 'invalid_code');
    t.equal((await verify(world, telegramId, code)).body.code, 'invalid_code');
  });

  await t.test('parallel guesses do not share a try', async (t) => {
    const telegramId = newTelegramId();
    await register(world, { telegram_id: telegramId });
    const code = last(world, telegramId);
    await Promise.all(Array.from({ length: 20 }, () => verify(world, telegramId, wrong(code))));
    const { rows } = await world.pool.query(
      'SELECT c.tries FROM login_codes c JOIN users u ON u.id = c.user_id WHERE u.telegram_id = $1',
      [telegramId],
    );
    t.same(rows, [{ tries: 5 }]);
    t.equal((await verify(world, telegramId, code)).status, 401);
  });

  await t.test('the right code, many times at once, signs in once', async (t) => {
    const telegramId = newTelegramId();
    await register(world, { telegram_id: telegramId });
    const code = last(world, telegramId);
    const answers = await Promise.all(Array.from({ length: 5 }, () => verify(world, telegramId, code)));
    t.equal(answers.filter((a) => a.status === 200).length, 1);
  });

  await t.test('five minutes, and only the newest', async (t) => {
    const telegramId = newTelegramId();
    await register(world, { telegram_id: telegramId });
    const first = last(world, telegramId);
    await request(world, telegramId);
    const second = last(world, telegramId);
    if (first !== second)
      t.equal((await verify(world, telegramId, first)).status, 401, 'an older code is dead');
    clock.advance(301_000);
    t.equal((await verify(world, telegramId, second)).status, 401, 'expired');
    await request(world, telegramId);
    clock.advance(299_000);
    t.equal((await verify(world, telegramId, last(world, telegramId))).status, 200);
  });

  await t.test('no more codes than allowed, even while Redis counts nothing', async (t) => {
    const telegramId = newTelegramId();
    for (let i = 0; i < 8; i++) {
      await world.redis.flushdb();
      t.equal((await request(world, telegramId)).status, 200);
      if (i === 0) await register(world, { telegram_id: telegramId });
    }
    t.equal(world.codes.filter((c) => c.telegramId === telegramId).length, 5);
  });

  await t.test('codes are kept as salted hashes', async (t) => {
    const telegramId = newTelegramId();
    await register(world, { telegram_id: telegramId });
    const { rows } = await world.pool.query('SELECT code_hash, salt FROM login_codes');
    t.ok(rows.every((r) => r.code_hash.length === 32 && r.salt.length === 16));
    t.equal(new Set(rows.map((r) => r.salt.toString('hex'))).size, rows.length);
  });

  await t.test('referral codes', async (t) => {
    const inviter = newTelegramId();
    await register(world, { telegram_id: inviter });
    const { rows } = await world.pool.query('SELECT id, referral_code FROM users WHERE telegram_id = $1', [
      inviter,
    ]);
    const invited = newTelegramId();
    await register(world, { telegram_id: invited, referral_code: rows[0].referral_code });
    const after = await world.pool.query('SELECT referred_by FROM users WHERE telegram_id = $1', [invited]);
    t.equal(after.rows[0].referred_by, rows[0].id);
    const unknown = await register(world, { telegram_id: newTelegramId(), referral_code: 'NOSUCH' });
    t.match([unknown.status, unknown.body.code], [422, 'unknown_referral_code']);
  });
});
