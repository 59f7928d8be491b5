/**
 * The bytes of the meter journal, version 2. All integers little-endian and unsigned.
 *
 * File: header block (4 096 bytes), then extents. An extent of N slots is N copies "0", then N copies "1": the two
 * copies of a slot never share a disk block, so one bad block cannot take both.
 *
 * Header, two copies at 0 and 2 048, written in turn (sequence parity = place):
 *
 * | offset | bytes | field |
 * |---|---|---|
 * | 0   | 8   | magic `TSMETERS` |
 * | 8   | 4   | format version (2) |
 * | 12  | 4   | bytes from one copy to the next (256) |
 * | 16  | 4   | slots of one extent |
 * | 20  | 4   | extents |
 * | 24  | 8   | sequence of this header |
 * | 32  | 8   | created, ms since the Unix epoch |
 * | 40  | 2   | length of the gateway id, 1…200 |
 * | 42  | 200 | gateway id, UTF-8 |
 * | 252 | 4   | CRC-32 of bytes 0…251 |
 *
 * Slot copy (176 of 256 bytes used; a record never crosses a memory page, so a killed process leaves it whole):
 *
 * | offset | bytes | field |
 * |---|---|---|
 * | 0   | 4  | slot number (finds misdirected writes) |
 * | 4   | 4  | zero |
 * | 8   | 16 | session uuid |
 * | 24  | 16 | allocation uuid |
 * | 40  | 16 | buyer uuid |
 * | 56  | 16 | package uuid, zero: none |
 * | 72  | 16 | epoch |
 * | 88  | 8  | provider price, micro-dollars per 10^9 bytes |
 * | 96  | 8  | buyer price, micro-dollars per 10^9 bytes |
 * | 104 | 8  | opened, ms since the Unix epoch |
 * | 112 | 16 | sub-user uuid, zero: none |
 * | 128 | 8  | sequence: grows by one with each write of the slot, over all its tenants; its parity is the copy |
 * | 136 | 8  | bytesUp |
 * | 144 | 8  | bytesDown |
 * | 152 | 8  | last counted, ms since the Unix epoch |
 * | 160 | 4  | flags: 1 USED (always), 2 FINAL, 4 ALLOCATION_ENDED, 8 FREE. FINAL without ALLOCATION_ENDED: only the price changed or the device left |
 * | 164 | 4  | zero |
 * | 168 | 4  | CRC-32 of bytes 0…167 |
 * | 172 | 4  | zero |
 *
 * bytesUp and bytesDown are the exact counts, written before the bytes go on: what a restart charges.
 *
 * A slot never used is all zeros. The first write of a slot (sequence 1) opens a meter with zero counts.
 */
import { crc32 } from 'node:zlib';

export const FORMAT_VERSION = 2;
export const HEADER_BYTES = 4_096;
export const HEADER_COPY_STRIDE = 2_048;
export const HEADER_COPY_BYTES = 256;
export const COPY_STRIDE = 256;
export const RECORD_BYTES = 176;
export const GATEWAY_ID_BYTES_MAX = 200;

const NEVER_WRITTEN = Buffer.alloc(RECORD_BYTES);
const MAGIC = Buffer.from('TSMETERS', 'latin1');

export const FLAG_USED = 1;
export const FLAG_FINAL = 2;
export const FLAG_ALLOCATION_ENDED = 4;
export const FLAG_FREE = 8;

/** Where the part of a record that changes with each write begins; the CRC of what is before it is kept. */
export const TAIL_START = 128;
export const CRC_AT = 168;
/** Fields of the part that changes. */
export const SEQUENCE_AT = 128;
export const BYTES_UP_AT = 136;
export const BYTES_DOWN_AT = 144;
export const ACTIVE_AT = 152;
export const FLAGS_AT = 160;
const TWO_32 = 4_294_967_296;

/** What identifies a meter in its slot; fixed while the slot has this tenant. */
export interface SlotIdentity {
  sessionId: string;
  allocationId: string;
  buyerId: string;
  packageId: string | null;
  subUserId: string | null;
  /** 32 hex digits. */
  epoch: string;
  providerPriceMicrosPerGb: string;
  buyerPriceMicrosPerGb: string;
  openedAtMs: number;
}

/** One valid copy of a slot. */
export interface SlotRecord extends SlotIdentity {
  sequence: number;
  bytesUp: number;
  bytesDown: number;
  activeAtMs: number;
  flags: number;
}

