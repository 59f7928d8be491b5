/** A RawSocket over a stream of a tunnel: what relays sockets then relays a stream that came over a link as well. */
import { Socket } from 'node:net';
import { ByteQueue, giveBlock } from './byte-queue.js';
import { FRAME_HEADROOM, ResetCode } from './frame.js';
import type { RawSink, RawSocket } from './raw-socket.js';
import type { MuxStream, StreamHandler } from './stream.js';

/** Told to the sink of a stream that was cut, as the operating system says it of a connection. */
function cutError(): Error {
  return Object.assign(new Error('the stream was reset'), { code: 'ECONNRESET' });
}

/**
 * Takes an open stream over. Paused, it holds what comes, bounded by the window it grants; of what is written it holds
 * what the peer's window does not take yet: writers wait for `onDrain`, as for any socket.
 */
export class StreamSocketView implements RawSocket, StreamHandler {
  ended = false;
  closed = false;
  readonly localAddress = '';
  readonly remoteAddress = undefined;
  readonly #stream: MuxStream;
  #sink: RawSink | null = null;
  #onClosed: Array<() => void> = [];
  #paused = true;
  /** Came while nobody took it. */
  readonly #queue = new ByteQueue();
  /** Until `resume()` the sink refers to bytes of the tunnel's read buffer, or to those in this block. */
  #keepsReadBuffer = false;
  #keptBlock: Buffer | null = null;
  /** FIN came, maybe behind what is queued. */
  #finCame = false;
  /** Written and not sent, in order. */
  #unsent: Buffer[] = [];
  #unsentBytes = 0;
  /** Sent, and not known to be with the operating system. */
  #sendingBytes = 0;
  #blocked = false;
  #ending = false;
  #finSent = false;

  constructor(stream: MuxStream) {
    this.#stream = stream;
    stream.handler = this;
    if (stream.state === 'closed') this.#close(cutError());
  }

  get backlogBytes(): number {
    return this.#unsentBytes + this.#sendingBytes;
  }

  get writable(): boolean {
    return !this.closed && !this.#ending;
  }

  /** There is none below: one that is closed. */
  get socket(): Socket {
    return new Socket().destroy();
  }

