import { FRAME_HEADROOM } from './frame.js';
import { COUNT_BYTES_KEPT, COUNT_BYTES_MAX, SPARE_BLOCKS_MAX } from './limits.js';

/** Smallest and largest block, bytes. */
const BLOCK_BYTES_MIN = FRAME_HEADROOM + 4 * 1024;
/** It holds what is counted at once at most, so that a slow reader gets whole pieces and no scraps between them. */
export const BLOCK_BYTES_MAX = FRAME_HEADROOM + COUNT_BYTES_MAX - COUNT_BYTES_KEPT;

/**
 * Blocks of the largest size that nobody uses. Streams whose reader is the slower side need one after another:
 * used again, they are no garbage.
 */
const spareBlocks: Buffer[] = [];

/** A block of BLOCK_BYTES_MAX bytes, with anything in it. */
export function takeBlock(): Buffer {
  return spareBlocks.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES_MAX);
}

/** Gives a block back that nobody refers to any more. */
export function giveBlock(block: Buffer): void {
  if (block.length === BLOCK_BYTES_MAX && spareBlocks.length < SPARE_BLOCKS_MAX) spareBlocks.push(block);
}

/**
 * Bytes in order, copied into blocks: one-byte pieces cost one byte each, not an object each, so that what a peer can
 * make us hold is what its window says.
 */
export class ByteQueue {
  /** Bytes held. */
  bytes = 0;
  readonly #blocks: Buffer[] = [];
  /** Where reading is in the first block. In front of it lie FRAME_HEADROOM bytes that nobody needs any more. */
  #start = FRAME_HEADROOM;
  /** Where writing is in the last block. */
  #end = FRAME_HEADROOM;
  /** Taken to its end by the last shift. */
  #spent: Buffer | null = null;
  /** What the last shift took lies in this block. */
  shiftedFrom: Buffer | null = null;

  push(buffer: Buffer, start: number, end: number): void {
    this.bytes += end - start;
    let from = start;
    while (from < end) {
      let block = this.#blocks.at(-1);
      if (block === undefined || this.#end === block.length) {
        const leastBytes = FRAME_HEADROOM + end - from;
        const bytes = Math.max(block === undefined ? BLOCK_BYTES_MIN : block.length * 2, leastBytes);
        block = bytes > BLOCK_BYTES_MAX / 2 ? takeBlock() : Buffer.allocUnsafeSlow(bytes);
        this.#blocks.push(block);
        this.#end = FRAME_HEADROOM;
      }
      const copied = buffer.copy(block, this.#end, from, end);
      this.#end += copied;
      from += copied;
    }
  }

  /** How many bytes `shift(bytesMax)` would take. */
  nextBytes(bytesMax: number): number {
    const block = this.#blocks[0];
    if (block === undefined) return 0;
    const blockEnd = this.#blocks.length === 1 ? this.#end : block.length;
    return Math.min(blockEnd - this.#start, bytesMax);
  }

  /**
   * Takes the next bytes, at most `bytesMax`, without a copy; they stay as they are. Empty when there are none. Once what
   * was taken before is not needed any more, the FRAME_HEADROOM bytes in front of them in `shiftedFrom` may be overwritten.
   */
  shift(bytesMax: number): Buffer {
    this.#spent = null;
    const block = this.#blocks[0];
    if (block === undefined) return Buffer.alloc(0);
    const end = this.#start + this.nextBytes(bytesMax);
    const slice = block.subarray(this.#start, end);
    this.bytes -= slice.length;
    this.#start = end;
    this.shiftedFrom = block;
    if (end === block.length || this.bytes === 0) {
      this.#blocks.shift();
      this.#start = FRAME_HEADROOM;
      this.#spent = block;
    }
    return slice;
  }

  /** The block that the last shift took to its end; null: none. For `giveBlock` once those bytes are used. */
  takeSpent(): Buffer | null {
    const block = this.#spent;
    this.#spent = null;
    return block;
  }

  /** Drops what is held. Blocks of which nothing was taken can be used again. */
  clear(): void {
    for (const [i, block] of this.#blocks.entries())
      if (i > 0 || this.#start === FRAME_HEADROOM) giveBlock(block);
    this.#blocks.length = 0;
    this.#start = FRAME_HEADROOM;
    this.#end = FRAME_HEADROOM;
    this.#spent = this.shiftedFrom = null;
    this.bytes = 0;
  }
}
