import { crc32 } from 'node:zlib';
import {
  CRC_AT,
  copyOffset,
  encodeIdentity,
  RECORD_BYTES,
  type SlotIdentity,
  TAIL_START,
} from './journal-format.js';

/** A slot in use. Owned by one meter; only the journal touches what is inside. */
export class JournalSlot {
  /** Number of the slot in the file. */
  readonly index: number;
  /** @internal */ sequence: number;
  /** @internal */ readonly record = Buffer.alloc(RECORD_BYTES);
  /** @internal */ readonly view: DataView;
  /** @internal */ readonly tail: Buffer;
  /** @internal */ identityCrc = 0;
  /** @internal */ readonly offset0: number;
  /** @internal */ readonly offset1: number;

  /** @internal */
  constructor(index: number, sequence: number, extentSlots: number) {
    this.index = index;
    this.sequence = sequence;
    this.view = new DataView(this.record.buffer, this.record.byteOffset, RECORD_BYTES);
    this.tail = this.record.subarray(TAIL_START, CRC_AT);
    this.offset0 = copyOffset(index, 0, extentSlots);
    this.offset1 = copyOffset(index, 1, extentSlots);
  }

  /** @internal */
  identify(identity: SlotIdentity): void {
    encodeIdentity(this.record, this.index, identity);
    this.identityCrc = crc32(this.record.subarray(0, TAIL_START));
  }
}
