import { crc32 } from 'node:zlib';
import {
  ACTIVE_AT,
  BYTES_DOWN_AT,
  BYTES_UP_AT,
  CRC_AT,
  copyOffset,
  encodeIdentity,
  FLAG_USED,
  FLAGS_AT,
  putU64,
  RECORD_BYTES,
  SEQUENCE_AT,
  type SlotIdentity,
  TAIL_START,
} from './journal-format.js';

/** CRC-32 tables of four bytes at a time: entry b of table n is what byte b does n bytes before the end. */
const [T0, T1, T2, T3] = crcTables();

function crcTables(): [Int32Array, Int32Array, Int32Array, Int32Array] {
  const table = () => new Int32Array(256);
  const [t0, t1, t2, t3] = [table(), table(), table(), table()];
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    t0[byte] = crc;
  }
  const further = (crc: number) => (crc >>> 8) ^ (t0[crc & 255] as number);
  for (let byte = 0; byte < 256; byte++) {
    t1[byte] = further(t0[byte] as number);
    t2[byte] = further(t1[byte] as number);
    t3[byte] = further(t2[byte] as number);
  }
  return [t0, t1, t2, t3];
}

/** A slot in use. Owned by one meter; only the journal touches what is inside. */
export class JournalSlot {
  /** Number of the slot in the file. */
  readonly index: number;
  /** @internal */ sequence: number;
  /** @internal What was sealed last, as it is written. */
  readonly record = Buffer.alloc(RECORD_BYTES);
  readonly #view: DataView;
  /** The record as words in the order of the machine, for copying. */
  readonly #words: Uint32Array;
  #identityCrc = 0;
  readonly #offset0: number;
  readonly #offset1: number;
  /** Bit n: copy n has the identity in the map. */
  #identified = 0;

  /** @internal */
  constructor(index: number, sequence: number, extentSlots: number) {
    this.index = index;
    this.sequence = sequence;
    this.#view = new DataView(this.record.buffer, this.record.byteOffset, RECORD_BYTES);
    this.#words = new Uint32Array(this.record.buffer, this.record.byteOffset, RECORD_BYTES / 4);
    this.#offset0 = copyOffset(index, 0, extentSlots);
    this.#offset1 = copyOffset(index, 1, extentSlots);
  }

  /** @internal */
  identify(identity: SlotIdentity): void {
    encodeIdentity(this.record, this.index, identity);
    this.#identityCrc = crc32(this.record.subarray(0, TAIL_START));
    this.#identified = 0;
  }

  /** @internal Makes the record of this sequence; returns where in the file it belongs. */
  seal(sequence: number, bytesUp: number, bytesDown: number, activeAtMs: number, flags: number): number {
    const view = this.#view;
    putU64(view, SEQUENCE_AT, sequence);
    putU64(view, BYTES_UP_AT, bytesUp);
    putU64(view, BYTES_DOWN_AT, bytesDown);
    putU64(view, ACTIVE_AT, Math.max(activeAtMs, 0));
    view.setUint32(FLAGS_AT, FLAG_USED | flags, true);
    view.setUint32(CRC_AT, this.#crc(), true);
    return sequence % 2 === 0 ? this.#offset0 : this.#offset1;
  }

  /** @internal Stores what was sealed into the mapped file, at what `seal` returned. */
  store(map: Uint32Array, offset: number): void {
    const copy = offset === this.#offset0 ? 1 : 2;
    const words = this.#words;
    const at = offset / 4;
    if ((this.#identified & copy) === 0) {
      map.set(words, at);
      this.#identified |= copy;
      return;
    }
    for (let i = TAIL_START / 4; i <= CRC_AT / 4; i++) map[at + i] = words[i] as number;
  }

  /** The same as node:zlib's crc32, whose call out of JavaScript costs more than so few bytes do. */
  #crc(): number {
    const view = this.#view;
    let crc = ~this.#identityCrc;
    for (let at = TAIL_START; at < CRC_AT; at += 4) {
      crc ^= view.getUint32(at, true);
      crc =
        (T3[crc & 255] as number) ^
        (T2[(crc >>> 8) & 255] as number) ^
        (T1[(crc >>> 16) & 255] as number) ^
        (T0[crc >>> 24] as number);
    }
    return ~crc >>> 0;
  }
}
