import type { LiveRedis } from '../live/connection.js';
import { PRESENCE_TTL_MS } from '../live/keys.js';
import type { DevicePresence, GatewayPresence, GatewayRun } from '../live/records.js';
import {
  deleteGatewayPresence,
  deletePresence,
  readGatewayPresence,
  writeGatewayPresence,
  writePresences,
} from '../live/store.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { TunnelRegistry, TunnelWatcher } from './registry.js';
import type { Tunnel } from './tunnel.js';

/** Presences written in one round trip. */
const BATCH = 500;

/**
 * Tells the live state which devices hang on this gateway, at once when one comes or goes and every third of
 * PRESENCE_TTL_MS. Redis being away is logged once and healed by the next round.
 */
export class Presence implements TunnelWatcher {
  readonly #timer: NodeJS.Timeout;
  #failing = false;

  constructor(
    private readonly deps: {
      redis: LiveRedis;
      registry: TunnelRegistry;
      clock: Clock;
      log: Log;
      gatewayId: string;
      describeGateway: () => GatewayPresence;
      /** The live state still knows an earlier process of this gateway, which is over. */
      onEarlierRun: (run: GatewayRun) => void;
      /** Whether another worker has the device now, and tells of it. */
      isElsewhere: (deviceId: string) => boolean;
    },
  ) {
    void this.#lookBack();
    this.#timer = setInterval(() => void this.refresh(), PRESENCE_TTL_MS / 3);
    void this.refresh();
  }

  /** Before anything is written: requests reach Redis in their order. */
  async #lookBack(): Promise<void> {
    const { redis, gatewayId, describeGateway, onEarlierRun } = this.deps;
    await this.#attempt(async () => {
      const known = await readGatewayPresence(redis, gatewayId);
      if (known && known.epoch !== describeGateway().epoch) onEarlierRun({ gatewayId, epoch: known.epoch });
    });
  }

  /** Writes everything again; never rejects. */
  async refresh(): Promise<void> {
    await this.#attempt(async () => {
      const { redis, registry, clock, describeGateway } = this.deps;
      await writeGatewayPresence(redis, describeGateway());
      let batch: DevicePresence[] = [];
      for (const tunnel of registry.all()) {
        if (!tunnel.hasLeft) batch.push(this.#describe(tunnel));
        if (batch.length < BATCH) continue;
        await writePresences(redis, batch, clock.nowMs());
        batch = [];
      }
      await writePresences(redis, batch, clock.nowMs());
    });
  }

  onTunnel(tunnel: Tunnel): void {
    void this.came(tunnel);
  }
  onTunnelChanged(tunnel: Tunnel): void {
    void this.came(tunnel);
  }
  onTunnelGone(tunnel: Tunnel): void {
    void this.went(tunnel);
  }

  async came(tunnel: Tunnel): Promise<void> {
    if (tunnel.hasLeft) return; // the gateway that it is at now tells of it
    await this.#attempt(() =>
      writePresences(this.deps.redis, [this.#describe(tunnel)], this.deps.clock.nowMs()),
    );
  }

  async went(tunnel: Tunnel): Promise<void> {
    if (tunnel.hasLeft || this.deps.isElsewhere(tunnel.deviceId)) return;
    await this.#attempt(() => deletePresence(this.deps.redis, tunnel.deviceId));
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#attempt(() => deleteGatewayPresence(this.deps.redis, this.deps.gatewayId));
  }

  #describe(tunnel: Tunnel): DevicePresence {
    return {
      sessionId: tunnel.sessionId,
      deviceId: tunnel.deviceId,
      providerId: tunnel.providerId,
      country: tunnel.country,
      city: tunnel.city,
      asn: tunnel.asn,
      state: tunnel.state,
      stateCode: tunnel.stateCode,
      isp: tunnel.isp,
      networkType: tunnel.networkType,
      gatewayId: this.deps.gatewayId,
      exitIp: tunnel.exitIp,
      connectedAtMs: tunnel.connectedAtMs,
      streams: tunnel.mux.streamCount,
      rttMs: tunnel.mux.rttMs,
      status: tunnel.status,
    };
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.deps.log.warn({ error: (error as Error).message }, 'presence_not_written');
      this.#failing = true;
    }
  }
}
