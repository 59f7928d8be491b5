import { redisUrl } from '../gateway/live/redis-url.js';
import {
  flag,
  integer,
  list,
  oneOf,
  readEnvironment,
  secret,
  text,
  type Values,
} from '../gateway/runtime/environment.js';
import { tracingSettings } from '../gateway/runtime/tracing.js';
import { abuseSettings } from './abuse/settings.js';
import { backupProblems, backupSettings } from './backup/settings.js';
import { configProblems } from './config-problems.js';
import { cryptomusSettings } from './cryptomus/settings.js';
import { liveFeedSettings } from './live-feed/settings.js';
import { PAYOUT_NETWORKS } from './payouts/addresses.js';
import { pushSettings } from './push/settings.js';
import { telegramSettings } from './telegram/settings.js';

/** Every setting of the control plane. `traffic-share control-plane --help` prints this table. */
export const controlPlaneSettings = {
  // Where it listens and what it needs
  apiHost: text('TS_API_HOST', 'address the API listens on', '0.0.0.0'),
  apiPort: integer('TS_API_PORT', 'port of the API, 0 = any free', { default: 3000, max: 65_535 }),
  metricsHost: text(
    'TS_CONTROL_METRICS_HOST',
    'address of the private port: /metrics /health /status',
    '127.0.0.1',
  ),
  metricsPort: integer('TS_CONTROL_METRICS_PORT', 'private port, 0 = any free', {
    default: 9_465,
    max: 65_535,
  }),
  databaseUrl: secret('TS_DATABASE_URL', 'the record, postgres://user:password@host:port/database'),
  databaseConnectionsMax: integer(
    'TS_DATABASE_CONNECTIONS_MAX',
    'connections to Postgres at once; above it requests wait up to 5 s, then get 503',
    { default: 20, min: 2, max: 1_000 },
  ),
  redisUrl,
  migrateAtStart: flag('TS_MIGRATE_AT_START', 'bring the database schema up to date when starting', true),
  production: flag(
    'TS_PRODUCTION',
    'set by NODE_ENV=production as well: development exemptions are refused',
    false,
  ),
  logLevel: oneOf(
    'TS_LOG_LEVEL',
    'debug, info, warn, error or silent',
    ['debug', 'info', 'warn', 'error', 'silent'],
    'info',
  ),
  ...tracingSettings,
  stopGraceMs: integer('TS_STOP_GRACE_MS', 'time requests get to finish after SIGTERM; then they are cut', {
    default: 10_000,
    min: 100,
  }),

  // The edge of the API
  trustedProxies: list(
    'TS_TRUSTED_PROXIES',
    'addresses or CIDRs of proxies in front of the API whose X-Forwarded-For is believed',
  ),
  corsOrigins: list('TS_CORS_ORIGINS', 'web origins (https://…) whose pages may call the API'),
  bodyBytesMax: integer('TS_API_BODY_BYTES_MAX', 'size of a request body, bytes; above it 413', {
    default: 262_144,
    min: 1_024,
  }),
  ...liveFeedSettings,
  requestsPerMinute: integer(
    'TS_API_REQUESTS_PER_MINUTE',
    'requests of one client address to one route per minute; above it 429',
    { default: 300, min: 1 },
  ),
  adminIps: list('TS_ADMIN_IPS', 'addresses or CIDRs that admins may come from; unset: any'),

  // Secrets
  jwtSecret: secret('TS_JWT_SECRET', 'signs access tokens and salts login codes, at least 32 bytes'),
  botSecret: secret('TS_BOT_SECRET', 'shared by bot and API (X-Bot-Secret); unset: no bot calls', null),
  internalSecret: secret(
    'TS_INTERNAL_SECRET',
    'shared with own services (X-Internal-Secret); unset: no internal calls',
    null,
  ),
  bootstrapSecret: secret(
    'TS_BOOTSTRAP_SECRET',
    'makes the first admin, once (X-Bootstrap-Secret); unset: not possible over the API',
    null,
  ),

  // Signing in
  ...telegramSettings,
  consoleUrl: text(
    'TS_CONSOLE_URL',
    "where the web console is reached, https://…; the bot's menu button opens it; unset: no button",
    null,
  ),
  accessTokenTtlS: integer('TS_ACCESS_TOKEN_TTL_S', 'life of an access token, seconds', {
    default: 900,
    min: 30,
    max: 90 * 86_400,
  }),
  adminTokenTtlS: integer('TS_ADMIN_TOKEN_TTL_S', "life of an admin's access token, seconds", {
    default: 28_800,
    min: 30,
    max: 90 * 86_400,
  }),
  refreshTokenTtlS: integer('TS_REFRESH_TOKEN_TTL_S', 'life of an unused refresh token, seconds', {
    default: 30 * 86_400,
    min: 60,
  }),
  authCacheMs: integer(
    'TS_AUTH_CACHE_MS',
    'time a token that was good is taken for good without asking Postgres; at its end it is asked again, 0: always',
    { default: 500, max: 1_000 },
  ),
  loginCodeTtlS: integer('TS_LOGIN_CODE_TTL_S', 'life of a login code, seconds', {
    default: 300,
    min: 10,
    max: 3_600,
  }),
  codesPerIdPerHour: integer(
    'TS_CODES_PER_ID_PER_HOUR',
    'login codes one Telegram id may ask for in an hour; above it 429',
    { default: 10, min: 1 },
  ),
  codeCallsPerIpPerHour: integer(
    'TS_CODE_CALLS_PER_IP_PER_HOUR',
    'calls to register and request_login_code (each) from one address in an hour; above it 429',
    { default: 60, min: 1 },
  ),
  codeTriesPerIpPerHour: integer(
    'TS_CODE_TRIES_PER_IP_PER_HOUR',
    'login codes one address may try in an hour; above it 429',
    { default: 60, min: 1 },
  ),

  // Sharing
  ticketTtlS: integer('TS_TICKET_TTL_S', 'time a device has to open its tunnel after start, seconds', {
    default: 60,
    min: 5,
    max: 600,
  }),
  tunnelUrl: text(
    'TS_TUNNEL_URL',
    'where devices open tunnels, ws:// or wss://',
    'ws://127.0.0.1:8443/tunnel',
  ),
  publicProxyHost: text('TS_PUBLIC_PROXY_HOST', 'host name buyers are told for the proxy', '127.0.0.1'),
  publicProxyPort: integer('TS_PUBLIC_PROXY_PORT', 'port buyers are told for the proxy', {
    default: 8080,
    min: 1,
    max: 65_535,
  }),
  allowedCountries: list(
    'TS_ALLOWED_COUNTRIES',
    'ISO 3166 codes devices may come from; unset: US and the EU/EEA',
  ),
  devLoopbackCountry: text(
    'TS_DEV_LOOPBACK_COUNTRY',
    'development only: the country taken for devices on private addresses',
    null,
  ),
  geoipCountryPath: text(
    'TS_GEOIP_COUNTRY',
    'mmdb file for countries, states and cities; unset: the CC0 countries shipped',
    null,
  ),
  geoipAsnPath: text('TS_GEOIP_ASN', 'mmdb file for ASNs; unset: the table shipped', null),
  asnRulePaths: list(
    'TS_ASN_RULES',
    'files of ASN rules (hosting, VPN), read again when they change; unset: deploy/policy/asn-hosting.txt',
  ),
  addressRulePaths: list(
    'TS_IP_DENYLISTS',
    'files of denied addresses, read again when they change; unset: deploy/policy/ip-denylist.txt',
  ),
  locationsTtlMs: integer(
    'TS_LOCATIONS_TTL_MS',
    'how long buyers are told the same locations before the live state is read again',
    { default: 3_000, min: 0, max: 60_000 },
  ),
  policyEntriesMax: integer(
    'TS_POLICY_ENTRIES_MAX',
    'entries of one list of the policy (domains, networks, ASN rules); above it 400',
    { default: 10_000, min: 100, max: 100_000 },
  ),
  termsVersion: text('TS_TERMS_VERSION', 'version of the terms in force, until an admin sets another', '1'),
  minClientVersion: text('TS_MIN_CLIENT_VERSION', 'oldest app version that may share (x.y.z)', '0.1.0'),
  appLatest: text('TS_APP_LATEST', 'newest app version (x.y.z)', '0.1.0'),
  stalePackagesBecome: oneOf(
    'TS_STALE_PACKAGES_BECOME',
    'what becomes of packages that a buyer pulled and did not use in their time',
    ['available', 'revoked'],
    'available',
  ),
  offerBytes: integer('TS_OFFER_BYTES', 'size of the package offered for a sharing device, bytes', {
    default: 10_000_000_000,
    min: 1_000_000,
  }),
  devicesPerUserMax: integer('TS_DEVICES_PER_USER_MAX', 'devices of one provider; above it 409', {
    default: 20,
    min: 1,
  }),
  stopWaitMs: integer(
    'TS_STOP_WAIT_MS',
    'time a stop waits for the last bytes to be settled before it answers with what is booked',
    { default: 3_000, max: 20_000 },
  ),

  // Payments through Cryptomus
  ...cryptomusSettings,

  // Money: first values; what admins set in the database wins
  holdTimeS: integer('TS_HOLD_TIME_S', 'time earnings stay pending, seconds; unset: 24 h, 0 in development', {
    default: -1,
    min: -1,
  }),
  providerPriceMicrosPerGb: integer(
    'TS_PROVIDER_PRICE_MICROS_PER_GB',
    'provider price while no daily price was ever set, micro-dollars per 10^9 bytes',
    { default: 500_000 },
  ),
  buyerPriceMicrosPerGb: integer(
    'TS_BUYER_PRICE_MICROS_PER_GB',
    'price of a buyer without one of their own, micro-dollars per 10^9 bytes',
    { default: 2_000_000 },
  ),
  pullTtlS: integer('TS_PULL_TTL_S', 'time a pulled package may stay unused, seconds', {
    default: 3_600,
    min: 10,
  }),
  pullsPerSecond: integer(
    'TS_PULLS_PER_SECOND',
    'pulls of packages by one buyer token, a second in the long run; above it 429',
    { default: 1, min: 1, max: 100_000 },
  ),
  pullBurst: integer('TS_PULL_BURST', 'pulls of packages by one buyer token at once; above it 429', {
    default: 5,
    min: 1,
    max: 1_000_000,
  }),
  referralPercent: integer(
    'TS_REFERRAL_PERCENT',
    "the inviter's part of an invited provider's earnings, percent, from the platform's share",
    { default: 10, max: 50 },
  ),
  withdrawMicrosMin: integer('TS_WITHDRAW_MICROS_MIN', 'smallest payout, micro-dollars; below it 422', {
    default: 5_000_000,
    max: 10_000_000_000_000,
  }),
  withdrawDayMicrosMax: integer(
    'TS_WITHDRAW_DAY_MICROS_MAX',
    'what one provider may withdraw in a UTC day, micro-dollars; above it 422',
    { default: 1_000_000_000, max: 10_000_000_000_000 },
  ),
  withdrawNetworks: list(
    'TS_WITHDRAW_NETWORKS',
    `networks payouts may go over, of ${PAYOUT_NETWORKS.join(', ')}; others 422`,
    ['TRON'],
  ),
  payoutAutoApproveMicrosMax: integer(
    'TS_PAYOUT_AUTO_APPROVE_MICROS_MAX',
    'payouts up to this amount need no admin, micro-dollars; 0: each needs one',
    { default: 0, max: 10_000_000_000_000 },
  ),
  payoutTwoAdminMicrosMin: integer(
    'TS_PAYOUT_TWO_ADMIN_MICROS_MIN',
    'payouts above this amount need two different admins, micro-dollars',
    { default: 500_000_000, max: 10_000_000_000_000 },
  ),
  topupMicrosMin: integer('TS_TOPUP_MICROS_MIN', 'smallest top-up of a buyer, micro-dollars; below it 422', {
    default: 5_000_000,
    max: 10_000_000_000_000,
  }),
  topupMicrosMax: integer('TS_TOPUP_MICROS_MAX', 'largest top-up of a buyer, micro-dollars; above it 422', {
    default: 10_000_000_000,
    max: 10_000_000_000_000,
  }),
  starPriceMicros: integer(
    'TS_STAR_PRICE_MICROS',
    'what a Telegram Star is worth in a top-up, micro-dollars; 0: none are taken (422)',
    { default: 13_000, max: 1_000_000 },
  ),
  trialBytes: integer('TS_TRIAL_BYTES', 'bytes a buyer may try once, at their price; 0: no trial (422)', {
    default: 100_000_000,
    max: 1_000_000_000_000,
  }),
  subUsersMax: integer('TS_SUB_USERS_MAX', 'sub-users of one buyer, closed ones not counted; above it 409', {
    default: 100,
    max: 100_000,
  }),
  reconciliationPercent: integer(
    'TS_RECONCILIATION_PERCENT',
    'difference between what is reported and what is metered above which a session is flagged, percent',
    { default: 2, max: 100 },
  ),
  reconciliationBytesMin: integer(
    'TS_RECONCILIATION_BYTES_MIN',
    'differences of fewer bytes are never flagged: counts are taken at different moments',
    { default: 100_000, max: 1_000_000_000_000 },
  ),
  destinationRetentionDays: integer(
    'TS_DESTINATION_RETENTION_DAYS',
    'UTC days that usage by destination host is kept for abuse handling; then it is deleted',
    { default: 90, min: 1, max: 3_650 },
  ),
  usageBookingIntervalMs: integer(
    'TS_USAGE_BOOKING_INTERVAL_MS',
    'how often usage by destination host is booked',
    { default: 1_000, min: 20, max: 60_000 },
  ),

  // Abuse: what is taken for it, reports, legal holds
  ...abuseSettings,

  // Push notices, through Firebase Cloud Messaging
  ...pushSettings,

  // Operating
  ...backupSettings,
  recentLogLines: integer(
    'TS_RECENT_LOG_LINES',
    'log lines kept in memory for GET /api/system/logs, at most 8 MB; the oldest go first',
    { default: 5_000, max: 100_000 },
  ),

  settlementIntervalMs: integer('TS_SETTLEMENT_INTERVAL_MS', 'how often meters are booked', {
    default: 200,
    min: 20,
  }),
};

