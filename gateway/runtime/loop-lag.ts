import type { Clock } from './clock.js';

export interface LoopLagSettings {
  /** Above so much lag, ms, the process is overloaded until it is below half of it; 0: never. */
  lagMsMax: number;
  /** Time between two looks, ms. */
  intervalMs: number;
}

/** Weight of the newest of the looks. */
const NEWEST_WEIGHT = 0.25;
/**
 * A look counts for so many times the limit at most: a single pause, be it of collecting garbage or of a machine that
 * ran nobody for a while, is no overload, however long it was. Three in a row are.
 */
const LATE_FACTOR_MAX = 2;

/**
 * How late the event loop serves its timers, and whether that is too late to take on more work. One timer a process:
 * `monitorEventLoopDelay` would tell percentiles, but of no stated past.
 */
export class LoopLag {
  readonly #settings: LoopLagSettings;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #timer: NodeJS.Timeout | null = null;
  #lagMs = 0;
  #overloaded = false;

  constructor(settings: LoopLagSettings, clock: Pick<Clock, 'monotonicMs'>) {
    this.#settings = settings;
    this.#clock = clock;
  }

  /** Weighted mean of the latest looks, ms. */
  get lagMs(): number {
    return this.#lagMs;
  }

  get overloaded(): boolean {
    return this.#overloaded;
  }

  /** Looks by itself from now on, until `stop`. Does not keep the process alive. */
  start(): void {
    if (this.#timer) return;
    const { intervalMs } = this.#settings;
    let lookAtMs = this.#clock.monotonicMs() + intervalMs;
    const look = () => {
      const nowMs = this.#clock.monotonicMs();
      this.note(Math.max(0, nowMs - lookAtMs));
      lookAtMs = nowMs + intervalMs;
      this.#timer = setTimeout(look, intervalMs).unref();
    };
    this.#timer = setTimeout(look, intervalMs).unref();
  }

  stop(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** One look: a timer was so late, ms. */
  note(lateMs: number): void {
    const { lagMsMax } = this.#settings;
    const countedMs = lagMsMax === 0 ? lateMs : Math.min(lateMs, LATE_FACTOR_MAX * lagMsMax);
    this.#lagMs += NEWEST_WEIGHT * (countedMs - this.#lagMs);
    if (lagMsMax === 0) return;
    if (this.#lagMs > lagMsMax) this.#overloaded = true;
    else if (this.#lagMs < lagMsMax / 2) this.#overloaded = false;
  }
}
