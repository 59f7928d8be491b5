import { randomUUID } from 'node:crypto';
import t from 'tap';
import { notify } from '../../../control-plane/inbox/inbox.js';
import { writePresence } from '../../../gateway/live/presence.js';
import type { DevicePresence } from '../../../gateway/live/records.js';
import { signedIn, startWorld, type TestUser, withDevice } from '../../helpers/control-plane.js';

t.test('dashboard', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const get = (user: TestUser, path = '/api/dashboard') => world.call('GET', path, { token: user.token });
  const start = (user: TestUser, deviceId: string, from: string) =>
    world.call('POST', '/api/traffic/start', {
      token: user.token,
      from,
      body: { device_id: deviceId, client_version: '1.0.0' },
    });
  const present = (sessionId: string, deviceId: string, user: TestUser, more: Partial<DevicePresence> = {}) =>
    writePresence(
      world.redis,
      {
        sessionId,
        deviceId,
        providerId: user.userId,
        country: 'DE',
        city: null,
        asn: 3320,
        networkType: 'wifi',
        gatewayId: 'gw1',
        exitIp: '198.51.100.9',
        connectedAtMs: Date.now(),
        streams: 0,
        rttMs: 10,
        status: 'sharing',
        ...more,
      },
      Date.now(),
    );
  const states = async (user: TestUser) =>
    (await get(user)).body.devices.map((d: { state: { code: string; detail: string | null } }) => [
      d.state.code,
      d.state.detail,
    ]);

  await t.test('everything in one call', async (t) => {
    const user = await signedIn(world);
    const { deviceId } = await withDevice(world, user);
    const { body: started } = await start(user, deviceId, '198.51.100.9');
    await present(started.session_id, deviceId, user, { streams: 2 });
    await world.call('POST', '/api/admin/credits', {
      token: admin.token,
      body: { user_id: user.userId, amount: '1.5', reason: 'a gift' },
    });
    await world.pool.query(
      `INSERT INTO usage_daily_provider (user_id, day, bytes_up, bytes_down, earned_micros)
       VALUES ($1, utc_day(), 10, 20, 300)`,
      [user.userId],
    );
    await notify(world.pool, { userId: user.userId, kind: 'test', title: 'Hi', body: 'there' });
    const text = { title: 'New', body: 'app' };
    await world.call('POST', '/api/admin/news', {
      token: admin.token,
      body: { texts: { en: text, ru: { title: 'Новое', body: 'приложение' }, uz: text } },
    });
    await world.call('POST', '/api/user/update', { token: user.token, body: { language: 'ru' } });
    const { body, status } = await get(user);
    t.equal(status, 200);
    t.match(body, {
      user_id: user.userId,
      status: 'active',
      balance: { available: '1.500000', pending: '0.000000', lifetime: '1.500000', withdrawn: '0.000000' },
      traffic: { today: { bytes: 30, earned: '0.000300' }, week: { bytes: 30 }, month: { bytes: 30 } },
      earning: true,
      live_session: { id: started.session_id, device_id: deviceId },
      price: { price_per_gb: '0.500000' },
      devices: [
        { device_id: deviceId, state: { code: 'earning', what: 'Устройством пользуется покупатель.' } },
      ],
      consent: { accepted: true, terms_version: '1' },
      app: { min_client_version: '0.1.0' },
      news: [{ language: 'ru', title: 'Новое' }],
      unread: 1,
    });
    t.same((await get(user, `/api/dashboard/${user.telegramId}`)).body.devices, body.devices);
    t.equal((await get(admin, `/api/dashboard/${user.telegramId}`)).body.user_id, user.userId);
    t.equal((await get(admin, `/api/dashboard?user_id=${user.userId}`)).body.user_id, user.userId);
  });

  await t.test('whose', async (t) => {
    const user = await signedIn(world);
    const other = await signedIn(world);
    t.equal((await world.call('GET', '/api/dashboard')).status, 401);
    t.equal((await get(user, `/api/dashboard/${other.telegramId}`)).status, 403);
    t.equal((await get(user, '/api/dashboard/1')).status, 403, 'nobody’s is not told from another’s');
    t.equal((await get(user, `/api/dashboard?user_id=${other.userId}`)).status, 403);
    t.equal((await get(admin)).status, 400);
    t.equal((await get(admin, '/api/dashboard/1')).status, 404);
    t.equal((await get(admin, `/api/dashboard?user_id=${randomUUID()}`)).status, 404);
    for (const bad of ['/api/dashboard/x', '/api/dashboard/-1', '/api/dashboard?x=1'])
      t.equal((await get(user, bad)).status, 400, bad);
    const { deviceKey } = await withDevice(world, user);
    t.equal((await world.call('GET', '/api/dashboard', { token: deviceKey })).status, 403);
  });

  await t.test(
    'why am I not earning: from a refused network to a second device behind one address',
    async (t) => {
      const user = await signedIn(world);
      const a = await withDevice(world, user);
      t.same(await states(user), [['offline', null]]);
      world.origins.set('198.51.100.66', { ok: false, code: 'vpn_detected', rule: 'AS9009 M247 (hosting)' });
      t.equal((await start(user, a.deviceId, '198.51.100.66')).status, 403);
      t.same(await states(user), [['network_refused', 'vpn_detected: AS9009 M247 (hosting)']]);
      const { body: first } = await start(user, a.deviceId, '198.51.100.9');
      t.same(await states(user), [['offline', null]], 'forgotten with the next good start');
      await present(first.session_id, a.deviceId, user);
      t.same(await states(user), [['idle', 'DE']]);

      await world.pool.query("UPDATE packages SET status = 'in_progress' WHERE session_id = $1", [
        first.session_id,
      ]);
      const b = await withDevice(world, user);
      const { body: second } = await start(user, b.deviceId, '198.51.100.9');
      await present(second.session_id, b.deviceId, user);
      t.same(await states(user), [
        ['earning', null],
        ['address_in_use', null],
      ]);

      await world.call('POST', '/api/user/update', {
        token: user.token,
        body: { settings: { cap_bytes_per_day: 1_000 } },
      });
      await present(second.session_id, b.deviceId, user, { status: 'paused' });
      t.same((await states(user))[1], ['paused', null]);
      await world.pool.query(
        'INSERT INTO usage_daily_provider (user_id, day, bytes_up, bytes_down) VALUES ($1, utc_day(), 400, 600)',
        [user.userId],
      );
      t.same((await states(user))[1], ['cap_reached', 'day']);

      await world.call('PATCH', '/api/admin/settings', { token: admin.token, body: { terms_version: '2' } });
      t.same(
        (await states(user)).map((state: string[]) => state[0]),
        ['consent_missing', 'consent_missing'],
      );
      await world.call('PATCH', '/api/admin/settings', {
        token: admin.token,
        body: { terms_version: '1', min_client_version: '9.0.0' },
      });
      const c = await withDevice(world, user);
      const listed = await world.call('GET', '/api/user/devices', { token: user.token });
      t.match(
        listed.body.items.find((d: { device_id: string }) => d.device_id === c.deviceId),
        { state: { code: 'client_outdated', earns: false, todo: 'Update the app.' } },
      );
    },
  );
});
