import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';

/** What becomes of a UdpSocket. */
export interface UdpSink {
  /** A datagram came; `bytes` may be kept. `address` is as the system writes it, with zone where it has one. */
  onReceived(bytes: Buffer, address: string, port: number): void;
  /** It could not be bound, or fails now: to be closed. */
  onSocketError(error: NodeJS.ErrnoException): void;
}

/**
 * An unconnected UDP socket of one address family. It looks nothing up: addresses only. Nothing is received or told
 * after `close`.
 */
export class UdpSocket {
  readonly #socket: Socket;
  #open = true;
  /** While it is being bound. */
  #onBindError: ((error: NodeJS.ErrnoException) => void) | null = null;

  constructor(family: 4 | 6, sink: UdpSink) {
    this.#socket = createSocket({
      type: family === 4 ? 'udp4' : 'udp6',
      ipv6Only: family === 6,
      // Called for every datagram that is sent. Node's own answers in a later tick, and would take names.
      lookup: (address, _options, callback) => callback(null, address, family),
    });
    this.#socket.on('message', (bytes, { address, port }) => {
      if (this.#open) sink.onReceived(bytes, address, port);
    });
    this.#socket.on('error', (error) => {
      const onBindError = this.#onBindError;
      this.#onBindError = null;
      if (onBindError !== null) onBindError(error);
      else if (this.#open) sink.onSocketError(error);
    });
  }

  /** Binds it; port 0: any free one. Resolves with where it is, or the error, which the sink is not told. */
  bind(address: string, port: number): Promise<AddressInfo | NodeJS.ErrnoException> {
    return new Promise((resolve) => {
      this.#onBindError = resolve;
      this.#socket.bind({ address, port, exclusive: true }, () => {
        this.#onBindError = null;
        resolve(this.#socket.address());
      });
    });
  }

  /** Bytes sent that the operating system has not taken. */
  get unsentBytes(): number {
    return this.#open ? this.#socket.getSendQueueSize() : 0;
  }

  /**
   * Sends it, from any free port when it is not bound. `bytes` must stay as they are from now on. What the operating
   * system does not take (too long for the path, no route) is gone without a word.
   */
  send(bytes: Uint8Array, address: string, port: number): void {
    if (this.#open) this.#socket.send(bytes, port, address);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#socket.close();
  }
}
