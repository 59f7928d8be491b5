/**
 * Sockets as the data path wants them: bytes go to a sink that can be swapped, out of a reused read buffer, without
 * a stream, an object or a copy per read. Plain TCP sockets read by `onread` (read-buffer.ts); TLS sockets the same
 * way, and what one turn of the event loop decrypts is gathered (tls-gather.ts).
 */
import {
  connect,
  type OnReadOpts,
  Socket,
  type SocketConstructorOpts,
  type TcpNetConnectOpts,
} from 'node:net';
import { type ConnectionOptions, connect as connectTls, TLSSocket } from 'node:tls';
import { ReadBuffer } from './read-buffer.js';
import { readInto, TlsGather } from './tls-gather.js';

/** Takes what a RawSocket reads and what becomes of it. */
export interface RawSink {
  /**
   * Bytes `buffer[start, end)`. With `headroomBytes` of at least FRAME_HEADROOM the sink may overwrite that many in
   * front of `start` and may keep the bytes: it returns true when something still refers to them, and the socket
   * takes another buffer. A sink that has paused the socket gets its buffer back with resume(): before that, nothing may
   * refer to the bytes any more. With 0 it must copy what it wants to keep.
   */
  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean;
  /** All written bytes have gone to the operating system. Comes also without a preceding `write()` of false. */
  onDrain(): void;
  /** The other side will send no more (FIN). */
  onEnd(): void;
  /** The socket is gone; the last call. */
  onClose(error: Error | null): void;
}

const nothing = Buffer.alloc(0);

/**
 * A connected or connecting socket. Starts paused and without a sink. `socket` is for addresses, events of dialling
 * and time-outs; reading and writing go through this object.
 */
export class RawSocket {
  readonly socket: Socket;
  /** The other side has sent FIN. */
  ended = false;
  /** The socket is gone. */
  closed = false;
  #sink: RawSink | null = null;
  #error: Error | null = null;
  #paused = true;
  readonly #read: ReadBuffer | null;
  readonly #tlsGather: TlsGather | null;
  /** The TCP socket, where RST can be sent; null: unknown, below TLS. */
  readonly #tcp: Socket | null;

