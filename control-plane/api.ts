/** The API with every domain: which plugin is handed what. */
import { AddressSet } from '../gateway/runtime/addresses.js';
import { packageVersion } from '../gateway/runtime/package-version.js';
import { projectPath } from '../gateway/runtime/project-path.js';
import { findingsPlugin } from './abuse/findings-plugin.js';
import { intakePlugin } from './abuse/intake-plugin.js';
import { reportsPlugin } from './abuse/reports-plugin.js';
import { transparencyPlugin } from './abuse/transparency-plugin.js';
import { auditPlugin } from './audit/plugin.js';
import { AcceptedTokens } from './auth/accepted-tokens.js';
import { adminAuthPlugin } from './auth/admin-plugin.js';
import { createAuthenticate } from './auth/authenticate.js';
import { authPlugin } from './auth/plugin.js';
import { createTelegramSignIn } from './auth/telegram-sign-in.js';
import { backupPlugin } from './backup/plugin.js';
import { balancePlugin } from './balance/plugin.js';
import { telegramWebhookPlugin } from './bot/webhook-plugin.js';
import { botCallsPlugin } from './bot-calls/plugin.js';
import { broadcastsPlugin } from './broadcasts/plugin.js';
import { ownTokensPlugin } from './buyers/own-tokens-plugin.js';
import { buyersPlugin } from './buyers/plugin.js';
import { proxyTryPlugin } from './buyers/proxy-try-plugin.js';
import { buyerSelfPlugin } from './buyers/self-plugin.js';
import { buyerTelegramsPlugin } from './buyers/telegrams-plugin.js';
import { verifyBuyerToken } from './buyers/tokens.js';
import type { Collaborators } from './collaborators.js';
import { consolePlugin } from './console/plugin.js';
import { creditsPlugin } from './credits/plugin.js';
import { dashboardPlugin } from './dashboard/plugin.js';
import { fleetPlugin } from './devices/fleet-plugin.js';
import { devicesPlugin } from './devices/plugin.js';
import { figuresPlugin } from './figures/plugin.js';
import { gatewaysPlugin } from './gateways/plugin.js';
import { type ApiServer, createServer } from './http/server.js';
import { inboxPlugin } from './inbox/plugin.js';
import { jobsPlugin } from './jobs/plugin.js';
import { readBalances } from './ledger/ledger.js';
import { legalHoldsPlugin } from './legal-holds/plugin.js';
import { findEnded, type LiveActor } from './live-feed/actors.js';
import { readLiveFigures } from './live-feed/figures.js';
import { LiveHub } from './live-feed/hub.js';
import { liveFeedPlugin } from './live-feed/plugin.js';
import { StreamTickets } from './live-feed/tickets.js';
import { LocationBoard } from './locations/board.js';
import { locationsPlugin } from './locations/plugin.js';
import { newsPlugin } from './news/plugin.js';
import { ingestPlugin } from './packages/ingest-plugin.js';
import { packagesPlugin } from './packages/plugin.js';
import { paymentsPlugin } from './payments/plugin.js';
import { cryptomusWebhookPlugin } from './payments/webhook-plugin.js';
import { payoutsPlugin } from './payouts/plugin.js';
import { peopleAdminPlugin } from './people/admin-plugin.js';
import { peopleSelfPlugin } from './people/self-plugin.js';
import { telegramsPlugin } from './people/telegrams-plugin.js';
import { killPlugin } from './policy/kill-plugin.js';
import { policyListsPlugin } from './policy/lists-plugin.js';
import { withOriginLists } from './policy/origins.js';
import { withReputation } from './policy/reputation.js';
import { reputationPlugin } from './policy/reputation-plugin.js';
import { pricingPlugin } from './pricing/plugin.js';
import { promoPlugin } from './promo/plugin.js';
import { type BalanceOf, providersPlugin } from './providers/plugin.js';
import { reconciliationPlugin } from './reconciliation/plugin.js';
import { cryptomusOf, type Services } from './services.js';
import { settingsPlugin } from './settings/plugin.js';
import { directMetersPlugin } from './settlement/direct-plugin.js';
import { settlementPlugin } from './settlement/plugin.js';
import { subUsersPlugin } from './sub-users/plugin.js';
import { supportPlugin } from './support/plugin.js';
import { systemAdminPlugin } from './system/admin-plugin.js';
import { systemPlugin } from './system/plugin.js';
import { RecentLog } from './system/recent-log.js';
import { termsPlugin } from './terms/plugin.js';
import { topUpsPlugin } from './topups/plugin.js';
import { starRefundPlugin } from './topups/star-refund-plugin.js';
import { trafficPlugin } from './traffic/plugin.js';
import { usagePlugin } from './usage/plugin.js';
import { walletsPlugin } from './wallets/plugin.js';

