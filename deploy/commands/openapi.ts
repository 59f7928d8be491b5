import { buildApp } from '../../control-plane/api.js';
import { readControlPlaneConfig } from '../../control-plane/config.js';
import { createPool } from '../../control-plane/db/pool.js';
import { connectLimiter } from '../../control-plane/db/redis.js';
import { createServices } from '../../control-plane/services.js';
import { connectLive } from '../../gateway/live/connection.js';
import { systemClock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';

/** Settings that no part of the document depends on; nothing is connected to. */
const SETTINGS = {
  TS_DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
  TS_REDIS_URL: 'redis://127.0.0.1:1',
  TS_JWT_SECRET: 'x'.repeat(32),
};

/** The OpenAPI document of this version with default settings; needs neither Postgres nor Redis. */
export async function openApiDocument(): Promise<object> {
  const config = readControlPlaneConfig(SETTINGS);
  const pool = createPool({ databaseUrl: config.databaseUrl, applicationName: 'traffic-share-openapi' });
  const redis = connectLive({ url: config.redisUrl, log: silentLog });
  const limiterRedis = connectLimiter(config.redisUrl, () => {});
  const nothing = { send: () => {}, push: () => {}, withdraw: () => false };
  const collaborators = {
    config,
    log: silentLog,
    clock: systemClock,
    pool,
    redis,
    limiterRedis,
    codeSender: nothing,
    telegram: nothing,
    botApi: null,
    originCheck: { check: () => ({ ok: true as const, country: 'DE', city: null, asn: null }) },
  };
  try {
    const app = await buildApp(collaborators, createServices(collaborators));
    const document = app.swagger();
    await app.close();
    return document;
  } finally {
    redis.disconnect();
    limiterRedis.disconnect();
    await pool.end();
  }
}

/** `traffic-share openapi`: writes the document to stdout, as JSON. */
export async function runOpenApi(): Promise<void> {
  process.stdout.write(`${JSON.stringify(await openApiDocument(), null, 2)}\n`);
}
