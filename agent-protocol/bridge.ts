import { ByteQueue } from './byte-queue.js';
import { FRAME_HEADROOM, ResetCode } from './frame.js';
import { SLOW_WRITE_BYTES_MAX } from './limits.js';
import type { RawSink, RawSocket } from './raw-socket.js';
import type { MuxStream, StreamHandler } from './stream.js';

/**
 * Sees every byte before it goes on. `out` is socket to tunnel, `in` tunnel to socket; at a gateway bytesUp and
 * bytesDown. A refusal (false) resets both sides and the bytes do not go on.
 */
export interface BridgeObserver {
  onBytesOut(bytes: number): boolean;
  onBytesIn(bytes: number): boolean;
  /**
   * Exactly once, after which nothing is counted. `finished`: both directions were closed in order and every byte
   * counted was delivered; `reset`: cut by either side or with the tunnel; `refused`: by this observer.
   */
  onEnd(how: 'finished' | 'reset' | 'refused'): void;
}

const unobserved: BridgeObserver = { onBytesOut: () => true, onBytesIn: () => true, onEnd: () => {} };

/** A stream and a socket, bound together. */
export interface Bridge {
  /** Cuts both sides: RESET to the tunnel, RST to the socket. */
  reset(code: ResetCode): void;
}

/**
 * Relays between a socket and an open stream until both directions have ended; takes both over. `head` are bytes
 * already read from the socket that belong to the stream.
 */
export function bridgeSocket(
  socket: RawSocket,
  stream: MuxStream,
  observer: BridgeObserver = unobserved,
  head?: Buffer,
): Bridge {
  const bridge = new SocketBridge(socket, stream, observer);
  bridge.start(head);
  return bridge;
}

class SocketBridge implements Bridge, RawSink, StreamHandler {
  readonly #socket: RawSocket;
  readonly #stream: MuxStream;
  readonly #observer: BridgeObserver;

  /**
   * `[#tailStart, #tailEnd)` of it was read from the socket, but the stream's window did not allow it yet; the socket is
   * paused meanwhile. In front lie at least FRAME_HEADROOM bytes that were sent before.
   */
  #tail: Buffer | null = null;
  #tailStart = 0;
  #tailEnd = 0;
  /** The stream said stop; onWritable will follow. */
  #outBlocked = false;
  #outEnded = false;

  /** Bytes from the stream that the socket has not been given yet, because it still writes. Bounded by the window. */
  #queue: ByteQueue | null = null;
  /** Bytes given to the socket, credit for which is owed once it has taken them. */
  #writingBytes = 0;
  #inEnded = false;
  #socketClosed = false;
  #over = false;

  constructor(socket: RawSocket, stream: MuxStream, observer: BridgeObserver) {
    this.#socket = socket;
    this.#stream = stream;
    this.#observer = observer;
  }

  start(head: Buffer | undefined): void {
    this.#stream.handler = this;
    this.#socket.setSink(this);
    if (this.#stream.state === 'closed') {
      this.#cutSocket();
      return;
    }
    if (head !== undefined && head.length > 0) this.onBytes(head, 0, head.length, 0);
    if (!this.#over && this.#tail === null && !this.#outBlocked) this.#socket.resume();
  }

  reset(code: ResetCode): void {
    this.#cutBoth(code, 'reset');
  }

  // ---- out: socket to tunnel --------------------------------------------------------------------------------------

  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    if (this.#over) return false;
    const stream = this.#stream;
    if (this.#tail !== null || end - start > stream.sendWindowBytes)
      return this.#sendSome(buffer, start, end, headroomBytes);
    if (!this.#observer.onBytesOut(end - start)) {
      this.#cutBoth(ResetCode.REFUSED, 'refused');
      return false;
    }
    if (!stream.send(buffer, start, end, headroomBytes)) this.#block();
    return stream.session.backlogBytes > 0;
  }

  /** Sends what the window allows and keeps the rest. */
  #sendSome(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    const stream = this.#stream;
    const middle = this.#tail === null ? start + stream.sendWindowBytes : start;
    if (middle > start) {
      if (!this.#observer.onBytesOut(middle - start)) {
        this.#cutBoth(ResetCode.REFUSED, 'refused');
        return false;
      }
      stream.send(buffer, start, middle, headroomBytes);
    }
    this.#block();
    if (this.#tail === null && headroomBytes >= FRAME_HEADROOM) {
      this.#tail = buffer;
      this.#tailStart = middle;
      this.#tailEnd = end;
      return true;
    }
    this.#copyToTail(buffer, middle, end);
    return stream.session.backlogBytes > 0;
  }

  #copyToTail(buffer: Buffer, start: number, end: number): void {
    const before = this.#tail === null ? 0 : this.#tailEnd - this.#tailStart;
    const tail = Buffer.allocUnsafeSlow(FRAME_HEADROOM + before + end - start);
    this.#tail?.copy(tail, FRAME_HEADROOM, this.#tailStart, this.#tailEnd);
    buffer.copy(tail, FRAME_HEADROOM + before, start, end);
    this.#tail = tail;
    this.#tailStart = FRAME_HEADROOM;
    this.#tailEnd = tail.length;
  }

