/** A RawSocket over a socket of node:net or node:tls. */
import type { OnReadOpts, Socket } from 'node:net';
import type { RawSink, RawSocket, SocketHandle } from './raw-socket-contract.js';
import { ReadBuffer } from './read-buffer.js';
import { readInto, TlsGather, type TlsReading } from './tls-gather.js';

const nothing = Buffer.alloc(0);

/** Where a socket of node:net has to be: below TLS, for node:http, and where there are no handles to be had. */
export class StreamSocket implements RawSocket {
  readonly socket: Socket;
  ended = false;
  closed = false;
  #sink: RawSink | null = null;
  #error: Error | null = null;
  #paused = true;
  readonly #read: ReadBuffer | null;
  readonly #tlsGather: TlsGather | null;
  /** null: node:stream reads, or it is not connected yet. */
  #tlsReading: TlsReading | null = null;
  /** The TCP socket, where RST can be sent; null: unknown, below TLS. */
  readonly #tcp: Socket | null;

  /** @internal `isTls`: `create` gives a TLSSocket */
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
      const read = () => {
        this.#tlsReading = readInto(gather, this.socket);
        if (this.#tlsReading === null) this.socket.on('data', (chunk: Buffer) => gather.add(chunk));
        else if (!this.#paused) this.#tlsReading.start();
      };
      // Connecting, node:net sets its handle up again.
      if (this.socket.connecting) this.socket.once('connect', read);
      else read();
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

  get localAddress(): string {
    return this.socket.localAddress ?? '';
  }

  get remoteAddress(): string | undefined {
    return this.socket.remoteAddress;
  }

  onceClosed(closed: () => void): void {
    this.socket.once('close', closed);
  }

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

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.socket.pause();
    this.#tlsReading?.stop();
    this.#tlsGather?.hold();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#tlsGather?.release();
    this.socket.resume();
    this.#tlsReading?.start();
  }

  inject(bytes: Buffer): void {
    this.#sink?.onBytes(bytes, 0, bytes.length, 0);
  }

  get backlogBytes(): number {
    return this.socket.writableLength;
  }

  get writable(): boolean {
    return this.socket.writable;
  }

  write(bytes: Uint8Array): boolean {
    this.socket.write(bytes);
    return this.#allTaken();
  }

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

  /** @internal What was written before this was made of the handle has left. */
  tellDrained(): void {
    if (this.socket.writableLength === 0) this.#sink?.onDrain();
  }

  readonly #onEmptyWritten = (error?: Error | null): void => {
    if (!error && this.socket.writableLength === 0) this.#sink?.onDrain();
  };

  probe(): void {
    const tcp = this.#tcp ?? this.socket;
    if (!this.#paused || this.closed || !tcp.writable || tcp.writableLength > 0) return;
    tcp.write(nothing);
  }

  end(): void {
    this.socket.end();
  }

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

  detach(): SocketHandle | null {
    const { socket } = this;
    const internals = socket as unknown as { _handle: SocketHandle | null };
    const handle = internals._handle;
    if (this.#read === null || this.closed || this.ended || handle === null) return null;
    if (socket.connecting || !socket.writable || socket.writableLength > 0 || socket.readableEnded)
      return null;
    this.pause();
    handle.readStop?.();
    internals._handle = null;
    socket.destroy();
    return handle;
  }
}
