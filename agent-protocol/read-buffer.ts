/**
 * The memory a plain socket reads into (`onread` of node:net). Measured: reading into reused buffers that grow with
 * traffic costs half of what `data` events do, and buffers that start small keep new connections cheap.
 */
import { FRAME_HEADROOM } from './frame.js';
import { READ_BUFFER_BYTES, READ_BUFFER_BYTES_MAX, READ_BUFFERS_TOTAL_BYTES_MAX } from './limits.js';

/** Room in front of what is read, so that headers are written there and all leaves in one write without a copy. */
export const READ_HEADROOM_BYTES = Math.ceil(FRAME_HEADROOM / 8) * 8;
/** A read that fills its buffer makes the next one this many times as large. */
const GROWTH = 4;
/** This many reads in a row below a sixteenth of an own buffer give it back. */
const SMALL_READS_MAX = 16;

/**
 * One first buffer serves all sockets that have little to read: reads are handled one at a time within their
 * callback, and bytes from it are always copied if they outlive it. So an idle socket costs no buffer at all.
 */
let common: ReadMemory | null = null;
/** Bytes of own buffers in the process, see READ_BUFFERS_TOTAL_BYTES_MAX. */
let ownBytesTotal = 0;

/** Takes so much of READ_BUFFERS_TOTAL_BYTES_MAX; false: there is not so much left, and `regardless` was not said. */
export function takeReadBytes(bytes: number, regardless = false): boolean {
  if (!regardless && ownBytesTotal + bytes > READ_BUFFERS_TOTAL_BYTES_MAX) return false;
  ownBytesTotal += bytes;
  return true;
}

/** Gives back what takeReadBytes took. */
export function giveReadBytes(bytes: number): void {
  ownBytesTotal -= bytes;
}

/** The buffer of one socket: the common one at first, then an own one as large as traffic makes it. */
export class ReadBuffer {
  /** What is read lies in `buffer` from `start` on. */
  buffer: Buffer;
  view: Buffer;
  readonly start = READ_HEADROOM_BYTES;
  /** Bytes in front of `start` that may be overwritten; 0: the common buffer, nobody may keep or change it. */
  headroomBytes = 0;
  #sizeBytes = READ_BUFFER_BYTES;
  #smallReads = 0;

  constructor() {
    common ??= allocateRead(READ_BUFFER_BYTES);
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
    // Also when it was kept: before a tunnel that always has backlog, as one in TLS, all reads are.
    if (filledBytes === this.#sizeBytes && this.#sizeBytes < READ_BUFFER_BYTES_MAX && this.#grow())
      return this.view;
    if (kept && paused) return this.view;
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
    giveReadBytes(this.#sizeBytes);
    common ??= allocateRead(READ_BUFFER_BYTES);
    this.buffer = common.buffer;
    this.view = common.view;
    this.headroomBytes = 0;
    this.#sizeBytes = READ_BUFFER_BYTES;
    this.#smallReads = 0;
  }

  #grow(): boolean {
    const sizeBytes = Math.min(READ_BUFFER_BYTES_MAX, this.#sizeBytes * GROWTH);
    const ownBytes = this.headroomBytes === 0 ? 0 : this.#sizeBytes;
    if (!takeReadBytes(sizeBytes - ownBytes)) return false;
    this.#sizeBytes = sizeBytes;
    this.#own();
    return true;
  }

  #own(): void {
    const { buffer, view } = allocateRead(this.#sizeBytes);
    this.buffer = buffer;
    this.view = view;
    this.headroomBytes = READ_HEADROOM_BYTES;
  }
}

/** `view` is all of `buffer` but its headroom. */
export interface ReadMemory {
  readonly buffer: Buffer;
  readonly view: Buffer;
}

/** Memory for reads of up to `sizeBytes`. */
export function allocateRead(sizeBytes: number): ReadMemory {
  const buffer = Buffer.allocUnsafeSlow(READ_HEADROOM_BYTES + sizeBytes);
  return { buffer, view: buffer.subarray(READ_HEADROOM_BYTES) };
}
