import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';

/** A datagram with its sender. */
export interface Received {
  bytes: Buffer;
  address: string;
  port: number;
}

/** A UDP socket on loopback that remembers what came, and can be awaited. */
export class UdpPeer {
  readonly received: Received[] = [];
  #taken = 0;
  #wake: () => void = () => {};

  private constructor(
    readonly socket: Socket,
    readonly address: string,
    readonly port: number,
  ) {
    socket.on('message', (bytes, { address, port }) => {
      this.received.push({ bytes, address, port });
      this.#wake();
    });
  }

  /** `address` decides the family. Closed at the end of the test. */
  static async open(
    t: { teardown(f: () => unknown): void },
    address = '127.0.0.1',
    port = 0,
  ): Promise<UdpPeer> {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    socket.bind(port, address);
    await once(socket, 'listening');
    const peer = new UdpPeer(socket, address, socket.address().port);
    t.teardown(() => peer.close());
    return peer;
  }

  /** Sends back whatever comes. */
  echo(): this {
    this.socket.on('message', (bytes, { address, port }) => this.socket.send(bytes, port, address));
    return this;
  }

  send(bytes: Buffer | string, port: number, address = this.address): void {
    this.socket.send(bytes, port, address);
  }

  /** The next datagram that nobody awaited yet. Never too late: tap ends a test that waits for ever. */
  async next(): Promise<Received> {
    while (this.received.length <= this.#taken)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.received[this.#taken++] as Received;
  }

  close(): void {
    try {
      this.socket.close();
    } catch {
      // closed by the test already
    }
  }
}

/** UDP sockets that this process has open. */
export function openUdpSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'UDPWrap').length;
}
