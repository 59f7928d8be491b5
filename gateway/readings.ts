import type { Allocator } from './allocation/allocator.js';
import type { LimitSharing } from './buyers/shared-limits.js';
import type { MeterDelivery } from './metering/delivery.js';
import type { Journal } from './metering/journal.js';
import type { WalletBook } from './metering/wallet-book.js';
import type { GaugeReadings } from './metrics.js';
import type { ProxyPorts } from './proxy-ports.js';
import type { Relay } from './relay/relay.js';
import type { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';
import type { RefusalBook } from './usage/refusal-book.js';
import type { UsageBook } from './usage/usage-book.js';
import type { UsageDelivery } from './usage/usage-delivery.js';

/** The parts of a gateway that figures are read from. */
export interface ReadParts {
  registry: TunnelRegistry;
  relay: Relay;
  allocator: Allocator<Tunnel>;
  sharing: LimitSharing;
  delivery: MeterDelivery;
  journal: Journal;
  /** Slots the journal may grow to. */
  journalSlotsMax: number;
  wallets: WalletBook;
  usageBook: UsageBook;
  refusals: RefusalBook;
  usage: UsageDelivery;
  ports: () => ProxyPorts['readings'];
}

/** What Prometheus is told, read when it asks. */
export function gatewayReadings(parts: ReadParts): GaugeReadings {
  const { registry, relay, allocator, delivery, journal, journalSlotsMax, wallets, usageBook, usage, ports } =
    parts;
  return {
    tunnels: () => registry.size,
    streams: () => relay.streamCount,
    connections: () => ports().connections,
    allocations: () => allocator.size,
    bytesUp: () => relay.totals.bytesUp,
    bytesDown: () => relay.totals.bytesDown,
    metersUnsettled: () => delivery.unsettledMeters,
    journalSlotsUsed: () => journal.slotsUsed,
    journalSlots: () => journal.slotCount,
    journalSlotsMax: () => journalSlotsMax,
    journalFailed: () => (journal.state === 'failed' ? 1 : 0),
    journalAdmits: () => (journal.canAdmit ? 1 : 0),
    marksShort: () => delivery.marksShort,
    tunnelWireBytes: () => registry.totals.wireBytes,
    finalWaitSeconds: () => delivery.finalWaitMs / 1_000,
    deliveryLagSeconds: () => delivery.deliveryLagMs / 1_000,
    deliveryFailures: () => delivery.failures,
    strangers: () => ports().strangers,
    waiting: () => ports().waiting,
    loopLagSeconds: () => ports().loopLagSeconds,
    connectionsDropped: () => ports().connectionsDropped,
    connectionsDroppedEarly: () => ports().connectionsDroppedEarly,
    connectionsShed: () => ports().connectionsShed,
    portClosures: () => ports().portClosures,
    handshakeDeadlines: () => ports().handshakeDeadlines,
    tlsFailures: () => ports().tlsFailures,
    proxyHeaderFailures: () => ports().proxyHeaderFailures,
    loginsDelayed: () => ports().loginsDelayed,
    walletMicrosLeft: () => wallets.left('buyer'),
    walletBytesLeft: () => wallets.left('package') + wallets.left('sub_user'),
    walletAsksPending: () => wallets.pendingCount,
    walletStreamsWaiting: () => wallets.waiterCount,
    walletStreamsCut: () => wallets.cutCount,
    walletFailures: () => wallets.failures,
    usageEntries: () => usageBook.size,
    usageFlows: () => usageBook.flowCount,
    usageBatchesPending: () => usage.pendingBatches,
    usageFolded: () => usageBook.folded,
    limitsShared: () => parts.sharing.sharedCount,
    limitsShareFailures: () => parts.sharing.failures,
    refusalsUntold: () => parts.refusals.untold,
    usageFailures: () => usage.failures,
  };
}
