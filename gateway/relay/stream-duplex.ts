import { Duplex, type Writable } from 'node:stream';
import { ByteQueue, giveBlock } from '../../agent-protocol/byte-queue.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import { COUNT_BYTES_KEPT, COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { Splice } from './splice.js';

const nothing = Buffer.alloc(0);
const PIECE_BYTES_MAX = COUNT_BYTES_MAX - COUNT_BYTES_KEPT;

/** What a StreamDuplex needs of the splice; for streams that nobody counts, it can be had without one. */
export type UncountedStream = Pick<Splice, 'onBytesOut' | 'onBytesIn' | 'onEnd' | 'onCut' | 'onRetry'>;

/** The connection of a buyer, with word of each chunk given to it that is no longer referred to. */
export interface BuyerConnection extends Writable {
  onSent: ((chunk: Buffer) => void) | null;
}

/**
 * A device's stream as a Duplex, for forwarding plain HTTP with node:http. Bytes are copied and counted by the same
 * splice as everywhere else: in pieces, each when the one before is with the operating system, and never more than
 * COUNT_BYTES_MAX on their way both ways. It looks enough like a socket for http.Agent.
 */
export class StreamDuplex extends Duplex implements StreamHandler {
  readonly #stream: MuxStream;
  readonly #splice: UncountedStream;
  readonly #buyer: BuyerConnection;

  /** What is being written: the part of a chunk that may not go on yet. */
  #rest: Buffer | null = null;
  #written: ((error?: Error | null) => void) | null = null;
  /** The stream said stop; onWritable will follow. */
  #outBlocked = false;
  /** Bytes given to the stream that may still be in the tunnel's backlog. */
  #sendingBytes = 0;
  #finSent = false;

  /** Received and not counted. Bounded by the window. */
  readonly #queue = new ByteQueue();
  /** The reader has taken all that was pushed, and asks for more. */
  #wanted = false;
  /** What was pushed last and may be on its way through HTTP code to the buyer's socket. */
  #underWayBytes = 0;
  /** The memory it lies in, and how much of it the buyer's connection has not reported as sent. */
  #pieceMemory: ArrayBufferLike | null = null;
  #pieceUnsentBytes = 0;
  /** Memory of which some bytes were pushed and not reported: something else may hold them, a parser or a message. */
  #heldMemory: ArrayBufferLike | null = null;
  /** The block that the last piece was the end of. */
  #spentBlock: Buffer | null = null;
  #looking = false;
  /** Bytes pushed for which credit is owed once they have left. */
  #owedBytes = 0;
  #finReceived = false;
  #inEnded = false;

  /** `buyer` is the connection on which the buyer gets what is read here. */
  constructor(stream: MuxStream, splice: UncountedStream, buyer: BuyerConnection) {
    // With a mark of 1, and node:http takes over ours for its messages, nobody asks for more while he holds bytes.
    super({ allowHalfOpen: true, readableHighWaterMark: 1 });
    this.#stream = stream;
    this.#splice = splice;
    this.#buyer = buyer;
    stream.handler = this;
    splice.onCut(() => this.destroy());
    splice.onRetry(() => this.#retry());
  }

  #retry(): void {
    if (this.destroyed) return;
    this.#offer();
    if (!this.#outBlocked && this.#rest !== null) this.#send();
  }

  /** How large the next piece of a direction may be, when so much of the other is under way; always more than 0. */
  #roomBytes(otherBytes: number): number {
    return Math.min(PIECE_BYTES_MAX, COUNT_BYTES_MAX - otherBytes - this.#stream.session.heldDataBytes);
  }

  // ---- out: what is written goes into the tunnel ------------------------------------------------------------------

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#rest = chunk.length > 0 ? chunk : null;
    this.#written = done;
    this.#send();
  }

