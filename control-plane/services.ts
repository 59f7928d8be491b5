/** What works in the background beside the API. */
import { connectLive } from '../gateway/live/connection.js';
import { AuditChainer } from './audit/chain.js';
import { Backups } from './backup/backup.js';
import { BroadcastSender } from './broadcasts/sender.js';
import { readGoneAccounts, readSnapshots } from './buyers/snapshots.js';
import type { Collaborators } from './collaborators.js';
import type { ControlPlaneConfig } from './config.js';
import { programEnvironment } from './config.js';
import { CryptomusClient, type CryptomusSettings } from './cryptomus/client.js';
import { dailyReportJob } from './figures/daily-report.js';
import { statsJob } from './figures/figures.js';
import { forgetOldIdempotencyKeys } from './http/idempotency.js';
import { cleanupJob } from './jobs/cleanup.js';
import { notificationsJob, Outbox } from './jobs/outbox.js';
import { JobRunner } from './jobs/runner.js';
import { LiveState } from './live-state/live-state.js';
import { PackageKeeper } from './packages/keeper.js';
import { republishRoutes } from './packages/routes.js';
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
import { TopUpKeeper } from './topups/keeper.js';
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
  topUps: TopUpKeeper;
  broadcasts: BroadcastSender;
}

export function createServices({ config, log, clock, pool, redis, telegram }: Collaborators): Services {
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
  const backups = new Backups({
    pool,
    log,
    databaseUrl: config.databaseUrl,
    folder: config.backupDir,
    pgDump: config.pgDumpPath,
    environment: programEnvironment(),
    keptDays: config.backupKeptDays,
  });
  const jobs = new JobRunner({ databaseUrl: config.databaseUrl, pool, log });
  jobs.register(
    cleanupJob(pool, {
      packages: async () => (await packages.runOnce()).takenBack,
      idempotency_keys: () => forgetOldIdempotencyKeys(pool),
      ip_reputation: () => forgetExpiredReputation(pool),
    }),
    statsJob(pool),
    notificationsJob(outbox),
    dailyReportJob(pool),
    backups.job(),
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
    outbox,
    backups,
    jobs,
    auditChain: new AuditChainer({ pool, log }),
    requests: new RequestCounts(() => clock.monotonicMs()),
    broadcasts,
  };
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
  const { payouts, topUps, auditChain, jobs, broadcasts } = services;
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
  ];
  for (const service of all) {
    stops.push(() => service.stop());
    service.start();
  }
}
