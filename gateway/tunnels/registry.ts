import type { Tunnel } from './tunnel.js';

/**
 * The devices connected to this gateway, one tunnel a device: the newest replaces the one before. Indexed by country,
 * so that choosing among many devices does not look at all of them.
 */
export class TunnelRegistry {
  readonly #byDevice = new Map<string, Tunnel>();
  readonly #byCountry = new Map<string, Set<Tunnel>>();

  get size(): number {
    return this.#byDevice.size;
  }

  /** Adds a tunnel; returns the one it replaces, which the caller closes. */
  add(tunnel: Tunnel): Tunnel | null {
    const replaced = this.#byDevice.get(tunnel.deviceId) ?? null;
    if (replaced) this.remove(replaced);
    this.#byDevice.set(tunnel.deviceId, tunnel);
    const inCountry = this.#byCountry.get(tunnel.country);
    if (inCountry) inCountry.add(tunnel);
    else this.#byCountry.set(tunnel.country, new Set([tunnel]));
    return replaced;
  }

  /** Removes this very tunnel; false when it had been replaced already. */
  remove(tunnel: Tunnel): boolean {
    if (this.#byDevice.get(tunnel.deviceId) !== tunnel) return false;
    this.#byDevice.delete(tunnel.deviceId);
    const inCountry = this.#byCountry.get(tunnel.country);
    inCountry?.delete(tunnel);
    if (inCountry?.size === 0) this.#byCountry.delete(tunnel.country);
    return true;
  }

  byDevice(deviceId: string): Tunnel | undefined {
    return this.#byDevice.get(deviceId);
  }

  all(): IterableIterator<Tunnel> {
    return this.#byDevice.values();
  }

  inCountry(country: string): Iterable<Tunnel> {
    return this.#byCountry.get(country) ?? [];
  }

  countries(): IterableIterator<string> {
    return this.#byCountry.keys();
  }
}
