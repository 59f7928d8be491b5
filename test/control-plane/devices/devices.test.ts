import t from 'tap';
import { writePresence } from '../../../gateway/live/presence.js';
import { signedIn, startWorld, type TestUser, withDevice } from '../../helpers/control-plane.js';

t.test('devices', async (t) => {
  const world = await startWorld(t, { env: { TS_DEVICES_PER_USER_MAX: '3' } });
  const register = (user: TestUser, device_id: string, extra: object = {}) =>
    world.call('POST', '/api/user/device/register', {
      token: user.token,
      body: { device_id, os: 'android', client_version: '1.2.3', ...extra },
    });
  const list = (token: string, query = '') => world.call('GET', `/api/user/devices${query}`, { token });

  await t.test('register: a key, shown once, kept as a hash', async (t) => {
    const user = await signedIn(world);
    const first = await register(user, 'phone-0001', { model: 'Pixel 9', ip: '10.1.2.3' });
    t.match(first.body, { device_id: 'phone-0001', device_key: /^tsd_[\w-]{43}$/, session_id: null });
    const { rows } = await world.pool.query(
      "SELECT claimed_ip, last_ip, key_hash FROM devices WHERE id = 'phone-0001'",
    );
    t.match(rows, [{ claimed_ip: '10.1.2.3', last_ip: null }]);
    t.equal(rows[0].key_hash.length, 32);
    t.notMatch(JSON.stringify((await list(user.token)).body), /tsd_/);

    const again = await register(user, 'phone-0001');
    t.not(again.body.device_key, first.body.device_key);
    t.equal((await list(first.body.device_key)).status, 401, 'the old key is dead');
    t.equal((await list(again.body.device_key)).status, 200);
    t.equal((await list(user.token)).body.items.length, 1);
  });

  await t.test('another’s device cannot be taken over', async (t) => {
    const owner = await signedIn(world);
    const other = await signedIn(world);
    await register(owner, 'phone-0002');
    t.equal((await register(other, 'phone-0002')).status, 403);
    const remove = await world.call('DELETE', '/api/user/devices/phone-0002', { token: other.token });
    t.equal(remove.status, 403);
    t.equal((await list(other.token, `?user_id=${owner.userId}`)).status, 403);
    await world.call('DELETE', '/api/user/devices/phone-0002', { token: owner.token });
    t.equal((await register(other, 'phone-0002')).status, 200, 'once removed it may have a new owner');
    t.equal((await list(owner.token)).body.items.length, 0);
  });

  await t.test('of two users at once one gets it', async (t) => {
    const users = [await signedIn(world), await signedIn(world)];
    const answers = await Promise.all(users.map((user) => register(user, 'phone-0003')));
    t.same(answers.map((a) => a.status).sort(), [200, 403]);
  });

  await t.test('no more than allowed, however many at once', async (t) => {
    const user = await signedIn(world);
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => register(user, `many-000${i}`)));
    t.equal(answers.filter((a) => a.status === 200).length, 3);
    t.equal(answers.find((a) => a.status !== 200)?.body.code, 'too_many_devices');
  });

  await t.test('online state comes from the live state', async (t) => {
    const user = await signedIn(world);
    const { deviceId, deviceKey } = await withDevice(world, user);
    const { body: started } = await world.call('POST', '/api/traffic/start', {
      token: deviceKey,
      from: '198.51.100.3',
      body: { device_id: deviceId, client_version: '1.0.0' },
    });
    t.match((await list(user.token)).body.items, [
      {
        device_id: deviceId,
        online: false,
        status: 'offline',
        session_id: started.session_id,
        ip: '198.51.100.3',
        country: 'DE',
      },
    ]);
    const presence = {
      sessionId: started.session_id,
      deviceId,
      providerId: user.userId,
      country: 'DE',
      city: null,
      asn: null,
      networkType: 'wifi' as const,
      gatewayId: 'gw1',
      exitIp: '198.51.100.3',
      connectedAtMs: Date.now(),
      streams: 0,
      rttMs: 10,
      status: 'paused' as const,
    };
    await writePresence(world.redis, presence, Date.now());
    t.match((await list(user.token)).body.items, [{ online: true, status: 'paused' }]);
    const admin = await signedIn(world, 'admin');
    t.equal((await list(admin.token, `?user_id=${user.userId}`)).body.items.length, 1);
    t.equal((await list(admin.token)).status, 400);
    const again = await register(user, deviceId);
    t.equal(again.body.session_id, started.session_id, 'the session goes on');
    await world.pool.query('UPDATE users SET status = $2 WHERE id = $1', [user.userId, 'deleted']);
    t.equal((await list(again.body.device_key)).status, 401);
  });

  await t.test('bad ids', async (t) => {
    const user = await signedIn(world);
    for (const id of ['short', 'x'.repeat(65), 'with space1', "x'; DROP--"])
      t.equal((await register(user, id)).status, 400, id);
  });
});