  /** @internal use adoptSocket, adoptTls or dialSocket */
  constructor(create: (onread: OnReadOpts | undefined) => Socket, isTls: boolean, tcp: Socket | null = null) {
    if (isTls) {
      this.#read = null;
      this.socket = create(undefined);
      const gather = new TlsGather(
        (buffer, start, end, headroomBytes) =>
          this.#sink?.onBytes(buffer, start, end, headroomBytes) ?? false,
        this.#onEnd,
      );
      this.#tlsGather = gather;
      if (!readInto(gather, this.socket)) this.socket.on('data', (chunk: Buffer) => gather.add(chunk));
      this.socket.on('end', this.#onTlsEof);
    } else {
      const read = new ReadBuffer();
      this.#read = read;
      this.#tlsGather = null;
      let filledBytes = 0;
      let kept = false;
      this.socket = create({
        buffer: () => read.next(filledBytes, kept, this.#paused),
        callback: (bytes: number) => {
          filledBytes = bytes;
          const sink = this.#sink;
          kept = sink?.onBytes(read.buffer, read.start, read.start + bytes, read.headroomBytes) === true;
          return true;
        },
      });
      this.socket.on('end', this.#onEof);
    }
    this.#tcp = isTls ? tcp : this.socket;
    this.socket.pause();
    this.socket.on('drain', () => this.#sink?.onDrain());
    this.socket.on('error', (error) => {
      this.#error = error;
    });
    this.socket.on('close', () => {
      this.closed = true;
      this.#read?.release();
      this.#tlsGather?.close();
      this.#sink?.onClose(this.#error);
      this.#sink = null;
    });
    this.closed = this.socket.destroyed;
  }

  readonly #onEnd = (): void => {
    this.ended = true;
    this.#sink?.onEnd();
  };

  /**
   * libuv tells of a reset as of a regular end when bytes were still unread: what was cut would look whole. The
   * operating system refuses even an empty write on a socket that was reset, so that is tried first. Behind a backlog
   * it needs no trying: what is being written fails by itself in this turn of the event loop. Whoever has sent FIN
   * already can not tell any more.
   */
  readonly #onEof = (): void => {
    const socket = this.socket;
    if (!socket.writable) this.#onEnd();
    else if (socket.writableLength === 0)
      socket.write(nothing, (error) => {
        if (!error) this.#onEnd();
      });
    else
      setImmediate(() => {
        if (!socket.destroyed) this.#onEnd();
      });
  };

  /** Sends everything from now on to `sink`. An end or close that has already been is told to it in the next tick. */
  setSink(sink: RawSink): void {
    this.#sink = sink;
    if (!this.ended && !this.closed) return;
    process.nextTick(() => {
      if (this.#sink !== sink) return;
      if (this.ended) sink.onEnd();
      if (!this.closed) return;
      this.#sink = null;
      sink.onClose(this.#error);
    });
  }

  /**
   * The same below TLS, where it matters more: what is written to a session whose TCP connection was reset behind unread
   * bytes is neither taken nor refused, ever. An empty write past OpenSSL tells.
   */
  readonly #onTlsEof = (): void => {
    const end = () => this.#tlsGather?.endAfterFlush();
    const tcp = this.#tcp;
    // With both sides ended the socket closes by itself in this turn: no time to try.
    if (tcp === null || !tcp.writable || this.socket.writableFinished) end();
    else
      tcp.write(nothing, (error) => {
        if (error) this.socket.destroy(error);
        else end();
      });
  };

  /** No bytes come until resume(). */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.socket.pause();
    this.#tlsGather?.hold();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#tlsGather?.release();
    this.socket.resume();
  }

  /** Hands bytes to the sink as if they had just been read: what came glued to a handshake. */
  inject(bytes: Buffer): void {
    this.#sink?.onBytes(bytes, 0, bytes.length, 0);
  }

  /** Bytes written that the operating system has not taken yet. */
  get backlogBytes(): number {
    return this.socket.writableLength;
  }

  get writable(): boolean {
    return this.socket.writable;
  }

  /**
   * Writes without a copy: `bytes` must stay as they are until the backlog is 0. Returns true when the operating
   * system took all of it at once; else the sink's onDrain tells when it has, or onClose that it never will.
   */
  write(bytes: Uint8Array): boolean {
    this.socket.write(bytes);
    return this.#allTaken();
  }

  /** The same for several pieces, with one call to the operating system. */
  writeAll(pieces: Iterable<Uint8Array>): boolean {
    this.socket.cork();
    for (const bytes of pieces) this.socket.write(bytes);
    this.socket.uncork();
    return this.#allTaken();
  }

  #allTaken(): boolean {
    const socket = this.socket;
    // A write that failed at once leaves nothing behind either, but the system has not taken it.
    if (socket.writableLength === 0) return socket.writable;
    // Below its high-water mark node:stream promises no 'drain'; an empty write behind the others tells instead.
    if (!socket.writableNeedDrain) socket.write(nothing, this.#onEmptyWritten);
    return false;
  }

  readonly #onEmptyWritten = (error?: Error | null): void => {
    if (!error && this.socket.writableLength === 0) this.#sink?.onDrain();
  };

  /**
   * Finds out whether the peer has reset a connection that is not being read: nobody would hear of it before bytes are
   * written. If it has, the socket closes. Costs a call to the operating system, when the socket is paused, and nothing
   * else.
   */
  probe(): void {
    const tcp = this.#tcp ?? this.socket;
    if (!this.#paused || this.closed || !tcp.writable || tcp.writableLength > 0) return;
    tcp.write(nothing);
  }

  /** Half-close: FIN after what is written. */
  end(): void {
    this.socket.end();
  }

  /** Drops the connection with RST where there is one, so that the other side can tell it from a regular end. */
  reset(): void {
    // libuv refuses RST while a FIN is under way, and node:net takes the refusal for done: the socket would
    // stay open for ever, without a 'close'. All written has left by then: the FIN is out within this turn.
    if (this.#finIsUnderWay) setImmediate(this.#drop);
    else this.#drop();
  }

  get #finIsUnderWay(): boolean {
    const { writableEnded, writableFinished, writableLength } = this.socket;
    return writableEnded && !writableFinished && writableLength === 0;
  }

  readonly #drop = (): void => {
    const tcp = this.#tcp;
    // Below TLS even the FIN may have to wait, for a peer that takes no more: closing needs no peer.
    const resets = tcp !== null && !tcp.connecting && !tcp.destroyed && !this.#finIsUnderWay;
    if (resets) tcp.resetAndDestroy();
    else this.socket.destroy();
  };

  destroy(error?: Error): void {
    this.socket.destroy(error);
  }
}

/** What node:net has but does not declare. */
interface SocketInternals {
  _handle: { reading?: boolean; readStop?: () => number } | null;
}

/**
 * Takes an accepted or otherwise connected socket over. Nobody else may use it afterwards; `RawSocket.socket` is its
 * successor. Accept with `pauseOnConnect: true` and `allowHalfOpen: true` so that nothing is read before. Unread bytes
 * that node:stream has already buffered are returned by `takeBuffered`; call that first when the socket was readable.
 * Enables TCP_NODELAY (Nagle's algorithm costs 42 ms a connection).
 */
export function adoptSocket(accepted: Socket): RawSocket {
  if (accepted instanceof TLSSocket || (accepted as unknown as SocketInternals)._handle === null) {
    accepted.allowHalfOpen = true;
    if (!accepted.destroyed) accepted.setNoDelay(true);
    return new RawSocket(() => accepted, true);
  }
  const internals = accepted as unknown as SocketInternals;
  const handle = internals._handle as NonNullable<SocketInternals['_handle']>;
  handle.readStop?.();
  handle.reading = false;
  const raw = socketOnHandle(handle);
  // The old object must not touch the handle any more, but its server still counts it: it closes when we do.
  internals._handle = null;
  accepted.setTimeout(0);
  accepted.on('error', ignore);
  raw.socket.once('close', () => accepted.destroy());
  raw.socket.setNoDelay(true);
  return raw;
}

/** @internal A socket on the handle of a TCP connection that nobody reads. Sets no options on it. */
export function socketOnHandle(handle: object): RawSocket {
  // Undocumented but stable since Node 0.10: a net.Socket built on an existing handle. It is the only way to give an
  // accepted socket `onread`.
  return new RawSocket(
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
  return new RawSocket(() => tls, true, tcp.socket);
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
  return new RawSocket(
    (onread) => connect({ ...options, onread, allowHalfOpen: true, noDelay: true } as TcpNetConnectOpts),
    false,
  );
}

/** Dials with TLS; `raw.socket` emits 'secureConnect'. */
export function dialTlsSocket(options: ConnectionOptions): RawSocket {
  return new RawSocket(() => {
    const socket = connectTls({ ...options, allowHalfOpen: true } as ConnectionOptions);
    socket.setNoDelay(true);
    return socket;
  }, true);
}
