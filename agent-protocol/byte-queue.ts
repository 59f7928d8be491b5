import { SPARE_BLOCKS_MAX } from './limits.js';

/** Smallest and largest block, bytes. */
const BLOCK_BYTES_MIN = 4 * 1024;
export const BLOCK_BYTES_MAX = 64 * 1024;

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
  /** Where reading is in the first block. */
  #start = 0;
  /** Where writing is in the last block. */
  #end = 0;
  /** Taken to its end by the last shift. */
  #spent: Buffer | null = null;

  push(buffer: Buffer, start: number, end: number): void {
    this.bytes += end - start;
    let from = start;
    while (from < end) {
      let block = this.#blocks.at(-1);
      if (block === undefined || this.#end === block.length) {
        const bytes = Math.max(block === undefined ? BLOCK_BYTES_MIN : block.length * 2, end - from);
        block = bytes > BLOCK_BYTES_MAX / 2 ? takeBlock() : Buffer.allocUnsafeSlow(bytes);
        this.#blocks.push(block);
        this.#end = 0;
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

  /** Takes the next bytes, at most `bytesMax`, without a copy; they stay as they are. Empty when there are none. */
  shift(bytesMax: number): Buffer {
    this.#spent = null;
    const block = this.#blocks[0];
    if (block === undefined) return Buffer.alloc(0);
    const end = this.#start + this.nextBytes(bytesMax);
    const slice = block.subarray(this.#start, end);
    this.bytes -= slice.length;
    this.#start = end;
    if (end === block.length || this.bytes === 0) {
      this.#blocks.shift();
      this.#start = 0;
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
    for (const [i, block] of this.#blocks.entries()) if (i > 0 || this.#start === 0) giveBlock(block);
    this.#blocks.length = 0;
    this.#start = 0;
    this.#end = 0;
    this.#spent = null;
    this.bytes = 0;
  }
}
