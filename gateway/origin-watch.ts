import type { Log } from './runtime/logging.js';
import type { Origin } from './runtime/origin/origin-check.js';
import type { TunnelRegistry } from './tunnels/registry.js';
import type { Tunnel } from './tunnels/tunnel.js';

export interface OriginWatchDeps {
  registry: TunnelRegistry;
  /** Whether devices may share from the address by what holds now. */
  check: (address: string) => Origin;
  log: Log;
}

/** Tunnels judged in one turn of the event loop: some milliseconds. */
const TUNNELS_PER_TURN = 200;

/** Ends tunnels from networks that are refused now, and were not when they were opened. */
export class OriginWatch {
  readonly #deps: OriginWatchDeps;
  #round = 0;

  constructor(deps: OriginWatchDeps) {
    this.#deps = deps;
    // The lists may have changed between a tunnel's handshake and its greeting.
    deps.registry.watch({
      onTunnel: (tunnel) => void setImmediate(() => this.#judge(tunnel)),
      onTunnelChanged: () => {},
      onTunnelGone: () => {},
    });
  }

  /** The lists are others now. Never rejects. */
  async listsChanged(): Promise<void> {
    const round = ++this.#round;
    const tunnels = [...this.#deps.registry.all()];
    for (let i = 0; i < tunnels.length; i += TUNNELS_PER_TURN) {
      for (const tunnel of tunnels.slice(i, i + TUNNELS_PER_TURN)) this.#judge(tunnel);
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (round !== this.#round) return; // a newer round judges all of them
    }
  }

  #judge(tunnel: Tunnel): void {
    const { registry, check, log } = this.#deps;
    if (registry.byDevice(tunnel.deviceId) !== tunnel) return;
    const verdict = check(tunnel.exitIp);
    if (verdict.ok) return;
    log.info(
      { deviceId: tunnel.deviceId, code: verdict.code, rule: verdict.rule },
      'tunnel_ended_origin_refused',
    );
    tunnel.mux.close({ code: 'unpaid_region', reason: verdict.rule });
  }
}
