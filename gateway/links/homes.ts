import type { Authenticated } from '../listeners/connect-pipeline.js';
import type { LiveRedis } from '../live/connection.js';
import { EXIT_TTL_MS } from '../live/keys.js';
import { readPresence } from '../live/presence.js';
import { type ExitPlace, readExit, writeExits } from '../live/summaries.js';
import type { Log } from '../runtime/logging.js';
import type { Soon } from '../runtime/soon.js';
import type { TunnelRegistry, TunnelWatcher } from '../tunnels/registry.js';
import type { Tunnel } from '../tunnels/tunnel.js';

/** Sessions and packages remembered with the gateway that served them; above it the oldest is looked up again. */
const HOMES_MAX = 100_000;
/** Exits written in one round trip. */
const BATCH = 500;

export interface HomesDeps {
  redis: LiveRedis;
  log: Log;
  gatewayId: string;
  registry: TunnelRegistry;
  /** Whether the gateway can be asked. */
  isPeer: (gatewayId: string) => boolean;
  /** Whether this gateway has a device of the exit. */
  hasExit: (exit: ExitPlace) => boolean;
}

/** Which gateway a named session or a pulled package is to go to, and tells others at which one exits are. */
export class Homes implements TunnelWatcher {
  /** Key of what is bound → gateway that served it last. */
  readonly #known = new Map<string, string>();
  readonly #timer: NodeJS.Timeout;
  #failing = false;

  constructor(private readonly deps: HomesDeps) {
    deps.registry.watch(this);
    this.#timer = setInterval(() => void this.refresh(), EXIT_TTL_MS / 3).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  onTunnel({ providerId, exitIp }: Tunnel): void {
    void this.#write([{ providerId, exitIp }]);
  }
  onTunnelChanged(): void {}
  onTunnelGone(): void {}

  /** Tells of all exits again; never rejects. */
  async refresh(): Promise<void> {
    let batch: ExitPlace[] = [];
    for (const { providerId, exitIp } of this.deps.registry.all()) {
      batch.push({ providerId, exitIp });
      if (batch.length < BATCH) continue;
      await this.#write(batch);
      batch = [];
    }
    await this.#write(batch);
  }

  /** Who is to be asked before anybody else; null: begin here. Never rejects. */
  homeOf(auth: Authenticated): Soon<string | null> {
    const key = keyOf(auth);
    if (key === null) return null;
    const known = this.#known.get(key);
    if (known !== undefined && this.deps.isPeer(known)) return known;
    const { packageRoute } = auth.buyer;
    if (auth.params.packageId === null || !packageRoute || this.deps.hasExit(packageRoute)) return null;
    return readExit(this.deps.redis, packageRoute).then(
      (gatewayId) => (gatewayId !== null && this.deps.isPeer(gatewayId) ? gatewayId : null),
      () => null,
    );
  }

  /** The other gateway with the device, by its presence; null: none that can be asked. Never rejects. */
  async gatewayWith(deviceId: string): Promise<string | null> {
    try {
      const gatewayId = (await readPresence(this.deps.redis, deviceId))?.gatewayId;
      return gatewayId !== undefined && this.deps.isPeer(gatewayId) ? gatewayId : null;
    } catch {
      return null;
    }
  }

  /** What is bound was served there (null: here, or nowhere). */
  served(auth: Authenticated, gatewayId: string | null): void {
    const key = keyOf(auth);
    if (key === null) return;
    this.#known.delete(key);
    if (gatewayId === null) return;
    this.#known.set(key, gatewayId);
    const [oldest] = this.#known.keys();
    if (this.#known.size > HOMES_MAX) this.#known.delete(oldest as string);
  }

  async #write(exits: readonly ExitPlace[]): Promise<void> {
    const { redis, gatewayId, log } = this.deps;
    try {
      await writeExits(redis, gatewayId, exits);
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) log.warn({ reason: (error as Error).message }, 'exits_not_written');
      this.#failing = true;
    }
  }
}

/** Of what keeps its exit; null: nothing does. */
function keyOf({ buyer, params }: Authenticated): string | null {
  if (params.packageId !== null) return `p ${params.packageId}`;
  return params.session === null ? null : `s ${buyer.account} ${params.session}`;
}
