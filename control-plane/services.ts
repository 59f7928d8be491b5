/** What works in the background beside the API. */
import { connectLive } from '../gateway/live/connection.js';
import { detectionJob } from './abuse/detection.js';
import { ABUSE_ALERT_KINDS, abuseConditions } from './abuse/findings.js';
import { forgetOldAbuse } from './abuse/forget.js';
import { detectionSettingsOf } from './abuse/settings.js';
import { ALERT_OUTBOX } from './alerts/alerts.js';
import { AlertWatch } from './alerts/watch.js';
import { AuditChainer } from './audit/chain.js';
import { Backups } from './backup/backup.js';
import { createArchive, pgToolsOf, retentionOf } from './backup/create.js';
import { RestoreTests } from './backup/restore-test.js';
import { alertHandler, dailyReportHandler, payoutReceiptHandler } from './bot/admin-messages.js';
import { forgetOldBotState } from './bot/guests.js';
import { createStarsApi } from './bot/stars-client.js';
import { forgetOldUpdates } from './bot/updates.js';
import { type BotServices, createBotServices } from './bot-services.js';
import { BroadcastSender } from './broadcasts/sender.js';
import { readGoneAccounts, readSnapshots } from './buyers/snapshots.js';
import { forgetOldBuyerLinks } from './buyers/telegrams.js';
import type { Collaborators } from './collaborators.js';
import type { ControlPlaneConfig } from './config.js';
import { programEnvironment } from './config.js';
import { CryptomusClient, type CryptomusSettings } from './cryptomus/client.js';
import { DAILY_REPORT_OUTBOX, dailyReportJob } from './figures/daily-report.js';
import { readDays, statsJob } from './figures/figures.js';
import { forgetOldIdempotencyKeys } from './http/idempotency.js';
import { cleanupJob } from './jobs/cleanup.js';
import { notificationsJob, Outbox } from './jobs/outbox.js';
import { JobRunner } from './jobs/runner.js';
import { LEGAL_HOLD_ALERT, legalHoldConditions } from './legal-holds/legal-holds.js';
import { LiveState } from './live-state/live-state.js';
import { Measures } from './measures.js';
import { appUpdatesJob } from './notices/app-updates.js';
import { putNotices } from './notices/notices.js';
import { PackageKeeper } from './packages/keeper.js';
import { republishRoutes } from './packages/routes.js';
import { PAYOUT_RECEIPT_OUTBOX } from './payouts/receipts.js';
import { PayoutSender } from './payouts/sender.js';
import { readLiveSettings } from './policy/live-settings.js';
import { forgetExpiredReputation } from './policy/reputation.js';
import { liveProviderPrice } from './pricing/prices.js';
import { FcmClient } from './push/fcm-client.js';
import { forgetOldPushes, PushSender } from './push/push-sender.js';
import { readServiceAccount } from './push/service-account.js';
import { MoneyWatch } from './reconciliation/figures.js';
import { Reconciler } from './reconciliation/reconciler.js';
import { SettingsStore } from './settings/settings.js';
import { SETTLEMENT_DEFAULTS } from './settlement/settings.js';
import { createSettlement } from './settlement/settlement.js';
import type { SettlementWorker } from './settlement/worker.js';
import { RecordWatch } from './system/record-figures.js';
import { RequestCounts } from './system/request-counts.js';
import { AdminChannel } from './telegram/admin-channel.js';
import { TopUpKeeper } from './topups/keeper.js';
import { starRefundHandler } from './topups/star-refunds.js';
import { StarTopUps } from './topups/star-topups.js';
import { starWatchJob } from './topups/star-watch.js';
import { cancelUnpaidStarTopUps, STAR_REFUND_OUTBOX } from './topups/stars.js';
import { StopKeeper } from './traffic/stop-keeper.js';
import { forgetOldActivity } from './usage/activity.js';
import { UsageRetention } from './usage/partitions.js';
import { forgetOldRefusals } from './usage/refusals.js';
import { UsageWorker } from './usage/worker.js';
import { rebuildWallets, WalletKeeper } from './wallets/keeper.js';

/** What works in the background beside the API. */
export interface Services {
  jobs: JobRunner;
  outbox: Outbox;
  backups: Backups;
  auditChain: AuditChainer;
  requests: RequestCounts;
  measures: Measures;
  record: RecordWatch;
  settings: SettingsStore;
  live: LiveState;
  settlement: SettlementWorker;
  packages: PackageKeeper;
  stops: StopKeeper;
  wallets: WalletKeeper;
  reconciler: Reconciler;
  usage: UsageWorker;
  usageRetention: UsageRetention;
  payouts: PayoutSender;
  /** What the admins are told. */
  admins: AdminChannel;
  money: MoneyWatch;
  alerts: AlertWatch;
  topUps: TopUpKeeper;
  starTopUps: StarTopUps;
  /** Null: there is no bot. */
  bot: BotServices | null;
  broadcasts: BroadcastSender;
  /** Null: nothing is pushed. */
  pushes: PushSender | null;
}

