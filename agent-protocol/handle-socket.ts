/** A RawSocket right on a TCP handle: a short connection then costs little beside its calls to the operating system. */
import { Socket } from 'node:net';
import type { RawSink, RawSocket, SocketHandle } from './raw-socket-contract.js';
import { ReadBuffer } from './read-buffer.js';
import type { StreamSocket } from './stream-socket.js';
import { callError, END_OF_FILE, type HandleRequest, type TcpHandle, type TcpHandles } from './tcp-handle.js';

const nothing = Buffer.alloc(0);

/** Makes a socket of node:net on a handle that nobody reads. */
type ToStream = (handle: TcpHandle) => StreamSocket;

/**
 * Half-open; no stream, no listeners and no ticks of their own. | what happens | what follows |
 * FIN came: `ended`, the sink hears onEnd · `end()`: FIN leaves behind what is written · both: it closes ·
 * a call failed, RST came, `destroy`, `reset`: it closes at once · closed: the sink hears onClose, the last call.
 */
export class HandleSocket implements RawSocket {
  readonly #handle: TcpHandle;
  readonly #handles: TcpHandles;
  readonly #toStream: ToStream;
  readonly #read = new ReadBuffer();
  #sink: RawSink | null = null;
  #onClosed: Array<() => void> | null = null;
  /** What a socket of node:net was made of it for; everything goes through that from then on. */
  #stream: StreamSocket | null = null;
  #paused = true;
  #ended = false;
  #closed = false;
  /** Nothing is read or written any more; closed is what it will be. */
  #closing = false;
  /** `end()` was called. */
  #ending = false;
  /** FIN has left. */
  #finished = false;
  #connecting = false;
  #error: Error | null = null;
  #backlogBytes = 0;
  /** Of the last write, when it was not needed. */
  #spareWrite: HandleRequest | null = null;

