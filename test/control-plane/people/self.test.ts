import t from 'tap';
import { post } from '../../../control-plane/ledger/ledger.js';
import { findOrCreateUser } from '../../../control-plane/users/users.js';
import { newTelegramId, signedIn, startWorld, withDevice } from '../../helpers/control-plane.js';

t.test('referrals', async (t) => {
  const world = await startWorld(t, { env: { TS_BOT_USERNAME: 'sharebot', TS_REFERRAL_PERCENT: '7' } });
  const inviter = await signedIn(world);
  const get = async () => (await world.call('GET', '/api/referrals', { token: inviter.token })).body;
  const first = await get();
  t.match(first, {
    link: `https://t.me/sharebot?start=${first.code}`,
    invited: 0,
    earning: 0,
    earned: '0.000000',
    percent: 7,
  });
  const invited: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { user } = await findOrCreateUser(world.pool, {
      telegramId: newTelegramId(),
      referredBy: inviter.userId,
    });
    invited.push(user.id);
  }
  await world.pool.query(
    'INSERT INTO usage_daily_provider (user_id, day, earned_micros) VALUES ($1, utc_day(), 5), ($2, utc_day(), 0)',
    invited.slice(0, 2),
  );
  for (const [n, amountMicros] of [250_000n, 1n].entries())
    await post(world.pool, [
      {
        kind: 'test',
        sourceId: String(n),
        entries: [
          {
            account: { kind: 'provider_pending', ownerId: inviter.userId },
            entryKind: 'referral_bonus',
            amountMicros,
          },
          {
            account: { kind: 'platform_revenue', ownerId: null },
            entryKind: 'platform_revenue',
            amountMicros: -amountMicros,
          },
        ],
      },
    ]);
  t.match(await get(), { invited: 3, earning: 1, earned: '0.250001' });
  t.equal((await world.call('GET', '/api/referrals')).status, 401);
});

t.test('personal data export', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const other = await signedIn(world);
  const { deviceId } = await withDevice(world, user);
  await world.call('POST', '/api/user/update', { token: user.token, body: { email: 'me@example.org' } });
  await world.call('POST', '/api/support', { token: user.token, body: { message: 'my question' } });
  await world.call('POST', '/api/support', { token: other.token, body: { message: 'not yours' } });
  const all = await world.call('GET', '/api/user/export', { token: user.token });
  t.equal(all.status, 200);
  t.match(all.headers.get('content-disposition'), /attachment/);
  const { sections } = all.body;
  t.match(sections, {
    profile: { complete: true, rows: [{ id: user.userId, email: 'me@example.org' }] },
    telegram_accounts: { rows: [{ telegram_id: String(user.telegramId) }] },
    consents: { rows: [{ terms_version: '1', ip: '127.0.0.1' }] },
    logins: { rows: [{ id: user.loginId }] },
    devices: { rows: [{ id: deviceId }] },
    support: { rows: [{ body: 'my question', author: 'user' }] },
    activity: { rows: [{ action: 'consent_given' }, { action: 'device_registered' }] },
  });
  for (const name of [
    'traffic_sessions',
    'usage_by_day',
    'ledger',
    'payouts',
    'promo_codes',
    'notifications',
  ])
    t.same(sections[name], { complete: true, rows: [] }, name);
  t.notMatch(JSON.stringify(all.body), /hash|not yours/);
  for (let i = 0; i < 5; i++) await world.call('GET', '/api/user/export', { token: user.token });
  t.equal((await world.call('GET', '/api/user/export', { token: user.token })).status, 429);
  t.equal((await world.call('GET', '/api/user/export')).status, 401);
});
