import {
  CREDIT_STEP_BYTES,
  RATE_MEASURE_MS_MIN,
  WINDOW_BUDGET_SHARE_MAX,
  WINDOW_ROUND_MS_MIN,
  WINDOW_SHRINK_AFTER_MS,
} from './limits.js';

/** Where windows get what they grow by. */
export interface WindowBudget {
  /** Takes up to `bytes` more for a window that has grown by `grownBytes`; returns how many it may have, 0 or more. */
  take(bytes: number, grownBytes: number): number;
  /** A window has shrunk by so many bytes. */
  giveBack(bytes: number): void;
}

/** What the windows of one tunnel have grown by, summed and bounded. */
export class TunnelWindowBudget implements WindowBudget {
  readonly #maxBytes: () => number;
  #takenBytes = 0;

  constructor(maxBytes: () => number) {
    this.#maxBytes = maxBytes;
  }

  take(bytes: number, grownBytes: number): number {
    const leftByOthers = this.#maxBytes() - (this.#takenBytes - grownBytes);
    const most = Math.floor(leftByOthers * WINDOW_BUDGET_SHARE_MAX) - grownBytes;
    const taken = Math.max(0, Math.min(bytes, most));
    this.#takenBytes += taken;
    return taken;
  }

  giveBack(bytes: number): void {
    this.#takenBytes -= bytes;
  }
}

/**
 * The window that an end grants for one direction of a stream: how large it is and when credit is due.
 *
 * It follows the measured product of bandwidth and delay: twice what the reader takes in one round trip of a tunnel
 * without queues, and a first window more. So it can fill the way, and what it leaves queued there is about one round
 * trip's worth: a smaller stream of the tunnel waits behind that. A round trip that includes the queue would not do: the
 * window would grow by the queue it made itself.
 *
 * It shrinks to what the reader took within WINDOW_SHRINK_AFTER_MS at best. Credit that was given is never taken back:
 * bytes taken just earn none until the window has its size.
 */
export class ReceiveWindow {
  readonly #firstBytes: number;
  readonly #maxBytes: number;
  readonly #budget: WindowBudget;
  #bytes: number;
  /** The size that it is to have. */
  #targetBytes: number;
  /** Taken by the reader and not given back. */
  #owedBytes = 0;
  /** The round that is measured: since when, and what was taken in it. */
  #roundSinceMs = Number.NEGATIVE_INFINITY;
  #roundBytes = 0;
  /** The largest size that a round asked for since then. */
  #peakSinceMs = Number.NEGATIVE_INFINITY;
  #peakBytes = 0;

  constructor(firstBytes: number, maxBytes: number, budget: WindowBudget) {
    this.#firstBytes = firstBytes;
    this.#maxBytes = maxBytes;
    this.#budget = budget;
    this.#bytes = firstBytes;
    this.#targetBytes = firstBytes;
  }

  /** Its size, bytes: what the peer may send, what has come and is not taken, and what is owed. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * The reader has taken bytes. Returns the credit to give now, 0 for none.
   *
   * @param pathRttMs round trip of the tunnel without queues
   * @param nowMs monotonic
   */
  taken(bytes: number, pathRttMs: number, nowMs: number): number {
    this.#owedBytes += bytes;
    this.#roundBytes += bytes;
    const isDue = this.#owedBytes >= creditStepBytes(this.#bytes);
    if (!isDue && this.#bytes === this.#firstBytes) return 0;
    this.#measure(Math.max(pathRttMs, WINDOW_ROUND_MS_MIN), nowMs);
    if (this.#targetBytes < this.#bytes) this.#shrink();
    else if (isDue && this.#targetBytes > this.#bytes) return this.#giveBack(this.#grow());
    return this.#owedBytes >= creditStepBytes(this.#bytes) ? this.#giveBack(0) : 0;
  }

  #measure(roundTripMs: number, nowMs: number): void {
    const elapsedMs = nowMs - this.#roundSinceMs;
    if (elapsedMs < Math.max(roundTripMs, RATE_MEASURE_MS_MIN)) return;
    const roundTripBytes = (this.#roundBytes * roundTripMs) / elapsedMs;
    this.#roundSinceMs = nowMs;
    this.#roundBytes = 0;
    const wantedBytes = Math.min(this.#maxBytes, Math.ceil(2 * roundTripBytes) + this.#firstBytes);
    this.#targetBytes = Math.max(this.#targetBytes, wantedBytes);
    // Nothing was taken for so long: what was before says nothing about now.
    this.#peakBytes =
      elapsedMs < WINDOW_SHRINK_AFTER_MS ? Math.max(this.#peakBytes, wantedBytes) : wantedBytes;
    if (nowMs - this.#peakSinceMs < WINDOW_SHRINK_AFTER_MS) return;
    this.#targetBytes = this.#peakBytes;
    this.#peakSinceMs = nowMs;
    this.#peakBytes = 0;
  }

  /** Returns by how much. */
  #grow(): number {
    const grownBytes = this.#budget.take(this.#targetBytes - this.#bytes, this.#bytes - this.#firstBytes);
    this.#bytes += grownBytes;
    return grownBytes;
  }

  #shrink(): void {
    const bytes = Math.min(this.#owedBytes, this.#bytes - this.#targetBytes);
    this.#owedBytes -= bytes;
    this.#bytes -= bytes;
    this.#budget.giveBack(bytes);
  }

  #giveBack(grownBytes: number): number {
    const credit = this.#owedBytes + grownBytes;
    this.#owedBytes = 0;
    return credit;
  }
}

/**
 * What is owed when credit is given: half of a window, of a large one less, as a sender has only what is not owed for a
 * whole round trip.
 */
function creditStepBytes(windowBytes: number): number {
  return Math.min(windowBytes / 2, Math.max(windowBytes / 4, CREDIT_STEP_BYTES));
}