export function createServices(collaborators: Collaborators): Services {
  const { config, log, clock, pool, redis, telegram, botApi } = collaborators;
  const settings = new SettingsStore(pool, {
    termsVersion: config.termsVersion,
    minClientVersion: config.minClientVersion,
    appLatest: config.appLatest,
    offerBytes: config.offerBytes,
    stalePackagesBecome: config.stalePackagesBecome,
    buyerPriceMicrosPerGb: BigInt(config.buyerPriceMicrosPerGb),
    holdTimeS: config.holdTimeS,
    referralPercent: config.referralPercent,
    withdrawMicrosMin: BigInt(config.withdrawMicrosMin),
    withdrawDayMicrosMax: BigInt(config.withdrawDayMicrosMax),
    withdrawNetworks: config.withdrawNetworks,
    payoutAutoApproveMicrosMax: BigInt(config.payoutAutoApproveMicrosMax),
    payoutTwoAdminMicrosMin: BigInt(config.payoutTwoAdminMicrosMin),
    topupMicrosMin: BigInt(config.topupMicrosMin),
    topupMicrosMax: BigInt(config.topupMicrosMax),
    starPriceMicros: BigInt(config.starPriceMicros),
    trialBytes: config.trialBytes,
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
  const measures = new Measures();
  const settlement = createSettlement({
    onBooked: (gains) =>
      measures.settled(
        gains.map(({ claim }) => claim.activeAtMs),
        clock.nowMs(),
      ),
    pool,
    redis,
    clock,
    log,
    onCompleted: (client, sessions) =>
      putNotices(
        client,
        sessions.map(({ sessionId, userId, bytesUp, bytesDown, earnedMicros }) => ({
          userId,
          key: sessionId,
          content: {
            kind: 'session_completed',
            bytes: (bytesUp + bytesDown).toString(),
            earnedMicros: earnedMicros.toString(),
          },
        })),
      ),
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
  const packages = new PackageKeeper({
    pool,
    redis,
    clock,
    log,
    live,
    pullTtlMs: config.pullTtlS * 1000,
    staleBecome: async () => (await settings.read()).stalePackagesBecome,
  });
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
  const cryptomusSettings = cryptomusOf(config);
  const payments = {
    pool,
    log,
    cryptomus: cryptomusSettings && new CryptomusClient(cryptomusSettings),
    callbackUrl: config.publicApiUrl && `${config.publicApiUrl.replace(/\/$/, '')}/api/webhook/cryptomus`,
    timeoutMs: config.cryptomusTimeoutMs,
    intervalMs: config.cryptomusIntervalMs,
  };
  const payouts = new PayoutSender({
    ...payments,
    rules: () => {
      const s = settings.current();
      return {
        autoApproveMicrosMax: s.payoutAutoApproveMicrosMax,
        twoAdminMicrosMin: s.payoutTwoAdminMicrosMin,
      };
    },
  });
  const topUps = new TopUpKeeper({ ...payments, live, invoiceLifetimeS: config.invoiceLifetimeS });
  const outbox = new Outbox({ pool, log });
  const admins = new AdminChannel({ pool, telegram, chatId: config.adminChatId });
  const adminMessages = {
    log,
    admins,
    language: config.adminChatLanguage,
    readDays: (days: number) => readDays(pool, days),
  };
  outbox.register(DAILY_REPORT_OUTBOX, dailyReportHandler(adminMessages));
  outbox.register(PAYOUT_RECEIPT_OUTBOX, payoutReceiptHandler(adminMessages));
  outbox.register(ALERT_OUTBOX, alertHandler(adminMessages));
  const money = new MoneyWatch({ pool, clock, log });
  const alerts = new AlertWatch({
    pool,
    redis,
    clock,
    log,
    money,
    more: {
      kinds: [...ABUSE_ALERT_KINDS, LEGAL_HOLD_ALERT],
      find: async () => [
        ...(await abuseConditions(pool, config.abuseLateHours)),
        ...(await legalHoldConditions(pool)),
      ],
    },
    onChange: (signal) => outbox.deliverDue(signal), // not at the next minute
  });
  const stars = botApi && createStarsApi(botApi);
  const starTopUps = new StarTopUps({
    pool,
    log,
    stars,
    starPriceMicros: async () => (await settings.read()).starPriceMicros,
    invoiceLifetimeS: config.invoiceLifetimeS,
  });
  if (stars !== null) outbox.register(STAR_REFUND_OUTBOX, starRefundHandler({ pool, log, stars, live }));
  const bot = createBotServices(collaborators, {
    settings,
    live,
    admins,
    payoutsConfigured: payouts.configured,
  });
  const archive = createArchive(config, log);
  const pgTools = pgToolsOf(config, programEnvironment());
  const backups = new Backups({
    pool,
    log,
    databaseUrl: config.databaseUrl,
    tools: pgTools,
    archive,
    retention: retentionOf(config),
  });
  const restoreTests = new RestoreTests({
    pool,
    log,
    archive,
    tools: pgTools,
    databaseUrl: config.restoreTestDatabaseUrl ?? config.databaseUrl,
  });
  const jobs = new JobRunner({ databaseUrl: config.databaseUrl, pool, log });
  jobs.register(
    cleanupJob(pool, {
      packages: async () => (await packages.runOnce()).takenBack,
      idempotency_keys: () => forgetOldIdempotencyKeys(pool),
      telegram_updates: () => forgetOldUpdates(pool),
      bot_state: () => forgetOldBotState(pool),
      buyer_links: () => forgetOldBuyerLinks(pool),
      star_topups: () => cancelUnpaidStarTopUps(pool),
      pushes: () => forgetOldPushes(pool),
      ip_reputation: () => forgetExpiredReputation(pool),
      refusals: () => forgetOldRefusals(pool),
      buyer_activity: () => forgetOldActivity(pool),
      abuse: () => forgetOldAbuse(pool, config.abuseKeptDays),
    }),
    detectionJob({ pool, live, settings: detectionSettingsOf(config) }),
    statsJob(pool),
    notificationsJob(outbox),
    dailyReportJob(pool),
    backups.job(),
    restoreTests.job(),
    appUpdatesJob(pool, () => settings.read()),
    ...(stars === null ? [] : [starWatchJob({ pool, log, stars, live })]),
  );
  const broadcasts = new BroadcastSender({ pool, clock, log, telegram });
  return {
    settings,
    live,
    settlement,
    packages,
    stops,
    wallets,
    reconciler,
    usage,
    usageRetention,
    payouts,
    topUps,
    starTopUps,
    bot,
    outbox,
    backups,
    jobs,
    auditChain: new AuditChainer({ pool, log }),
    requests: new RequestCounts(() => clock.monotonicMs()),
    measures,
    record: new RecordWatch({ pool, clock, log, jobs: () => jobs.names }),
    broadcasts,
    admins,
    pushes: createPushSender(collaborators),
    money,
    alerts,
  };
}

/** Null while no service account is configured. Throws when it is of no use. */
function createPushSender({ config, pool, clock, log }: Collaborators): PushSender | null {
  const { fcmServiceAccount, fcmUrl, fcmTokenUrl: tokenUrl, fcmTimeoutMs: timeoutMs } = config;
  if (fcmServiceAccount === null) return null;
  const account = readServiceAccount(fcmServiceAccount);
  const client = new FcmClient({ account, url: fcmUrl.replace(/\/$/, ''), tokenUrl, timeoutMs }, clock);
  return new PushSender({ pool, clock, log, client });
}

/** What the client of Cryptomus needs, or null while it is not configured. */
export function cryptomusOf(config: ControlPlaneConfig): CryptomusSettings | null {
  const { cryptomusMerchantId: merchantId, cryptomusPaymentKey: paymentKey } = config;
  const { cryptomusPayoutKey: payoutKey } = config;
  if (merchantId === null || paymentKey === null || payoutKey === null) return null;
  const url = config.cryptomusUrl.replace(/\/$/, '');
  return { url, merchantId, paymentKey, payoutKey, timeoutMs: config.cryptomusTimeoutMs };
}

/** How often the settings that `SettingsStore.current` gives are read again. */
const SETTINGS_REFRESH_MS = 2_000;

/** Reads the settings once, then starts each; each leaves its end in `stops`. */
export async function startServices(services: Services, stops: (() => unknown)[]): Promise<void> {
  await services.settings.read();
  services.settings.start(SETTINGS_REFRESH_MS);
  stops.push(() => services.settings.stop());
  stops.push(() => services.live.stop());
  await services.live.start();
  const { settlement, packages, wallets, stops: stopKeeper, reconciler, usage, usageRetention } = services;
  const { payouts, topUps, auditChain, jobs, broadcasts, bot, alerts, pushes } = services;
  const all = [
    settlement,
    packages,
    wallets,
    stopKeeper,
    reconciler,
    usage,
    usageRetention,
    payouts,
    topUps,
    auditChain,
    jobs,
    broadcasts,
    ...(pushes === null ? [] : [pushes]),
    alerts,
    ...(bot === null ? [] : [bot.worker, bot.notices, bot.liveStatus, bot.payoutRequests, bot.source]),
    ...(bot?.profile ? [bot.profile] : []),
  ];
  for (const service of all) {
    stops.push(() => service.stop());
    service.start();
  }
}
