/** What works in the background beside the API. */
import { connectLive } from '../gateway/live/connection.js';
import { AuditChainer } from './audit/chain.js';
import { Backups } from './backup/backup.js';
import { FolderStorage } from './backup/folder-storage.js';
import { S3Storage } from './backup/s3-storage.js';
import type { BackupStorage } from './backup/storage.js';
import { dailyReportHandler, payoutReceiptHandler } from './bot/admin-messages.js';
import { createBot } from './bot/bot.js';
import { starsPart } from './bot/handlers/stars.js';
import { startPart } from './bot/handlers/start.js';
import { createStarsApi } from './bot/stars-client.js';
import { UpdateSource } from './bot/update-source.js';
import { UpdateWorker } from './bot/update-worker.js';
import { forgetOldUpdates } from './bot/updates.js';
import { TELEGRAM_WEBHOOK_PATH } from './bot/webhook-plugin.js';
import { BroadcastSender } from './broadcasts/sender.js';
import { readGoneAccounts, readSnapshots } from './buyers/snapshots.js';
import { forgetOldBuyerLinks } from './buyers/telegrams.js';
import type { Collaborators } from './collaborators.js';
import type { ControlPlaneConfig } from './config.js';
import { programEnvironment } from './config.js';
import { CryptomusClient, type CryptomusSettings } from './cryptomus/client.js';
import { DAILY_REPORT_OUTBOX, dailyReportJob } from './figures/daily-report.js';
import { statsJob } from './figures/figures.js';
import { forgetOldIdempotencyKeys } from './http/idempotency.js';
import { cleanupJob } from './jobs/cleanup.js';
import { notificationsJob, Outbox } from './jobs/outbox.js';
import { JobRunner } from './jobs/runner.js';
import { LiveState } from './live-state/live-state.js';
import { PackageKeeper } from './packages/keeper.js';
import { republishRoutes } from './packages/routes.js';
import { PAYOUT_RECEIPT_OUTBOX } from './payouts/receipts.js';
import { PayoutSender } from './payouts/sender.js';
import { readLiveSettings } from './policy/live-settings.js';
import { forgetExpiredReputation } from './policy/reputation.js';
import { liveProviderPrice } from './pricing/prices.js';
import { Reconciler } from './reconciliation/reconciler.js';
import { SettingsStore } from './settings/settings.js';
import { SETTLEMENT_DEFAULTS } from './settlement/settings.js';
import { createSettlement } from './settlement/settlement.js';
import type { SettlementWorker } from './settlement/worker.js';
import { RequestCounts } from './system/request-counts.js';
import { AdminChannel } from './telegram/admin-channel.js';
import { TopUpKeeper } from './topups/keeper.js';
import { starRefundHandler } from './topups/star-refunds.js';
import { StarTopUps } from './topups/star-topups.js';
import { starWatchJob } from './topups/star-watch.js';
import { cancelUnpaidStarTopUps, STAR_REFUND_OUTBOX } from './topups/stars.js';
import { StopKeeper } from './traffic/stop-keeper.js';
import { UsageRetention } from './usage/partitions.js';
import { UsageWorker } from './usage/worker.js';
import { rebuildWallets, WalletKeeper } from './wallets/keeper.js';

/** What works in the background beside the API. */
export interface Services {
  jobs: JobRunner;
  outbox: Outbox;
  backups: Backups;
  auditChain: AuditChainer;
  requests: RequestCounts;
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
  topUps: TopUpKeeper;
  starTopUps: StarTopUps;
  /** Null: there is no bot. */
  bot: { worker: UpdateWorker; source: UpdateSource } | null;
  broadcasts: BroadcastSender;
}

export function createServices(collaborators: Collaborators): Services {
  const { config, log, clock, pool, redis, telegram, botApi } = collaborators;
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
  outbox.register(DAILY_REPORT_OUTBOX, dailyReportHandler(admins));
  outbox.register(PAYOUT_RECEIPT_OUTBOX, payoutReceiptHandler(admins));
  const stars = botApi && createStarsApi(botApi);
  const starTopUps = new StarTopUps({
    pool,
    log,
    stars,
    starPriceMicros: async () => (await settings.read()).starPriceMicros,
    invoiceLifetimeS: config.invoiceLifetimeS,
  });
  if (stars !== null) outbox.register(STAR_REFUND_OUTBOX, starRefundHandler({ pool, log, stars, live }));
  const bot = createBotServices(collaborators, { settings, live });
  const backups = new Backups({
    pool,
    log,
    pgDump: {
      program: config.pgDumpPath,
      environment: programEnvironment(),
      databaseUrl: config.databaseUrl,
    },
    storage: backupStorageOf(config),
    keptDays: config.backupKeptDays,
  });
  const jobs = new JobRunner({ databaseUrl: config.databaseUrl, pool, log });
  jobs.register(
    cleanupJob(pool, {
      packages: async () => (await packages.runOnce()).takenBack,
      idempotency_keys: () => forgetOldIdempotencyKeys(pool),
      telegram_updates: () => forgetOldUpdates(pool),
      buyer_links: () => forgetOldBuyerLinks(pool),
      star_topups: () => cancelUnpaidStarTopUps(pool),
      ip_reputation: () => forgetExpiredReputation(pool),
    }),
    statsJob(pool),
    notificationsJob(outbox),
    dailyReportJob(pool),
    backups.job(),
    ...(stars === null ? [] : [starWatchJob({ pool, log, stars, live })]),
  );
  const broadcasts = new BroadcastSender({ pool, log, telegram });
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
    broadcasts,
    admins,
  };
}

/** Where backups go, or null while nothing is configured. */
function backupStorageOf(config: ControlPlaneConfig): BackupStorage | null {
  const { backupDir, backupS3Bucket: bucket } = config;
  const { backupS3AccessKeyId: accessKeyId, backupS3SecretAccessKey: secretAccessKey } = config;
  if (backupDir !== null) return new FolderStorage(backupDir);
  if (bucket === null) return null;
  return new S3Storage({
    bucket,
    prefix: config.backupS3Prefix,
    region: config.backupS3Region,
    endpoint: config.backupS3Endpoint,
    credentials: accessKeyId === null || secretAccessKey === null ? null : { accessKeyId, secretAccessKey },
  });
}

/** The bot's ears: what brings updates in and what handles them. Null: there is no bot. */
function createBotServices(
  { config, log, pool, telegram, botApi: api }: Collaborators,
  { settings, live }: Pick<Services, 'settings' | 'live'>,
): Services['bot'] {
  const { botToken, botUsername, botUpdates: mode, botWebhookSecret: secret, publicApiUrl } = config;
  if (api === null || botToken === null) return null;
  const handle = createBot({ api, telegram, botToken, botUsername }, [
    startPart(),
    starsPart({ live, rules: () => settings.read(), invoiceLifetimeS: config.invoiceLifetimeS }),
  ]);
  const worker = new UpdateWorker({ pool, log, api, handle });
  const webhook =
    publicApiUrl === null || secret === null
      ? null
      : { url: publicApiUrl.replace(/\/$/, '') + TELEGRAM_WEBHOOK_PATH, secret };
  const source = new UpdateSource({ pool, log, api, mode, webhook, onUpdate: () => worker.wake() });
  return { worker, source };
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
  const { payouts, topUps, auditChain, jobs, broadcasts, bot } = services;
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
    ...(bot === null ? [] : [bot.worker, bot.source]),
  ];
  for (const service of all) {
    stops.push(() => service.stop());
    service.start();
  }
}
