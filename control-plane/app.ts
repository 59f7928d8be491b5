/**
 * The composition root of the control plane: the only place that constructs. Everything else is handed what it
 * needs. `buildApp` makes the API over given collaborators; `startControlPlane` makes those, too, and runs it all.
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { Redis } from 'ioredis';
import type pg from 'pg';
import { connectLive, type LiveRedis } from '../gateway/live/connection.js';
import { AddressSet } from '../gateway/runtime/addresses.js';
import { type Clock, systemClock } from '../gateway/runtime/clock.js';
import type { Log } from '../gateway/runtime/logging.js';
import { OriginCheck } from '../gateway/runtime/origin/origin-check.js';
import { startPrivateServer } from '../gateway/runtime/private-server.js';
import { projectPath } from '../gateway/runtime/project-path.js';
import { adminAuthPlugin } from './auth/admin-plugin.js';
import { createAuthenticate } from './auth/authenticate.js';
import { authPlugin } from './auth/plugin.js';
import { createTelegramSignIn } from './auth/telegram-sign-in.js';
import { balancePlugin } from './balance/plugin.js';
import { type LoginCodeSender, loggedCodeSender, telegramCodeSender } from './bot/login-code-sender.js';
import { TelegramQueue } from './bot/telegram-queue.js';
import { buyersPlugin } from './buyers/plugin.js';
import { buyerSelfPlugin } from './buyers/self-plugin.js';
import { readGoneAccounts, readSnapshots } from './buyers/snapshots.js';
import { verifyBuyerToken } from './buyers/tokens.js';
import type { ControlPlaneConfig } from './config.js';
import { migrate } from './db/migrate.js';
import { createPool } from './db/pool.js';
import { connectLimiter, redisReady } from './db/redis.js';
import { devicesPlugin } from './devices/plugin.js';
import { forgetOldIdempotencyKeys } from './http/idempotency.js';
import { type ApiServer, createServer } from './http/server.js';
import { readBalances } from './ledger/ledger.js';
import { LiveState } from './live-state/live-state.js';
import { ControlPlaneMetrics } from './metrics.js';
import { ingestPlugin } from './packages/ingest-plugin.js';
import { PackageKeeper } from './packages/keeper.js';
import { packagesPlugin } from './packages/plugin.js';
import { republishRoutes } from './packages/routes.js';
import { payoutsPlugin } from './payouts/plugin.js';
import { policyPlugin } from './policy/plugin.js';
import { pricingPlugin } from './pricing/plugin.js';
import { liveProviderPrice } from './pricing/prices.js';
import { type BalanceOf, providersPlugin } from './providers/plugin.js';
import { MoneyWatch } from './reconciliation/figures.js';
import { reconciliationPlugin } from './reconciliation/plugin.js';
import { Reconciler } from './reconciliation/reconciler.js';
import { settingsPlugin } from './settings/plugin.js';
import { readLiveSettings, SettingsStore } from './settings/settings.js';
import { directMetersPlugin } from './settlement/direct-plugin.js';
import { settlementPlugin } from './settlement/plugin.js';
import { SETTLEMENT_DEFAULTS } from './settlement/settings.js';
import { createSettlement } from './settlement/settlement.js';
import type { SettlementWorker } from './settlement/worker.js';
import { subUsersPlugin } from './sub-users/plugin.js';
import { systemPlugin } from './system/plugin.js';
import { trafficPlugin } from './traffic/plugin.js';
import type { OriginCheck as StartOriginCheck } from './traffic/start.js';
import { StopKeeper } from './traffic/stop-keeper.js';
import { UsageRetention } from './usage/partitions.js';
import { usagePlugin } from './usage/plugin.js';
import { UsageWorker } from './usage/worker.js';
import { rebuildWallets, WalletKeeper } from './wallets/keeper.js';
import { walletsPlugin } from './wallets/plugin.js';

/** What everything works with; a test hands in its own. */
export interface Collaborators {
  config: ControlPlaneConfig;
  log: Log;
  clock: Clock;
  pool: pg.Pool;
  redis: LiveRedis;
  /** For the rate limiter alone: fails at once while Redis is away. */
  limiterRedis: Redis;
  codeSender: LoginCodeSender;
  originCheck: StartOriginCheck;
}

/** What works in the background beside the API. */
export interface Services {
  settings: SettingsStore;
  live: LiveState;
  settlement: SettlementWorker;
  packages: PackageKeeper;
  stops: StopKeeper;
  wallets: WalletKeeper;
  reconciler: Reconciler;
  usage: UsageWorker;
  usageRetention: UsageRetention;
}

/** How often the settings that `SettingsStore.current` gives are read again. */
const SETTINGS_REFRESH_MS = 2_000;