  constructor(handle: TcpHandle, handles: TcpHandles, toStream: ToStream) {
    this.#handle = handle;
    this.#handles = handles;
    this.#toStream = toStream;
    handle.owner = this;
    handle.onread = onRead;
    handle.useUserBuffer(this.#read.view);
  }

  /** See `dialAddress`. */
  static dial(
    address: string,
    isIpv6: boolean,
    port: number,
    onResult: (error: NodeJS.ErrnoException | null) => void,
    handles: TcpHandles,
    toStream: ToStream,
  ): HandleSocket {
    const handle = handles.newHandle();
    const raw = new HandleSocket(handle, handles, toStream);
    raw.#connecting = true;
    const settle = (status: number) => {
      raw.#connecting = false;
      if (raw.#closing) return;
      const error = status < 0 ? callError(status, 'connect') : null;
      if (error !== null) raw.destroy(error);
      onResult(error);
    };
    handle.setNoDelay(true);
    const request = handles.newConnect();
    request.oncomplete = settle;
    const status = isIpv6 ? handle.connect6(request, address, port) : handle.connect(request, address, port);
    if (status < 0) process.nextTick(settle, status);
    return raw;
  }

  get ended(): boolean {
    return this.#stream === null ? this.#ended : this.#stream.ended;
  }
  get closed(): boolean {
    return this.#stream === null ? this.#closed : this.#stream.closed;
  }
  get backlogBytes(): number {
    return this.#backlogBytes + (this.#stream === null ? 0 : this.#stream.backlogBytes);
  }
  get writable(): boolean {
    return this.#stream === null ? !this.#closing && !this.#ending : this.#stream.writable;
  }

  get localAddress(): string {
    if (this.#stream !== null) return this.#stream.localAddress;
    const local: { address?: string } = {};
    if (!this.#closing) this.#handle.getsockname(local);
    return local.address ?? '';
  }

  get remoteAddress(): string | undefined {
    if (this.#stream !== null) return this.#stream.remoteAddress;
    const peer: { address?: string } = {};
    if (!this.#closing) this.#handle.getpeername(peer);
    return peer.address;
  }

  get socket(): Socket {
    this.#stream ??= this.#closing ? null : this.#becomeStream();
    return this.#stream === null ? new Socket().destroy() : this.#stream.socket;
  }

  #becomeStream(): StreamSocket {
    const handle = this.#handle;
    handle.readStop();
    this.#read.release();
    const stream = this.#toStream(handle);
    for (const closed of this.#onClosed ?? []) stream.onceClosed(closed);
    this.#onClosed = null;
    if (this.#sink !== null) stream.setSink(this.#sink);
    // What was told already is found out again: nothing more comes from a peer that has sent FIN.
    if (!this.#paused) stream.resume();
    if (this.#ending) stream.end();
    return stream;
  }

  setSink(sink: RawSink): void {
    if (this.#stream !== null) {
      this.#stream.setSink(sink);
      return;
    }
    this.#sink = sink;
    if (!this.#ended && !this.#closed) return;
    process.nextTick(() => {
      if (this.#sink !== sink || this.#stream !== null) return;
      if (this.#ended) sink.onEnd();
      if (!this.#closed) return;
      this.#sink = null;
      sink.onClose(this.#error);
    });
  }

  onceClosed(closed: () => void): void {
    if (this.#stream !== null) this.#stream.onceClosed(closed);
    else if (!this.#closed) {
      if (this.#onClosed === null) this.#onClosed = [closed];
      else this.#onClosed.push(closed);
    }
  }

  pause(): void {
    if (this.#stream !== null) this.#stream.pause();
    else if (!this.#paused) {
      this.#paused = true;
      if (!this.#closing) this.#handle.readStop();
    }
  }

  resume(): void {
    if (this.#stream !== null) this.#stream.resume();
    else if (this.#paused) {
      this.#paused = false;
      if (this.#closing || this.#ended) return;
      const status = this.#handle.readStart();
      if (status < 0) this.destroy(callError(status, 'read'));
    }
  }

  inject(bytes: Buffer): void {
    if (this.#stream !== null) this.#stream.inject(bytes);
    else this.#sink?.onBytes(bytes, 0, bytes.length, 0);
  }

  /** @internal The handle has read. Returns the memory for the next read. */
  onRead(): Uint8Array | undefined {
    if (this.#closing || this.#stream !== null) return undefined;
    const bytes = this.#handles.readBytes();
    if (bytes > 0) {
      const read = this.#read;
      const kept =
        this.#sink?.onBytes(read.buffer, read.start, read.start + bytes, read.headroomBytes) === true;
      return this.#closing || this.#stream !== null ? undefined : read.next(bytes, kept, this.#paused);
    }
    if (bytes === END_OF_FILE) this.#onEof();
    else if (bytes < 0) this.destroy(callError(bytes, 'read'));
    return undefined;
  }

  /**
   * libuv tells of a reset as of a regular end when bytes were still unread: what was cut would look whole. The
   * operating system refuses even an empty write on a socket that was reset, so that is tried first. Behind a backlog
   * it needs no trying: what is being written fails by itself in this turn of the event loop. Whoever has sent FIN
   * already can not tell any more.
   */
  #onEof(): void {
    if (this.#ending) this.#end();
    else if (this.#backlogBytes > 0)
      setImmediate(() => {
        if (!this.#closing && this.#stream === null) this.#end();
      });
    else {
      const status = this.#tryNothing();
      if (status < 0) this.destroy(callError(status, 'write'));
      else this.#end();
    }
  }

  #end(): void {
    this.#ended = true;
    this.#sink?.onEnd();
    if (this.#finished) this.destroy();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#stream !== null) return this.#stream.write(bytes);
    if (!this.writable) return false;
    const request = this.#nextWrite();
    return this.#written(request, this.#handle.writeBuffer(request, bytes), [bytes], bytes.length);
  }

  writeAll(pieces: Iterable<Uint8Array>): boolean {
    if (this.#stream !== null) return this.#stream.writeAll(pieces);
    if (!this.writable) return false;
    const all = [...pieces];
    const length = all.reduce((sum, piece) => sum + piece.length, 0);
    const request = this.#nextWrite();
    return this.#written(request, this.#handle.writev(request, all, true), all, length);
  }

  #nextWrite(): HandleRequest {
    const spare = this.#spareWrite;
    if (spare !== null) {
      this.#spareWrite = null;
      return spare;
    }
    const request = this.#handles.newWrite();
    request.owner = this;
    request.oncomplete = onWritten;
    return request;
  }

  #written(request: HandleRequest, status: number, bytes: readonly Uint8Array[], length: number): boolean {
    if (status < 0) {
      this.destroy(callError(status, 'write'));
      return false;
    }
    if (!this.#handles.lastWriteIsUnderWay()) {
      // Node has not touched it.
      this.#spareWrite = request;
      return this.#backlogBytes === 0;
    }
    request.bytes = bytes;
    request.length = length;
    this.#backlogBytes += length;
    return false;
  }

  /** @internal A write that took longer is over. */
  onWritten(length: number, status: number): void {
    this.#backlogBytes -= length;
    if (status < 0) this.destroy(callError(status, 'write'));
    else if (this.#backlogBytes === 0) {
      if (this.#stream !== null) this.#stream.tellDrained();
      else if (!this.#closing) {
        if (this.#ending) this.#sendFin();
        this.#sink?.onDrain();
      }
    }
  }

  /** Errno of an empty write. */
  #tryNothing(): number {
    const request = this.#nextWrite();
    const status = this.#handle.writeBuffer(request, nothing);
    if (status >= 0 && !this.#handles.lastWriteIsUnderWay()) this.#spareWrite = request;
    else request.length = 0;
    return status;
  }

  probe(): void {
    if (this.#stream !== null) this.#stream.probe();
    else if (this.#paused && this.writable && !this.#connecting && this.#backlogBytes === 0) {
      const status = this.#tryNothing();
      if (status < 0) this.destroy(callError(status, 'write'));
    }
  }

  end(): void {
    if (this.#stream !== null) {
      this.#stream.end();
      return;
    }
    if (this.#ending || this.#closing) return;
    this.#ending = true;
    // Not before the rest has left: libuv refuses RST from then on, and what is cut must not look whole.
    if (this.#backlogBytes === 0) this.#sendFin();
  }

  #sendFin(): void {
    if (this.#ended) {
      // With nothing left to read closing sends FIN as well.
      this.destroy();
      return;
    }
    const request = this.#handles.newShutdown();
    request.owner = this;
    request.oncomplete = onShutdown;
    const status = this.#handle.shutdown(request);
    if (status < 0) this.destroy(callError(status, 'shutdown'));
    else if (status > 0) this.onShutdown(0);
  }

  /** @internal FIN has left. */
  onShutdown(status: number): void {
    this.#finished = true;
    if (this.#closing || this.#stream !== null) return;
    if (status < 0) this.destroy(callError(status, 'shutdown'));
    else if (this.#ended) this.destroy();
  }

  reset(): void {
    if (this.#stream !== null) this.#stream.reset();
    // libuv refuses RST while a FIN is under way, which is out within this turn.
    else if (this.#finIsUnderWay) setImmediate(() => this.#drop());
    else this.#drop();
  }

  get #finIsUnderWay(): boolean {
    return this.#ending && !this.#finished && this.#backlogBytes === 0;
  }

  #drop(): void {
    if (this.#stream !== null) this.#stream.reset();
    else this.#close(!this.#connecting && !this.#finIsUnderWay);
  }

  destroy(error?: Error): void {
    if (this.#stream !== null) {
      this.#stream.destroy(error);
      return;
    }
    if (!this.#closing) this.#error = error ?? null;
    this.#close(false);
  }

  /** A reset that libuv refuses leaves a handle that node takes for closed and that nothing closes any more. */
  #close(withReset: boolean): void {
    if (this.#closing) return;
    this.#closing = true;
    if (!withReset) this.#handle.close(onClosed);
    else if (this.#handle.reset(onClosed) < 0) setImmediate(() => this.onGone());
  }

  detach(): SocketHandle | null {
    if (this.#stream !== null) return this.#stream.detach();
    const busy = this.#connecting || this.#ending || this.#ended || this.#backlogBytes > 0;
    if (this.#closing || busy) return null;
    this.#closing = true;
    this.#handle.readStop();
    this.#handle.owner = undefined;
    process.nextTick(() => this.onGone());
    return this.#handle;
  }

  /** @internal The handle is closed. */
  onGone(): void {
    this.#closed = true;
    if (this.#handle.owner === this) this.#handle.owner = undefined;
    this.#read.release();
    const onClosed = this.#onClosed;
    this.#onClosed = null;
    if (onClosed !== null) for (const closed of onClosed) closed();
    const sink = this.#sink;
    this.#sink = null;
    sink?.onClose(this.#error);
  }
}

function onRead(this: TcpHandle): Uint8Array | undefined {
  return (this.owner as HandleSocket | undefined)?.onRead();
}

function onClosed(this: TcpHandle): void {
  (this.owner as HandleSocket).onGone();
}

function onWritten(this: HandleRequest, status: number): void {
  this.bytes = [];
  (this.owner as HandleSocket).onWritten(this.length ?? 0, status);
}

function onShutdown(this: HandleRequest, status: number): void {
  (this.owner as HandleSocket).onShutdown(status);
}