export type ControlPlaneConfig = Values<typeof controlPlaneSettings>;

/** Reads the control plane's settings; throws EnvironmentError with every problem. */
export function readControlPlaneConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
): ControlPlaneConfig {
  const production = env.NODE_ENV === 'production' ? '1' : env.TS_PRODUCTION;
  const config = readEnvironment(controlPlaneSettings, { ...env, TS_PRODUCTION: production }, configProblems);
  return Object.freeze({
    ...config,
    holdTimeS: config.holdTimeS >= 0 ? config.holdTimeS : config.production ? 86_400 : 0,
  });
}

/** What `traffic-share backup` and `restore` need. */
export function readBackupConfig(env: Readonly<Record<string, string | undefined>> = process.env) {
  const { databaseUrl, redisUrl, production: inProduction } = controlPlaneSettings;
  const settings = { ...backupSettings, databaseUrl, redisUrl, production: inProduction };
  const production = env.NODE_ENV === 'production' ? '1' : env.TS_PRODUCTION;
  return readEnvironment(settings, { ...env, TS_PRODUCTION: production }, (c) =>
    backupProblems(c, c.production),
  );
}

/** What programs that the control plane starts get of its environment: no setting, so no secret. */
export function programEnvironment(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  const names = ['PATH', 'HOME', 'TMPDIR', 'SYSTEMROOT', 'PGSSLROOTCERT', 'PGSSLCERT', 'PGSSLKEY'];
  return Object.fromEntries(
    names.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name] as string]])),
  );
}

/** Whether the environment is a production system's, for commands that must not run there. */
export function readIsProduction(env: Readonly<Record<string, string | undefined>> = process.env): boolean {
  const { production } = readEnvironment({ production: controlPlaneSettings.production }, env);
  return env.NODE_ENV === 'production' || production;
}

/** The database alone, for commands that need nothing else. */
export function readDatabaseUrl(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return readEnvironment({ databaseUrl: controlPlaneSettings.databaseUrl }, env).databaseUrl;
}