  #block(): void {
    this.#outBlocked = true;
    this.#socket.pause();
  }

  onWritable(stream: MuxStream): void {
    if (this.#over) return;
    this.#outBlocked = false;
    if (this.#tail !== null && !this.#sendTail(this.#tail)) return;
    if (this.#outEnded) {
      stream.fin();
      this.#finishIfClosed();
    } else if (!this.#outBlocked) this.#socket.resume();
  }

  /** Sends the tail as far as the window goes; true when all of it has gone. */
  #sendTail(tail: Buffer): boolean {
    const start = this.#tailStart;
    const end = Math.min(this.#tailEnd, start + this.#stream.sendWindowBytes);
    if (!this.#observer.onBytesOut(end - start)) {
      this.#cutBoth(ResetCode.REFUSED, 'refused');
      return false;
    }
    // What lies in front may be overwritten once it is no longer on its way.
    const headroomBytes = this.#stream.session.backlogBytes === 0 ? FRAME_HEADROOM : 0;
    if (!this.#stream.send(tail, start, end, headroomBytes)) this.#outBlocked = true;
    this.#tailStart = end;
    if (end < this.#tailEnd) return false;
    this.#tail = null;
    return true;
  }

  onEnd(): void {
    if (this.#over || this.#outEnded) return;
    this.#outEnded = true;
    if (this.#tail === null) this.#stream.fin();
  }

  // ---- in: tunnel to socket ---------------------------------------------------------------------------------------

  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    if (this.#over) return;
    if (this.#writingBytes > 0) {
      this.#queue ??= new ByteQueue();
      this.#queue.push(buffer, start, end);
      return;
    }
    const session = stream.session;
    const mayKeep = session.mayKeepReadBuffer;
    const view = buffer.subarray(start, end);
    const taken = this.#write(mayKeep ? view : Buffer.from(view));
    if (taken === null) return;
    if (taken) stream.consumed(end - start);
    else if (mayKeep) session.keepReadBuffer();
  }

  /** Counts and writes; null when the observer refused. */
  #write(bytes: Buffer): boolean | null {
    if (!this.#observer.onBytesIn(bytes.length)) {
      this.#cutBoth(ResetCode.REFUSED, 'refused');
      return null;
    }
    if (this.#socket.write(bytes)) return true;
    this.#writingBytes = bytes.length;
    return false;
  }

  onDrain(): void {
    if (this.#over || this.#writingBytes === 0 || this.#socket.backlogBytes > 0) return;
    const writtenBytes = this.#writingBytes;
    this.#writingBytes = 0;
    this.#stream.consumed(writtenBytes);
    const queue = this.#queue;
    if (queue === null) return;
    while (queue.bytes > 0) {
      const slice = queue.shift(SLOW_WRITE_BYTES_MAX);
      const taken = this.#write(slice);
      if (taken !== true) return;
      this.#stream.consumed(slice.length);
    }
    this.#queue = null;
    if (this.#inEnded) this.#socket.end();
  }

  onFin(): void {
    if (this.#over) return;
    this.#inEnded = true;
    if (this.#queue === null) this.#socket.end();
  }

  // ---- ends -------------------------------------------------------------------------------------------------------

  onReset(_stream: MuxStream, _code: number): void {
    this.#cutSocket();
  }

  /** The socket is gone: in order when both directions had ended, else the tunnel is told. */
  onClose(error: Error | null): void {
    if (this.#over) return;
    if (error !== null || !this.#outEnded || !this.#inEnded) {
      this.#cutBoth(ResetCode.CONNECTION_RESET, 'reset');
      return;
    }
    this.#socketClosed = true;
    this.#finishIfClosed();
  }

  /** A socket that has ended both ways may leave a tail behind that still waits for window. */
  #finishIfClosed(): void {
    if (this.#socketClosed && this.#tail === null) this.#end('finished');
  }

  #cutSocket(): void {
    if (this.#over) return;
    this.#end('reset');
    this.#socket.reset();
  }

  #cutBoth(code: ResetCode, how: 'reset' | 'refused'): void {
    if (this.#over) return;
    this.#end(how);
    this.#stream.reset(code);
    this.#socket.reset();
  }

  #end(how: 'finished' | 'reset' | 'refused'): void {
    this.#over = true;
    this.#tail = null;
    this.#queue = null;
    this.#observer.onEnd(how);
  }
}
