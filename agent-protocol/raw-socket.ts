/**
 * Sockets as the data path wants them: bytes go to a sink that can be swapped, out of a reused read buffer, without
 * a stream, an object or a copy per read. Plain TCP sockets right on their handles (handle-socket.ts) or read by
 * `onread` (stream-socket.ts); TLS sockets the same way, and what one turn of the event loop decrypts is gathered
 * (tls-gather.ts).
 */
import { connect, isIP, Socket, type SocketConstructorOpts, type TcpNetConnectOpts } from 'node:net';
import { type ConnectionOptions, connect as connectTls, TLSSocket } from 'node:tls';
import { HandleSocket } from './handle-socket.js';
import type { RawSocket } from './raw-socket-contract.js';
import { StreamSocket } from './stream-socket.js';
import { type TcpHandle, type TcpHandles, tcpHandles } from './tcp-handle.js';

export type { RawSink, RawSocket, SocketHandle } from './raw-socket-contract.js';

const nothing = Buffer.alloc(0);

/** What node:net has but does not declare. */
interface SocketInternals {
  _handle: {
    reading?: boolean;
    readStop?: () => number;
    setNoDelay?: (on: boolean) => number;
  } | null;
}

/**
 * Takes an accepted or otherwise connected socket over. Nobody else may use it afterwards; `RawSocket.socket` is its
 * successor. Accept with `pauseOnConnect: true` and `allowHalfOpen: true` so that nothing is read before. Unread bytes
 * that node:stream has already buffered are returned by `takeBuffered`; call that first when the socket was readable.
 * Enables TCP_NODELAY (Nagle's algorithm costs 42 ms a connection).
 */
export function adoptSocket(accepted: Socket, handles: TcpHandles | null = tcpHandles): RawSocket {
  if (accepted instanceof TLSSocket || (accepted as unknown as SocketInternals)._handle === null) {
    accepted.allowHalfOpen = true;
    if (!accepted.destroyed) accepted.setNoDelay(true);
    return new StreamSocket(() => accepted, true);
  }
  const internals = accepted as unknown as SocketInternals;
  const handle = internals._handle as NonNullable<SocketInternals['_handle']>;
  handle.readStop?.();
  handle.reading = false;
  const raw = socketOnHandle(handle, handles);
  // The old object must not touch the handle any more, but its server still counts it: it closes when we do.
  internals._handle = null;
  accepted.setTimeout(0);
  accepted.on('error', ignore);
  raw.onceClosed(() => accepted.destroy());
  handle.setNoDelay?.(true);
  return raw;
}

/** @internal A socket on the handle of a TCP connection that nobody reads. Sets no options on it. */
export function socketOnHandle(handle: object, handles: TcpHandles | null = tcpHandles): RawSocket {
  const isTcp = 'reset' in handle; // else a pipe
  if (handles === null || !isTcp) return streamOnHandle(handle);
  return new HandleSocket(handle as TcpHandle, handles, streamOnHandle);
}

function streamOnHandle(handle: object): StreamSocket {
  // Undocumented but stable since Node 0.10: a net.Socket built on an existing handle. It is the only way to give an
  // accepted socket `onread`.
  return new StreamSocket(
    (onread) =>
      new Socket({
        handle,
        onread,
        allowHalfOpen: true,
        // Nothing is read before resume().
        manualStart: true,
        readable: true,
        writable: true,
      } as unknown as SocketConstructorOpts),
    false,
  );
}

/**
 * Takes a TLS session over that was begun on an adopted socket; `tcp` is that socket, which nobody may use any more.
 * Unlike `adoptSocket` of a TLSSocket, its `reset` sends RST: a peer then can tell what was cut from what ended.
 */
export function adoptTls(tls: TLSSocket, tcp: RawSocket): RawSocket {
  tls.allowHalfOpen = true;
  return new StreamSocket(() => tls, true, tcp.socket);
}

function ignore(): void {}

/** Bytes a socket has read but nobody has taken yet. */
export function takeBuffered(socket: Socket): Buffer {
  return socket.readableLength > 0 ? ((socket.read() as Buffer | null) ?? nothing) : nothing;
}

/**
 * Dials a TCP destination; half-open, TCP_NODELAY, paused. `raw.socket` emits 'connect'; a failure comes as 'error' on
 * it and as `onClose(error)` at the sink.
 */
export function dialSocket(options: TcpNetConnectOpts): RawSocket {
  return new StreamSocket(
    (onread) => connect({ ...options, onread, allowHalfOpen: true, noDelay: true } as TcpNetConnectOpts),
    false,
  );
}

/**
 * Dials a TCP destination by address; half-open, TCP_NODELAY, paused. `onResult` is called once, never from within:
 * null when connected, or why not; not after `destroy`. Throws RangeError for a port that is none.
 */
export function dialAddress(
  address: string,
  port: number,
  onResult: (error: NodeJS.ErrnoException | null) => void,
  handles: TcpHandles | null = tcpHandles,
): RawSocket {
  const version = isIP(address);
  // A zone is an interface's name to node:net, and not looked up here. A port that is none ends the process below it.
  const isPort = Number.isInteger(port) && port >= 0 && port <= 65_535;
  if (handles !== null && version !== 0 && !address.includes('%') && isPort)
    return HandleSocket.dial(address, version === 6, port, onResult, handles, streamOnHandle);
  const raw = dialSocket({ host: address, port });
  const { socket } = raw;
  socket.once('error', onResult);
  socket.once('connect', () => {
    socket.removeListener('error', onResult);
    onResult(null);
  });
  return raw;
}

/** Dials with TLS; `raw.socket` emits 'secureConnect'. */
export function dialTlsSocket(options: ConnectionOptions): RawSocket {
  return new StreamSocket(() => {
    const socket = connectTls({ ...options, allowHalfOpen: true } as ConnectionOptions);
    socket.setNoDelay(true);
    return socket;
  }, true);
}
