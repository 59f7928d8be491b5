import { createHmac, randomInt } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { Api } from 'grammy';
import { buildApp } from '../../control-plane/api.js';
import { issueAccessToken } from '../../control-plane/auth/access-token.js';
import { insertLogin } from '../../control-plane/auth/logins.js';
import type { Collaborators } from '../../control-plane/collaborators.js';
import { type ControlPlaneConfig, readControlPlaneConfig } from '../../control-plane/config.js';
import { createPool } from '../../control-plane/db/pool.js';
import { connectLimiter, redisReady } from '../../control-plane/db/redis.js';
import type { ApiServer } from '../../control-plane/http/server.js';
import { createServices, type Services } from '../../control-plane/services.js';
import type { LoginCodeSender } from '../../control-plane/telegram/login-code-sender.js';
import type { MessageSender } from '../../control-plane/telegram/message-sender.js';
import type { TelegramMessage } from '../../control-plane/telegram/telegram-queue.js';
import type { Origin } from '../../control-plane/traffic/start.js';
import { findOrCreateUser } from '../../control-plane/users/users.js';
import { connectLive } from '../../gateway/live/connection.js';
import { systemClock } from '../../gateway/runtime/clock.js';
import { type Log, silentLog } from '../../gateway/runtime/logging.js';
import { startMigratedPostgres, startRedis } from './services.js';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

export const BOT_TOKEN = '12345:test-bot-token';
export const TEST_ENV = {
  TS_JWT_SECRET: 'test-secret-of-at-least-thirty-two-bytes',
  TS_BOT_SECRET: 'test-bot-secret-0123',
  TS_INTERNAL_SECRET: 'test-internal-secret',
  TS_BOOTSTRAP_SECRET: 'test-bootstrap-secret',
  TS_BOT_TOKEN: BOT_TOKEN,
  // Tests come from any address they like, by X-Forwarded-For.
  TS_TRUSTED_PROXIES: '127.0.0.1',
  TS_TUNNEL_URL: 'ws://tunnel.test/tunnel',
  // Tests change people behind the API's back and want to see it at once.
  TS_AUTH_CACHE_MS: '0',
};

/** Longest wait of a test's control plane for a connection to Postgres, or an answer of Redis, ms. */
const UNHURRIED_MS = 15_000;

export interface SentCode {
  telegramId: number;
  code: string;
  language: string;
}

export interface Answer {
  status: number;
  headers: Headers;
  /** JSON, or null when there is no body. */
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever comes
  body: any;
}

export interface CallOptions {
  token?: string;
  body?: unknown;
  headers?: Record<string, string>;
  /** Comes from this address. */
  from?: string | undefined;
}

export interface TestWorld {
  config: ControlPlaneConfig;
  collaborators: Collaborators;
  services: Services;
  app: ApiServer;
  url: string;
  databaseUrl: string;
  redisUrl: string;
  pool: Collaborators['pool'];
  redis: Collaborators['redis'];
  /** Codes the bot would have sent. */
  codes: SentCode[];
  /** Other messages the bot would have sent. */
  messages: TelegramMessage[];
  /** What the origin check says of an address; default: Germany, AS3320. */
  origins: Map<string, Origin>;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
}

export interface WorldOptions {
  /** Settings beside TEST_ENV. */
  env?: Record<string, string>;
  clock?: Collaborators['clock'];
  log?: Log;
  /** Instead of keeping messages in `messages`. */
  telegram?: MessageSender;
  /** A Bot API for the bot's calls beside messages; left out: there is no bot. */
  botApiUrl?: string;
  /** Instead of what `origins` says. */
  originCheck?: Collaborators['originCheck'];
  /** Settlement and live state run in the background. */
  background?: boolean;
  /** Services of another world: two control planes on one record. */
  share?: { databaseUrl: string; redisUrl: string };
}

/** The control plane over a migrated Postgres and a Redis of its own, listening on a port of its own. */
export async function startWorld(t: Teardown, options: WorldOptions = {}): Promise<TestWorld> {
  const { databaseUrl, redisUrl } = options.share ?? (await startServices(t));
  const config = readControlPlaneConfig({
    ...TEST_ENV,
    TS_DATABASE_URL: databaseUrl,
    TS_REDIS_URL: redisUrl,
    ...options.env,
  });
  const log = options.log ?? silentLog;
  // A machine that stalls for a second has not lost its servers.
  const pool = createPool({
    databaseUrl,
    applicationName: 'test',
    connectionsMax: 12,
    connectTimeoutMs: UNHURRIED_MS,
  });
  t.teardown(() => pool.end());
  const redis = connectLive({ url: redisUrl, log: silentLog, commandTimeoutMs: UNHURRIED_MS });
  t.teardown(() => redis.disconnect());
  const limiterRedis = connectLimiter(redisUrl, () => {});
  t.teardown(() => limiterRedis.disconnect());
  await Promise.all([redisReady(redis, 5_000), redisReady(limiterRedis, 5_000)]);
  const codes: SentCode[] = [];
  const codeSender: LoginCodeSender = {
    send: ({ telegramId, code, language }) => codes.push({ telegramId, code, language }),
  };
  const messages: TelegramMessage[] = [];
  const telegram: MessageSender = options.telegram ?? {
    push: (message) => messages.push(message),
    withdraw: () => false,
  };
  const origins = new Map<string, Origin>();
  const originCheck = options.originCheck ?? {
    check: (ip: string): Origin => origins.get(ip) ?? { ok: true, country: 'DE', city: null, asn: 3320 },
  };
  const clock = options.clock ?? systemClock;
  const botApi = options.botApiUrl
    ? new Api(BOT_TOKEN, { apiRoot: options.botApiUrl, timeoutSeconds: 5 })
    : null;
  const edge = { codeSender, telegram, botApi, originCheck };
  const collaborators = { config, log, clock, pool, redis, limiterRedis, ...edge };
  const services = createServices(collaborators);
  await services.settings.read();
  if (options.background) {
    t.teardown(() => services.live.stop());
    await services.live.start();
    t.teardown(() => services.settlement.stop());
    services.settlement.start();
    t.teardown(() => services.wallets.stop());
    services.wallets.start();
  }
  const app = await buildApp(collaborators, services);
  t.teardown(() => app.close());
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  return {
    config,
    collaborators,
    services,
    app,
    url,
    databaseUrl,
    redisUrl,
    pool,
    redis,
    codes,
    messages,
    origins,
    call: (method, path, callOptions) => call(url, method, path, callOptions),
  };
}