export function createServices({ config, log, clock, pool, redis }: Collaborators): Services {
  const settings = new SettingsStore(pool, {
    termsVersion: config.termsVersion,
    minClientVersion: config.minClientVersion,
    appLatest: config.appLatest,
    offerBytes: config.offerBytes,
    buyerPriceMicrosPerGb: BigInt(config.buyerPriceMicrosPerGb),
    holdTimeS: config.holdTimeS,
    referralPercent: config.referralPercent,
    withdrawMicrosMin: BigInt(config.withdrawMicrosMin),
    withdrawDayMicrosMax: BigInt(config.withdrawDayMicrosMax),
    withdrawNetworks: config.withdrawNetworks,
    subUsersMax: config.subUsersMax,
    reconciliationPercent: config.reconciliationPercent,
    reconciliationBytesMin: config.reconciliationBytesMin,
    destinationRetentionDays: config.destinationRetentionDays,
  });
  const live = new LiveState({
    pool,
    redis,
    log,
    snapshots: (selection) => readSnapshots(pool, selection, settings.current().buyerPriceMicrosPerGb),
    goneAccounts: (selection) => readGoneAccounts(pool, selection),
    providerPrice: () => liveProviderPrice(pool, clock.nowMs(), BigInt(config.providerPriceMicrosPerGb)),
    liveSettings: () => readLiveSettings(pool, settings),
    rebuilders: [() => republishRoutes(pool, redis, clock), () => rebuildWallets(pool, redis)],
  });
  const settlement = createSettlement({
    pool,
    redis,
    clock,
    log,
    settings: () => {
      const { holdTimeS, referralPercent, offerBytes } = settings.current();
      return {
        ...SETTLEMENT_DEFAULTS,
        intervalMs: config.settlementIntervalMs,
        holdMs: holdTimeS * 1000,
        referralPercent,
        offerBytes,
      };
    },
  });
  const packages = new PackageKeeper({ pool, redis, clock, log, live, pullTtlMs: config.pullTtlS * 1000 });
  const stops = new StopKeeper({ pool, log, live });
  const wallets = new WalletKeeper({
    pool,
    redis,
    openBell: () =>
      connectLive({ url: config.redisUrl, log, connectionName: 'traffic-share-control-plane-wallets' }),
    log,
    defaultBuyerPriceMicrosPerGb: () => settings.current().buyerPriceMicrosPerGb,
  });
  const reconciler = new Reconciler({
    pool,
    log,
    tolerance: () => {
      const { reconciliationPercent: percent, reconciliationBytesMin: bytesMin } = settings.current();
      return { percent, bytesMin };
    },
  });
  const usage = new UsageWorker({ pool, redis, clock, log, intervalMs: config.usageBookingIntervalMs });
  const usageRetention = new UsageRetention({
    pool,
    log,
    retentionDays: () => settings.current().destinationRetentionDays,
  });
  return { settings, live, settlement, packages, stops, wallets, reconciler, usage, usageRetention };
}

