import type { ProxyFailure } from '../errors.js';
import type { RateQueue } from './rate-queue.js';

/** What an owner of limits may do over all gateways; what is left out or null has no limit, 0 allows nothing. */
export interface OwnerLimits {
  streamsMax?: number | null | undefined;
  connectionsPerSecondMax?: number | null | undefined;
  bandwidthBytesPerSecondMax?: number | null | undefined;
}

/** Connections that may be made now: a second's worth at most. */
class ConnectionTokens {
  /** null: none was made yet. */
  #tokens: number | null = null;
  refilledAtMs = 0;

  /** What there is now. */
  refill(nowMs: number, perSecond: number): number {
    const grown = ((nowMs - this.refilledAtMs) / 1_000) * perSecond;
    this.#tokens = this.#tokens === null ? perSecond : Math.min(perSecond, this.#tokens + (grown || 0));
    this.refilledAtMs = nowMs;
    return this.#tokens;
  }

  add(count: number): void {
    if (this.#tokens !== null) this.#tokens += count;
  }
}

/**
 * What one owner of limits does at this gateway, and what it may do here: a buyer with all its sub-users, or one account.
 * Until other gateways are heard of (`LimitSharing`) it may do here all that it may do at all.
 */
export class LimitUse {
  /** Connections here that hold a place, those that are being set up included. */
  streams = 0;
  /** Of these the ones that this gateway serves: what others are told. */
  served = 0;
  /** Connections that were asked of this gateway so far, those above the rate included. */
  asked = 0;
  /** The limits as last seen. */
  limits: OwnerLimits = {};
  /** Other gateways are told of it. */
  isShared = false;
  /** What they do of it was heard. */
  isHeard = false;
  /** Live streams at the others, as last heard. */
  streamsElsewhere = 0;
  /** Of the limits, this gateway's portions as last heard; null: the whole limit. */
  connectionsPortion: number | null = null;
  bytesPortion: number | null = null;
  /** Of a use that nothing was heard of yet: gateways that it may be at, each with an equal part of every limit. */
  parts = 1;
  /** Connections that wait for this gateway's portion; null: none ever did. */
  queue: RateQueue | null = null;
  /** Of this gateway's portion, and of the limit as if there was nobody else. */
  readonly #ofPortion = new ConnectionTokens();
  readonly #ofLimit = new ConnectionTokens();

  /** `account` null: the buyer and all its sub-users. */
  constructor(
    readonly buyerId: string,
    readonly account: string | null,
  ) {}

  /** Whether there is anything that others have to be told of. */
  get hasLimits(): boolean {
    const { streamsMax, connectionsPerSecondMax, bandwidthBytesPerSecondMax } = this.limits;
    return (streamsMax ?? connectionsPerSecondMax ?? bandwidthBytesPerSecondMax ?? null) !== null;
  }

  /** Connections a second that may be made here now. */
  get connectionsPerSecond(): number {
    return (
      this.#here(this.limits.connectionsPerSecondMax, this.connectionsPortion) ?? Number.POSITIVE_INFINITY
    );
  }

  /** Bytes a second that may be moved here now; null: no limit. */
  get bytesPerSecond(): number | null {
    const bytes = this.#here(this.limits.bandwidthBytesPerSecondMax, this.bytesPortion);
    // Who waits for the first byte has to know when it comes.
    return bytes === null ? null : Math.max(1, bytes);
  }

  #here(limit: number | null | undefined, portion: number | null): number | null {
    if (limit == null) return null;
    if (portion !== null) return Math.min(limit, portion);
    return this.parts === 1 ? limit : Math.min(limit, Math.max(1, Math.floor(limit / this.parts)));
  }

  /** Connections that wait. */
  get waiting(): number {
    return this.queue?.length ?? 0;
  }

  /**
   * Why one more connection is refused, or null; uses nothing up. `short`: by this gateway's portion alone, and there may soon
   * be more of that. `isNext`: it is the first of those that wait; nobody else overtakes them.
   */
  refusal(nowMs: number, isNext = false): ProxyFailure | 'short' | null {
    const ofPortion = this.#ofPortion.refill(nowMs, this.connectionsPerSecond);
    const ofLimit = this.#ofLimit.refill(
      nowMs,
      this.limits.connectionsPerSecondMax ?? Number.POSITIVE_INFINITY,
    );
    const { streamsMax } = this.limits;
    const streamsHere = this.#here(streamsMax, null) ?? Number.POSITIVE_INFINITY;
    if (this.streams + this.streamsElsewhere >= streamsHere) return { ok: false, code: 'CONN_LIMIT' };
    const before = isNext ? 0 : this.waiting;
    if (ofPortion >= 1 && before === 0) return null;
    return this.connectionsPortion !== null && ofLimit - before >= 1
      ? 'short'
      : { ok: false, code: 'RATE_LIMIT' };
  }

  /** Time until the portion has room for one more connection, ms. */
  msUntilRoom(nowMs: number): number {
    const perSecond = this.connectionsPerSecond;
    return ((1 - this.#ofPortion.refill(nowMs, perSecond)) * 1_000) / perSecond;
  }

  /** After no refusal. */
  take(): void {
    this.streams++;
    this.#addTokens(-1);
  }

  /** What was taken was for a connection that is no matter of this gateway. */
  giveBack(): void {
    this.streams--;
    this.#addTokens(1);
  }

  #addTokens(count: number): void {
    this.#ofPortion.add(count);
    this.#ofLimit.add(count);
  }

  /** A second after the latest connection every bucket is full again: nothing is forgotten. */
  isIdle(nowMs: number): boolean {
    return (
      !this.isShared &&
      this.streams === 0 &&
      this.waiting === 0 &&
      nowMs - this.#ofPortion.refilledAtMs > 1_000
    );
  }

  /** Other gateways are not told of it any more, and nothing is known of them. */
  unshare(): void {
    this.isShared = false;
    this.isHeard = false;
    this.streamsElsewhere = 0;
    this.connectionsPortion = null;
    this.bytesPortion = null;
    this.parts = 1;
  }
}
