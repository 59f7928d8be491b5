/** The writing half of a TLS socket, right on the handle of node:tls. */
import type { Socket } from 'node:net';
import { callError, type HandleRequest, type TcpHandle, type TcpHandles } from './tcp-handle.js';

/** Pieces that wait are joined in one write up to so many bytes; a longer piece leaves alone, without a copy. */
const JOINED_BYTES_MAX = 256 * 1024;

/** Where pieces are joined: OpenSSL has encrypted them when the call returns, so that one place does for all sockets. */
let joined: Buffer | null = null;

/**
 * Writes what comes in one turn of the event loop, or while the last write is under way, in one go. A write of node:tls
 * is never over before the next turn, so node:stream joins pieces as well; but its own work is a sixth of what a write in
 * TLS costs, and it joins them in new memory each time, the first one left out, which leaves alone.
 */
export class TlsWriter {
  readonly #socket: Socket;
  readonly #handles: TcpHandles;
  readonly #onDrain: () => void;
  /** Written and not given to OpenSSL. */
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #underWayBytes = 0;
  #isUnderWay = false;
  #scheduled = false;
  /** node:stream has written all it ever had, and nobody but this writes any more. */
  #isDirect = false;

  /** `onDrain` is called when all that was written has gone to the operating system. */
  constructor(socket: Socket, handles: TcpHandles, onDrain: () => void) {
    this.#socket = socket;
    this.#handles = handles;
    this.#onDrain = onDrain;
  }

  /** Bytes written that the operating system has not taken. */
  get backlogBytes(): number {
    return this.#queuedBytes + this.#underWayBytes;
  }

  /** Nothing is under way, not even an empty write. */
  get isIdle(): boolean {
    return !this.#isUnderWay && this.#queue.length === 0;
  }

  /** `bytes` must stay as they are until the backlog is 0. */
  write(bytes: Uint8Array): void {
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#isUnderWay || this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(this.#onTick);
  }

  readonly #onTick = (): void => {
    this.#scheduled = false;
    if (!this.#isUnderWay) this.#writeNext();
  };

  #writeNext(): void {
    if (this.#queue.length === 0 || this.#socket.destroyed) return;
    const bytes = this.#next();
    this.#queuedBytes -= bytes.length;
    this.#underWayBytes = bytes.length;
    this.#isUnderWay = true;
    if (this.#isDirect) this.#writeDirect(bytes);
    // What node:stream still has comes first: the answer to a handshake.
    else this.#socket.write(bytes, this.#onFirstWritten);
  }

  /** The next piece, or several that together are small enough. */
  #next(): Uint8Array {
    const queue = this.#queue;
    let count = 0;
    let bytes = 0;
    for (const piece of queue) {
      // node:stream keeps what it is given.
      if (count > 0 && (!this.#isDirect || bytes + piece.length > JOINED_BYTES_MAX)) break;
      bytes += piece.length;
      count++;
    }
    if (count === 1) return queue.shift() as Uint8Array;
    joined ??= Buffer.allocUnsafeSlow(JOINED_BYTES_MAX);
    let end = 0;
    for (let i = 0; i < count; i++) {
      const piece = queue[i] as Uint8Array;
      joined.set(piece, end);
      end += piece.length;
    }
    queue.splice(0, count);
    return joined.subarray(0, end);
  }

  readonly #onFirstWritten = (error?: Error | null): void => {
    // The socket closes by itself.
    if (error) return;
    this.#isDirect = true;
    this.#wrote();
  };

  #writeDirect(bytes: Uint8Array): void {
    const handle = (this.#socket as unknown as { _handle: TcpHandle | null })._handle;
    if (handle === null) return;
    const request = this.#handles.newWrite();
    request.owner = this;
    request.oncomplete = onWritten;
    const status = handle.writeBuffer(request, bytes);
    if (status < 0) this.#socket.destroy(callError(status, 'write'));
  }

  /** @internal */
  onWritten(status: number): void {
    if (this.#socket.destroyed) return;
    if (status < 0) this.#socket.destroy(callError(status, 'write'));
    else this.#wrote();
  }

  #wrote(): void {
    this.#isUnderWay = false;
    this.#underWayBytes = 0;
    if (this.#socket.timeout) (this.#socket as unknown as { _unrefTimer(): void })._unrefTimer();
    if (this.#queue.length > 0) this.#writeNext();
    else this.#onDrain();
  }
}

function onWritten(this: HandleRequest, status: number): void {
  (this.owner as TlsWriter).onWritten(status);
}
