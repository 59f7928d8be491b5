import { connect, type Socket } from 'node:net';
import type { Endpoint, Route } from '../protocol.js';

/** A connection to the origin through a route; `buffer` holds what `onBytes` tells of. */
export interface Wire {
  readonly socket: Socket;
  /** Called with the number of bytes that just arrived in the buffer. */
  onBytes: (n: number) => void;
  /** Called once, when the connection is gone; the error, when it was one. */
  onClose: (error: Error | null) => void;
}

/**
 * Connects through the route and calls `onReady` when bytes written reach the origin. A plain callback and no stream:
 * the client must be faster than what it measures.
 */
export function dial(route: Route, origin: Endpoint, buffer: Buffer, onReady: (wire: Wire) => void): Wire {
  let failure: Error | null = null;
  let handshake: Handshake | null = null;
  const socket = connect({
    host: route.host,
    port: route.port,
    noDelay: true,
    onread: {
      buffer,
      callback: (n) => {
        if (handshake === null) wire.onBytes(n);
        else handshake.push(buffer.subarray(0, n));
        return true;
      },
    },
  });
  const wire: Wire = { socket, onBytes() {}, onClose() {} };
  socket.on('connect', () => {
    const ready = () => {
      handshake = null;
      onReady(wire);
    };
    if (route.kind === 'direct') return ready();
    const fail = (text: string) => socket.destroy(new Error(text));
    handshake =
      route.kind === 'socks5'
        ? new Socks5(socket, route, origin, ready, fail)
        : new HttpConnect(socket, route, origin, ready, fail);
  });
  socket.on('error', (error) => {
    failure = error;
  });
  socket.on('close', () => wire.onClose(failure));
  return wire;
}

interface Handshake {
  push(bytes: Buffer): void;
}

/** RFC 1928 and 1929, one question at a time as ordinary clients ask. */
class Socks5 implements Handshake {
  #step: 'method' | 'auth' | 'reply' = 'method';
  #bytes: Buffer = Buffer.alloc(0);

  constructor(
    readonly socket: Socket,
    readonly route: Route,
    readonly origin: Endpoint,
    readonly ready: () => void,
    readonly fail: (text: string) => void,
  ) {
    socket.write(Buffer.from([5, 1, route.username === '' ? 0 : 2]));
  }

  push(bytes: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#bytes, bytes]);
    if (this.#step === 'method' && this.#bytes.length >= 2) this.#method();
    if (this.#step === 'auth' && this.#bytes.length >= 2) this.#auth();
    if (this.#step === 'reply' && this.#bytes.length >= 10) this.#reply();
  }

  #take(n: number): Buffer {
    const taken = this.#bytes.subarray(0, n);
    this.#bytes = this.#bytes.subarray(n);
    return taken;
  }

  #method(): void {
    const method = this.#take(2)[1];
    if (method === 0) this.#request();
    else if (method === 2) this.#credentials();
    else this.fail(`SOCKS method ${method}`);
  }

  #credentials(): void {
    const { username, password } = this.route;
    const name = Buffer.from(username);
    const word = Buffer.from(password);
    this.#step = 'auth';
    this.socket.write(Buffer.concat([Buffer.from([1, name.length]), name, Buffer.from([word.length]), word]));
  }

  #auth(): void {
    const status = this.#take(2)[1];
    if (status !== 0) this.fail(`SOCKS authentication status ${status}`);
    else this.#request();
  }

  #request(): void {
    this.#step = 'reply';
    const address = this.origin.host.split('.').map(Number);
    this.socket.write(Buffer.from([5, 1, 0, 1, ...address, this.origin.port >> 8, this.origin.port & 255]));
  }

  #reply(): void {
    const reply = this.#take(10);
    if (reply[1] !== 0) this.fail(`SOCKS reply ${reply[1]}`);
    else if (reply[3] !== 1 || this.#bytes.length > 0) this.fail('unexpected SOCKS reply');
    else this.ready();
  }
}

class HttpConnect implements Handshake {
  #head = '';

  constructor(
    socket: Socket,
    route: Route,
    origin: Endpoint,
    readonly ready: () => void,
    readonly fail: (text: string) => void,
  ) {
    const to = `${origin.host}:${origin.port}`;
    const credentials = Buffer.from(`${route.username}:${route.password}`).toString('base64');
    const authorization = route.username === '' ? '' : `Proxy-Authorization: Basic ${credentials}\r\n`;
    socket.write(`CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n${authorization}\r\n`);
  }

  push(bytes: Buffer): void {
    this.#head += bytes.toString('latin1');
    const end = this.#head.indexOf('\r\n\r\n');
    if (end < 0) return;
    if (!/^HTTP\/1\.[01] 200/.test(this.#head)) this.fail(this.#head.split('\r\n')[0] as string);
    else if (end + 4 !== this.#head.length) this.fail('bytes behind the CONNECT answer');
    else this.ready();
  }
}
