import type { Random } from '../sim/random.js';

/** Numbers at which lengths and counters go wrong. */
const EDGES = [0, 1, 2, 3, 4, 5, 0x0a, 0x0d, 0x16, 0x20, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff] as const;
const WORDS = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  '%00',
  '../',
  '-',
  '\u00ff\u00fe',
  'é',
  '127.0.0.1',
  '[::1]',
];

export function randomBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = random.below(256);
  return bytes;
}

/** Mostly short, sometimes long: lengths up to `max`. */
export function someLength(random: Random, max: number): number {
  return random.chance(0.8) ? random.below(Math.min(max, 32) + 1) : random.below(max + 1);
}

/** One change to the bytes; never longer than `MUTATED_BYTES_MAX`. */
type Mutation = (random: Random, bytes: Buffer) => Buffer;

const MUTATED_BYTES_MAX = 96 * 1024;

const flipBit: Mutation = (random, bytes) => {
  const copy = Buffer.from(bytes);
  const at = random.below(copy.length);
  copy[at] = (copy[at] as number) ^ (1 << random.below(8));
  return copy;
};
const setByte: Mutation = (random, bytes) => {
  const copy = Buffer.from(bytes);
  copy[random.below(copy.length)] = random.chance(0.5) ? random.pick(EDGES) : random.below(256);
  return copy;
};
/** Two or four bytes together: where a length may be. */
const setNumber: Mutation = (random, bytes) => {
  const copy = Buffer.from(bytes);
  const width = Math.min(copy.length, random.pick([2, 4]));
  const value = random.pick([0, 1, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff]);
  copy.writeUIntBE(value % 2 ** (8 * width), random.below(copy.length - width + 1), width);
  return copy;
};
const truncate: Mutation = (random, bytes) => bytes.subarray(0, random.below(bytes.length));
const behead: Mutation = (random, bytes) => bytes.subarray(random.below(bytes.length));
const removeRange: Mutation = (random, bytes) => {
  const start = random.below(bytes.length);
  const end = Math.min(bytes.length, start + 1 + someLength(random, bytes.length));
  return Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]);
};
const repeatRange: Mutation = (random, bytes) => {
  const start = random.below(bytes.length);
  const end = Math.min(bytes.length, start + 1 + someLength(random, bytes.length));
  const times = random.chance(0.9) ? random.between(1, 3) : random.between(4, 200);
  const range = bytes.subarray(start, end);
  return Buffer.concat([bytes.subarray(0, end), ...Array<Buffer>(times).fill(range), bytes.subarray(end)]);
};
const insertBytes: Mutation = (random, bytes) => {
  const at = random.below(bytes.length + 1);
  const inserted = random.chance(0.5)
    ? randomBytes(random, 1 + someLength(random, 300))
    : Buffer.from(random.pick(WORDS));
  return Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at)]);
};
const swapCase: Mutation = (random, bytes) => {
  const at = random.below(bytes.length);
  const copy = Buffer.from(bytes);
  const byte = copy[at] as number;
  if ((byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a)) copy[at] = byte ^ 0x20;
  return copy;
};

const MUTATIONS: readonly Mutation[] = [
  flipBit,
  flipBit,
  setByte,
  setByte,
  setNumber,
  truncate,
  truncate,
  behead,
  removeRange,
  repeatRange,
  insertBytes,
  swapCase,
];

/** Changes the bytes in one to four ways. */
export function mutate(random: Random, bytes: Buffer): Buffer {
  let mutated = bytes;
  for (let left = random.between(1, 4); left > 0 && mutated.length > 0; left--)
    mutated = random.pick(MUTATIONS)(random, mutated);
  return mutated.subarray(0, MUTATED_BYTES_MAX);
}

/** The beginning of one and the end of another. */
export function spliceTwo(random: Random, first: Buffer, second: Buffer): Buffer {
  return Buffer.concat([
    first.subarray(0, random.below(first.length + 1)),
    second.subarray(random.below(second.length + 1)),
  ]);
}

/** The bytes as a client might write them: at once, message by message as given, or in random pieces. */
export function piecesOf(random: Random, bytes: Buffer): Buffer[] {
  if (bytes.length === 0) return [];
  if (random.chance(0.55)) return [bytes];
  const pieces: Buffer[] = [];
  const most = random.chance(0.2) ? 3 : bytes.length;
  let at = 0;
  while (at < bytes.length && pieces.length < 6) {
    const end = Math.min(bytes.length, at + 1 + random.below(most));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  if (at < bytes.length) pieces.push(bytes.subarray(at));
  return pieces;
}

/** Four inputs in ten as they were meant, most others changed, few spliced with `other`, few nothing but noise. */
export function perhapsSpoilt(random: Random, bytes: Buffer, other: () => Buffer): Buffer {
  const draw = random.below(100);
  if (draw < 40) return bytes;
  if (draw < 88) return mutate(random, bytes);
  if (draw < 96) return spliceTwo(random, bytes, other());
  if (draw < 99) return randomBytes(random, someLength(random, 2_000));
  return Buffer.alloc(0);
}
