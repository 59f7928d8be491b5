/** The composition of links to other gateways: a part of `gateway.ts`. */
import type { Registry } from 'prom-client';
import { LINK_VERSIONS } from '../../agent-protocol/frame.js';
import { defaultLimits } from '../../agent-protocol/limits.js';
import type { CandidateIndex } from '../allocation/candidate-index.js';
import { exitKey } from '../allocation/candidates.js';
import type { GatewayConfig } from '../config.js';
import type { ProxyPipeline } from '../listeners/connect-pipeline.js';
import type { LiveRedis } from '../live/connection.js';
import type { DatagramTotals } from '../relay/datagram-totals.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { TunnelRegistry } from '../tunnels/registry.js';
import type { Tunnel } from '../tunnels/tunnel.js';
import { Homes } from './homes.js';
import { type LinkIdentity, openIdentity } from './identity.js';
import { LinkClient } from './link-client.js';
import { exposeLinks } from './link-metrics.js';
import { LinkServer } from './link-server.js';
import { LinkedPipeline, type OwnPipeline } from './linked-pipeline.js';
import { PeerDirectory } from './peer-directory.js';
import { serveOnLink } from './serve.js';
import { linkPlaceOf } from './settings.js';

/** Bytes that a stream of a link may hold unread at most, on a long way. */
const STREAM_WINDOW_BYTES_MAX = 4 * 1024 * 1024;

/** The parts of a gateway that links join. */
export interface LinkParts {
  own: OwnPipeline;
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  registry: TunnelRegistry;
  index: Pick<CandidateIndex<Tunnel>, 'byExit' | 'counts'>;
  /** Of this gateway: where datagrams are counted that come to nothing. */
  datagrams: DatagramTotals;
  isDraining: () => boolean;
  isOverloaded: () => boolean;
  /** No sign of life of that gateway for some seconds. */
  isSilent: (gatewayId: string) => boolean;
  /** It is one of several workers, which reach each other without links. */
  isWorker: boolean;
  /** Where they are shown. */
  metrics: Registry;
}

/** Gateways that have links with this one, by id, and what goes over them. */
export interface LinksStatus {
  /** That this gateway asks, and streams of its buyers there. */
  to: string[];
  streamsOut: number;
  /** That ask this gateway, and streams of their buyers here. */
  from: string[];
  streamsIn: number;
}

const NONE: ReadonlySet<string> = new Set();

/** Links of one gateway process, both ways. */
export class GatewayLinks {
  readonly pipeline: ProxyPipeline;
  /** Gateways asked so far, by what came of it. */
  readonly asked = new Map<string, number>();
  readonly #client: LinkClient;
  readonly #server: LinkServer;
  readonly #directory: PeerDirectory;
  readonly #homes: Homes;
  #port = 0;

