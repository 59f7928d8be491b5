import type { Tunnel } from './tunnel.js';

/** Who wants to know of devices that come and go. */
export interface TunnelWatcher {
  onTunnel(tunnel: Tunnel): void;
  /** Its `status` or network type changed. */
  onTunnelChanged(tunnel: Tunnel): void;
  onTunnelGone(tunnel: Tunnel): void;
}

/** The devices connected to this gateway, one tunnel a device: the newest replaces the one before. */
export class TunnelRegistry {
  readonly #byDevice = new Map<string, Tunnel>();
  readonly #watchers: TunnelWatcher[] = [];
  /** Of tunnels that are gone. */
  #wireBytesBefore = 0;

  watch(watcher: TunnelWatcher): void {
    this.#watchers.push(watcher);
  }

  get size(): number {
    return this.#byDevice.size;
  }

  /** Bytes in and out of all tunnels since the start, as the wire layer counted them: framing and control included. */
  get wireBytes(): number {
    let bytes = this.#wireBytesBefore;
    for (const { mux } of this.#byDevice.values()) bytes += mux.bytesIn + mux.bytesOut;
    return bytes;
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
    if (replaced) {
      this.remove(replaced);
      replaced.mux.close({ code: 'replaced', reason: 'the device opened another tunnel' });
    }
    this.#byDevice.set(tunnel.deviceId, tunnel);
    for (const watcher of this.#watchers) watcher.onTunnel(tunnel);
  }

  /** Removes this very tunnel; nothing happens when another one of its device has taken its place. */
  remove(tunnel: Tunnel): void {
    if (this.#byDevice.get(tunnel.deviceId) !== tunnel) return;
    this.#byDevice.delete(tunnel.deviceId);
    this.#wireBytesBefore += tunnel.mux.bytesIn + tunnel.mux.bytesOut;
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