/** The API with every domain, not listening yet. `close()` it; what was handed in stays the caller's. */
export async function buildApp(
  { config, log, clock, pool, redis, limiterRedis, codeSender, originCheck }: Collaborators,
  { settings, live, settlement }: Services,
): Promise<ApiServer> {
  const telegramSignIn = createTelegramSignIn({ pool, clock, botToken: config.botToken });
  const adminAddresses = new AddressSet(config.adminIps);
  const adminIpAllowed = (ip: string) => config.adminIps.length === 0 || adminAddresses.has(ip);
  const apiVersion = packageVersion();
  const balanceOf: BalanceOf = async (userId) => {
    const [available, pending] = await Promise.all(
      (['provider_available', 'provider_pending'] as const).map((kind) => readBalances(pool, kind, [userId])),
    );
    return {
      availableMicros: available?.get(userId)?.balanceMicros ?? 0n,
      pendingMicros: pending?.get(userId)?.balanceMicros ?? 0n,
    };
  };

  const app = await createServer({
    log,
    pool,
    limiterRedis,
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
      verifyBuyerToken: (token, ip) => verifyBuyerToken(pool, token, ip),
    }),
  });

  await app.register(systemPlugin, { pool, redis, apiVersion, settings });
  await app.register(authPlugin, { pool, clock, telegramSignIn, codeSender, settings: config });
  await app.register(adminAuthPlugin, { pool, clock, telegramSignIn, adminIpAllowed, settings: config });
  await app.register(providersPlugin, { pool, settings, balanceOf, live });
  await app.register(devicesPlugin, { pool, redis, live, settings: config });
  await app.register(trafficPlugin, {
    pool,
    redis,
    clock,
    live,
    settings,
    originCheck,
    tunnelUrl: config.tunnelUrl,
    ticketTtlS: config.ticketTtlS,
    stopWaitMs: config.stopWaitMs,
  });
  await app.register(settingsPlugin, {
    pool,
    store: settings,
    onChange: async (changed) => {
      if (changed.termsVersion) await live.settingsChanged();
      if (changed.buyerPrice) await live.allAccountsChanged();
    },
  });
  await app.register(policyPlugin, { pool, live });
  await app.register(pricingPlugin, {
    pool,
    clock,
    live,
    defaultProviderPrice: BigInt(config.providerPriceMicrosPerGb),
  });
  const proxy = { host: config.publicProxyHost, port: config.publicProxyPort };
  const defaultBuyerPrice = () => settings.current().buyerPriceMicrosPerGb;
  await app.register(buyersPlugin, { pool, clock, live, proxy });
  await app.register(buyerSelfPlugin, { pool, clock, live, defaultBuyerPrice });
  await app.register(subUsersPlugin, {
    pool,
    live,
    proxy,
    countMax: async () => (await settings.read()).subUsersMax,
  });
  await app.register(ingestPlugin, { pool });
  await app.register(packagesPlugin, {
    pool,
    redis,
    clock,
    live,
    proxy,
    pullTtlMs: config.pullTtlS * 1000,
    offerBytes: () => settings.current().offerBytes,
  });
  await app.register(balancePlugin, { pool, log, live, settlement });
  await app.register(walletsPlugin, { pool });
  await app.register(settlementPlugin, { pool, redis });
  await app.register(directMetersPlugin, { settlement });
  await app.register(payoutsPlugin, {
    pool,
    rules: async () => {
      const s = await settings.read();
      return {
        amountMicrosMin: s.withdrawMicrosMin,
        dayMicrosMax: s.withdrawDayMicrosMax,
        networks: s.withdrawNetworks,
      };
    },
  });
  await app.register(reconciliationPlugin, { pool });
  await app.register(usagePlugin, { pool, clock });
  await app.ready();
  return app;
}

export interface ControlPlane {
  /** Where the API listens, `http://host:port`. */
  url: string;
  port: number;
  /** Of `/metrics`, `/health` and `/status`. */
  metricsPort: number;
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
  const stops: (() => unknown)[] = [];
  /** What was started last stops first. */
  const stop = async () => {
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    if (config.migrateAtStart) {
      const applied = await migrate(config.databaseUrl);
      if (applied.length > 0) log.info({ applied }, 'migrated');
    }
    const collaborators = await createCollaborators(config, log, clock, stops);
    const { pool } = collaborators;
    const services = createServices(collaborators);
    await services.settings.read();
    services.settings.start(SETTINGS_REFRESH_MS);
    stops.push(() => services.settings.stop());
    stops.push(() => services.live.stop());
    await services.live.start();
    stops.push(() => services.settlement.stop());
    services.settlement.start();
    stops.push(() => services.packages.stop());
    services.packages.start();
    stops.push(() => services.wallets.stop());
    services.wallets.start();
    stops.push(() => services.stops.stop());
    services.stops.start();
    stops.push(() => services.reconciler.stop());
    services.reconciler.start();
    stops.push(() => services.usage.stop());
    services.usage.start();
    stops.push(() => services.usageRetention.stop());
    services.usageRetention.start();

    const app = await buildApp(collaborators, services);
    stops.push(() => app.close());
    const housekeeping = setInterval(() => {
      forgetOldIdempotencyKeys(pool).catch((error: { code?: string }) =>
        log.warn({ error_code: error.code }, 'housekeeping_failed'),
      );
    }, HOUSEKEEPING_INTERVAL_MS);
    housekeeping.unref();
    stops.push(() => clearInterval(housekeeping));

    const money = new MoneyWatch({ pool, clock, log });
    const metrics = new ControlPlaneMetrics({ clock, pool, money, ...services });
    const privateServer = await startPrivateServer({
      host: config.metricsHost,
      port: config.metricsPort,
      metrics: metrics.registry,
      status: () => metrics.status(),
      ailments: () => metrics.ailments(),
    });
    stops.push(() => privateServer.stop());

    await app.listen({ host: config.apiHost, port: config.apiPort });
    const { port, address } = app.server.address() as AddressInfo;
    const host = address.includes(':') ? `[${address}]` : address;
    log.info({ host: address, port }, 'listening');
    return { url: `http://${host}:${port}`, port, metricsPort: privateServer.port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The real ones; each leaves its end in `stops`. */
async function createCollaborators(
  config: ControlPlaneConfig,
  log: Log,
  clock: Clock,
  stops: (() => unknown)[],
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
  const codeSender = createCodeSender(config, log, clock, stops);
  return { config, log, clock, pool, redis, limiterRedis, codeSender, originCheck };
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
