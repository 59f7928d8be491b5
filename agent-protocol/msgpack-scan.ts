/**
 * Walks msgpack bytes before they are decoded. msgpackr decodes extensions (records, RegExp, Error, Set, typed
 * arrays) whatever its options say and allocates arrays as long as their header claims; a peer is not trusted with
 * either. Formats: https://github.com/msgpack/msgpack/blob/master/spec.md
 */

/** Maps and arrays inside each other. No message needs more than two. */
const DEPTH_MAX = 4;

/**
 * True when `bytes` is exactly one value made of nil, booleans, numbers, strings, arrays and maps with string keys,
 * every length of which fits into what is there. Binary and extension types are refused.
 */
export function isPlainMsgpack(bytes: Buffer): boolean {
  return valueEnd(bytes, 0, 0) === bytes.length;
}

/** Where the value at `at` ends, or -1. */
function valueEnd(bytes: Buffer, at: number, depth: number): number {
  if (at >= bytes.length || depth > DEPTH_MAX) return -1;
  const type = bytes[at] as number;
  if (type <= 0x7f || type >= 0xe0) return at + 1;
  if (type <= 0x8f) return itemsEnd(bytes, at + 1, type & 0x0f, true, depth);
  if (type <= 0x9f) return itemsEnd(bytes, at + 1, type & 0x0f, false, depth);
  if (type <= 0xbf) return within(bytes, at + 1 + (type & 0x1f));
  switch (type) {
    case 0xc0: // nil
    case 0xc2: // false
    case 0xc3: // true
      return at + 1;
    case 0xcc: // uint 8
    case 0xd0: // int 8
      return within(bytes, at + 2);
    case 0xcd: // uint 16
    case 0xd1: // int 16
      return within(bytes, at + 3);
    case 0xca: // float 32
    case 0xce: // uint 32
    case 0xd2: // int 32
      return within(bytes, at + 5);
    case 0xcb: // float 64
    case 0xcf: // uint 64
    case 0xd3: // int 64
      return within(bytes, at + 9);
    case 0xd9: // str 8
      return at + 2 > bytes.length ? -1 : within(bytes, at + 2 + bytes.readUInt8(at + 1));
    case 0xda: // str 16
      return at + 3 > bytes.length ? -1 : within(bytes, at + 3 + bytes.readUInt16BE(at + 1));
    case 0xdc: // array 16
      return at + 3 > bytes.length ? -1 : itemsEnd(bytes, at + 3, bytes.readUInt16BE(at + 1), false, depth);
    case 0xde: // map 16
      return at + 3 > bytes.length ? -1 : itemsEnd(bytes, at + 3, bytes.readUInt16BE(at + 1), true, depth);
    default: // bin, ext, and 32-bit lengths, which no control message can need
      return -1;
  }
}

function within(bytes: Buffer, end: number): number {
  return end <= bytes.length ? end : -1;
}

function itemsEnd(bytes: Buffer, start: number, count: number, isMap: boolean, depth: number): number {
  let at = start;
  for (let i = 0; i < count && at >= 0; i++) {
    if (isMap) {
      const key = bytes[at] ?? 0;
      if (!((key >= 0xa0 && key <= 0xbf) || key === 0xd9)) return -1;
      at = valueEnd(bytes, at, depth + 1);
      if (at < 0) return -1;
    }
    at = valueEnd(bytes, at, depth + 1);
  }
  return at;
}
