/** Whoever holds bytes back until there is bandwidth for them. */
export interface BandwidthWaiter {
  /** Offer what waits again, by `take`. */
  retry(): void;
}

/** Unused bandwidth is kept for this long, ms: small requests then need not wait. */
const SAVED_MS = 250;

/** A waiter is not woken sooner than this, ms: many small pieces would cost a timer each. */
const WAKE_MS_MIN = 5;

/**
 * The owner's bandwidth: payload of all streams, both directions together. A bucket that may go into debt by one piece;
 * who finds it in debt waits, and gets its turn in the order of asking.
 */
export class BandwidthLimit {
  #bytesPerSecond: number | null = null;
  #creditBytes = 0;
  #filledAtMs = 0;
  readonly #waiting = new Set<BandwidthWaiter>();
  /** Who is asked at this moment. */
  #turn: BandwidthWaiter | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(private readonly monotonicMs: () => number = () => performance.now()) {}

  /** Null: no limit; whoever waits goes on. */
  setRate(bytesPerSecond: number | null): void {
    if (this.#bytesPerSecond === bytesPerSecond) return;
    this.#fill();
    this.#bytesPerSecond = bytesPerSecond;
    this.#creditBytes = 0;
    this.#filledAtMs = this.monotonicMs();
    this.#schedule();
  }

  /** Whether the bytes may go on now; they are taken then. Else `waiter` is asked again when there is bandwidth. */
  take(bytes: number, waiter: BandwidthWaiter): boolean {
    if (this.#bytesPerSecond === null) return true;
    this.#fill();
    const mayPass = waiter === this.#turn || this.#waiting.size === 0;
    if (mayPass && this.#creditBytes > 0) {
      this.#creditBytes -= bytes;
      return true;
    }
    this.#waiting.add(waiter);
    this.#schedule();
    return false;
  }

  /** The same for what can not wait, a datagram: false drops it. */
  takeNow(bytes: number): boolean {
    if (this.#bytesPerSecond === null) return true;
    this.#fill();
    if (this.#waiting.size > 0 || this.#creditBytes <= 0) return false;
    this.#creditBytes -= bytes;
    return true;
  }

  /** It will not come back. */
  forget(waiter: BandwidthWaiter): void {
    this.#waiting.delete(waiter);
  }

  #fill(): void {
    const rate = this.#bytesPerSecond;
    if (rate === null) return;
    const nowMs = this.monotonicMs();
    const gained = ((nowMs - this.#filledAtMs) * rate) / 1_000;
    this.#creditBytes = Math.min((rate * SAVED_MS) / 1_000, this.#creditBytes + gained);
    this.#filledAtMs = nowMs;
  }

  #schedule(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#waiting.size === 0) return;
    const rate = this.#bytesPerSecond;
    const waitMs = rate === null ? 0 : Math.max(WAKE_MS_MIN, (-this.#creditBytes * 1_000) / rate);
    this.#timer = setTimeout(() => this.#serve(), waitMs);
  }

  #serve(): void {
    this.#timer = null;
    this.#fill();
    while (this.#waiting.size > 0 && (this.#bytesPerSecond === null || this.#creditBytes > 0)) {
      const [first] = this.#waiting as Set<BandwidthWaiter> & Iterable<BandwidthWaiter>;
      this.#waiting.delete(first as BandwidthWaiter);
      this.#turn = first as BandwidthWaiter;
      this.#turn.retry();
      this.#turn = null;
    }
    this.#schedule();
  }
}
