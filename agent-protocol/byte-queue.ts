/** Smallest and largest block, bytes. */
const BLOCK_BYTES_MIN = 4 * 1024;
const BLOCK_BYTES_MAX = 64 * 1024;

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

  push(buffer: Buffer, start: number, end: number): void {
    this.bytes += end - start;
    let from = start;
    while (from < end) {
      let block = this.#blocks.at(-1);
      if (block === undefined || this.#end === block.length) {
        const bytes = Math.max(block === undefined ? BLOCK_BYTES_MIN : block.length * 2, end - from);
        block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES_MAX, bytes));
        this.#blocks.push(block);
        this.#end = 0;
      }
      const copied = buffer.copy(block, this.#end, from, end);
      this.#end += copied;
      from += copied;
    }
  }

  /** Takes over bytes behind the others without a copy; they must stay as they are. */
  adopt(bytes: Buffer): void {
    const last = this.#blocks.length - 1;
    const block = this.#blocks[last];
    if (block !== undefined) this.#blocks[last] = block.subarray(0, this.#end);
    this.#blocks.push(bytes);
    this.#end = bytes.length;
    this.bytes += bytes.length;
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
    const block = this.#blocks[0];
    if (block === undefined) return Buffer.alloc(0);
    const end = this.#start + this.nextBytes(bytesMax);
    const slice = block.subarray(this.#start, end);
    this.bytes -= slice.length;
    this.#start = end;
    if (end === block.length || this.bytes === 0) {
      this.#blocks.shift();
      this.#start = 0;
    }
    return slice;
  }
}
