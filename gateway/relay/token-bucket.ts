import { COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { Clock } from '../runtime/clock.js';

/** What a bucket with somebody waiting may hold beyond its burst, ms at its rate: how late a timer may be for free. */
const LATENESS_MS = 1_000;

/**
 * A token bucket of bytes on the monotonic clock. It is asked for "some", not for an amount: a piece goes on while
 * there are tokens, and what it takes beyond them is a debt that is waited off before the next piece.
 */
export class TokenBucket {
  /** Bytes that may go on; below 0: a debt. Infinite without a limit. */
  tokens = Number.POSITIVE_INFINITY;
  /** Bytes that went on so far. */
  spentBytes = 0;
  #bytesPerMs = Number.POSITIVE_INFINITY;
  #burstBytes = Number.POSITIVE_INFINITY;
  #refilledAtMs = 0;

  /** `burstMs`: what it holds at most, in ms at its rate; a piece at least. */
  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    private readonly burstMs: number,
  ) {}

  get limited(): boolean {
    return this.#bytesPerMs !== Number.POSITIVE_INFINITY;
  }

  /** null: no limit. A bucket that had none begins full; a debt stays one. Returns whether that changed anything. */
  setRate(bytesPerSecond: number | null): boolean {
    const bytesPerMs = bytesPerSecond === null ? Number.POSITIVE_INFINITY : bytesPerSecond / 1_000;
    if (bytesPerMs === this.#bytesPerMs) return false;
    if (this.limited) this.refill(false);
    else this.#refilledAtMs = this.clock.monotonicMs();
    this.#bytesPerMs = bytesPerMs;
    this.#burstBytes = Math.max(COUNT_BYTES_MAX, bytesPerMs * this.burstMs);
    this.tokens = bytesPerSecond === null ? bytesPerMs : Math.min(this.tokens, this.#burstBytes);
    return true;
  }

  /** Adds what time has brought. `awaited`: somebody has been waiting for it, and a late timer is made good. */
  refill(awaited: boolean): void {
    if (!this.limited) return;
    const nowMs = this.clock.monotonicMs();
    const mostBytes = this.#burstBytes + (awaited ? this.#bytesPerMs * LATENESS_MS : 0);
    const grown = this.tokens + (nowMs - this.#refilledAtMs) * this.#bytesPerMs;
    // What a late timer brought and nobody has used yet is not taken away again.
    this.tokens = Math.min(grown, Math.max(mostBytes, this.tokens));
    this.#refilledAtMs = nowMs;
  }

  spend(bytes: number): void {
    this.tokens -= bytes;
    this.spentBytes += bytes;
  }

  /** Time until the first token, ms; 0: there is one. */
  msUntilTokens(): number {
    // One byte more than none, so that a timer that is exact finds it.
    return this.tokens > 0 ? 0 : (1 - this.tokens) / this.#bytesPerMs;
  }

  isFull(): boolean {
    this.refill(false);
    return this.tokens >= this.#burstBytes || !this.limited;
  }
}
