/**
 * Unix sockets on which a process gives open connections to another. Node's own IPC does that between parent and child
 * only, one socket at a time, each to be acknowledged before the next, and forgets those that wait when the other side
 * dies. What it is built on is used here: undocumented, unchanged since Node 12.
 */
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';

/** A pipe of libuv that takes sockets along. Methods return 0 or a negative errno. */
interface Pipe {
  readonly fd: number;
  /** What came with the bytes that are being read. */
  pendingHandle: SocketHandle | null;
  onread: (this: Pipe) => void;
  open(fd: number): number;
  useUserBuffer(buffer: Uint8Array): void;
  readStart(): number;
  writeUtf8String(request: WriteRequest, text: string, handle: SocketHandle): number;
  close(): void;
}

interface WriteRequest {
  oncomplete: (status: number) => void;
}

interface Bindings {
  pipe_wrap: { Pipe: new (type: number) => Pipe; constants: { IPC: number } };
  stream_wrap: {
    WriteWrap: new () => WriteRequest;
    streamBaseState: ArrayLike<number>;
    kReadBytesOrError: number;
    kLastWriteWasAsync: number;
  };
}

function find() {
  // Elsewhere a socket that was sent must stay open until it has come.
  if (process.platform !== 'linux') return null;
  try {
    const { binding } = process as unknown as { binding<N extends keyof Bindings>(name: N): Bindings[N] };
    const { Pipe, constants } = binding('pipe_wrap');
    const { WriteWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } = binding('stream_wrap');
    const methods = ['open', 'useUserBuffer', 'readStart', 'writeUtf8String', 'close'] as const;
    const isThere =
      methods.every((method) => typeof Pipe.prototype[method] === 'function') &&
      [streamBaseState[kReadBytesOrError], streamBaseState[kLastWriteWasAsync], constants.IPC].every(
        Number.isInteger,
      );
    if (!isThere) return null;
    return {
      newPipe: () => new Pipe(constants.IPC),
      newWrite: () => new WriteWrap(),
      readBytes: () => streamBaseState[kReadBytesOrError] as number,
      lastWriteIsUnderWay: () => streamBaseState[kLastWriteWasAsync] !== 0,
    };
  } catch {
    return null;
  }
}

const pipes = find();

/** Whether this Node on this system can do it. */
export const canPassSockets: boolean = pipes !== null;

const READ_BYTES = 65_536;
/** Connections that may wait for the other side to read, which stands still then. */
const WAITING_MAX = 1_000;
const NEWLINE = 0x0a;

/** What a channel tells. */
export interface PassChannelEvents {
  /** `text`: as `pass` was given it. */
  onPassed(text: string, connection: SocketHandle): void;
  /** The other side is gone; the last call. */
  onClosed(): void;
}

/** One end of a channel; both ends give and take. */
export class PassChannel {
  readonly #pipe: Pipe;
  readonly #pipes: NonNullable<typeof pipes>;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  /** A message that has not come whole. */
  #unread: Buffer = Buffer.alloc(0);
  /** Connections whose message has not come whole: each comes with the first bytes of its message. */
  readonly #came: SocketHandle[] = [];
  #waiting = 0;
  #closed = false;

  /** `fd`: of the end of a connected pair of Unix sockets, which is closed with this. Throws when it is none. */
  constructor(
    fd: number,
    private readonly events: PassChannelEvents,
    private readonly waitingMax = WAITING_MAX,
  ) {
    if (pipes === null) throw new Error('this system or this Node does not let processes pass sockets');
    this.#pipes = pipes;
    const pipe = pipes.newPipe();
    this.#pipe = pipe;
    const status = pipe.open(fd);
    if (status < 0) throw new Error(`no socket to pass others on: ${status}`);
    pipe.pendingHandle = null;
    pipe.onread = () => this.#onRead();
    pipe.useUserBuffer(this.#buffer);
    pipe.readStart();
  }

  /**
   * Gives the connection away with a line of text. False: it can not be now, and stays with the caller. Else `done` is
   * called later: true, it is on its way and closed here (should the other side die before it looks, the operating
   * system closes it); false, it stays with the caller after all.
   */
  pass(text: string, connection: SocketHandle, done: (passed: boolean) => void): boolean {
    const peer = peerOf(connection);
    if (this.#closed || this.#waiting >= this.waitingMax || peer === null) return false;
    const request = this.#pipes.newWrite();
    const sent = (status: number) => {
      this.#waiting--;
      if (status >= 0) connection.close();
      done(status >= 0);
    };
    request.oncomplete = sent;
    const status = this.#pipe.writeUtf8String(request, `${peer} ${text}\n`, connection);
    if (status < 0) return false;
    this.#waiting++;
    if (!this.#pipes.lastWriteIsUnderWay()) setImmediate(sent, 0);
    return true;
  }

  /** What has not left stays with those who gave it; what came and was not told is closed. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pipe.close();
    for (const connection of this.#came.splice(0)) connection.close();
    this.events.onClosed();
  }

  #onRead(): void {
    const { pendingHandle } = this.#pipe;
    this.#pipe.pendingHandle = null;
    if (pendingHandle !== null) this.#came.push(pendingHandle);
    const bytes = this.#pipes.readBytes();
    if (bytes < 0) this.close();
    if (bytes <= 0 || this.#closed) return;
    const read = this.#buffer.subarray(0, bytes);
    let rest = this.#unread.length === 0 ? read : Buffer.concat([this.#unread, read]);
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      const [, peer = '', text = ''] = /^(\S+) (.*)$/s.exec(rest.toString('utf8', 0, end)) ?? [];
      rest = rest.subarray(end + 1);
      const connection = this.#connectionOf(peer);
      if (connection !== null) this.events.onPassed(text, connection);
    }
    this.#unread = rest.length === 0 ? rest : Buffer.from(rest);
  }

  /**
   * The connection that came with a message. Null: it is dead, or the operating system had no descriptor left for it and
   * closed it; what is next then belongs to a later message, and must never be served as this one's.
   */
  #connectionOf(peer: string): SocketHandle | null {
    const [next] = this.#came;
    if (next === undefined) return null;
    const actual = peerOf(next);
    if (actual === peer || actual === null) this.#came.shift();
    if (actual === peer) return next;
    if (actual === null) next.close();
    return null;
  }
}

/** Null: it is gone. */
function peerOf(connection: SocketHandle): string | null {
  const peer: { address?: string; port?: number } = {};
  return connection.getpeername?.(peer) === 0 ? `${peer.address}:${peer.port}` : null;
}

/** A socket that came by node's IPC, where it is an ordinary pipe. */
export type LinkHandle = SocketHandle & { readonly fd: number };

/**
 * Links that channels were opened on. Node can not make a pipe that takes sockets along of one that came: the channel has
 * its descriptor and closes it, so this must never be.
 */
const opened: LinkHandle[] = [];

/** A channel on a link. As the constructor. */
export function openLink(link: LinkHandle, events: PassChannelEvents): PassChannel {
  opened.push(link);
  return new PassChannel(link.fd, events);
}