export interface JournalHeader {
  version: number;
  extentSlots: number;
  extents: number;
  sequence: number;
  createdAtMs: number;
  gatewayId: string;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Bytes of one extent. */
export function extentBytes(extentSlots: number): number {
  return extentSlots * 2 * COPY_STRIDE;
}

/** File offset of a copy (0 or 1) of a slot. */
export function copyOffset(slot: number, copy: number, extentSlots: number): number {
  const extent = Math.floor(slot / extentSlots);
  return (
    HEADER_BYTES +
    extent * extentBytes(extentSlots) +
    (copy * extentSlots + (slot - extent * extentSlots)) * COPY_STRIDE
  );
}

/** Writes a whole number in [0, 2^53] as 8 bytes. */
export function putU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, (value / TWO_32) >>> 0, true);
}

function getU64(buffer: Buffer, at: number): number {
  return buffer.readUInt32LE(at) + buffer.readUInt32LE(at + 4) * TWO_32;
}

/** Writes the fixed part of a record. Throws RangeError when an id is not a lower-case UUID or a price not a u63. */
export function encodeIdentity(into: Buffer, slot: number, identity: SlotIdentity): void {
  into.fill(0, 0, RECORD_BYTES);
  into.writeUInt32LE(slot, 0);
  putUuid(into, 8, identity.sessionId);
  putUuid(into, 24, identity.allocationId);
  putUuid(into, 40, identity.buyerId);
  if (identity.packageId !== null) putUuid(into, 56, identity.packageId);
  if (!/^[0-9a-f]{32}$/.test(identity.epoch)) throw new RangeError('epoch must be 32 hex digits');
  into.write(identity.epoch, 72, 'hex');
  putPrice(into, 88, identity.providerPriceMicrosPerGb);
  putPrice(into, 96, identity.buyerPriceMicrosPerGb);
  into.writeBigUInt64LE(BigInt(Math.max(0, Math.trunc(identity.openedAtMs))), 104);
  if (identity.subUserId !== null) putUuid(into, 112, identity.subUserId);
}

function putUuid(into: Buffer, at: number, uuid: string): void {
  if (!UUID.test(uuid)) throw new RangeError('a meter is identified by lower-case UUIDs');
  into.write(uuid.replaceAll('-', ''), at, 'hex');
}

function putPrice(into: Buffer, at: number, micros: string): void {
  // No sign, no leading zero: the price is part of the meter's key, so there must be one way to write it.
  if (!/^(0|[1-9]\d{0,18})$/.test(micros) || BigInt(micros) > 0x7fff_ffff_ffff_ffffn)
    throw new RangeError('a price is a decimal integer of micro-dollars, 0 to 2^63-1');
  into.writeBigUInt64LE(BigInt(micros), at);
}

/** What one copy holds. `empty`: all zeros; `bad`: anything else that is not a whole record of this slot and place. */
export type CopyState = { kind: 'empty' } | { kind: 'bad' } | { kind: 'record'; record: SlotRecord };

/** Reads a copy at `at` of `buffer`. Never throws. */
export function decodeCopy(buffer: Buffer, at: number, slot: number, copy: number): CopyState {
  if (at + RECORD_BYTES > buffer.length) return { kind: 'bad' };
  const bytes = buffer.subarray(at, at + RECORD_BYTES);
  // Most of a young journal; zeros are no record, their CRC-32 is not zero.
  if (bytes.readUInt32LE(CRC_AT) === 0 && bytes.equals(NEVER_WRITTEN)) return { kind: 'empty' };
  if (bytes.readUInt32LE(CRC_AT) !== crc32(bytes.subarray(0, CRC_AT))) return { kind: 'bad' };
  const record = {
    sessionId: uuidAt(bytes, 8),
    allocationId: uuidAt(bytes, 24),
    buyerId: uuidAt(bytes, 40),
    packageId: optionalUuidAt(bytes, 56),
    subUserId: optionalUuidAt(bytes, 112),
    epoch: bytes.toString('hex', 72, 88),
    providerPriceMicrosPerGb: bytes.readBigUInt64LE(88).toString(),
    buyerPriceMicrosPerGb: bytes.readBigUInt64LE(96).toString(),
    openedAtMs: getU64(bytes, 104),
    sequence: getU64(bytes, SEQUENCE_AT),
    bytesUp: getU64(bytes, BYTES_UP_AT),
    bytesDown: getU64(bytes, BYTES_DOWN_AT),
    activeAtMs: getU64(bytes, ACTIVE_AT),
    flags: bytes.readUInt32LE(FLAGS_AT),
  };
  const sound =
    bytes.readUInt32LE(0) === slot &&
    record.sequence > 0 &&
    record.sequence % 2 === copy &&
    (record.flags & FLAG_USED) !== 0 &&
    Number.isSafeInteger(record.bytesUp + record.bytesDown);
  return sound ? { kind: 'record', record } : { kind: 'bad' };
}

