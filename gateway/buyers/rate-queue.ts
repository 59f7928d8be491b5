import type { SetTimer } from '../runtime/clock.js';

/** Looks again at least so often: a portion may have grown meanwhile. */
const LOOK_AGAIN_MS = 20;

/** One connection that waits for a place in its rate. */
export interface RateWaiter {
  /** Monotonic ms. */
  readonly deadlineMs: number;
  /** Its turn. `false`: there is no room yet, and it keeps its turn; else it has been answered, or waits elsewhere. */
  attempt(): boolean;
  /** It has waited long enough. */
  giveUp(): void;
}

/** Connections of one owner that wait for this gateway's portion of its rate, in the order in which they came. */
export class RateQueue {
  readonly #waiters: RateWaiter[] = [];
  #isTimerSet = false;

  /** `msUntilRoom`: until there will be room for one more as things are; may be infinite. */
  constructor(
    private readonly monotonicMs: () => number,
    private readonly msUntilRoom: () => number,
    private readonly setTimer: SetTimer,
  ) {}

  get length(): number {
    return this.#waiters.length;
  }

  add(waiter: RateWaiter): void {
    this.#waiters.push(waiter);
    this.#look();
  }

  #serve(): void {
    for (let first = this.#waiters[0]; first !== undefined; first = this.#waiters[0]) {
      const isLate = this.monotonicMs() >= first.deadlineMs;
      if (!first.attempt()) {
        if (!isLate) break;
        first.giveUp();
      }
      this.#waiters.shift();
    }
    this.#look();
  }

  #look(): void {
    if (this.#waiters.length === 0 || this.#isTimerSet) return;
    const afterMs = Math.min(LOOK_AGAIN_MS, Math.max(1, Math.ceil(this.msUntilRoom())));
    this.#isTimerSet = true;
    this.setTimer(afterMs, () => {
      this.#isTimerSet = false;
      this.#serve();
    });
  }
}