  #send(): void {
    while (this.#rest !== null) {
      const rest = this.#rest;
      const roomBytes = this.#roomBytes(this.#underWayBytes);
      if (this.#underWayBytes > 0) this.#lookLater();
      const bytes = Math.min(rest.length, roomBytes, this.#stream.sendWindowBytes);
      const verdict = this.#splice.onBytesOut(bytes);
      if (verdict === Verdict.REFUSE) this.#fail('the allocation is used up', 'refused');
      if (verdict !== Verdict.GO) return;
      this.#rest = bytes === rest.length ? null : rest.subarray(bytes);
      // A headroom of 0: the bytes are copied, so the caller's buffer is free at once.
      const more = this.#stream.send(rest, 0, bytes, 0);
      if (more) continue;
      // Without window the stream says stop also when nothing is in the way.
      if (this.#stream.sendWindowBytes > 0 || this.#stream.session.backlogBytes > 0)
        this.#sendingBytes = bytes;
      if (this.#stream.state === 'closed') this.#fail('the stream was reset', 'reset');
      else this.#outBlocked = true;
      return;
    }
    this.#finishWrite();
  }

  onWritable(): void {
    this.#outBlocked = false;
    this.#sendingBytes = 0;
    this.#send();
  }

  #finishWrite(): void {
    const written = this.#written;
    this.#written = null;
    written?.();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#finSent = true;
    this.#stream.fin();
    this.#endWhenBothSidesAre();
    done();
  }

  // ---- in: what comes out of the tunnel is read -------------------------------------------------------------------

  onData(_stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    if (this.destroyed) return;
    this.#queue.push(buffer, start, end);
    this.#offer();
  }

  override _read(): void {
    this.#wanted = true;
    if (this.#owedBytes > 0) this.#lookLater();
    this.#offer();
  }

  /** Counts and pushes the next piece, unless the one before may still be here; then looks again later. */
  #offer(): void {
    if (!this.#wanted || this.#inEnded) return;
    const queue = this.#queue;
    if (queue.bytes === 0) {
      if (this.#finReceived) this.#endReading();
      return;
    }
    if (this.#underWayBytes > 0) {
      this.#lookLater();
      return;
    }
    const bytes = queue.nextBytes(this.#roomBytes(this.#sendingBytes));
    const verdict = this.#splice.onBytesIn(bytes);
    if (verdict === Verdict.REFUSE) this.#fail('the allocation is used up', 'refused');
    if (verdict !== Verdict.GO) return;
    this.#owedBytes += bytes;
    this.#wanted = false;
    this.#underWayBytes = bytes;
    const piece = queue.shift(bytes);
    this.#spentBlock = queue.takeSpent();
    this.#pieceMemory = piece.buffer;
    this.#pieceUnsentBytes = bytes;
    this.#buyer.onSent = this.#onChunkSent;
    this.push(piece);
  }

  readonly #onChunkSent = (chunk: Buffer): void => {
    if (chunk.buffer !== this.#pieceMemory) return;
    this.#pieceUnsentBytes -= chunk.length;
    if (this.#pieceUnsentBytes > 0) return;
    const block = this.#spentBlock;
    this.#spentBlock = null;
    if (block !== null && block.buffer !== this.#heldMemory) giveBlock(block);
  };

  /** The last piece has gone as far as can be told. What was not reported as sent of it may still be held. */
  #letGoOfPiece(): void {
    if (this.#pieceUnsentBytes > 0) this.#heldMemory = this.#pieceMemory;
    this.#pieceUnsentBytes = 0;
    this.#pieceMemory = this.#spentBlock = null;
  }

  /**
   * Looks when all that the buyer's connection holds has left it, and HTTP code had its turn to write what it held.
   * An empty write tells the first: its callback comes behind what was written before.
   */
  #lookLater(): void {
    if (this.#looking || !this.#buyer.writable) return;
    this.#looking = true;
    if (this.#buyer.writableLength === 0) setImmediate(this.#look);
    else this.#buyer.write(nothing, this.#onFlushed);
  }

  readonly #onFlushed = (): void => {
    setImmediate(this.#look);
  };

  readonly #look = (): void => {
    this.#looking = false;
    if (this.destroyed) return;
    if (this.#buyer.writableLength === 0) {
      this.#underWayBytes = 0;
      this.#letGoOfPiece();
      // Given back only now: what waits for the buyer counts as held, so that a stalled stream holds a window in all.
      const bytes = this.#owedBytes;
      this.#owedBytes = 0;
      if (bytes > 0) this.#stream.consumed(bytes);
    }
    this.#offer();
  };

  onFin(): void {
    this.#finReceived = true;
    if (this.#queue.bytes === 0) this.#endReading();
  }

  #endReading(): void {
    if (this.#inEnded) return;
    this.#inEnded = true;
    this.push(null);
    this.#endWhenBothSidesAre();
  }

  // ---- ends -------------------------------------------------------------------------------------------------------

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stream.reset(ResetCode.CANCELLED);
    this.#queue.clear();
    if (this.#buyer.onSent === this.#onChunkSent) this.#buyer.onSent = null;
    this.#splice.onEnd(this.#inEnded && this.#finSent ? 'finished' : 'reset');
    const written = this.#written;
    this.#written = null;
    this.#rest = null;
    written?.(error);
    done(error);
  }

  onReset(): void {
    this.#fail('the stream was reset', 'reset');
  }

  #endWhenBothSidesAre(): void {
    if (this.#inEnded && this.#finSent) this.#splice.onEnd('finished');
  }

  #fail(message: string, how: 'reset' | 'refused'): void {
    this.#splice.onEnd(how);
    this.destroy(Object.assign(new Error(message), { code: 'ECONNRESET' }));
  }

  // What http.Agent calls on a socket; a stream in a tunnel has no such things to set.
  setKeepAlive(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
