import t from 'tap';
import { migrate } from '../../../control-plane/db/migrate.js';
import { signedIn, startWorld, withDevice } from '../../helpers/control-plane.js';
import { startOwnPostgres, startRedis } from '../../helpers/services.js';
import { stopwatch } from '../../helpers/stopwatch.js';

t.test('Redis goes away', async (t) => {
  const postgres = await startOwnPostgres();
  t.teardown(() => postgres.stop());
  await migrate(postgres.url);
  const redis = await startRedis();
  const world = await startWorld(t, { share: { databaseUrl: postgres.url, redisUrl: redis.url } });
  const user = await signedIn(world);
  const device = await withDevice(world, user);
  await redis.stop();

  const tookMs = stopwatch();
  const me = await world.call('GET', '/api/user/me', { token: user.token });
  t.equal(me.status, 200, 'calls that need no live state are answered');
  t.ok(tookMs() < 2_000, 'without waiting for the rate limiter');

  const start = await world.call('POST', '/api/traffic/start', {
    token: user.token,
    body: { device_id: device.deviceId, client_version: '1.0.0' },
  });
  t.match([start.status, start.body.code], [503, 'live_state_unavailable']);
  t.match(start.headers.get('retry-after'), /^\d+$/);
  const { rows } = await world.pool.query('SELECT 1 FROM traffic_sessions');
  t.equal(rows.length, 0, 'no session without a ticket');

  const devices = await world.call('GET', '/api/user/devices', { token: user.token });
  t.match(devices.body.items, [{ online: null, status: 'unknown' }]);

  const ready = await world.call('GET', '/api/system/ready');
  t.equal(ready.status, 200);
  t.match(ready.body, { status: 'degraded', dependencies: { redis: 'down', postgres: 'up' } });

  await t.test('and Postgres, too', async (t) => {
    await postgres.stop();
    const answer = await world.call('GET', '/api/user/me', { token: user.token });
    t.match([answer.status, answer.body.code], [503, 'database_unavailable']);
    const notReady = await world.call('GET', '/api/system/ready');
    t.equal(notReady.status, 503);
    t.match(notReady.body, { status: 'not_ready', dependencies: { postgres: 'down' } });
    t.equal((await world.call('GET', '/api/system/health')).status, 200, 'alive all the same');
  });
});
