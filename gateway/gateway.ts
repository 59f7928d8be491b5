import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { defaultLimits } from '../agent-protocol/limits.js';
import { AccessWatch } from './access-watch.js';
import { Allocator } from './allocation/allocator.js';
import { CandidateIndex } from './allocation/candidate-index.js';
import type { AllocationEnd, LiveAllocation } from './allocation/live-allocation.js';
import { parseDevAllow } from './buyers/destination-policy.js';
import { BuyerDirectory } from './buyers/directory.js';
import { AccountLimits } from './buyers/limits.js';
import type { GatewayConfig } from './config.js';
import type { DedicatedPort } from './listeners/port-protocol.js';
import { UdpPorts } from './listeners/udp-ports.js';
import { CommandReader } from './live/commands.js';
import { connectLive } from './live/connection.js';
import { runOf } from './live/records.js';
import { LiveSettingsCache } from './live-settings.js';
import { MeterDelivery } from './metering/delivery.js';
import { directMeterSink, failoverMeterSink } from './metering/direct-sink.js';
import { Journal } from './metering/journal.js';
import { meteringSettings } from './metering/limits.js';
import type { MeterSink } from './metering/meter-sink.js';
import { redisMeterSink } from './metering/redis-sink.js';
import { drawEpoch, type MeterPrices, MeterRegistry } from './metering/registry.js';
import { WalletBook, WalletLoop } from './metering/wallet-book.js';
import { redisWalletChannel } from './metering/wallet-channel.js';
import { exposeDatagrams, GatewayMetrics } from './metrics.js';
import { type CommandTargets, obey } from './obey.js';
import { OriginWatch } from './origin-watch.js';
import { GatewayPipeline } from './pipeline.js';
import { startPrivateServer } from './private-server.js';
import { loginBackoff, openProxyCertificate, openTunnelCertificate, ProxyPorts } from './proxy-ports.js';
import { gatewayReadings } from './readings.js';
import { BandwidthLimits } from './relay/bandwidth.js';
import { DatagramTotals } from './relay/datagram-totals.js';
import { Relay } from './relay/relay.js';
import { AddressSet, plainAddress } from './runtime/addresses.js';
import { systemClock } from './runtime/clock.js';
import type { Log } from './runtime/logging.js';
import { forwardedAddress } from './runtime/origin/forwarded.js';
import { OriginCheck } from './runtime/origin/origin-check.js';
import { Presence } from './tunnels/presence.js';
import { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';
import { TunnelServer } from './tunnels/tunnel-server.js';
import { USAGE_DEFAULTS } from './usage/limits.js';
import { UsageBook } from './usage/usage-book.js';
import { UsageDelivery } from './usage/usage-delivery.js';

/** A running gateway. */
export interface Gateway {
  proxyPort: number;
  /** Those of TS_PROXY_PORTS, in its order. */
  dedicatedPorts: DedicatedPort[];
  tunnelPort: number;
  metricsPort: number;
  /**
   * Takes no more connections, asks devices to move, lets live streams finish within `drainMs`, delivers the journal
   * and waits for Postgres to commit it as long as that takes a moment, then closes everything. A second call waits
   * for the first.
   */
  stop(drainMs: number): Promise<void>;
}

/** How often prices of open meters are compared with those in force. */
const REPRICE_INTERVAL_MS = 1_000;
/** Time settlement gets at stop to commit the last counts; what is not committed then waits in the journal. */
const FLUSH_TIMEOUT_MS = 3_000;

/**
 * Constructs and starts a gateway: the one place where its stages meet. `onDrain`: an admin wants this run to end; the
 * caller calls `stop` and ends the process, as for SIGTERM.
 */
export async function startGateway(config: GatewayConfig, log: Log, onDrain = () => {}): Promise<Gateway> {
  const clock = systemClock;
  const epoch = drawEpoch();
  const startedAtMs = clock.nowMs();
  let draining = false;
  if (config.devAllow.length > 0)
    log.warn({ destinations: config.devAllow }, 'development_exemptions_from_the_address_policy');

  const origins = await OriginCheck.open({
    log,
    allowedCountries: config.allowedCountries,
    countryPath: config.geoipCountryPath,
    asnPath: config.geoipAsnPath,
    devLoopbackCountry: config.devLoopbackCountry,
  });
  const tunnelCertificate = await openTunnelCertificate(config, log);
  const proxyCertificate = await openProxyCertificate(config, clock, log);
  const redis = connectLive({ url: config.redisUrl, log, connectionName: `gateway-${config.gatewayId}` });
  const commandsRedis = connectLive({
    url: config.redisUrl,
    log,
    connectionName: `gateway-${config.gatewayId}-commands`,
  });
  const live = new LiveSettingsCache({
    redis,
    log,
    devAllow: parseDevAllow(config.devAllow),
    onChange: () => {
      void access.everythingChanged();
      void originWatch.listsChanged();
    },
  });
  const checkOrigin = (address: string) => origins.check(address, live.originPolicy);
  const directory = new BuyerDirectory({ redis, clock, log });
  const limits = new AccountLimits(clock);
  const backoff = loginBackoff(config, clock);
  const bandwidth = new BandwidthLimits(clock, { bandwidthBurstMs: config.bandwidthBurstMs });

  mkdirSync(config.dataDir, { recursive: true });
  const settings = meteringSettings({
    journalSlots: config.journalSlots,
    journalExtentSlots: config.journalExtentSlots,
    journalReserveSlots: config.journalReserveSlots,
    deliveryIntervalMs: config.deliveryIntervalMs,
    deliveryGrowthMs: config.deliveryGrowthMs,
  });
  const journal = await Journal.open({
    path: join(config.dataDir, 'meters.journal'),
    mapped: config.journalMapped,
    gatewayId: config.gatewayId,
    epoch,
    clock,
    log,
    settings,
    onFailed: (error) => {
      log.error({ error: error.message }, 'meter_journal_failed');
      relay.cutAll();
    },
  });
  const meters = new MeterRegistry(journal, epoch, clock, settings);
  const delivery = new MeterDelivery({
    gatewayId: config.gatewayId,
    registry: meters,
    sink: meterSink(),
    clock,
    log,
    settings,
  });
  const usageBook = new UsageBook(clock, config);
  const usage = new UsageDelivery({
    gatewayId: config.gatewayId,
    run: runOf(epoch),
    book: usageBook,
    redis,
    clock,
    log,
    settings: { ...USAGE_DEFAULTS, ...config },
  });
  const datagrams = new DatagramTotals();
  const relay = new Relay(meters, usageBook, {
    settings: { idleMs: config.udpIdleMs, datagramsPerSecondMax: config.udpDatagramsPerSecondMax },
    totals: datagrams,
    clock,
  });
  const wallets = new WalletBook({
    epoch,
    channel: redisWalletChannel(redis, config.gatewayId),
    clock,
    log,
    unsettledRuns: () => meters.runs(),
    settings: {
      walletWaitMs: config.walletWaitMs,
      walletIdleMs: config.walletIdleMs,
      walletAdmitMs: config.walletAdmitMs,
      walletTermMs: config.walletTermMs,
    },
  });
  const walletLoop = new WalletLoop(wallets);

  const index = new CandidateIndex<Tunnel>();
  const allocator = new Allocator<Tunnel>(
    {
      redis,
      clock,
      index,
      log,
      gateway: { gatewayId: config.gatewayId, epoch },
      onAllocationEnded: endAllocation,
    },
    { idleMs: config.allocationIdleMs },
  );
  const registry = new TunnelRegistry();
  const originWatch = new OriginWatch({ registry, check: checkOrigin, log });
  const presence = new Presence({
    redis,
    registry,
    clock,
    log,
    gatewayId: config.gatewayId,
    describeGateway: () => ({
      gatewayId: config.gatewayId,
      epoch,
      version: '1',
      startedAtMs,
      tunnels: registry.size,
      streams: relay.streamCount,
      draining,
    }),
  });
  registry.watch({
    onTunnel: (tunnel) => {
      index.add(tunnel);
      void presence.came(tunnel);
    },
    onTunnelChanged: (tunnel) => {
      index.changed(tunnel);
      void presence.came(tunnel);
    },
    onTunnelGone: (tunnel) => {
      index.remove(tunnel);
      void presence.went(tunnel);
    },
  });

  const trustedProxies = new AddressSet(config.trustedProxies);
  const tunnelServer = new TunnelServer(
    {
      host: config.tunnelHost,
      port: config.tunnelPort,
      gatewayId: config.gatewayId,
      limits: { ...defaultLimits, streamsMax: config.streamsPerTunnelMax },
      tunnelsMax: config.tunnelsMax,
    },
    {
      redis,
      registry,
      clock,
      log,
      certificate: tunnelCertificate,
      observedAddress: (remote, forwarded) =>
        forwardedAddress(remote, forwarded, trustedProxies) ?? plainAddress(remote) ?? '',
      checkOrigin,
      versions: () => live.versions,
      isDraining: () => draining,
    },
  );
  const metrics: GatewayMetrics = new GatewayMetrics(
    gatewayReadings({
      registry,
      relay,
      allocator,
      delivery,
      journal,
      journalSlotsMax: settings.journalSlotsMax,
      wallets,
      usageBook,
      usage,
      ports: () => ports.readings,
    }),
  );
  exposeDatagrams(metrics.registry, datagrams);
  const pipeline = new GatewayPipeline({
    directory,
    limits,
    backoff,
    policy: () => live.policy,
    allocator,
    meters,
    wallets,
    relay,
    bandwidth,
    clock,
    providerPriceMicrosPerGb: () => live.providerPriceMicrosPerGb,
    isDraining: () => draining,
    dialTimeoutMs: config.dialTimeoutMs,
    loginRefusalMs: config.loginRefusalMs,
    associationsMax: config.udpAssociationsMax,
    onConnection: (outcome, tookMs) => metrics.connection(outcome, tookMs),
  });
  const ports: ProxyPorts = new ProxyPorts(config, {
    pipeline,
    backoff,
    certificate: proxyCertificate,
    clock,
    log,
    udp: {
      ports: new UdpPorts(config.udpPorts),
      publicAddress: config.udpPublicAddress,
      totals: datagrams,
    },
  });
  const access = new AccessWatch({
    directory,
    limits,
    bandwidth,
    wallets,
    relay,
    policy: () => live.policy,
    clock,
    log,
  });
  const self = { gatewayId: config.gatewayId, run: runOf(epoch) };
  const obeying: CommandTargets = { access, relay, registry, allocator, live, reprice, self, onDrain };
  const commands = new CommandReader({
    redis: commandsRedis,
    onCommand: (command) => void obey(command, obeying),
    onResync: () => {
      directory.resync();
      delivery.resendAll();
      usage.resendAll();
      wallets.resync();
      void allocator.renew();
      void presence.refresh();
      void live
        .refresh()
        .then(reprice)
        .then(() => access.everythingChanged());
    },
  });

  /** A pulled package that this gateway leaves by stopping is not over; everything else is. */
  function endAllocation(allocation: LiveAllocation, reason: AllocationEnd): void {
    const movesOn = allocation.packageId !== null && reason === 'shutdown';
    relay.closeAllocation(allocation.allocationId, { allocationEnded: !movesOn });
  }

  /** Redis, and straight to settlement while it is away when that way is configured. */
  function meterSink(): MeterSink {
    const live = redisMeterSink(redis);
    if (config.controlPlaneUrl === null || config.internalSecret === null) return live;
    const direct = directMeterSink({
      controlPlaneUrl: config.controlPlaneUrl,
      secret: config.internalSecret,
      timeoutMs: settings.deliveryTimeoutMs,
    });
    const atOnce = journal.replayed.length > 0;
    return failoverMeterSink({
      redis: live,
      direct,
      directAfterMs: config.directAfterMs,
      atOnce,
      clock,
      log,
    });
  }

  function reprice(): void {
    const providerPriceMicrosPerGb = live.providerPriceMicrosPerGb;
    if (providerPriceMicrosPerGb === null) return;
    relay.reprice((identity): MeterPrices => {
      const account = allocator.get(identity.allocationId)?.account;
      const buyerPrice = account === undefined ? undefined : directory.cached(account)?.priceMicrosPerGb;
      return {
        providerPriceMicrosPerGb,
        buyerPriceMicrosPerGb: buyerPrice?.toString() ?? identity.buyerPriceMicrosPerGb,
      };
    });
  }

  await live.refresh();
  await commands.start();
  delivery.start();
  usage.start();
  walletLoop.start();
  allocator.start();
  access.start();
  const repricing = setInterval(() => void live.refresh().then(reprice), REPRICE_INTERVAL_MS);
  const tunnelPort = await tunnelServer.listen();
  const { proxyPort, dedicated } = await ports.listen();
  const privateServer = await startPrivateServer({
    host: config.metricsHost,
    port: config.metricsPort,
    metrics: metrics.registry,
    status: () => ({
      gatewayId: config.gatewayId,
      epoch,
      uptimeSeconds: Math.round((clock.nowMs() - startedAtMs) / 1_000),
      draining,
      tunnels: registry.size,
      streams: relay.streamCount,
      connections: ports.listener.connectionCount,
      bytesUp: relay.totals.bytesUp,
      bytesDown: relay.totals.bytesDown,
      unsettledMeters: delivery.unsettledMeters,
      journalOk: journal.state === 'open',
    }),
    ailments: () => [
      ...(journal.state === 'open' ? [] : ['meter journal failed']),
      ...(journal.canAdmit ? [] : ['meter journal takes no new meters']),
      ...(redis.status === 'ready' ? [] : ['live state away']),
      ...(draining ? ['draining'] : []),
    ],
  });
  log.info(
    {
      gatewayId: config.gatewayId,
      proxyPort,
      dedicatedPorts: dedicated,
      tunnelPort,
      replayed: journal.replayed.length,
      journalMapped: journal.mapped,
    },
    'gateway_started',
  );

  async function stop(drainMs: number): Promise<void> {
    draining = true;
    void presence.refresh();
    tunnelServer.stopAccepting();
    for (const tunnel of registry.all()) {
      tunnel.status = 'draining';
      index.changed(tunnel);
      tunnel.mux.drain({ reason: 'this gateway is shutting down', deadline_ms: drainMs });
    }
    await ports.close(drainMs);
    await commands.stop();
    clearInterval(repricing);
    access.stop();
    await allocator.stop();
    await delivery.stop();
    const [{ unsettledMeters }] = await Promise.all([delivery.flush(FLUSH_TIMEOUT_MS), usage.stop()]);
    await walletLoop.stop();
    await wallets.finish();
    if (unsettledMeters > 0) log.warn({ unsettledMeters }, 'meters_left_for_the_next_start');
    for (const tunnel of [...registry.all()])
      tunnel.mux.close({ code: 'shutting_down', reason: 'this gateway stopped' });
    await presence.stop();
    await privateServer.stop();
    await journal.close();
    origins.close();
    tunnelCertificate?.close();
    redis.disconnect();
  }
  let stopping: Promise<void> | null = null;
  return {
    proxyPort,
    dedicatedPorts: dedicated,
    tunnelPort,
    metricsPort: privateServer.port,
    stop: (drainMs) => {
      stopping ??= stop(drainMs);
      return stopping;
    },
  };
}
