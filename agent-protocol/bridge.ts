import { type BridgeObserver, unobserved } from './bridge-observer.js';
import { BLOCK_BYTES_MAX, ByteQueue, giveBlock, takeBlock } from './byte-queue.js';
import { FRAME_HEADROOM, RESET_TUNNEL_LOST, ResetCode } from './frame.js';
import { COUNT_BYTES_KEPT, COUNT_BYTES_MAX, DIRECT_WRITES_AFTER } from './limits.js';
import type { RawSink, RawSocket } from './raw-socket.js';
import type { MuxStream, StreamHandler } from './stream.js';
import { Verdict } from './verdict.js';

/** Fewer bytes are copied into a buffer of their own: a whole block would be held for them if they wait. */
const BLOCK_USE_BYTES_MIN = 16 * 1024;

/** A stream and a socket, bound together. */
export interface Bridge {
  /** Cuts both sides: RESET to the tunnel, RST to the socket. */
  reset(code: ResetCode): void;
  /** Offers what waits to the observer again, both ways. Not to be called from within the observer. */
  retry(): void;
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
  readonly #pieceBytesMax: number;
  /** Whether what one read of the tunnel brings leaves in one write. */
  readonly #gathers: boolean;
  /** Most bytes of both directions that are counted and not with the operating system. */
  readonly #unsentBytesMax: number;

  /**
   * `[#tailStart, #tailEnd)` of it was read from the socket, but may not go on yet: the stream said stop, or the
   * observer WAIT. The socket is paused meanwhile. In front lie at least FRAME_HEADROOM bytes of the same buffer.
   */
  #tail: Buffer | null = null;
  #tailStart = 0;
  #tailEnd = 0;
  /** The stream said stop; onWritable will follow. */
  #outBlocked = false;
  /** Bytes given to the stream that may still be in the tunnel's backlog. */
  #sendingBytes = 0;
  #outEnded = false;

  /**
   * Bytes from the stream that the socket has not been given yet, because it still writes or the observer said WAIT;
   * null when there are none. Bounded by the window.
   */
  #queue: ByteQueue | null = null;
  /** Bytes given to the socket, credit for which is owed once it has taken them. */
  #writingBytes = 0;
  /** What they lie in, when it is a block that can be used again. */
  #writingBlock: Buffer | null = null;
  /** They lie in a read buffer of the tunnel. */
  #keepsReadBuffer = false;
  /** Pieces of the tunnel's read buffer, counted, that leave when the run of them ends, and what they hold together. */
  #run: Buffer[] | null = null;
  #runBytes = 0;
  /** Writes in a row that were taken at once. */
  #takenInARow = 0;
  #inEnded = false;
  #socketClosed = false;
  /** Runs while what came by a lost tunnel goes on to the socket; nothing is read from it then. */
  #linger: NodeJS.Timeout | null = null;
  #over = false;

