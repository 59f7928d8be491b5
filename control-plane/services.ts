/** What works in the background beside the API. */
import { connectLive } from '../gateway/live/connection.js';
import { BroadcastSender } from './broadcasts/sender.js';
import { readGoneAccounts, readSnapshots } from './buyers/snapshots.js';
import type { Collaborators } from './collaborators.js';
import { LiveState } from './live-state/live-state.js';
import { PackageKeeper } from './packages/keeper.js';
import { republishRoutes } from './packages/routes.js';
import { liveProviderPrice } from './pricing/prices.js';
import { Reconciler } from './reconciliation/reconciler.js';
import { readLiveSettings, SettingsStore } from './settings/settings.js';
import { SETTLEMENT_DEFAULTS } from './settlement/settings.js';
import { createSettlement } from './settlement/settlement.js';
import type { SettlementWorker } from './settlement/worker.js';
import { StopKeeper } from './traffic/stop-keeper.js';
import { UsageRetention } from './usage/partitions.js';
import { UsageWorker } from './usage/worker.js';
import { rebuildWallets, WalletKeeper } from './wallets/keeper.js';

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
    broadcasts,
  };
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
  const {
    settlement,
    packages,
    wallets,
    stops: stopKeeper,
    reconciler,
    usage,
    usageRetention,
    broadcasts,
  } = services;
  for (const service of [
    settlement,
    packages,
    wallets,
    stopKeeper,
    reconciler,
    usage,
    usageRetention,
    broadcasts,
  ]) {
    stops.push(() => service.stop());
    service.start();
  }
}
