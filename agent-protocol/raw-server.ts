/** Accepting for the data path: one net.Socket a connection, and one call to the operating system for its options. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { adoptSocket, type RawSocket, socketOnHandle } from './raw-socket.js';

/** A connection of which nothing was read. Exactly one of `adopt` and `close` is to be called. */
export interface Accepted {
  /** The peer's address; undefined: it is gone already. */
  readonly remoteAddress: string | undefined;
  /** Takes it: paused, half-open, TCP_NODELAY, kept alive. */
  adopt(): RawSocket;
  /** Turns it away unread, without a socket ever being made for it. */
  close(): void;
}

export interface RawServerOptions {
  /** Silence on an accepted connection after which the operating system asks whether its peer is still there, ms. */
  keepAliveAfterMs: number;
  onAccepted: (accepted: Accepted) => void;
}

/** What node:net has but does not declare: the handles of listening and of accepted sockets. */
interface Handle {
  onconnection?: (this: Handle, error: number, client?: Handle) => void;
  getpeername?: (into: { address?: string }) => number;
  setNoDelay?: (on: boolean) => number;
  setKeepAlive?: (on: boolean, afterSeconds: number) => number;
  close(): void;
}

/**
 * A server that is not listening yet. net.Server makes a Socket of each connection, a stream with all that belongs to
 * one, which would only be thrown away for the one that reads into reused buffers; so its connections are taken below
 * it. Where node:net does not let that be done they come the ordinary way. Connections do not count for `close`, which
 * ends the listening alone.
 */
export function createRawServer({ keepAliveAfterMs, onAccepted }: RawServerOptions): Server {
  const keepAlive = { keepAlive: true, keepAliveInitialDelay: keepAliveAfterMs };
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, ...keepAlive });
  server.on('connection', (socket) => onAccepted(ofSocket(socket)));
  server.on('listening', () => {
    const handle = (server as unknown as { _handle: Handle | null })._handle;
    const ordinary = handle?.onconnection;
    if (!handle || ordinary === undefined) return;
    // Linux: an accepted socket begins with the options of the one that listened.
    const inherits =
      process.platform === 'linux' &&
      handle.setNoDelay?.(true) === 0 &&
      handle.setKeepAlive?.(true, keepAliveAfterMs / 1_000) === 0;
    handle.onconnection = function (error, client) {
      if (error !== 0 || client?.getpeername === undefined) ordinary.call(this, error, client);
      else onAccepted(new AcceptedHandle(client, inherits ? null : keepAliveAfterMs));
    };
  });
  return server;
}

class AcceptedHandle implements Accepted {
  readonly #handle: Handle;
  /** null: the options are set. */
  readonly #keepAliveAfterMs: number | null;

  constructor(handle: Handle, keepAliveAfterMs: number | null) {
    this.#handle = handle;
    this.#keepAliveAfterMs = keepAliveAfterMs;
  }

  get remoteAddress(): string | undefined {
    const peer: { address?: string } = {};
    this.#handle.getpeername?.(peer);
    return peer.address;
  }

  adopt(): RawSocket {
    const raw = socketOnHandle(this.#handle);
    if (this.#keepAliveAfterMs !== null)
      raw.socket.setNoDelay(true).setKeepAlive(true, this.#keepAliveAfterMs);
    return raw;
  }

  close(): void {
    this.#handle.close();
  }
}

function ofSocket(socket: Socket): Accepted {
  return {
    remoteAddress: socket.remoteAddress,
    adopt: () => adoptSocket(socket),
    close: () => socket.destroy(),
  };
}

/** Listens; resolves with the address, rejects when it can not be had. Port 0: any free one. */
export function listen(
  server: Server,
  { host, port, backlog }: { host: string; port: number; backlog: number },
): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog }, () => {
      server.removeListener('error', reject);
      resolve(server.address() as AddressInfo);
    });
  });
}