  constructor(socket: RawSocket, stream: MuxStream, observer: BridgeObserver) {
    this.#socket = socket;
    this.#stream = stream;
    this.#observer = observer;
    this.#pieceBytesMax = observer.pieceBytesMax ?? COUNT_BYTES_MAX - COUNT_BYTES_KEPT;
    this.#gathers = observer.pieceBytesMax !== undefined;
    this.#unsentBytesMax = observer.pieceBytesMax === undefined ? COUNT_BYTES_MAX : Number.POSITIVE_INFINITY;
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

  retry(): void {
    if (this.#queue !== null && this.#writingBytes === 0) this.#writeQueue(this.#queue);
    if (this.#tail !== null && !this.#outBlocked) this.#goOn();
  }

  /** How large the next piece of a direction may be, when so much of the other is under way; always more than 0. */
  #roomBytes(otherBytes: number): number {
    return Math.min(
      this.#pieceBytesMax,
      this.#unsentBytesMax - otherBytes - this.#stream.session.heldDataBytes,
    );
  }

  // ---- out: socket to tunnel --------------------------------------------------------------------------------------

  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    if (this.#over || this.#linger !== null) return false;
    if (this.#tail !== null || this.#outBlocked) {
      this.#copyToTail(buffer, start, end);
      return false;
    }
    const middle = this.#send(buffer, start, end, headroomBytes);
    if (this.#over) return false;
    if (middle < end) {
      this.#socket.pause();
      if (headroomBytes >= FRAME_HEADROOM) {
        this.#tail = buffer;
        this.#tailStart = middle;
        this.#tailEnd = end;
        return true;
      }
      this.#copyToTail(buffer, middle, end);
    } else if (this.#outBlocked) this.#socket.pause();
    return this.#stream.session.backlogBytes > 0;
  }

  /**
   * Counts and sends piece by piece, as long as the pieces leave and the observer lets them; returns where it
   * stopped. The headers of a piece overwrite the end of the one before, which has left by then.
   */
  #send(buffer: Buffer, start: number, end: number, headroomBytes: number): number {
    const stream = this.#stream;
    let from = start;
    while (from < end) {
      const roomBytes = this.#roomBytes(this.#writingBytes);
      const to = Math.min(end, from + roomBytes, from + stream.sendWindowBytes);
      const verdict = this.#observer.onBytesOut(to - from);
      if (verdict !== Verdict.GO) {
        if (verdict === Verdict.REFUSE) this.#cutBoth(ResetCode.REFUSED, 'refused');
        return from;
      }
      const more = stream.send(buffer, from, to, headroomBytes);
      const pieceBytes = to - from;
      from = to;
      if (more) continue;
      // Without window the stream says stop also when nothing is in the way.
      if (stream.sendWindowBytes > 0 || stream.session.backlogBytes > 0) this.#sendingBytes = pieceBytes;
      this.#outBlocked = true;
      return from;
    }
    return from;
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

  onWritable(): void {
    if (this.#over) return;
    this.#outBlocked = false;
    this.#sendingBytes = 0;
    this.#goOn();
  }

  /** Sends the tail; with nothing left of it, the socket's end follows or its next bytes. */
  #goOn(): void {
    if (this.#tail !== null) {
      // What was sent before from this buffer has left: only then does the stream say that it is writable.
      const middle = this.#send(this.#tail, this.#tailStart, this.#tailEnd, FRAME_HEADROOM);
      if (this.#over) return;
      this.#tailStart = middle;
      if (middle < this.#tailEnd) return;
      this.#tail = null;
    }
    if (this.#outEnded) {
      this.#stream.fin();
      this.#finishIfClosed();
    } else if (!this.#outBlocked) this.#socket.resume();
  }

  onEnd(): void {
    if (this.#over || this.#outEnded) return;
    this.#outEnded = true;
    if (this.#tail === null) this.#stream.fin();
  }

  // ---- in: tunnel to socket ---------------------------------------------------------------------------------------

  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    if (this.#over) return;
    if (this.#queue !== null || this.#writingBytes > 0) {
      this.#queue ??= new ByteQueue();
      this.#queue.push(buffer, start, end);
      return;
    }
    if (this.#run !== null || (this.#gathers && this.#writesDirectly)) {
      this.#gather(buffer, start, end);
      return;
    }
    let from = start;
    while (from < end) {
      const to = Math.min(end, from + this.#roomBytes(this.#sendingBytes));
      const verdict = this.#observer.onBytesIn(to - from);
      if (verdict === Verdict.REFUSE) {
        this.#cutBoth(ResetCode.REFUSED, 'refused');
        return;
      }
      if (verdict === Verdict.WAIT) break;
      const taken = this.#writeFrom(buffer, from, to);
      if (!taken) this.#writingBytes = to - from;
      from = to;
      if (!taken) break;
    }
    if (from < end) {
      this.#queue = new ByteQueue();
      this.#queue.push(buffer, from, end);
    }
    const takenBytes = from - start - this.#writingBytes;
    if (takenBytes > 0) stream.consumed(takenBytes);
  }

  /**
   * Writes bytes of the tunnel's read buffer; returns whether the operating system has taken them. A stream that was
   * taken from at once so far is written without a copy, any other through a block: it may be about to stall, and then
   * holds what is its own.
   */
  #writeFrom(buffer: Buffer, from: number, to: number): boolean {
    const bytes = to - from;
    let taken: boolean;
    if (this.#writesDirectly) {
      taken = this.#socket.write(buffer.subarray(from, to));
      if (!taken) this.#keepReadBuffer();
    } else if (bytes < BLOCK_USE_BYTES_MIN || bytes > BLOCK_BYTES_MAX - FRAME_HEADROOM)
      taken = this.#socket.write(Buffer.from(buffer.subarray(from, to)));
    else {
      const block = takeBlock();
      const socket = this.#socket;
      const end = FRAME_HEADROOM + bytes;
      buffer.copy(block, FRAME_HEADROOM, from, to);
      taken =
        socket.writeBehindHeadroom?.(block, FRAME_HEADROOM, end) ??
        socket.write(block.subarray(FRAME_HEADROOM, end));
      if (taken) giveBlock(block);
      else this.#writingBlock = block;
    }
    if (taken) this.#takenInARow++;
    else this.#takenInARow = 0;
    return taken;
  }

  get #writesDirectly(): boolean {
    return this.#takenInARow >= DIRECT_WRITES_AFTER && this.#stream.session.readHeadroomBytes > 0;
  }

  #keepReadBuffer(): void {
    this.#stream.session.keepReadBuffer();
    this.#keepsReadBuffer = true;
  }

  /** Counts bytes of the tunnel's read buffer that leave with the run. */
  #gather(buffer: Buffer, start: number, end: number): void {
    const verdict = this.#observer.onBytesIn(end - start);
    if (verdict === Verdict.GO) {
      this.#run ??= [];
      this.#run.push(buffer.subarray(start, end));
      this.#runBytes += end - start;
      return;
    }
    this.onRunEnd();
    if (verdict === Verdict.REFUSE) this.#cutBoth(ResetCode.REFUSED, 'refused');
    else {
      this.#queue = new ByteQueue();
      this.#queue.push(buffer, start, end);
    }
  }

  onRunEnd(): void {
    const run = this.#run;
    if (run === null) return;
    const bytes = this.#runBytes;
    this.#dropRun();
    const taken = run.length === 1 ? this.#socket.write(run[0] as Buffer) : this.#socket.writeAll(run);
    if (taken) {
      this.#takenInARow++;
      this.#stream.consumed(bytes);
      return;
    }
    this.#takenInARow = 0;
    this.#writingBytes = bytes;
    this.#keepReadBuffer();
  }

  #dropRun(): void {
    this.#run = null;
    this.#runBytes = 0;
  }

  onDrain(): void {
    if (this.#over || this.#writingBytes === 0 || this.#socket.backlogBytes > 0) return;
    const writtenBytes = this.#writingBytes;
    this.#writingBytes = 0;
    this.#letGoOfWritten();
    this.#stream.consumed(writtenBytes);
    if (this.#queue !== null) this.#writeQueue(this.#queue);
  }

  /** The operating system has what was being written. */
  #letGoOfWritten(): void {
    if (this.#writingBlock !== null) giveBlock(this.#writingBlock);
    this.#writingBlock = null;
    this.#letGoOfReadBuffer();
  }

  #letGoOfReadBuffer(): void {
    if (this.#keepsReadBuffer) this.#stream.session.letGoOfReadBuffer();
    this.#keepsReadBuffer = false;
  }

  /** Counts and writes what is queued, as long as the socket takes it and the observer lets it. */
  #writeQueue(queue: ByteQueue): void {
    while (queue.bytes > 0) {
      const bytes = queue.nextBytes(this.#roomBytes(this.#sendingBytes));
      const verdict = this.#observer.onBytesIn(bytes);
      if (verdict === Verdict.REFUSE) this.#cutBoth(ResetCode.REFUSED, 'refused');
      if (verdict !== Verdict.GO) return;
      if (!this.#writeShifted(queue, bytes)) {
        this.#writingBytes = bytes;
        this.#writingBlock = queue.takeSpent();
        break;
      }
      const spent = queue.takeSpent();
      if (spent !== null) giveBlock(spent);
      this.#stream.consumed(bytes);
    }
    if (queue.bytes > 0) return;
    this.#queue = null;
    if (this.#inEnded) this.#socket.end();
  }

  /** What was written before has left: its end may be overwritten. */
  #writeShifted(queue: ByteQueue, bytes: number): boolean {
    const socket = this.#socket;
    const piece = queue.shift(bytes);
    if (socket.writeBehindHeadroom === undefined) return socket.write(piece);
    // Blocks are memory of their own, from its first byte on.
    const start = piece.byteOffset;
    return socket.writeBehindHeadroom(queue.shiftedFrom as Buffer, start, start + piece.length);
  }

  onFin(): void {
    if (this.#over) return;
    this.#inEnded = true;
    if (this.#queue === null) this.#socket.end();
  }

  // ---- ends -------------------------------------------------------------------------------------------------------

  onReset(_stream: MuxStream, code: number): void {
    // The tunnel may be lost in the middle of a read.
    this.onRunEnd();
    const { lingerMs } = this.#observer;
    if (code !== RESET_TUNNEL_LOST || lingerMs === undefined || this.#over || this.#socketClosed) {
      this.#cutSocket();
      return;
    }
    this.#socket.pause();
    this.#tail = null;
    this.#linger = setTimeout(() => this.#cutSocket(), lingerMs);
  }

  /** The socket is gone: in order when both directions had ended, else the tunnel is told. */
  onClose(error: Error | null): void {
    if (this.#over) return;
    if (error !== null || !this.#outEnded || !this.#inEnded || this.#queue !== null) {
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
    if (this.#linger !== null) clearTimeout(this.#linger);
    this.#tail = null;
    this.#dropRun();
    this.#queue?.clear();
    this.#queue = null;
    // What is being written may still be read from it.
    this.#writingBlock = null;
    this.#letGoOfReadBuffer();
    this.#observer.onEnd(how);
  }
}
