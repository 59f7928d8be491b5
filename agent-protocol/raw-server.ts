/** Accepting for the data path: no stream for a connection, and one call to the operating system for its options. */
import { lookup } from 'node:dns/promises';
import net, { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { adoptSocket, type RawSocket, type SocketHandle, socketOnHandle } from './raw-socket.js';

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
    if (this.#keepAliveAfterMs !== null) {
      this.#handle.setNoDelay?.(true);
      this.#handle.setKeepAlive?.(true, this.#keepAliveAfterMs / 1_000);
    }
    return socketOnHandle(this.#handle);
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

/** Takes a connection that another process has detached (`RawSocket.detach`). It keeps the options it has. */
export function adoptHandle(handle: SocketHandle): RawSocket {
  return socketOnHandle(handle);
}

/** Where to listen: port 0 is any free one. `bound`: an address that another process has bound for us (`bindPort`). */
export interface ListenOptions {
  host: string;
  port: number;
  backlog: number;
  bound?: SocketHandle | undefined;
}

/** Listens; resolves with the address, rejects when it can not be had. */
export function listen(server: Server, { host, port, backlog, bound }: ListenOptions): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const listening = () => {
      server.removeListener('error', reject);
      resolve(server.address() as AddressInfo);
    };
    if (bound) server.listen(bound, backlog, listening);
    else server.listen({ host, port, backlog }, listening);
  });
}

interface BoundHandle extends SocketHandle {
  getsockname(into: { port?: number }): number;
}

/** What node:net has but does not declare; node:cluster shares ports by the same means. */
interface NetInternals {
  _createServerHandle(address: string, port: number, family: 4 | 6, fd: number, flags: number): unknown;
}

/**
 * Binds an address without accepting anything there: for processes that share a port, each of which listens on its copy.
 * Connections wait with the operating system while there is none, until the last copy is closed. Port 0: any free one.
 * Rejects with an error of node:net's when the address can not be had.
 */
export async function bindPort(host: string, port: number): Promise<{ bound: SocketHandle; port: number }> {
  const { address, family } = await lookup(host);
  const made = (net as unknown as NetInternals)._createServerHandle(
    address,
    port,
    family === 6 ? 6 : 4,
    -1,
    0,
  );
  const name: { port?: number } = {};
  // What was wrong with the address is told by the first question about it.
  const error = typeof made === 'number' ? made : (made as BoundHandle).getsockname(name);
  if (error === 0) return { bound: made as BoundHandle, port: name.port ?? port };
  if (typeof made !== 'number') (made as BoundHandle).close();
  const code = getSystemErrorName(error);
  throw Object.assign(new Error(`listen ${code}: ${host}:${port}`), { code, port });
}
