import t from 'tap';
import { startControlPlane } from '../../control-plane/app.js';
import { controlPlaneSettings, readControlPlaneConfig } from '../../control-plane/config.js';
import { EnvironmentError } from '../../gateway/runtime/environment.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { TEST_ENV } from '../helpers/control-plane.js';
import { startPostgres, startRedis } from '../helpers/services.js';

const BASE = { ...TEST_ENV, TS_DATABASE_URL: 'postgres://x' };

function problems(env: Record<string, string | undefined>): readonly string[] {
  try {
    readControlPlaneConfig(env);
    return [];
  } catch (error) {
    if (error instanceof EnvironmentError) return error.problems;
    throw error;
  }
}

t.test('settings', async (t) => {
  await t.test('all problems at once, without the values', async (t) => {
    const found = problems({ TS_JWT_SECRET: 'hunter2', TS_API_PORT: 'x', TS_TICKET_TTL_S: '1' });
    t.equal(found.length, 3);
    t.match(found.join('\n'), /TS_DATABASE_URL is required/);
    const related = problems({
      ...BASE,
      TS_JWT_SECRET: 'hunter2',
      TS_TRUSTED_PROXIES: 'proxy.internal',
      TS_CORS_ORIGINS: 'https://x.example/path',
      TS_MIN_CLIENT_VERSION: '1.0',
      TS_TUNNEL_URL: 'http://x',
    });
    t.equal(related.length, 5);
    t.notMatch(related.join('\n'), /hunter2/);
  });

  await t.test('production refuses what is for development', async (t) => {
    const { TS_BOT_TOKEN: _, ...withoutBot } = BASE;
    const found = problems({ ...withoutBot, NODE_ENV: 'production', TS_DEV_LOOPBACK_COUNTRY: 'US' });
    t.equal(found.length, 2);
    t.match(found[0], /TS_BOT_TOKEN/);
    t.match(found[1], /TS_DEV_LOOPBACK_COUNTRY/);
    t.same(problems({ ...BASE, NODE_ENV: 'production' }), []);
  });

  await t.test('the hold time follows the mode', async (t) => {
    t.equal(readControlPlaneConfig(BASE).holdTimeS, 0);
    t.equal(readControlPlaneConfig({ ...BASE, TS_PRODUCTION: '1' }).holdTimeS, 86_400);
    t.equal(readControlPlaneConfig({ ...BASE, TS_PRODUCTION: '1', TS_HOLD_TIME_S: '5' }).holdTimeS, 5);
    t.throws(() => Object.assign(readControlPlaneConfig(BASE), { apiPort: 1 }), 'frozen');
  });

  await t.test('every setting says what it is', async (t) => {
    const names = Object.values(controlPlaneSettings).map((s) => s.name);
    t.equal(new Set(names).size, names.length);
    for (const s of Object.values(controlPlaneSettings))
      t.ok(/^(TS|OTEL)_/.test(s.name) && s.help.length > 10, s.name);
  });
});

t.test('the whole control plane: start, serve, stop', async (t) => {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  t.teardown(() => Promise.all([postgres.stop(), redis.stop()]));
  const config = readControlPlaneConfig({
    ...TEST_ENV,
    TS_DATABASE_URL: postgres.url,
    TS_REDIS_URL: redis.url,
    TS_API_HOST: '127.0.0.1',
    TS_API_PORT: '0',
    TS_CONTROL_METRICS_PORT: '0',
    TS_DEV_LOOPBACK_COUNTRY: 'US',
  });
  // Two on one database and Redis, as in a rolling upgrade.
  const both = await Promise.all([
    startControlPlane(config, silentLog),
    startControlPlane(config, silentLog),
  ]);
  t.teardown(() => Promise.all(both.map((one) => one.stop())));
  for (const { url } of both) {
    const ready = await fetch(`${url}/api/system/ready`, { headers: { connection: 'close' } });
    t.match(await ready.json(), { status: 'ready', dependencies: { schema: 'current' } });
  }
  const [first] = both;
  await first.stop();
  await t.rejects(fetch(`${first.url}/api/system/health`));
  await first.stop(); // again: harmless
});

t.test('a database that is away: starting fails and leaves nothing running', async (t) => {
  const config = readControlPlaneConfig({ ...TEST_ENV, TS_DATABASE_URL: 'postgres://x:x@127.0.0.1:1/x' });
  await t.rejects(startControlPlane(config, silentLog), { code: 'ECONNREFUSED' });
});
