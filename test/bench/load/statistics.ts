/** The value below which the share of the values lies; null without any. */
export function percentile(values: readonly number[], share: number): number | null {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
}

/**
 * How much values taken at even intervals grow from the first to the last, in percent of their mean: the slope of the
 * least-squares line times the duration. Negative: they fall. null with fewer than three.
 */
export function growthPercent(samples: readonly number[]): number | null {
  const n = samples.length;
  if (n < 3) return null;
  const mean = samples.reduce((sum, value) => sum + value, 0) / n;
  const middle = (n - 1) / 2;
  let covariance = 0;
  let variance = 0;
  for (const [at, value] of samples.entries()) {
    covariance += (at - middle) * (value - mean);
    variance += (at - middle) ** 2;
  }
  return ((covariance / variance) * (n - 1) * 100) / mean;
}

/** The last part of samples: flatness is asked of a system that has settled. */
export function lastPart<T>(samples: readonly T[], share: number): T[] {
  return samples.slice(Math.floor(samples.length * (1 - share)));
}

/** The same value read again and again. */
export class Sampler {
  readonly values: number[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(everyMs: number, read: () => number) {
    this.values.push(read());
    this.#timer = setInterval(() => this.values.push(read()), everyMs);
  }

  /** Ends it and gives what was read. */
  stop(): number[] {
    clearInterval(this.#timer);
    return this.values;
  }
}

/** One request of an open loop; times in ms on one clock. */
export interface TimedRequest {
  dueMs: number;
  /** From when it was due to its whole answer; null: it had none. */
  tookMs: number | null;
}

/** The time that one look at a percentile spans. */
export const BUCKET_MS = 250;
/** So many looks in a row must be normal: one may be luck. */
const BUCKETS_IN_A_ROW = 4;

/** The 99th percentile of each BUCKET_MS from `fromMs` on; without an answer counts as endless, no request at all as 0. */
export function bucketsP99(requests: readonly TimedRequest[], fromMs: number): number[] {
  const buckets: number[][] = [];
  for (const { dueMs, tookMs } of requests) {
    const at = Math.floor((dueMs - fromMs) / BUCKET_MS);
    if (at < 0) continue;
    while (buckets.length <= at) buckets.push([]);
    buckets[at]?.push(tookMs ?? Number.POSITIVE_INFINITY);
  }
  return buckets.map((bucket) => percentile(bucket, 0.99) ?? 0);
}

/**
 * Time in ms until the 99th percentile is normal and stays so for a second: null when that does not come about.
 * `normalMs` is the bound.
 */
export function recoveryMs(p99s: readonly number[], normalMs: number): number | null {
  for (let at = 0; at + BUCKETS_IN_A_ROW <= p99s.length; at++)
    if (p99s.slice(at, at + BUCKETS_IN_A_ROW).every((p99) => p99 <= normalMs)) return at * BUCKET_MS;
  return null;
}