async function startServices(t: Teardown): Promise<{ databaseUrl: string; redisUrl: string }> {
  const [postgres, redis] = await Promise.all([startMigratedPostgres(), startRedis()]);
  t.teardown(() => Promise.all([postgres.stop(), redis.stop()]));
  return { databaseUrl: postgres.url, redisUrl: redis.url };
}

async function call(url: string, method: string, path: string, options: CallOptions = {}): Promise<Answer> {
  const { token, body, headers, from } = options;
  const response = await fetch(url + path, {
    method,
    headers: {
      connection: 'close', // nothing of the client outlives the test
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(from === undefined ? {} : { 'x-forwarded-for': from }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  // Events without end: the head is the answer.
  if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
    await response.body?.cancel();
    return { status: response.status, headers: response.headers, body: null };
  }
  const text = await response.text();
  const json = response.headers.get('content-type')?.includes('json') && text !== '';
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text || null };
}

/** A Telegram id nobody else has. */
export const newTelegramId = () => randomInt(10_000, 2 ** 47);

export interface TestUser {
  userId: string;
  telegramId: number;
  loginId: string;
  token: string;
}

/** A verified provider (or admin) who is signed in. */
export async function signedIn(world: TestWorld, role: 'user' | 'admin' = 'user'): Promise<TestUser> {
  const telegramId = newTelegramId();
  const { user } = await findOrCreateUser(world.pool, { telegramId, isVerified: true });
  if (role === 'admin') await world.pool.query('UPDATE users SET is_admin = true WHERE id = $1', [user.id]);
  const loginId = await insertLogin(world.pool, { userId: user.id, ip: '127.0.0.1', userAgent: 'test' });
  const nowMs = world.collaborators.clock.nowMs();
  const claims = { userId: user.id, role, loginId, ttlS: 3_600 };
  return {
    userId: user.id,
    telegramId,
    loginId,
    token: await issueAccessToken(world.config.jwtSecret, claims, nowMs),
  };
}

export interface TestDevice {
  deviceId: string;
  deviceKey: string;
}

let devices = 0;

/** Accepts the terms and registers a device, through the API and from this address. */
export async function withDevice(world: TestWorld, user: TestUser, from?: string): Promise<TestDevice> {
  const consent = await world.call('POST', '/api/user/consent', {
    token: user.token,
    body: { terms_version: world.config.termsVersion },
    from,
  });
  if (consent.status !== 200) throw new Error(`consent: ${JSON.stringify(consent.body)}`);
  const deviceId = `test-device-${process.pid}-${++devices}`;
  const answer = await world.call('POST', '/api/user/device/register', {
    token: user.token,
    body: { device_id: deviceId, os: 'linux', client_version: '1.0.0' },
    from,
  });
  if (answer.status !== 200) throw new Error(`register: ${JSON.stringify(answer.body)}`);
  return { deviceId, deviceKey: answer.body.device_key };
}

/** Init data as Telegram's Mini App hands it over, signed for BOT_TOKEN. */
export function initData(
  user: { id: number; username?: string; language_code?: string },
  options: { authDateS?: number; startParam?: string; botToken?: string } = {},
): string {
  const fields = new URLSearchParams({
    query_id: 'AAHdF6IQAAAAAN0XohDhrOrc',
    user: JSON.stringify({ first_name: 'Ann & Bob', ...user }),
    auth_date: String(options.authDateS ?? Math.floor(Date.now() / 1000)),
    signature: 'part-of-what-is-signed',
    ...(options.startParam === undefined ? {} : { start_param: options.startParam }),
  });
  const lines = [...fields].map(([name, value]) => `${name}=${value}`).sort();
  const key = createHmac('sha256', 'WebAppData')
    .update(options.botToken ?? BOT_TOKEN)
    .digest();
  fields.set('hash', createHmac('sha256', key).update(lines.join('\n')).digest('hex'));
  return fields.toString();
}