  setSink(sink: RawSink): void {
    this.#sink = sink;
    if (!this.ended && !this.closed) return;
    process.nextTick(() => {
      if (this.#sink !== sink) return;
      if (this.ended) sink.onEnd();
      if (this.closed) sink.onClose(null);
    });
  }

  onceClosed(closed: () => void): void {
    if (!this.closed) this.#onClosed.push(closed);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#keptBlock !== null) giveBlock(this.#keptBlock);
    this.#keptBlock = null;
    this.#letGoOfReadBuffer();
    if (this.#queue.bytes > 0 || (this.#finCame && !this.ended)) process.nextTick(this.#flow);
  }

  inject(bytes: Buffer): void {
    this.#sink?.onBytes(bytes, 0, bytes.length, 0);
  }

  // ---- out --------------------------------------------------------------------------------------------------------

  write(bytes: Uint8Array): boolean {
    if (!this.writable || bytes.length === 0) return this.backlogBytes === 0 && !this.closed;
    this.#unsent.push(asBuffer(bytes));
    this.#unsentBytes += bytes.length;
    this.#send();
    return this.backlogBytes === 0 && !this.closed;
  }

  /** Spares a copy: the headers of the frame go in front. */
  writeBehindHeadroom(buffer: Buffer, start: number, end: number): boolean {
    const stream = this.#stream;
    if (!this.writable || this.#blocked || this.#unsent.length > 0)
      return this.write(buffer.subarray(start, end));
    const middle = Math.min(end, start + stream.sendWindowBytes);
    this.#sent(stream.send(buffer, start, middle, FRAME_HEADROOM), middle - start);
    return middle === end ? this.backlogBytes === 0 : this.write(buffer.subarray(middle, end));
  }

  writeAll(pieces: Iterable<Uint8Array>): boolean {
    let taken = true;
    for (const bytes of pieces) taken = this.write(bytes);
    return taken;
  }

  #send(): void {
    const stream = this.#stream;
    while (!this.#blocked && this.#unsent.length > 0) {
      const first = this.#unsent[0] as Buffer;
      const bytes = Math.min(first.length, stream.sendWindowBytes);
      if (bytes === first.length) this.#unsent.shift();
      else this.#unsent[0] = first.subarray(bytes);
      this.#unsentBytes -= bytes;
      // A headroom of 0: the bytes are copied, so the writer's buffer is free at once.
      this.#sent(stream.send(first, 0, bytes, 0), bytes);
    }
    if (this.#ending && this.#unsent.length === 0) this.#fin();
  }

  #sent(more: boolean, bytes: number): void {
    if (more) return;
    this.#blocked = true;
    // Without window the stream says stop also when nothing is in the way.
    const { sendWindowBytes, session } = this.#stream;
    if (sendWindowBytes > 0 || session.backlogBytes > 0) this.#sendingBytes = bytes;
  }

  onWritable(): void {
    if (this.closed) return;
    this.#blocked = false;
    this.#sendingBytes = 0;
    this.#send();
    if (this.backlogBytes === 0) this.#sink?.onDrain();
  }

  end(): void {
    if (this.#ending || this.closed) return;
    this.#ending = true;
    if (this.#unsent.length === 0) this.#fin();
  }

  #fin(): void {
    if (this.#finSent) return;
    this.#finSent = true;
    this.#stream.fin();
    if (this.ended) process.nextTick(this.#closeInOrder);
  }

  // ---- in ---------------------------------------------------------------------------------------------------------

  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    if (this.closed) return;
    if (this.#paused || this.#queue.bytes > 0) {
      this.#queue.push(buffer, start, end);
      return;
    }
    const { session } = stream;
    const headroomBytes = session.readHeadroomBytes;
    const kept = this.#sink?.onBytes(buffer, start, end, headroomBytes) === true;
    if (kept && headroomBytes > 0) {
      session.keepReadBuffer();
      this.#keepsReadBuffer = true;
      // Who has not paused does not say when the bytes are no longer needed.
      if (!this.#paused) this.#letGoOfReadBuffer();
    }
    stream.consumed(end - start);
  }

  #letGoOfReadBuffer(): void {
    if (this.#keepsReadBuffer) this.#stream.session.letGoOfReadBuffer();
    this.#keepsReadBuffer = false;
  }

  onFin(): void {
    this.#finCame = true;
    if (!this.#paused) this.#flow();
  }

  /** Gives on what was queued, as long as it is taken. */
  readonly #flow = (): void => {
    const queue = this.#queue;
    while (!this.#paused && !this.closed && queue.bytes > 0) {
      // All that a block has is taken at once: it is nobody's any more, and what lies in front is free.
      const { byteOffset, length } = queue.shift(queue.bytes);
      const block = queue.shiftedFrom as Buffer;
      const kept = this.#sink?.onBytes(block, byteOffset, byteOffset + length, FRAME_HEADROOM);
      const spent = queue.takeSpent();
      if (spent !== null) {
        if (kept !== true) giveBlock(spent);
        else if (this.#paused) this.#keptBlock = spent;
      }
      this.#stream.consumed(length);
    }
    if (!this.#finCame || this.#paused || this.ended || this.closed || queue.bytes > 0) return;
    this.ended = true;
    this.#sink?.onEnd();
    if (this.#finSent) process.nextTick(this.#closeInOrder);
  };

  // ---- ends -------------------------------------------------------------------------------------------------------

  /** Whether the peer cut a stream is told at once, read or not. */
  probe(): void {}

  onReset(): void {
    this.#close(cutError());
  }

  reset(): void {
    this.#drop(ResetCode.CONNECTION_RESET);
  }

  destroy(error?: Error): void {
    this.#drop(ResetCode.CANCELLED, error);
  }

  detach(): null {
    return null;
  }

  #drop(code: ResetCode, error: Error | null = null): void {
    if (this.closed) return;
    this.#stream.reset(code);
    this.#unsent = [];
    this.#unsentBytes = this.#sendingBytes = 0;
    this.#queue.clear();
    this.closed = true;
    this.#letGoOfReadBuffer();
    process.nextTick(() => this.#tellClosed(error));
  }

  readonly #closeInOrder = (): void => {
    if (!this.closed) this.#close(null);
  };

  #close(error: Error | null): void {
    if (this.closed) return;
    this.closed = true;
    this.#unsent = [];
    this.#unsentBytes = this.#sendingBytes = 0;
    this.#queue.clear();
    this.#letGoOfReadBuffer();
    this.#tellClosed(error);
  }

  #tellClosed(error: Error | null): void {
    const sink = this.#sink;
    this.#sink = null;
    sink?.onClose(error);
    for (const closed of this.#onClosed.splice(0)) closed();
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
