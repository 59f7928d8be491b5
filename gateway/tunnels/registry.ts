import type { Tunnel } from './tunnel.js';

/** Who wants to know of devices that come and go. */
export interface TunnelWatcher {
  onTunnel(tunnel: Tunnel): void;
  /** Its `status` or network type changed. */
  onTunnelChanged(tunnel: Tunnel): void;
  onTunnelGone(tunnel: Tunnel): void;
}

/** Sums over all tunnels since the start. */
export interface TunnelTotals {
  /** Bytes in and out as the wire layer counted them: framing and control included. */
  wireBytes: number;
  /** Times a stream had no window left towards its device. */
  stallsUp: number;
  /** Times a device had used up a stream's window: its buyer takes the bytes no faster. */
  stallsDown: number;
}

function addTotals(sum: TunnelTotals, { mux }: Tunnel): TunnelTotals {
  sum.wireBytes += mux.bytesIn + mux.bytesOut;
  sum.stallsUp += mux.stalls.send;
  sum.stallsDown += mux.stalls.receive;
  return sum;
}

/** The devices connected to this gateway, one tunnel a device: the newest replaces the one before. */
export class TunnelRegistry {
  readonly #byDevice = new Map<string, Tunnel>();
  readonly #watchers: TunnelWatcher[] = [];
  /** Of tunnels that are gone. */
  readonly #before: TunnelTotals = { wireBytes: 0, stallsUp: 0, stallsDown: 0 };

  watch(watcher: TunnelWatcher): void {
    this.#watchers.push(watcher);
  }

  get size(): number {
    return this.#byDevice.size;
  }

  /** Of all tunnels, those that are gone included. */
  get totals(): TunnelTotals {
    const sum = { ...this.#before };
    for (const tunnel of this.#byDevice.values()) addTotals(sum, tunnel);
    return sum;
  }

  byDevice(deviceId: string): Tunnel | undefined {
    return this.#byDevice.get(deviceId);
  }

  all(): IterableIterator<Tunnel> {
    return this.#byDevice.values();
  }

  /** Adds a tunnel. One of the same device is replaced: told so, and closed with its streams. */
  add(tunnel: Tunnel): void {
    const replaced = this.#byDevice.get(tunnel.deviceId);
    if (replaced) this.replace(replaced);
    this.#byDevice.set(tunnel.deviceId, tunnel);
    for (const watcher of this.#watchers) watcher.onTunnel(tunnel);
  }

  /** Its device has opened another tunnel, here or at another worker: told so, and closed with its streams. */
  replace(tunnel: Tunnel): void {
    this.remove(tunnel);
    tunnel.mux.close({ code: 'replaced', reason: 'the device opened another tunnel' });
  }

  /** Removes this very tunnel; nothing happens when another one of its device has taken its place. */
  remove(tunnel: Tunnel): void {
    if (this.#byDevice.get(tunnel.deviceId) !== tunnel) return;
    this.#byDevice.delete(tunnel.deviceId);
    addTotals(this.#before, tunnel);
    for (const watcher of this.#watchers) watcher.onTunnelGone(tunnel);
  }

  changed(tunnel: Tunnel): void {
    if (this.#byDevice.get(tunnel.deviceId) !== tunnel) return;
    for (const watcher of this.#watchers) watcher.onTunnelChanged(tunnel);
  }

  /** Ends every tunnel of a traffic session; the devices must not come back with it. */
  closeSession(sessionId: string, code: 'stopped' | 'consent_withdrawn' | 'banned'): void {
    for (const tunnel of [...this.#byDevice.values()])
      if (tunnel.sessionId === sessionId) tunnel.mux.close({ code, reason: 'the traffic session ended' });
  }
}
