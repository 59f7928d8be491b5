import {
  CREDIT_STEP_BYTES,
  RATE_MEASURE_MS_MIN,
  SMALL_BYTES_MAX,
  SMALL_LASTS_MS,
  SMALL_MS_MIN,
  SMALL_PIECE_BYTES_MAX,
  SMALL_PIECES_MIN,
  WINDOW_BUDGET_SHARE_MAX,
  WINDOW_LOOPS_BYTES_MAX,
  WINDOW_ROUND_MS_MIN,
  WINDOW_ROUND_SHARED_MS,
  WINDOW_SHRINK_AFTER_MS,
  WINDOW_SHRINK_AFTER_SHARED_MS,
} from './limits.js';

/** Where windows get what they grow by. */
export interface WindowBudget {
  /** Takes up to `bytes` more for a window that has grown by `grownBytes`; returns how many it may have, 0 or more. */
  take(bytes: number, grownBytes: number): number;
  /** A window has shrunk by so many bytes. */
  giveBack(bytes: number): void;
  /** A small stream has just taken something. */
  noteSmall(nowMs: number): void;
  /** Whether a small stream shares the tunnel. */
  isShared(nowMs: number): boolean;
}

/** What the windows of one tunnel have grown by, summed and bounded. */
export class TunnelWindowBudget implements WindowBudget {
  readonly #maxBytes: () => number;
  #takenBytes = 0;
  #sharedUntilMs = Number.NEGATIVE_INFINITY;

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

  noteSmall(nowMs: number): void {
    this.#sharedUntilMs = nowMs + SMALL_LASTS_MS;
  }

  isShared(nowMs: number): boolean {
    return nowMs < this.#sharedUntilMs;
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
 * Where the way is shorter than what event loops take to answer, it is sized for those, up to WINDOW_LOOPS_BYTES_MAX, which
 * costs a smaller stream some of such times; so for less while there is one.
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
  /** Sized for a small stream beside it. */
  #isTight = false;
  /** Small pieces in a row, what they carried, and when the first of them came. */
  #smallPieces = 0;
  #smallBytes = 0;
  #smallSinceMs = 0;

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
    this.#noteIfSmall(bytes, nowMs);
    if (!isDue && this.#bytes === this.#firstBytes) return 0;
    this.#measure(pathRttMs, nowMs);
    if (this.#targetBytes < this.#bytes) this.#shrink();
    else if (isDue && this.#targetBytes > this.#bytes) return this.#giveBack(this.#grow());
    return this.#owedBytes >= creditStepBytes(this.#bytes) ? this.#giveBack(0) : 0;
  }

  /** Somebody waits for each piece of a stream that goes on in small ones. */
  #noteIfSmall(bytes: number, nowMs: number): void {
    if (bytes > SMALL_PIECE_BYTES_MAX) {
      this.#smallPieces = 0;
      return;
    }
    this.#smallBytes += bytes;
    if (this.#smallPieces === 0 || this.#smallBytes > SMALL_BYTES_MAX) {
      this.#smallPieces = 1;
      this.#smallBytes = bytes;
      this.#smallSinceMs = nowMs;
    } else if (++this.#smallPieces >= SMALL_PIECES_MIN && nowMs - this.#smallSinceMs >= SMALL_MS_MIN)
      this.#budget.noteSmall(nowMs);
  }

  #measure(pathRttMs: number, nowMs: number): void {
    const isTight = pathRttMs < WINDOW_ROUND_MS_MIN && this.#budget.isShared(nowMs);
    const roundTripMs = isTight ? WINDOW_ROUND_SHARED_MS : Math.max(pathRttMs, WINDOW_ROUND_MS_MIN);
    const elapsedMs = nowMs - this.#roundSinceMs;
    if (elapsedMs < Math.max(roundTripMs, RATE_MEASURE_MS_MIN)) return;
    const bytesPerMs = this.#roundBytes / elapsedMs;
    this.#roundSinceMs = nowMs;
    this.#roundBytes = 0;
    const loopsBytes = Math.min(2 * bytesPerMs * WINDOW_ROUND_MS_MIN, WINDOW_LOOPS_BYTES_MAX);
    const filledBytes = isTight ? bytesPerMs * roundTripMs : Math.max(2 * bytesPerMs * pathRttMs, loopsBytes);
    const wantedBytes = Math.min(this.#maxBytes, Math.ceil(filledBytes) + this.#firstBytes);
    if (isTight !== this.#isTight) {
      this.#isTight = isTight;
      this.#startPeriod(wantedBytes, nowMs);
      return;
    }
    const shrinkAfterMs = isTight ? WINDOW_SHRINK_AFTER_SHARED_MS : WINDOW_SHRINK_AFTER_MS;
    this.#targetBytes = Math.max(this.#targetBytes, wantedBytes);
    // Nothing was taken for so long: what was before says nothing about now.
    this.#peakBytes = elapsedMs < shrinkAfterMs ? Math.max(this.#peakBytes, wantedBytes) : wantedBytes;
    if (nowMs - this.#peakSinceMs >= shrinkAfterMs) this.#startPeriod(this.#peakBytes, nowMs);
  }

  #startPeriod(targetBytes: number, nowMs: number): void {
    this.#targetBytes = targetBytes;
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
