/** How often a rate is measured, ms. */
const INTERVAL_MS = 1_000;

/** How fast something that only grows is growing: at once when it gets faster, halved every second when slower. */
export class UsageRate {
  #unitsPerMs = 0;
  #used = 0;
  #measuredAtMs: number;

  /** `nowMs`, here and below: monotonic. */
  constructor(nowMs: number) {
    this.#measuredAtMs = nowMs;
  }

  /** Units per ms. */
  get unitsPerMs(): number {
    return this.#unitsPerMs;
  }

  /** Whether a second has passed since the latest measurement. */
  due(nowMs: number): boolean {
    return nowMs - this.#measuredAtMs >= INTERVAL_MS;
  }

  /** `used`: all units so far; a little less than last time counts as nothing. */
  measure(used: number, nowMs: number): void {
    const rate = Math.max(0, used - this.#used) / (nowMs - this.#measuredAtMs);
    this.#unitsPerMs = Math.max(rate, this.#unitsPerMs / 2);
    this.#used = used;
    this.#measuredAtMs = nowMs;
  }
}
