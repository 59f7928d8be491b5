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
import { LimitSharing } from './buyers/shared-limits.js';
import type { GatewayConfig } from './config.js';
import { gatewayFigures } from './figures.js';
import { FleetWatch } from './fleet-watch.js';
import type { Gateway, GatewaySurroundings } from './gateway-contract.js';
import { GatewayLinks } from './links/gateway-links.js';
import { UdpPorts } from './listeners/udp-ports.js';
import { CommandReader } from './live/commands.js';
import { connectLive } from './live/connection.js';
import { runOf } from './live/records.js';
import { LiveSettingsCache } from './live-settings.js';
import { meterSinkOf } from './meter-sink.js';
import { MeterDelivery } from './metering/delivery.js';
import { Journal } from './metering/journal.js';
import { meteringSettings } from './metering/limits.js';
import { drawEpoch, type MeterPrices, MeterRegistry } from './metering/registry.js';
import { WalletBook, WalletLoop } from './metering/wallet-book.js';
import { redisWalletChannel } from './metering/wallet-channel.js';
import { exposeDatagrams, exposePassed, GatewayMetrics } from './metrics.js';
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
import { handIn, leave, type WayOut } from './stopping.js';
import { Presence } from './tunnels/presence.js';
import { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';
import { TunnelServer } from './tunnels/tunnel-server.js';
import { USAGE_DEFAULTS } from './usage/limits.js';
import { RefusalBook } from './usage/refusal-book.js';
import { UsageBook } from './usage/usage-book.js';
import { UsageDelivery } from './usage/usage-delivery.js';

export type { Gateway };

/** How often prices of open meters are compared with those in force. */
const REPRICE_INTERVAL_MS = 1_000;

/** Constructs and starts a gateway: the one place where its stages meet. */
export async function startGateway(
  config: GatewayConfig,
  log: Log,
  { onDrain = () => {}, seat }: GatewaySurroundings = {},
): Promise<Gateway> {
  const clock = systemClock;
  const epoch = seat?.epoch ?? drawEpoch();
  const startedAtMs = clock.nowMs();
  const siblings = seat?.siblings;
  let wayOut: WayOut = seat?.settles === true ? 'draining' : 'serving';
  let lastRequestAtMs = 0;
  const isDraining = () => wayOut === 'draining';
  const isLeaving = () => wayOut !== 'serving';
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
  const directory = new BuyerDirectory({ redis, clock, log }, { staleMaxMs: config.snapshotTermMs });
  const limits = new AccountLimits(clock, config);
  const backoff = loginBackoff(config, clock);
  const bandwidth = new BandwidthLimits(clock, { bandwidthBurstMs: config.bandwidthBurstMs });

  const journalDir = seat?.journalDir ?? config.dataDir;
  mkdirSync(journalDir, { recursive: true });
  const { journalSlots, journalExtentSlots, journalReserveSlots, journalLockWaitMs } = config;
  const { deliveryIntervalMs, deliveryGrowthMs } = config;
  const inJournal = { journalSlots, journalExtentSlots, journalReserveSlots, journalLockWaitMs };
  const settings = meteringSettings({ ...inJournal, deliveryIntervalMs, deliveryGrowthMs });
  const journal = await Journal.open({
    path: join(journalDir, 'meters.journal'),
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
    sink: meterSinkOf(config, settings, { redis, clock, log, leftBehind: journal.replayed.length > 0 }),
    clock,
    log,
    settings,
  });
  const usageBook = new UsageBook(clock, config);
  const refusals = new RefusalBook(clock, USAGE_DEFAULTS);
  const usage = new UsageDelivery({
    gatewayId: config.gatewayId,
    run: runOf(epoch),
    book: usageBook,
    refusals,
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
    onEnded: (stream) => metrics.streamEnded(stream),
  });
  const wallets = new WalletBook({
    epoch,
    channel: redisWalletChannel(redis, config.gatewayId),
    clock,
    log,
    unsettledRuns: () => meters.runs(),
    settings: config,
  });
  const walletLoop = new WalletLoop(wallets);

  const ownRun = { gatewayId: config.gatewayId, epoch };
  const index = new CandidateIndex<Tunnel>();
  const allocator = new Allocator<Tunnel>(
    {
      redis,
      clock,
      index,
      log,
      gateway: ownRun,
      onAllocationEnded: endAllocation,
      workerWith: (deviceId) => siblings?.workerWith(deviceId) ?? null,
      gatewayWith:
        config.linkPort === null ? undefined : async (id) => (await links?.gatewayWith(id)) ?? null,
      isOver: (run) => siblings?.isOver(run) === true || fleet.isOver(run),
    },
    { idleMs: config.allocationIdleMs, waitMs: config.exitWaitMs },
  );
  const fleet = new FleetWatch({ redis, clock, log, ownRun, onOver: (run) => allocator.heldNoMore(run) });
  const gatewayCount = () => fleet.gatewayCount;
  const { gatewayId } = config;
  const sharing = new LimitSharing({ redis, clock, log, gatewayId, limits, bandwidth, gatewayCount }, config);
  const registry = new TunnelRegistry();
  const originWatch = new OriginWatch({ registry, check: checkOrigin, log });
  const presence = new Presence({
    redis,
    registry,
    clock,
    log,
    gatewayId: config.gatewayId,
    onEarlierRun: (run) => siblings?.tellOver(run),
    isElsewhere: (deviceId) => siblings?.workerWith(deviceId) != null,
    describeGateway: () => ({
      gatewayId: config.gatewayId,
      epoch,
      version: '1',
      startedAtMs,
      tunnels: registry.size,
      streams: relay.streamCount,
      draining: isLeaving(),
    }),
  });
  registry.watch({
    onTunnel: (tunnel) => {
      tunnel.onDialled = (answer) => metrics.dialled(answer);
      allocator.deviceCame(tunnel);
    },
    onTunnelChanged: (tunnel) => index.changed(tunnel),
    onTunnelGone: (tunnel) => index.remove(tunnel),
  });
  registry.watch(presence);

  const trustedProxies = new AddressSet(config.trustedProxies);
  const tunnelServer = new TunnelServer(
    {
      host: config.tunnelHost,
      port: config.tunnelPort,
      bound: seat?.ports.get('tunnel'),
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
      isDraining: isLeaving,
    },
  );
  const metrics: GatewayMetrics = new GatewayMetrics(
    gatewayReadings({
      ...{ registry, relay, allocator, sharing, delivery, journal, wallets, usageBook, refusals, usage },
      journalSlotsMax: settings.journalSlotsMax,
      ports: () => ports.readings,
    }),
    { refusals: () => ports.refusals, registry, redis: { live: redis, commands: commandsRedis } },
  );
  exposeDatagrams(metrics.registry, datagrams);
  if (siblings) exposePassed(metrics.registry, siblings);
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
    isDraining,
    dialTimeoutMs: config.dialTimeoutMs,
    loginRefusalMs: config.loginRefusalMs,
    associationsMax: config.udpAssociationsMax,
    onConnection: (outcome, tookMs) => {
      lastRequestAtMs = clock.monotonicMs();
      metrics.connection(outcome, tookMs);
    },
    onRefused: (buyerId, failure, target) => refusals.refused(buyerId, failure, target),
  });
  const links: GatewayLinks | null = isDraining()
    ? null
    : await GatewayLinks.open(config, {
        own: pipeline,
        ...{ redis, clock, log, registry, index, datagrams },
        isDraining: isLeaving,
        isOverloaded: () => ports.isOverloaded,
        isWorker: seat !== undefined,
        isSilent: (id) => fleet.isSilent(id),
        metrics: metrics.registry,
      });
  const ports: ProxyPorts = new ProxyPorts(config, {
    pipeline: links?.pipeline ?? pipeline,
    backoff,
    certificate: proxyCertificate,
    clock,
    log,
    udp: {
      ports: new UdpPorts(config.udpPorts, seat && { number: seat.siblings.self, of: seat.workers }),
      publicAddress: config.udpPublicAddress,
      totals: datagrams,
    },
    siblings,
    bound: seat?.ports,
  });
  siblings?.attach({
    registry,
    index,
    allocator,
    takeOver: (request, connection) => ports.listener.takeOver(request, connection),
    isDraining,
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
      void fleet.refresh();
      links?.resync();
      sharing.resync();
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
  await fleet.start();
  sharing.start();
  const repricing = setInterval(() => void live.refresh().then(reprice), REPRICE_INTERVAL_MS);
  const tunnelPort = isDraining() ? 0 : await tunnelServer.listen();
  const { proxyPort, dedicated } = isDraining() ? { proxyPort: 0, dedicated: [] } : await ports.listen();
  const linkPort = (await links?.start()) ?? 0;
  const figures = gatewayFigures({
    gatewayId: config.gatewayId,
    epoch,
    startedAtMs,
    clock,
    isDraining: isLeaving,
    registry,
    relay,
    ports,
    delivery,
    journal,
    redis,
    links,
    presence,
    metrics: metrics.registry,
  });
  const privateServer =
    seat === undefined
      ? await startPrivateServer({
          host: config.metricsHost,
          port: config.metricsPort,
          metrics: metrics.registry,
          isReady: () => !isLeaving(),
          ...figures,
        })
      : null;
  log.info(
    {
      gatewayId: config.gatewayId,
      proxyPort,
      dedicatedPorts: dedicated,
      tunnelPort,
      ...(links && { linkPort }),
      replayed: journal.replayed.length,
      journalMapped: journal.mapped,
    },
    'gateway_started',
  );

  const stop = async (drainMs: number): Promise<void> => {
    await leave(drainMs, {
      ...{ registry, index, allocator, presence, tunnelServer, ports, links, clock, log },
      moveMs: config.drainMoveMs,
      lastRequestAtMs: () => lastRequestAtMs,
      onWayOut: (next) => {
        wayOut = next;
      },
    });
    await commands.stop();
    clearInterval(repricing);
    access.stop();
    await allocator.stop();
    await handIn({ delivery, usage, walletLoop, wallets, log });
    for (const tunnel of [...registry.all()])
      tunnel.mux.close({ code: 'shutting_down', reason: 'this gateway stopped' });
    await presence.stop();
    await sharing.stop();
    await fleet.stop();
    await links?.close();
    await privateServer?.stop();
    await journal.close();
    siblings?.close();
    origins.close();
    tunnelCertificate?.close();
    redis.disconnect();
  };
  let stopping: Promise<void> | null = null;
  return {
    proxyPort,
    dedicatedPorts: dedicated,
    tunnelPort,
    linkPort,
    metricsPort: privateServer?.port ?? 0,
    report: figures.report,
    settled: () => delivery.settle(),
    stop: (drainMs) => {
      stopping ??= stop(drainMs);
      return stopping;
    },
  };
}
