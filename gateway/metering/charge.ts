/**
 * What bytes cost, exactly as settlement books it: floor(bytes × price / 10^9) of the **cumulative** bytes of one meter.
 * Bytes and micro-dollars are numbers below 2^53; the product passes it, so it is taken in bigint. Not for each chunk:
 * a lease is extended once for many.
 */

const BYTES_PER_GB = 1_000_000_000n;

/** Micro-dollars that are booked for so many bytes of one meter. Infinity beyond 2^53. */
export function chargeFloor(bytes: number, microsPerGb: bigint): number {
  return exact((BigInt(bytes) * microsPerGb) / BYTES_PER_GB);
}

/** The same rounded up: what to set aside while the meter still counts. */
export function chargeCeil(bytes: number, microsPerGb: bigint): number {
  return exact((BigInt(bytes) * microsPerGb + BYTES_PER_GB - 1n) / BYTES_PER_GB);
}

/** The most bytes whose `chargeCeil` is within so many micro-dollars; at most 2^53 − 1. */
export function bytesWithin(micros: number, microsPerGb: bigint): number {
  if (microsPerGb === 0n) return Number.MAX_SAFE_INTEGER;
  return Math.min(Number.MAX_SAFE_INTEGER, Number((BigInt(micros) * BYTES_PER_GB) / microsPerGb));
}

function exact(micros: bigint): number {
  return micros <= Number.MAX_SAFE_INTEGER ? Number(micros) : Number.POSITIVE_INFINITY;
}
