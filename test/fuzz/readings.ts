import { isDeepStrictEqual } from 'node:util';
import type { Random } from '../sim/random.js';

/** Where bytes are cut into the pieces in which they arrive; the last is their length. */
export function cuts(random: Random, length: number): number[] {
  const places = Array.from({ length: random.below(4) }, () => random.below(length + 1));
  return [...places, length].sort((a, b) => a - b);
}

/** A reader that is given more and more of the same bytes: what it read of them. */
export type Reader<T> = (bytes: Buffer) => { value: T; bytes: number } | null;

/**
 * Whether the reader says the same of bytes that come in pieces as of all at once, and takes no more than it was
 * given. `isFinal`: values for which it takes everything there is, since nothing is read after them.
 */
export function readerProblem<T>(
  random: Random,
  what: string,
  reader: Reader<T>,
  bytes: Buffer,
  isFinal: (value: T) => boolean,
): string | null {
  const whole = reader(bytes);
  for (const cut of cuts(random, bytes.length)) {
    const part = bytes.subarray(0, cut);
    const reading = reader(part);
    if (reading === null) continue;
    if (reading.bytes < 0 || reading.bytes > cut) return `${what}: took ${reading.bytes} of ${cut} bytes`;
    if (whole === null) return `${what}: read from ${cut} bytes, but not from ${bytes.length}`;
    if (!isDeepStrictEqual(reading.value, whole.value))
      return `${what}: ${JSON.stringify(reading.value)} of ${cut} bytes, ${JSON.stringify(whole.value)} of all`;
    if (!isFinal(reading.value) && reading.bytes !== whole.bytes)
      return `${what}: took ${reading.bytes} of ${cut} bytes and ${whole.bytes} of all`;
  }
  return null;
}
