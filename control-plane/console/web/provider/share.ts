import { microsOf } from '../parts/amounts.js';

/** The part of a sum of money that `part` of `whole` bytes stand for, down to the micro-dollar, never rounded up. */
export function shareOf(amount: string, part: number | string, whole: number | string): string {
  const all = BigInt(whole);
  const share = all === 0n ? 0n : (microsOf(amount) * BigInt(part)) / all;
  return `${share / 1_000_000n}.${(share % 1_000_000n).toString().padStart(6, '0')}`;
}
