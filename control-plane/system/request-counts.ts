/** Requests that were answered, by the class of their status. */
export interface RequestCount {
  requests: number;
  /** Answered 4xx. */
  refused: number;
  /** Answered 5xx. */
  failed: number;
  /** Mean time to the answer, ms; 0 without requests. */
  meanMs: number;
}

const SECONDS_KEPT = 900;

/** Counts requests second by second over the last 15 minutes. Fixed memory, no timer. */
export class RequestCounts {
  readonly #nowMs: () => number;
  /** For each second its number, and four sums. */
  readonly #seconds = new Float64Array(SECONDS_KEPT).fill(-1);
  readonly #sums = { requests: sums(), refused: sums(), failed: sums(), ms: sums() };

  /** `nowMs`: monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  count(status: number, durationMs: number): void {
    const second = Math.floor(this.#nowMs() / 1_000);
    const at = second % SECONDS_KEPT;
    const { requests, refused, failed, ms } = this.#sums;
    if (this.#seconds[at] !== second) {
      this.#seconds[at] = second;
      requests[at] = refused[at] = failed[at] = ms[at] = 0;
    }
    requests[at] = (requests[at] ?? 0) + 1;
    ms[at] = (ms[at] ?? 0) + durationMs;
    if (status >= 500) failed[at] = (failed[at] ?? 0) + 1;
    else if (status >= 400) refused[at] = (refused[at] ?? 0) + 1;
  }

  /** Of the last so many minutes, at most 15, up to now. */
  last(minutes: number): RequestCount {
    const now = Math.floor(this.#nowMs() / 1_000);
    const total = { requests: 0, refused: 0, failed: 0, ms: 0 };
    for (let at = 0; at < SECONDS_KEPT; at++) {
      const second = this.#seconds[at] as number;
      if (second < 0 || second <= now - minutes * 60) continue;
      for (const name of ['requests', 'refused', 'failed', 'ms'] as const)
        total[name] += this.#sums[name][at] as number;
    }
    const { requests, refused, failed, ms } = total;
    return { requests, refused, failed, meanMs: requests === 0 ? 0 : Math.round((ms * 10) / requests) / 10 };
  }
}

const sums = () => new Float64Array(SECONDS_KEPT);
