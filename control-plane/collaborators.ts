/** What everything in the control plane works with, made from its settings. */
import { Api } from 'grammy';
import type pg from 'pg';
import { connectLive, type LiveRedis } from '../gateway/live/connection.js';
import type { Clock } from '../gateway/runtime/clock.js';
import type { Log } from '../gateway/runtime/logging.js';
import { OriginCheck } from '../gateway/runtime/origin/origin-check.js';
import { noteBlocked } from './bot/guests.js';
import { telegramCodeSender } from './bot/login-code-sender.js';
import type { ControlPlaneConfig } from './config.js';
import { createPool } from './db/pool.js';
import { connectLimiter, type LimiterRedis, redisReady } from './db/redis.js';
import type { OriginTables } from './policy/origins.js';
import type { RecentLog } from './system/recent-log.js';
import { type LoginCodeSender, loggedCodeSender } from './telegram/login-code-sender.js';
import { loggedMessageSender, type MessageSender } from './telegram/message-sender.js';
import { TelegramQueue } from './telegram/telegram-queue.js';

/** What everything works with; a test hands in its own. */
export interface Collaborators {
  config: ControlPlaneConfig;
  log: Log;
  clock: Clock;
  pool: pg.Pool;
  redis: LiveRedis;
  /** For the rate limiter alone: fails at once while Redis is away. */
  limiterRedis: LimiterRedis;
  codeSender: LoginCodeSender;
  /** Messages to people; one queue with the login codes. */
  telegram: MessageSender;
  /** Calls to Telegram beside messages; null: there is no bot. */
  botApi: Api | null;
  originCheck: OriginTables;
  /** What `log` has written lately; left out: nothing is kept. */
  recentLog?: RecentLog | undefined;
}

/** Redis may be away at start; the API then starts without it. */
const REDIS_WAIT_MS = 3_000;

/** Longer than a poll for updates is held open (`bot/update-source.ts`). */
const BOT_CALL_TIMEOUT_S = 40;

/** The real ones; each leaves its end in `stops`. Throws what Postgres or a file of rules throws. */
export async function createCollaborators(
  config: ControlPlaneConfig,
  log: Log,
  clock: Clock,
  stops: (() => unknown)[],
  recentLog?: RecentLog,
): Promise<Collaborators> {
  const pool = createPool({
    databaseUrl: config.databaseUrl,
    connectionsMax: config.databaseConnectionsMax,
    applicationName: 'traffic-share-control-plane',
    onIdleError: (error) =>
      log.warn({ error_code: (error as { code?: string }).code }, 'postgres_connection_lost'),
  });
  stops.push(() => pool.end());
  const redis = connectLive({ url: config.redisUrl, log, connectionName: 'traffic-share-control-plane' });
  stops.push(() => redis.disconnect());
  const limiterRedis = connectLimiter(config.redisUrl, () => {}); // `redis` above tells of the same outage
  stops.push(() => limiterRedis.disconnect());
  const [ready] = await Promise.all([
    redisReady(redis, REDIS_WAIT_MS),
    redisReady(limiterRedis, REDIS_WAIT_MS),
  ]);
  if (!ready) log.warn({}, 'started_without_redis');
  const { asnRulePaths, addressRulePaths } = config;
  const originCheck = await OriginCheck.open({
    log,
    allowedCountries: config.allowedCountries,
    countryPath: config.geoipCountryPath,
    asnPath: config.geoipAsnPath,
    devLoopbackCountry: config.devLoopbackCountry,
    ...(asnRulePaths.length > 0 && { asnRulePaths }),
    ...(addressRulePaths.length > 0 && { addressRulePaths }),
  });
  stops.push(() => originCheck.close());
  const senders = createSenders(config, { log, clock, pool }, stops);
  return { config, log, clock, pool, redis, limiterRedis, ...senders, originCheck, recentLog };
}

/** The bot, or in development without one the log. */
function createSenders(
  config: ControlPlaneConfig,
  { log, clock, pool }: Pick<Collaborators, 'log' | 'clock' | 'pool'>,
  stops: (() => unknown)[],
): Pick<Collaborators, 'codeSender' | 'telegram' | 'botApi'> {
  if (config.botToken === null) {
    if (config.production) throw new Error('production needs TS_BOT_TOKEN');
    return { codeSender: loggedCodeSender(log), telegram: loggedMessageSender(log), botApi: null };
  }
  const queue = new TelegramQueue(
    {
      botToken: config.botToken,
      apiUrl: config.botApiUrl,
      queueMax: config.botQueueMax,
      messagesPerSecondMax: config.botMessagesPerSecond,
    },
    {
      clock,
      log,
      onDelivery: ({ chatId }, delivery) => {
        if (delivery !== 'unreachable') return;
        noteBlocked(pool, chatId, true).catch((error) => log.warn({ err: error }, 'blocked_bot_not_noted'));
      },
    },
  );
  stops.push(() => queue.stop());
  const botApi = new Api(config.botToken, {
    apiRoot: config.botApiUrl.replace(/\/$/, ''),
    timeoutSeconds: BOT_CALL_TIMEOUT_S,
  });
  return { codeSender: telegramCodeSender(queue), telegram: queue, botApi };
}
