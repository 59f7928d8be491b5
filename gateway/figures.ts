/** What the private port tells of a gateway: a part of `gateway.ts`. */
import type { Registry } from 'prom-client';
import type { GatewayLinks } from './links/gateway-links.js';
import type { LiveRedis } from './live/connection.js';
import type { MeterDelivery } from './metering/delivery.js';
import type { Journal } from './metering/journal.js';
import type { GatewayStatus } from './private-server.js';
import type { ProxyPorts } from './proxy-ports.js';
import type { Relay } from './relay/relay.js';
import type { Clock } from './runtime/clock.js';
import type { Presence } from './tunnels/presence.js';
import type { TunnelRegistry } from './tunnels/registry.js';
import type { WorkerReport } from './workers/messages.js';

/** Where the figures are read. */
export interface FigureParts {
  gatewayId: string;
  epoch: string;
  startedAtMs: number;
  clock: Clock;
  isDraining: () => boolean;
  registry: TunnelRegistry;
  relay: Relay;
  ports: ProxyPorts;
  delivery: MeterDelivery;
  journal: Journal;
  redis: LiveRedis;
  /** null: it has none. */
  links: GatewayLinks | null;
  presence: Pick<Presence, 'isReplaced'>;
  metrics: Registry;
}

/** The figures of a process. */
export interface GatewayFigures {
  status(): GatewayStatus;
  ailments(): string[];
  /** All of it, for the process above a worker; metrics where they are wanted. */
  report(withMetrics: boolean): Promise<WorkerReport>;
}

/** `/status`, and what is wrong for `/health`. */
export function gatewayFigures(parts: FigureParts): GatewayFigures {
  const { gatewayId, epoch, startedAtMs, clock, isDraining } = parts;
  const { registry, relay, ports, delivery, journal, redis, links, presence, metrics } = parts;
  const figures: GatewayFigures = {
    status: () => ({
      gatewayId,
      epoch,
      uptimeSeconds: Math.round((clock.nowMs() - startedAtMs) / 1_000),
      draining: isDraining(),
      tunnels: registry.size,
      streams: relay.streamCount,
      connections: ports.listener.connectionCount,
      bytesUp: relay.totals.bytesUp,
      bytesDown: relay.totals.bytesDown,
      unsettledMeters: delivery.unsettledMeters,
      journalOk: journal.state === 'open',
      ...(links && { links: links.status }),
    }),
    ailments: () => [
      ...(journal.state === 'open' ? [] : ['meter journal failed']),
      ...(journal.canAdmit ? [] : ['meter journal takes no new meters']),
      ...(redis.status === 'ready' ? [] : ['live state away']),
      ...(presence.isReplaced ? ['another process has this gateway id'] : []),
      ...(isDraining() ? ['draining'] : []),
    ],
    report: async (withMetrics) => ({
      pid: process.pid,
      metrics: withMetrics ? await metrics.getMetricsAsJSON() : null,
      status: figures.status(),
      ailments: figures.ailments(),
    }),
  };
  return figures;
}
