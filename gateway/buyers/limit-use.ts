import type { ProxyFailure } from '../errors.js';

/** What an owner of limits may do over all gateways; what is left out or null has no limit, 0 allows nothing. */
export interface OwnerLimits {
  streamsMax?: number | null | undefined;
  connectionsPerSecondMax?: number | null | undefined;
  bandwidthBytesPerSecondMax?: number | null | undefined;
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
  /** Live streams at the others, as last heard. */
  streamsElsewhere = 0;
  /** Of the limits, this gateway's portions as last heard; null: the whole limit. */
  connectionsPortion: number | null = null;
  bytesPortion: number | null = null;
  /** Of a use that nothing was heard of yet: gateways that it may be at, each with an equal part of every limit. */
  parts = 1;
  /** Connections that may still be made now; null: none was made yet. */
  #tokens: number | null = null;
  #refilledAtMs = 0;

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

  /** Why one more connection is refused, or null; uses nothing up. */
  refusal(nowMs: number): ProxyFailure | null {
    const perSecond = this.connectionsPerSecond;
    const grown = ((nowMs - this.#refilledAtMs) / 1_000) * perSecond;
    this.#tokens = this.#tokens === null ? perSecond : Math.min(perSecond, this.#tokens + (grown || 0));
    this.#refilledAtMs = nowMs;
    const { streamsMax } = this.limits;
    const streamsHere = this.#here(streamsMax, null) ?? Number.POSITIVE_INFINITY;
    if (this.streams + this.streamsElsewhere >= streamsHere) return { ok: false, code: 'CONN_LIMIT' };
    return this.#tokens < 1 ? { ok: false, code: 'RATE_LIMIT' } : null;
  }

  /** After no refusal. */
  take(): void {
    this.streams++;
    if (this.#tokens !== null) this.#tokens--;
  }

  /** What was taken was for a connection that is no matter of this gateway. */
  giveBack(): void {
    this.streams--;
    if (this.#tokens !== null) this.#tokens++;
  }

  /** A second after the latest connection every bucket is full again: nothing is forgotten. */
  isIdle(nowMs: number): boolean {
    return !this.isShared && this.streams === 0 && nowMs - this.#refilledAtMs > 1_000;
  }

  /** Other gateways are not told of it any more, and nothing is known of them. */
  unshare(): void {
    this.isShared = false;
    this.streamsElsewhere = 0;
    this.connectionsPortion = null;
    this.bytesPortion = null;
    this.parts = 1;
  }
}
