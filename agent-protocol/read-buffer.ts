/**
 * The memory a plain socket reads into (`onread` of node:net). Measured: reading into reused buffers that grow with
 * traffic costs half of what `data` events do, and buffers that start small keep new connections cheap.
 */
import { FRAME_HEADROOM } from './frame.js';
import { READ_BUFFER_BYTES, READ_BUFFER_BYTES_MAX, READ_BUFFERS_TOTAL_BYTES_MAX } from './limits.js';

/** Room in front of what is read, so that headers are written there and all leaves in one write without a copy. */
const HEADROOM_BYTES = Math.ceil(FRAME_HEADROOM / 8) * 8;
/** A read that fills its buffer makes the next one this many times as large. */
const GROWTH = 4;
/** This many reads in a row below a sixteenth of an own buffer give it back. */
const SMALL_READS_MAX = 16;

/**
 * One first buffer serves all sockets that have little to read: reads are handled one at a time within their
 * callback, and bytes from it are always copied if they outlive it. So an idle socket costs no buffer at all.
 */
let common: { buffer: Buffer; view: Buffer } | null = null;
/** Bytes of own buffers in the process, see READ_BUFFERS_TOTAL_BYTES_MAX. */
let ownBytesTotal = 0;

/** The buffer of one socket: the common one at first, then an own one as large as traffic makes it. */
export class ReadBuffer {
  /** What is read lies in `buffer` from `start` on. */
  buffer: Buffer;
  view: Buffer;
  readonly start = HEADROOM_BYTES;
  /** Bytes in front of `start` that may be overwritten; 0: the common buffer, nobody may keep or change it. */
  headroomBytes = 0;
  #sizeBytes = READ_BUFFER_BYTES;
  #smallReads = 0;

  constructor() {
    common ??= allocate(READ_BUFFER_BYTES);
    this.buffer = common.buffer;
    this.view = common.view;
  }

  /**
   * Chooses the memory for the next read.
   * @param filledBytes what the last read brought
   * @param kept somebody still refers to the bytes of the last read
   * @param paused nothing is read before a resume, and by then nobody refers to them any more
   */
  next(filledBytes: number, kept: boolean, paused: boolean): Buffer {
    if (kept && paused) return this.view;
    if (filledBytes === this.#sizeBytes && this.#sizeBytes < READ_BUFFER_BYTES_MAX && this.#grow())
      return this.view;
    if (this.headroomBytes === 0) return this.view;
    if (filledBytes * 16 >= this.#sizeBytes) this.#smallReads = 0;
    else if (++this.#smallReads >= SMALL_READS_MAX) {
      this.release();
      return this.view;
    }
    if (kept) this.#own();
    return this.view;
  }

  /** Gives an own buffer up; the common one is used again. */
  release(): void {
    if (this.headroomBytes === 0) return;
    ownBytesTotal -= this.#sizeBytes;
    common ??= allocate(READ_BUFFER_BYTES);
    this.buffer = common.buffer;
    this.view = common.view;
    this.headroomBytes = 0;
    this.#sizeBytes = READ_BUFFER_BYTES;
    this.#smallReads = 0;
  }

  #grow(): boolean {
    const sizeBytes = Math.min(READ_BUFFER_BYTES_MAX, this.#sizeBytes * GROWTH);
    const ownBytes = this.headroomBytes === 0 ? 0 : this.#sizeBytes;
    if (ownBytesTotal - ownBytes + sizeBytes > READ_BUFFERS_TOTAL_BYTES_MAX) return false;
    ownBytesTotal += sizeBytes - ownBytes;
    this.#sizeBytes = sizeBytes;
    this.#own();
    return true;
  }

  #own(): void {
    const { buffer, view } = allocate(this.#sizeBytes);
    this.buffer = buffer;
    this.view = view;
    this.headroomBytes = HEADROOM_BYTES;
  }
}

function allocate(sizeBytes: number): { buffer: Buffer; view: Buffer } {
  const buffer = Buffer.allocUnsafeSlow(HEADROOM_BYTES + sizeBytes);
  return { buffer, view: buffer.subarray(HEADROOM_BYTES) };
}
