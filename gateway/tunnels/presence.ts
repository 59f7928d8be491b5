import type { LiveRedis } from '../live/connection.js';
import { PRESENCE_TTL_MS } from '../live/keys.js';
import {
  deleteGatewayPresence,
  deletePresence,
  readGatewayPresence,
  writeGatewayPresence,
  writePresences,
} from '../live/presence.js';
import type { DevicePresence, GatewayPresence, GatewayRun } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { TunnelRegistry, TunnelWatcher } from './registry.js';
import type { Tunnel } from './tunnel.js';

/** Presences written in one round trip. */
const BATCH = 500;

/** How often a tunnel whose device has a newer one elsewhere is looked at until its streams are over, ms. */
const FINISH_LOOK_MS = 500;
/** After so long it is closed with what is left of them. */
const FINISH_MS_MAX = 30_000;

/**
 * Tells the live state which devices hang on this gateway, at once when one comes or goes and every third of
 * PRESENCE_TTL_MS. Redis being away is logged once and healed by the next round. A device that has opened a newer tunnel at
 * another gateway gets no new streams here; its tunnel is closed when the live ones are over.
 */
export class Presence implements TunnelWatcher {
  readonly #timer: NodeJS.Timeout;
  #failing = false;
  /** Timers of tunnels that are outdated and may finish. */
  readonly #finishing = new Map<Tunnel, NodeJS.Timeout>();
  #isReplaced = false;

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

  /** A process that began later has this gateway's id: one of the two is a mistake in their settings. */
  get isReplaced(): boolean {
    return this.#isReplaced;
  }

  /** Writes everything again; never rejects. */
  async refresh(): Promise<void> {
    await this.#attempt(async () => {
      const { redis, registry, describeGateway } = this.deps;
      await this.#writeGateway(redis, describeGateway());
      let batch: Tunnel[] = [];
      for (const tunnel of registry.all()) {
        if (tunnel.hasLeft || this.#finishing.has(tunnel)) continue;
        batch.push(tunnel);
        if (batch.length < BATCH) continue;
        await this.#write(batch, false);
        batch = [];
      }
      await this.#write(batch, false);
    });
  }

  async #writeGateway(redis: LiveRedis, presence: GatewayPresence): Promise<void> {
    const other = await writeGatewayPresence(redis, presence);
    if (other !== null && !this.#isReplaced)
      this.deps.log.error({ gatewayId: presence.gatewayId, other: other.epoch }, 'gateway_id_taken');
    this.#isReplaced = other !== null;
  }

  async #write(tunnels: readonly Tunnel[], came: boolean): Promise<void> {
    const { redis, clock } = this.deps;
    const presences = tunnels.map((tunnel) => this.#describe(tunnel));
    const since = await writePresences(redis, presences, clock.nowMs(), came);
    tunnels.forEach((tunnel, i) => {
      const sinceMs = since[i] ?? null;
      if (sinceMs === null) this.#outdated(tunnel);
      else tunnel.sinceMs = sinceMs;
    });
  }

  /** Its device has opened a newer tunnel at another gateway. */
  #outdated(tunnel: Tunnel): void {
    const { registry, clock, log } = this.deps;
    // A device that was asked to move says that it pauses, and closes the tunnel by itself.
    if (tunnel.status !== 'sharing') return;
    if (this.#finishing.has(tunnel) || registry.byDevice(tunnel.deviceId) !== tunnel) return;
    log.info({ deviceId: tunnel.deviceId, streams: tunnel.mux.streamCount }, 'device_moved_elsewhere');
    const end = clock.monotonicMs() + FINISH_MS_MAX;
    const look = () => {
      if (tunnel.mux.streamCount > 0 && clock.monotonicMs() < end) return;
      this.#forget(tunnel);
      if (registry.byDevice(tunnel.deviceId) === tunnel) registry.replace(tunnel);
    };
    this.#finishing.set(tunnel, setInterval(look, FINISH_LOOK_MS).unref());
    tunnel.status = 'draining';
    registry.changed(tunnel);
    look();
  }

  #forget(tunnel: Tunnel): void {
    clearInterval(this.#finishing.get(tunnel));
    this.#finishing.delete(tunnel);
  }

  onTunnel(tunnel: Tunnel): void {
    void this.#attempt(() => this.#write([tunnel], true));
  }
  onTunnelChanged(tunnel: Tunnel): void {
    // Of one that has left the gateway tells that it is at now.
    if (tunnel.hasLeft || this.#finishing.has(tunnel)) return;
    void this.#attempt(() => this.#write([tunnel], false));
  }
  onTunnelGone(tunnel: Tunnel): void {
    this.#forget(tunnel);
    void this.went(tunnel);
  }

  async went(tunnel: Tunnel): Promise<void> {
    if (tunnel.hasLeft || this.deps.isElsewhere(tunnel.deviceId)) return;
    await this.#attempt(() => deletePresence(this.deps.redis, tunnel.deviceId, this.deps.gatewayId));
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    for (const tunnel of [...this.#finishing.keys()]) this.#forget(tunnel);
    await this.#attempt(() => deleteGatewayPresence(this.deps.redis, this.deps.describeGateway()));
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
      sinceMs: tunnel.sinceMs,
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