  private constructor(
    config: GatewayConfig,
    parts: LinkParts,
    private readonly identity: LinkIdentity,
  ) {
    const { own, redis, clock, log, registry, index, datagrams, isDraining, isOverloaded } = parts;
    const { gatewayId } = config;
    const base = baseOf(gatewayId);
    const spoken = {
      versions: LINK_VERSIONS.filter((version) => version <= config.linkVersionMax),
      datagramBytesMax: config.linkDatagramBytesMax,
    };
    this.#client = new LinkClient(
      {
        gatewayId,
        ...spoken,
        limits: {
          ...defaultLimits,
          streamsMax: config.linkStreamsMax,
          streamWindowBytesMax: STREAM_WINDOW_BYTES_MAX,
          tunnelWindowBytesMax: config.linkUnreadBytesMax,
        },
        connectTimeoutMs: config.linkConnectTimeoutMs,
        pingMs: config.linkPingMs,
        idleMs: config.linkIdleMs,
      },
      { identity, clock, log },
    );
    this.#server = new LinkServer(
      {
        host: config.linkHost,
        port: config.linkPort ?? 0,
        gatewayId,
        ...spoken,
        linksMax: config.linksMax,
        streamsMax: config.linkStreamsMax,
      },
      { identity, serve: serveOnLink({ own, isOverloaded, totals: datagrams, log }), log },
    );
    this.#directory = new PeerDirectory({
      redis,
      clock,
      log,
      gatewayId,
      describe: () => ({
        ...linkPlaceOf(config, this.#port),
        draining: isDraining(),
        devices: index.counts(),
      }),
      isSibling: (id) => parts.isWorker && baseOf(id) === base,
      isSilent: parts.isSilent,
      onRead: () => this.#client.keepOnly((id) => this.#directory.get(id) !== null),
    });
    this.#homes = new Homes({
      redis,
      log,
      gatewayId,
      registry,
      isPeer: (id) => this.#directory.canBeAsked(id),
      hasExit: (exit) => index.byExit(exitKey(exit), NONE) !== undefined,
    });
    const told = (tunnel: Tunnel) => this.#directory.deviceShares(tunnel);
    registry.watch({ onTunnel: told, onTunnelChanged: told, onTunnelGone() {} });
    this.pipeline = new LinkedPipeline({
      own,
      directory: this.#directory,
      homes: this.#homes,
      client: this.#client,
      clock,
      associations: {
        clock,
        totals: datagrams,
        datagramsPerSecondMax: config.udpDatagramsPerSecondMax,
      },
      requestBytesMax: config.linkRequestBytesMax,
      dialTimeoutMs: config.dialTimeoutMs,
      onAsked: (outcome) => this.asked.set(outcome, (this.asked.get(outcome) ?? 0) + 1),
    });
  }

  /** Null: no link port is set. Rejects when certificates can not be used. */
  static async open(config: GatewayConfig, parts: LinkParts): Promise<GatewayLinks | null> {
    if (config.linkPort === null) return null;
    const links = new GatewayLinks(config, parts, await openIdentity(config, parts.log));
    exposeLinks(parts.metrics, links);
    return links;
  }

  get status(): LinksStatus {
    return {
      to: this.#client.gatewayIds.sort(),
      streamsOut: this.#client.streamCount,
      from: this.#server.gatewayIds,
      streamsIn: this.#server.streamCount,
    };
  }

  /** Links that came to nothing since the start: `out`, that were not to be had; `in`, that were refused. */
  get failures(): { out: number; in: number } {
    return { out: this.#client.failures, in: this.#server.refused };
  }

  /** As `Homes.gatewayWith`. */
  gatewayWith(deviceId: string): Promise<string | null> {
    return this.#homes.gatewayWith(deviceId);
  }

  /** Takes links, and tells others so. Resolves with the port; rejects when it can not be had. */
  async start(): Promise<number> {
    this.#port = await this.#server.listen();
    await this.#directory.start();
    return this.#port;
  }

  /** Redis came back, maybe empty. */
  resync(): void {
    this.#directory.rewrite();
    void this.#homes.refresh();
  }

  /** Whether another gateway could take devices and buyers of this one. */
  get hasPeers(): boolean {
    return this.#directory.hasServing;
  }

  /** Tells others at once what has become of this gateway, and sees who is there; never rejects. */
  async announce(): Promise<void> {
    await this.#directory.refresh(); // of before, when one was under way
    await this.#directory.refresh();
  }

  /** Takes no more links; resolves when what others have here has finished, or after so long. */
  async drain(graceMs: number): Promise<void> {
    this.#directory.rewrite();
    this.#server.stopAccepting();
    await this.#server.drained(graceMs);
  }

  async close(): Promise<void> {
    this.#homes.stop();
    await this.#directory.stop();
    this.#client.close();
    this.#server.close();
    this.identity.certificate.close();
  }
}

/** The id of the gateway whose worker it is. */
function baseOf(gatewayId: string): string {
  return gatewayId.replace(/-w\d+$/, '');
}
