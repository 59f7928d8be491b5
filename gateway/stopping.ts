import { setTimeout as delay } from 'node:timers/promises';
import type { Allocator } from './allocation/allocator.js';
import type { CandidateIndex } from './allocation/candidate-index.js';
import type { GatewayLinks } from './links/gateway-links.js';
import type { MeterDelivery } from './metering/delivery.js';
import type { WalletBook, WalletLoop } from './metering/wallet-book.js';
import type { ProxyPorts } from './proxy-ports.js';
import type { Clock } from './runtime/clock.js';
import type { Log } from './runtime/logging.js';
import type { Presence } from './tunnels/presence.js';
import type { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';
import type { TunnelServer } from './tunnels/tunnel-server.js';
import type { UsageDelivery } from './usage/usage-delivery.js';

/**
 * How far a gateway is on its way out: `moving`, its devices go to other gateways, and whoever asks is still served;
 * `draining`, nobody is served any more but those who are already.
 */
export type WayOut = 'serving' | 'moving' | 'draining';

export interface LeavingParts {
  registry: TunnelRegistry;
  index: Pick<CandidateIndex<Tunnel>, 'changed'>;
  allocator: Pick<Allocator<Tunnel>, 'deviceLeft' | 'deviceMoved' | 'renew'>;
  presence: Pick<Presence, 'refresh'>;
  tunnelServer: Pick<TunnelServer, 'stopAccepting'>;
  ports: Pick<ProxyPorts, 'close' | 'strangerCount'>;
  links: Pick<GatewayLinks, 'hasPeers' | 'announce' | 'drain'> | null;
  clock: Clock;
  log: Log;
  /** Of the time to drain, what devices and balancers get to go elsewhere, ms. */
  moveMs: number;
  /** When a buyer last asked for a connection here, monotonic ms. */
  lastRequestAtMs: () => number;
  onWayOut: (next: WayOut) => void;
}

const WHY = 'this gateway is shutting down';
/** Devices are asked to move in so many parts: at no time are all of them between two gateways. */
const PARTS = 10;
/** Without a request for so long, balancers have seen that this gateway is not ready, ms: they look once a second or so. */
const QUIET_MS = 1_500;
const LOOK_INTERVAL_MS = 50;
/** Time settlement gets at stop to commit the last counts; what is not committed then waits in the journal. */
const FLUSH_TIMEOUT_MS = 3_000;

/**
 * Takes a gateway out of service within `drainMs`. Where other gateways are, its devices move to them first, and buyers are
 * served until balancers send none any more. Then its ports close, and live streams have the rest of the time.
 */
export async function leave(drainMs: number, parts: LeavingParts): Promise<void> {
  const { registry, index, allocator, presence, tunnelServer, ports, links, clock, log, onWayOut } = parts;
  const untilMs = clock.monotonicMs() + drainMs;
  const leftMs = () => Math.max(0, Math.ceil(untilMs - clock.monotonicMs()));
  onWayOut('moving');
  void presence.refresh();
  tunnelServer.stopAccepting();
  registry.watch({
    onTunnel: () => {},
    onTunnelChanged: ({ hasLeft, deviceId }) => {
      if (hasLeft) allocator.deviceLeft(deviceId);
    },
    onTunnelGone: ({ deviceId }) => void allocator.deviceMoved(deviceId),
  });
  const moveMs = Math.min(parts.moveMs, drainMs);
  // Claims go along with the devices: with what they say now.
  const renewClaims = () => void allocator.renew();
  // Others are told, and those that came a moment ago are seen. Who has no time to move does not wait for Redis either.
  if (moveMs > 0) await links?.announce();
  const moves = moveMs > 0 && links?.hasPeers === true;
  if (moves) {
    renewClaims();
    const startMs = clock.monotonicMs();
    await move(parts, moveMs, leftMs);
    log.info(
      { tookMs: Math.round(clock.monotonicMs() - startMs), devicesLeft: registry.size },
      'devices_moved',
    );
  }
  onWayOut('draining');
  for (const tunnel of registry.all()) {
    tunnel.status = 'draining';
    index.changed(tunnel);
    if (!moves) tunnel.askToMove(WHY, leftMs());
  }
  if (!moves) renewClaims();
  await Promise.all([ports.close(leftMs()), links?.drain(leftMs())]);
}

/**
 * Resolves when every device has gone and no buyer comes any more, none that has not asked yet either, or when `moveMs` are over. A device says `paused` on its
 * tunnel when the next one is up, and leaves it when no stream is left there; until then it may be used.
 */
async function move(
  { registry, clock, ports, lastRequestAtMs }: LeavingParts,
  moveMs: number,
  leftMs: () => number,
): Promise<void> {
  const startMs = clock.monotonicMs();
  const tunnels = [...registry.all()];
  let asked = 0;
  let strangerAtMs = startMs;
  for (;;) {
    const tookMs = clock.monotonicMs() - startMs;
    if (tookMs >= moveMs) return;
    const due = Math.min(
      tunnels.length,
      Math.ceil((tunnels.length * (1 + (2 * PARTS * tookMs) / moveMs)) / PARTS),
    );
    for (const tunnel of tunnels.slice(asked, due)) tunnel.askToMove(WHY, leftMs());
    asked = Math.max(asked, due);
    if (ports.strangerCount > 0) strangerAtMs = clock.monotonicMs();
    const quietMs = clock.monotonicMs() - Math.max(strangerAtMs, lastRequestAtMs());
    if (registry.size === 0 && quietMs >= QUIET_MS) return;
    await delay(LOOK_INTERVAL_MS);
  }
}

/** Delivers the last counts and usage, and gives up what nobody will spend. Nothing is relayed any more. */
export async function handIn({
  delivery,
  usage,
  walletLoop,
  wallets,
  log,
}: {
  delivery: MeterDelivery;
  usage: UsageDelivery;
  walletLoop: WalletLoop;
  wallets: WalletBook;
  log: Log;
}): Promise<void> {
  await delivery.stop();
  const [{ unsettledMeters }] = await Promise.all([delivery.flush(FLUSH_TIMEOUT_MS), usage.stop()]);
  await walletLoop.stop();
  await wallets.finish();
  if (unsettledMeters > 0) log.warn({ unsettledMeters }, 'meters_left_for_the_next_start');
}
