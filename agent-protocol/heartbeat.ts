/** What a Heartbeat calls. */
export interface Beating {
  /**
   * @param nowMs monotonic, as `performance.now()`
   * @param lateMs how much later than due this beat is: for that long nothing was read either
   */
  onBeat(nowMs: number, lateMs: number): void;
}

/**
 * One interval for all tunnels of a process instead of timers of their own: PINGs, silence, and the end of the
 * window in which floods are counted. Runs only while somebody listens and does not keep the process alive.
 */
export class Heartbeat {
  readonly intervalMs: number;
  readonly #listeners = new Set<Beating>();
  #timer: NodeJS.Timeout | null = null;
  #lastBeatMs = 0;

  /** @param intervalMs also the precision of every time-out of a tunnel */
  constructor(intervalMs = 1_000) {
    this.intervalMs = intervalMs;
  }

  add(listener: Beating): void {
    this.#listeners.add(listener);
    if (this.#timer !== null) return;
    this.#lastBeatMs = performance.now();
    this.#timer = setInterval(this.#beat, this.intervalMs).unref();
  }

  remove(listener: Beating): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  readonly #beat = (): void => {
    const nowMs = performance.now();
    const lateMs = Math.max(0, nowMs - this.#lastBeatMs - this.intervalMs);
    this.#lastBeatMs = nowMs;
    for (const listener of this.#listeners) listener.onBeat(nowMs, lateMs);
  };
}

let shared: Heartbeat | null = null;

/** The heartbeat of this process, for tunnels that were given none. */
export function processHeartbeat(): Heartbeat {
  shared ??= new Heartbeat();
  return shared;
}
