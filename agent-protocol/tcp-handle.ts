/**
 * The TCP sockets that node:net is built on, for sockets that need nothing of node:stream. Undocumented, unchanged since
 * Node 12 (`onread` of node:net uses all of it). Where a part is missing, Node forbids it (`--permission`) or is newer
 * than any that was tried, `tcpHandles` is null and sockets are those of node:net. Those of node:tls have the same
 * methods.
 */
import { getSystemErrorName } from 'node:util';

/** A request that node fills in: of a write, a shutdown or a connect. */
export interface HandleRequest {
  oncomplete: (this: HandleRequest, status: number) => void;
  /** Whose it is; for `oncomplete`. */
  owner?: unknown;
  /** Of a write: kept alive until it has left, and how much it is. */
  bytes?: readonly Uint8Array[];
  length?: number;
}

/** A TCP socket of libuv. Methods return 0 or a negative errno. */
export interface TcpHandle {
  /** Called with each read; `TcpHandles.readBytes` says what it brought. Returns the memory for the next one. */
  onread: (this: TcpHandle) => Uint8Array | undefined;
  /** Whose it is; for `onread`. */
  owner?: unknown;
  useUserBuffer(buffer: Uint8Array): void;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: HandleRequest, bytes: Uint8Array): number;
  writev(request: HandleRequest, pieces: readonly Uint8Array[], allBuffers: true): number;
  /** FIN behind what is written; 1 as well: done. */
  shutdown(request: HandleRequest): number;
  /** Closes with RST. */
  reset(onClosed: (this: TcpHandle) => void): number;
  close(onClosed?: (this: TcpHandle) => void): void;
  connect(request: HandleRequest, address: string, port: number): number;
  connect6(request: HandleRequest, address: string, port: number): number;
  getpeername(into: { address?: string; port?: number }): number;
  getsockname(into: { address?: string }): number;
  setNoDelay(on: boolean): number;
  setKeepAlive(on: boolean, afterSeconds: number): number;
}

/** What node has beside the handles. */
export interface TcpHandles {
  newHandle(): TcpHandle;
  newConnect(): HandleRequest;
  newWrite(): HandleRequest;
  newShutdown(): HandleRequest;
  /** Within `onread`: bytes read, or a negative errno. */
  readBytes(): number;
  /** After a write that gave 0: whether some of it is still to leave. */
  lastWriteIsUnderWay(): boolean;
}

/** Of `onread`: the peer sends no more (UV_EOF). */
export const END_OF_FILE = -4095;

/** The newest major version of Node that the tests of these were run with. */
const NODE_MAJOR_MAX = 26;

interface Bindings {
  stream_wrap: {
    WriteWrap: new () => HandleRequest;
    ShutdownWrap: new () => HandleRequest;
    streamBaseState: ArrayLike<number>;
    kReadBytesOrError: number;
    kLastWriteWasAsync: number;
  };
  tcp_wrap: {
    TCP: new (type: number) => TcpHandle;
    TCPConnectWrap: new () => HandleRequest;
    constants: { SOCKET: number };
  };
}

const METHODS = [
  'useUserBuffer',
  'readStart',
  'readStop',
  'writeBuffer',
  'writev',
  'shutdown',
  'reset',
  'close',
  'connect',
  'connect6',
  'getpeername',
  'getsockname',
] as const;

type Binding = <N extends keyof Bindings>(name: N) => Bindings[N];

/**
 * @param binding gives node's internals by name; what there is by default
 * @param nodeVersion as `process.versions.node`
 */
export function findTcpHandles(
  binding: Binding = (name) => (process as unknown as { binding: Binding }).binding(name),
  nodeVersion: string = process.versions.node,
): TcpHandles | null {
  if (!(Number.parseInt(nodeVersion, 10) <= NODE_MAJOR_MAX)) return null;
  try {
    const { WriteWrap, ShutdownWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } =
      binding('stream_wrap');
    const { TCP, TCPConnectWrap, constants } = binding('tcp_wrap');
    const isThere =
      METHODS.every((method) => typeof TCP.prototype[method] === 'function') &&
      [WriteWrap, ShutdownWrap, TCPConnectWrap].every((wrap) => typeof wrap === 'function') &&
      [streamBaseState[kReadBytesOrError], streamBaseState[kLastWriteWasAsync], constants.SOCKET].every(
        Number.isInteger,
      );
    if (!isThere) return null;
    return {
      newHandle: () => new TCP(constants.SOCKET),
      newConnect: () => new TCPConnectWrap(),
      newWrite: () => new WriteWrap(),
      newShutdown: () => new ShutdownWrap(),
      readBytes: () => streamBaseState[kReadBytesOrError] as number,
      lastWriteIsUnderWay: () => streamBaseState[kLastWriteWasAsync] !== 0,
    };
  } catch {
    return null;
  }
}

/** null: this Node does not have them, or does not let us. */
export const tcpHandles: TcpHandles | null = findTcpHandles();

/** The error of a call that gave a negative errno, as node:net makes it. */
export function callError(errno: number, syscall: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${syscall} ${code}`), { errno, code, syscall });
}
