import type { AddressInfo } from 'node:net';
import { isIPv4 } from 'node:net';
import { type UdpSink, UdpSocket } from '../../agent-protocol/udp-socket.js';

/** Ports from `from` to `to`, both included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** Ports of a range that are tried for one association when others hold them. */
const TRIES_MAX = 100;

/** Gives UDP sockets to associations: on any free port, or on those of a range in turn. */
export class UdpPorts {
  readonly #range: PortRange | null;
  #next: number;

  /** `share`: of several processes that take ports of one range, each begins in its own part of it. */
  constructor(range: PortRange | null, share = { number: 1, of: 1 }) {
    this.#range = range;
    const ports = range === null ? 0 : range.to - range.from + 1;
    this.#next = (range?.from ?? 0) + Math.floor((ports * (share.number - 1)) / share.of);
  }

  /** A socket bound to the address; an error: it is not to be had, or (EADDRINUSE) no port of the range is free. */
  async bind(
    address: string,
    sink: UdpSink,
  ): Promise<{ socket: UdpSocket; bound: AddressInfo } | NodeJS.ErrnoException> {
    const ports = this.#range === null ? 1 : this.#range.to - this.#range.from + 1;
    for (let tries = 1; ; tries++) {
      const socket = new UdpSocket(isIPv4(address) ? 4 : 6, sink);
      const bound = await socket.bind(address, this.#nextPort());
      if (!(bound instanceof Error)) return { socket, bound };
      socket.close();
      if (bound.code !== 'EADDRINUSE' || tries === Math.min(ports, TRIES_MAX)) return bound;
    }
  }

  #nextPort(): number {
    const range = this.#range;
    if (range === null) return 0;
    const port = this.#next;
    this.#next = port === range.to ? range.from : port + 1;
    return port;
  }
}
