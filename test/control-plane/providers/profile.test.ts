import t from 'tap';
import { signedIn, startWorld, withDevice } from '../../helpers/control-plane.js';

t.test('profile and consent', async (t) => {
  const world = await startWorld(t);
  const user = await signedIn(world);
  const get = async () => (await world.call('GET', '/api/user/me', { token: user.token })).body;
  const update = (body: object, method = 'POST', path = '/api/user/update') =>
    world.call(method, path, { token: user.token, body });

  await t.test('only what is given changes', async (t) => {
    const first = await update({
      email: 'ann@example.org',
      settings: { wifi_only: true, cap_bytes_per_day: 5_000_000_000, hours: { from: '22:00', to: '06:30' } },
    });
    t.equal(first.status, 200);
    const second = await update({ language: 'uz', settings: { wifi_only: false } }, 'PATCH', '/api/profile');
    t.match(second.body, {
      email: 'ann@example.org',
      language: 'uz',
      settings: { wifi_only: false, cap_bytes_per_day: 5_000_000_000, hours: { from: '22:00', to: '06:30' } },
    });
    await update({ email: null, settings: { cap_bytes_per_day: null } });
    t.match(await get(), { email: null, language: 'uz', settings: { cap_bytes_per_day: null } });
    const profile = await world.call('GET', '/api/profile', { token: user.token });
    t.same(profile.body, await get(), '/api/profile is the same');
  });

  await t.test('what does not fit', async (t) => {
    for (const body of [
      {},
      { is_admin: true },
      { status: 'active' },
      { email: 'not an address' },
      { language: 'xx' },
      { settings: { unknown: 1 } },
      { settings: { cap_bytes_per_day: -1 } },
      { settings: { hours: { from: '25:00', to: '06:00' } } },
    ])
      t.equal((await update(body)).status, 400, JSON.stringify(body));
  });

  await t.test('consent: the terms in force, with time and address', async (t) => {
    const accept = (terms_version: string) =>
      world.call('POST', '/api/user/consent', {
        token: user.token,
        from: '198.51.100.77',
        body: { terms_version },
      });
    const old = await accept('0');
    t.match([old.status, old.body.code, old.body.terms_version], [409, 'terms_version_outdated', '1']);
    const now = await accept('1');
    t.match(now.body, { terms_version: '1', current: true });
    t.same((await accept('1')).body, now.body, 'again changes nothing');
    t.match((await get()).consent, { terms_version: '1', current: true, accepted_at: now.body.accepted_at });
    const { rows } = await world.pool.query('SELECT ip, withdrawn_at FROM consents WHERE user_id = $1', [
      user.userId,
    ]);
    t.same(rows, [{ ip: '198.51.100.77', withdrawn_at: null }]);
    await world.call('DELETE', '/api/user/consent', { token: user.token });
    t.equal((await get()).consent, null);
    await Promise.all([accept('1'), accept('1'), accept('1')]);
    const all = await world.pool.query(
      'SELECT withdrawn_at IS NULL AS in_force FROM consents WHERE user_id = $1',
      [user.userId],
    );
    t.equal(all.rows.length, 2, 'kept as history');
    t.equal(all.rows.filter((r) => r.in_force).length, 1);
  });

  await t.test('new terms ask again, without a restart', async (t) => {
    const admin = await signedIn(world, 'admin');
    const { deviceId } = await withDevice(world, user);
    const changed = await world.call('PATCH', '/api/admin/settings', {
      token: admin.token,
      body: { terms_version: '2', min_client_version: '2.0.0' },
    });
    t.match(changed.body, {
      terms_version: '2',
      min_client_version: '2.0.0',
      buyer_price_per_gb: '2.000000',
    });
    t.match((await get()).consent, { terms_version: '1', current: false });
    const start = (client_version: string) =>
      world.call('POST', '/api/traffic/start', {
        token: user.token,
        body: { device_id: deviceId, client_version },
      });
    t.equal((await start('1.9.9')).body.code, 'client_too_old');
    const refused = await start('2.0.0');
    t.match([refused.body.code, refused.body.terms_version], ['consent_required', '2']);
    const version = await world.call('GET', '/api/system/version?client_version=1.9.9');
    t.match(version.body, { force_update: true, min_client_version: '2.0.0', terms_version: '2' });
    const live = JSON.parse((await world.redis.get('ts:settings')) ?? '{}');
    t.equal(live.termsVersion, '2', 'the gateways know');
  });
});