function optionalUuidAt(bytes: Buffer, at: number): string | null {
  return bytes.subarray(at, at + 16).every((b) => b === 0) ? null : uuidAt(bytes, at);
}

function uuidAt(bytes: Buffer, at: number): string {
  const hex = bytes.toString('hex', at, at + 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * What a slot holds, from its two copies:
 * `free`: nothing to settle. `live`: the newest whole record; `torn` says that the other copy was damaged and may
 * have been newer by one write: what was counted since the older one. `corrupt`: something was there and
 * neither copy is whole; nothing is guessed.
 */
export type SlotState =
  | { kind: 'free'; sequence: number; torn: boolean }
  | { kind: 'live'; record: SlotRecord; torn: boolean }
  | { kind: 'corrupt' };

/** Judges the two copies of a slot. */
export function judgeSlot(copy0: CopyState, copy1: CopyState): SlotState {
  const a = copy0.kind === 'record' ? copy0.record : null;
  const b = copy1.kind === 'record' ? copy1.record : null;
  if (a === null && b === null) {
    return copy0.kind === 'empty' && copy1.kind === 'empty'
      ? { kind: 'free', sequence: 0, torn: false }
      : { kind: 'corrupt' };
  }
  const newest = a === null ? b : b === null || a.sequence > b.sequence ? a : b;
  if (newest === null) return { kind: 'corrupt' };
  const other = newest === a ? copy1 : copy0;
  // The other copy of a slot written once has never been written.
  const torn = other.kind === 'bad' || (other.kind === 'empty' && newest.sequence > 1);
  if ((newest.flags & FLAG_FREE) !== 0) return { kind: 'free', sequence: newest.sequence, torn };
  return { kind: 'live', record: newest, torn };
}

/** One header copy, HEADER_COPY_BYTES long. Throws RangeError when the gateway id does not fit. */
export function encodeHeader(header: JournalHeader): Buffer {
  const id = Buffer.from(header.gatewayId, 'utf8');
  if (id.length < 1 || id.length > GATEWAY_ID_BYTES_MAX)
    throw new RangeError(`a gateway id has 1 to ${GATEWAY_ID_BYTES_MAX} bytes`);
  const bytes = Buffer.alloc(HEADER_COPY_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(header.version, 8);
  bytes.writeUInt32LE(COPY_STRIDE, 12);
  bytes.writeUInt32LE(header.extentSlots, 16);
  bytes.writeUInt32LE(header.extents, 20);
  bytes.writeBigUInt64LE(BigInt(header.sequence), 24);
  bytes.writeBigUInt64LE(BigInt(Math.trunc(header.createdAtMs)), 32);
  bytes.writeUInt16LE(id.length, 40);
  id.copy(bytes, 42);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 252)), 252);
  return bytes;
}

/**
 * Reads the header block. `not_a_journal`: no magic. `newer_version`: written by a version this one cannot read.
 * `damaged`: magic but no whole copy.
 */
export function decodeHeader(
  block: Buffer,
):
  | { ok: true; header: JournalHeader }
  | { ok: false; why: 'not_a_journal' | 'newer_version' | 'damaged'; version: number } {
  let best: JournalHeader | null = null;
  let magicSeen = false;
  let foreignVersion = 0;
  for (let copy = 0; copy < 2; copy++) {
    const at = copy * HEADER_COPY_STRIDE;
    if (at + HEADER_COPY_BYTES > block.length) continue;
    const bytes = block.subarray(at, at + HEADER_COPY_BYTES);
    if (!bytes.subarray(0, 8).equals(MAGIC)) continue;
    magicSeen = true;
    const version = bytes.readUInt32LE(8);
    if (version !== FORMAT_VERSION) {
      foreignVersion = version;
      continue;
    }
    if (bytes.readUInt32LE(252) !== crc32(bytes.subarray(0, 252))) continue;
    const header = {
      version,
      extentSlots: bytes.readUInt32LE(16),
      extents: bytes.readUInt32LE(20),
      sequence: getU64(bytes, 24),
      createdAtMs: getU64(bytes, 32),
      gatewayId: bytes.toString('utf8', 42, 42 + bytes.readUInt16LE(40)),
    };
    if (bytes.readUInt32LE(12) !== COPY_STRIDE || header.extentSlots === 0) continue;
    if (best === null || header.sequence > best.sequence) best = header;
  }
  if (best !== null) return { ok: true, header: best };
  if (!magicSeen) return { ok: false, why: 'not_a_journal', version: 0 };
  return foreignVersion > 0
    ? { ok: false, why: 'newer_version', version: foreignVersion }
    : { ok: false, why: 'damaged', version: 0 };
}
