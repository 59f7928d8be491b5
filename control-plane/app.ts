/**
 * The composition root of the control plane: the only place that constructs. Everything else is handed what it
 * needs. `buildApp` makes the API over given collaborators; `startControlPlane` makes those, too, and runs it all.
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { Redis } from 'ioredis';
import type pg from 'pg';
import { type Clock, systemClock } from '../gateway/runtime/clock.js';
import type { Log } from '../gateway/runtime/logging.js';
import { projectPath } from '../gateway/runtime/project-path.js';
import { adminAuthPlugin } from './auth/admin-plugin.js';
import { createAuthenticate } from './auth/authenticate.js';
import { authPlugin } from './auth/plugin.js';
import { createTelegramSignIn } from './auth/telegram-sign-in.js';
import { type LoginCodeSender, loggedCodeSender, telegramCodeSender } from './bot/login-code-sender.js';
import { TelegramQueue } from './bot/telegram-queue.js';
import { type ControlPlaneConfig, networkList } from './config.js';
import { migrate } from './db/migrate.js';
import { createPool } from './db/pool.js';
import { createRedis, redisReady } from './db/redis.js';
import { forgetOldIdempotencyKeys } from './http/idempotency.js';
import { type ApiServer, createServer } from './http/server.js';
import { systemPlugin } from './system/plugin.js';

/** What the API works with; a test hands in its own. */
export interface AppDeps {
  config: ControlPlaneConfig;
  log: Log;
  clock: Clock;
  pool: pg.Pool;
  /** Fails at once while Redis is away (`db/redis.ts`). */
  redis: Redis;
  codeSender: LoginCodeSender;
}

/** The API with every domain, not listening yet. `close()` it; the pool and Redis stay the caller's. */
export async function buildApp(deps: AppDeps): Promise<ApiServer> {
  const { config, log, clock, pool, redis } = deps;
  const telegramSignIn = createTelegramSignIn({ pool, clock, botToken: config.botToken });
  const adminIpAllowed = config.adminIps.length === 0 ? () => true : networkList(config.adminIps);
  const apiVersion = packageVersion();

  const app = await createServer({
    log,
    pool,
    redis,
    trustedProxies: config.trustedProxies,
    corsOrigins: config.corsOrigins,
    bodyBytesMax: config.bodyBytesMax,
    requestsPerMinute: config.requestsPerMinute,
    version: apiVersion,
    authenticate: createAuthenticate({
      pool,
      clock,
      jwtSecret: config.jwtSecret,
      botSecret: config.botSecret,
      internalSecret: config.internalSecret,
      adminIpAllowed,
      telegramSignIn,
      verifyBuyerToken: async () => ({ ok: false, code: 'invalid_token' }),
    }),
  });

  await app.register(systemPlugin, { pool, redis, apiVersion, settings: config });
  await app.register(authPlugin, { pool, clock, telegramSignIn, codeSender: deps.codeSender, settings: config });
  await app.register(adminAuthPlugin, { pool, clock, telegramSignIn, adminIpAllowed, settings: config });
  await app.ready();
  return app;
}

export interface ControlPlane {
  /** Where the API listens, `http://host:port`. */
  url: string;
  port: number;
  stop(): Promise<void>;
}

/** How often old idempotency keys are dropped. */
const HOUSEKEEPING_INTERVAL_MS = 3_600_000;
/** Redis may be away at start; the API then starts without it. */
const REDIS_WAIT_MS = 3_000;

/** Starts everything the control plane is. Throws when Postgres cannot be reached or has a newer schema. */
export async function startControlPlane(
  config: ControlPlaneConfig,
  log: Log,
  clock: Clock = systemClock,
): Promise<ControlPlane> {
  if (config.migrateAtStart) {
    const applied = await migrate(config.databaseUrl);
    if (applied.length > 0) log.info({ applied }, 'migrated');
  }
  const stops: (() => unknown)[] = [];
  const stop = async () => {
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    const pool = createPool({
      url: config.databaseUrl,
      connectionsMax: config.databaseConnectionsMax,
      applicationName: 'traffic-share-control-plane',
      onIdleError: (error) => log.warn({ error_code: (error as { code?: string }).code }, 'postgres_connection_lost'),
    });
    stops.push(() => pool.end());
    const redis = createRedis({
      url: config.redisUrl,
      connectionName: 'traffic-share-control-plane',
      onError: (error) => log.warn({ error_code: (error as { code?: string }).code }, 'redis_connection_lost'),
    });
    stops.push(() => redis.disconnect());
    if (!(await redisReady(redis, REDIS_WAIT_MS))) log.warn({}, 'started_without_redis');

    const codeSender = createCodeSender(config, log, clock, stops);
    const app = await buildApp({ config, log, clock, pool, redis, codeSender });
    stops.push(() => app.close());

    const housekeeping = setInterval(() => {
      forgetOldIdempotencyKeys(pool).catch((error) =>
        log.warn({ error_code: error.code }, 'housekeeping_failed'),
      );
    }, HOUSEKEEPING_INTERVAL_MS);
    housekeeping.unref();
    stops.push(() => clearInterval(housekeeping));

    await app.listen({ host: config.apiHost, port: config.apiPort });
    const { port, address } = app.server.address() as AddressInfo;
    const host = address.includes(':') ? `[${address}]` : address;
    log.info({ host: address, port }, 'listening');
    return { url: `http://${host}:${port}`, port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The bot, or in development without one the log. */
function createCodeSender(
  config: ControlPlaneConfig,
  log: Log,
  clock: Clock,
  stops: (() => unknown)[],
): LoginCodeSender {
  if (config.botToken === null) {
    if (config.production) throw new Error('production needs TS_BOT_TOKEN');
    return loggedCodeSender(log);
  }
  const queue = new TelegramQueue(
    { botToken: config.botToken, apiUrl: config.botApiUrl, queueMax: config.botQueueMax },
    { clock, log },
  );
  stops.push(() => queue.stop());
  return telegramCodeSender(queue);
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as { version: string }).version;
}