/** The API with every domain, not listening yet. `close()` it; what was handed in stays the caller's. */
export async function buildApp(collaborators: Collaborators, services: Services): Promise<ApiServer> {
  const { config, log, clock, pool, redis, limiterRedis, codeSender, telegram } = collaborators;
  const { settings, live, settlement, jobs, payouts, measures, requests, topUps } = services;
  const originCheck = withReputation(pool, withOriginLists(pool, collaborators.originCheck));
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

  const tickets = new StreamTickets({ pool, redis, clock, ttlS: config.liveTicketTtlS });
  const endedListeners = (actors: readonly LiveActor[]) => findEnded(pool, actors, clock.nowMs());
  const hub = new LiveHub({
    clock,
    log,
    settings: {
      intervalMs: config.liveIntervalMs,
      heartbeatMs: config.liveHeartbeatMs,
      stallMs: config.liveStallMs,
      lifeMs: config.liveLifeS * 1_000,
      streamsMax: config.liveStreamsMax,
      streamsPerActorMax: config.liveStreamsPerActorMax,
    },
    findEnded: endedListeners,
    read: (subjects) => readLiveFigures({ pool, redis, clock }, subjects),
  });

  const accepted = new AcceptedTokens(config.authCacheMs, clock);
  const app = await createServer({
    log,
    pool,
    limiterRedis,
    trustedProxies: config.trustedProxies,
    corsOrigins: config.corsOrigins,
    bodyBytesMax: config.bodyBytesMax,
    requestsPerMinute: config.requestsPerMinute,
    version: apiVersion,
    onAnswer: (answer) => {
      requests.count(answer.status, answer.durationMs);
      measures.answered(answer);
    },
    authenticate: createAuthenticate({
      takeStreamTicket: (ticket) => tickets.take(ticket),
      pool,
      clock,
      jwtSecret: config.jwtSecret,
      accepted,
      botSecret: config.botSecret,
      internalSecret: config.internalSecret,
      adminIpAllowed,
      telegramSignIn,
      verifyBuyerToken: (token, ip) => verifyBuyerToken(pool, token, ip),
    }),
  });

  // Before the answer goes out: who reads it may rely on what it says, a revoked token for one.
  app.addHook('onSend', async ({ method, actor }, _reply, payload) => {
    if (method !== 'GET' && actor?.role !== 'buyer' && actor?.role !== 'device') accepted.forget();
    return payload;
  });
  await app.register(systemPlugin, { pool, redis, apiVersion, settings });
  await app.register(termsPlugin, { pool, settings });
  await app.register(authPlugin, { pool, clock, telegramSignIn, codeSender, settings: config });
  await app.register(adminAuthPlugin, { pool, clock, telegramSignIn, adminIpAllowed, settings: config });
  await app.register(providersPlugin, { pool, settings, balanceOf, live });
  await app.register(devicesPlugin, { pool, redis, live, settings: config, rules: settings });
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
  await app.register(policyListsPlugin, { pool, live, entriesMax: config.policyEntriesMax });
  await app.register(killPlugin, { pool, live });
  await app.register(pricingPlugin, {
    pool,
    clock,
    live,
    defaultProviderPrice: BigInt(config.providerPriceMicrosPerGb),
  });
  const proxy = { host: config.publicProxyHost, port: config.publicProxyPort };
  const defaultBuyerPrice = () => settings.current().buyerPriceMicrosPerGb;
  const keptDays = () => settings.current().destinationRetentionDays;
  await app.register(buyersPlugin, { pool, clock, live, proxy, keptDays });
  await app.register(buyerSelfPlugin, { pool, clock, live, defaultBuyerPrice, proxy, keptDays });
  await app.register(ownTokensPlugin, { pool, live, proxy });
  await app.register(proxyTryPlugin, { pool, proxy });
  await app.register(liveFeedPlugin, {
    hub,
    tickets,
    ticketTtlS: config.liveTicketTtlS,
    endedOf: async (actor) => (await endedListeners([actor])).get(actor),
  });
  const board = new LocationBoard({ redis, clock, ttlMs: config.locationsTtlMs });
  await app.register(locationsPlugin, { board });
  await app.register(fleetPlugin, { pool, redis, board });
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
    pullRate: { perSecond: config.pullsPerSecond, burst: config.pullBurst },
    staleBecome: async () => (await settings.read()).stalePackagesBecome,
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
  await app.register(paymentsPlugin, {
    pool,
    sender: payouts,
    rules: async () => {
      const s = await settings.read();
      return {
        autoApproveMicrosMax: s.payoutAutoApproveMicrosMax,
        twoAdminMicrosMin: s.payoutTwoAdminMicrosMin,
      };
    },
  });
  await app.register(cryptomusWebhookPlugin, { pool, log, keys: cryptomusOf(config), payouts, topUps });
  await app.register(topUpsPlugin, {
    pool,
    keeper: topUps,
    stars: services.starTopUps,
    bounds: async () => {
      const { topupMicrosMin, topupMicrosMax } = await settings.read();
      return { amountMicrosMin: topupMicrosMin, amountMicrosMax: topupMicrosMax };
    },
  });
  await app.register(starRefundPlugin, { pool, jobs, live });
  await app.register(telegramWebhookPlugin, {
    pool,
    secret: config.botUpdates === 'webhook' && services.bot !== null ? config.botWebhookSecret : null,
    onUpdate: () => services.bot?.worker.wake(),
  });
  await app.register(buyerTelegramsPlugin, { pool, botUsername: config.botUsername });
  await app.register(creditsPlugin, {
    pool,
    live,
    trial: async () => {
      const { trialBytes, buyerPriceMicrosPerGb } = await settings.read();
      return { trialBytes, defaultPriceMicrosPerGb: buyerPriceMicrosPerGb };
    },
  });
  await app.register(peopleAdminPlugin, { pool, redis, live, settings });
  await app.register(telegramsPlugin, { pool, botUsername: config.botUsername });
  await app.register(peopleSelfPlugin, {
    pool,
    botUsername: config.botUsername,
    referralPercent: async () => (await settings.read()).referralPercent,
  });
  await app.register(dashboardPlugin, {
    pool,
    redis,
    clock,
    settings,
    defaultProviderPrice: BigInt(config.providerPriceMicrosPerGb),
  });
  await app.register(inboxPlugin, { pool });
  await app.register(newsPlugin, { pool });
  await app.register(promoPlugin, { pool });
  await app.register(supportPlugin, { pool });
  await app.register(broadcastsPlugin, { pool });
  await app.register(botCallsPlugin, {
    pool,
    redis,
    clock,
    codeSender,
    telegram,
    admins: services.admins,
    settings: config,
    rules: settings,
  });
  await app.register(reconciliationPlugin, { pool });
  await app.register(usagePlugin, { pool, clock, keptDays });
  await app.register(findingsPlugin, { pool, live, contact: config.abuseContact || null });
  await app.register(reportsPlugin, { pool });
  await app.register(transparencyPlugin, { pool });
  await app.register(intakePlugin, {
    pool,
    clock,
    perAddressPerHour: config.abuseReportsPerIpPerHour,
    perHour: config.abuseReportsPerHour,
  });
  await app.register(legalHoldsPlugin, { pool, confirmDays: config.legalHoldConfirmDays });
  await app.register(auditPlugin, { pool });
  await app.register(jobsPlugin, { pool, clock, jobs });
  await app.register(backupPlugin, { pool, jobs, backups: services.backups });
  await app.register(figuresPlugin, { pool, redis, clock });
  await app.register(gatewaysPlugin, { pool, redis, live });
  await app.register(reputationPlugin, { pool });
  await app.register(systemAdminPlugin, {
    recentLog: collaborators.recentLog ?? new RecentLog(0),
    requests,
    figures: () => ownFigures(pool, services),
  });
  await app.register(consolePlugin, {
    log,
    publicDir: projectPath('dist/control-plane/console/public'),
    signIn: {
      botId: config.botToken?.split(':')[0] ?? null,
      botUsername: config.botUsername,
      oauthUrl: config.telegramOauthUrl,
    },
  });
  await app.ready();
  return app;
}

/** Counters of this process for `GET /api/admin/metrics`. */
function ownFigures(pool: Collaborators['pool'], services: Services): Record<string, number> {
  const { settlement, wallets, usage, jobs } = services;
  const sum = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((a, b) => a + b, 0);
  return {
    postgres_connections: pool.totalCount,
    postgres_connections_idle: pool.idleCount,
    postgres_waiting: pool.waitingCount,
    settlement_passes: settlement.counts.passes,
    settlement_failures: settlement.counts.failures,
    settlement_meters_booked: settlement.counts.metersBooked,
    settlement_bytes_booked: Number(settlement.counts.bytesBooked),
    wallet_answers: wallets.counts.answers,
    wallet_failures: wallets.counts.failures,
    usage_batches_booked: usage.counts.batches,
    usage_failures: usage.counts.failures,
    jobs_succeeded: sum(jobs.counts.succeeded),
    jobs_failed: sum(jobs.counts.failed),
  };
}
