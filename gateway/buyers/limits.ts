import type { ProxyFailure } from '../errors.js';
import type { BandwidthRates } from '../relay/bandwidth.js';
import type { Clock } from '../runtime/clock.js';
import type { BuyerAccess } from './directory.js';
import { LimitUse, type OwnerLimits } from './limit-use.js';

/** Whose limits hold for a connection. */
export type LimitedAccess = Pick<BuyerAccess, 'account' | 'buyerId' | 'limits' | 'subUser'>;

/** One admitted connection; exactly one of `release` and `undo` is to be called, calling either again does nothing. */
export interface Admission {
  ok: true;
  /** This gateway has a device for it: from now on others are told of its stream. */
  serve(): void;
  /** Its stream has ended, or it was refused for another reason. */
  release(): void;
  /** Another gateway or worker goes on with it, and counts it. */
  undo(): void;
}

class Place implements Admission {
  readonly ok = true;
  #state: 'held' | 'served' | 'over' = 'held';

  constructor(
    private readonly ofBuyer: LimitUse,
    private readonly ofAccount: LimitUse,
    private readonly onAsked: (use: LimitUse) => void,
  ) {}

  serve(): void {
    if (this.#state !== 'held') return;
    this.#state = 'served';
    for (const use of [this.ofBuyer, this.ofAccount]) {
      use.served++;
      this.onAsked(use);
    }
  }

  release(): void {
    const was = this.#state;
    if (was === 'over') return;
    this.#state = 'over';
    for (const use of [this.ofBuyer, this.ofAccount]) {
      use.streams--;
      if (was === 'served') use.served--;
      else this.onAsked(use);
    }
  }

  undo(): void {
    const was = this.#state;
    if (was === 'over') return;
    this.#state = 'over';
    for (const use of [this.ofBuyer, this.ofAccount]) {
      use.giveBack();
      if (was !== 'served') continue;
      use.served--;
      use.asked--;
    }
  }
}

/** Owners remembered before idle ones are swept out: at most one pass over the map for as many new ones. */
const SWEEP_AT = 20_000;
const UNLIMITED: OwnerLimits = {};

/**
 * What may be done at once and per second over all gateways: live streams (CONN_LIMIT), new connections (RATE_LIMIT, a token
 * bucket that holds one second's worth and refills on the monotonic clock) and bytes (`bandwidthRates`). A buyer's limits hold
 * for the sum over the buyer and all its sub-users, a sub-user's for itself. It decides from memory: `LimitSharing` tells it
 * what other gateways do.
 */
export class AccountLimits {
  /** By buyer id and by account: an account has no dashes. */
  readonly #uses = new Map<string, LimitUse>();
  #sweepAt = SWEEP_AT;
  /** Something happens under limits of an owner of whom others are not told yet. */
  onUnshared: (use: LimitUse) => void = () => {};
  /** A portion refuses a connection: others may have some to spare. */
  onShort: (use: LimitUse) => void = () => {};
  /** The limits of an owner whom they are told of may have changed. */
  onLimits: (use: LimitUse) => void = () => {};

  readonly #onAsked = (use: LimitUse): void => {
    use.asked++;
    if (!use.isShared && use.hasLimits) this.onUnshared(use);
  };

  constructor(private readonly clock: Pick<Clock, 'monotonicMs'>) {}

  /** Counts a new connection of the account, unless a limit refuses it; a refusal uses nothing up. */
  acquire(buyer: LimitedAccess): Admission | ProxyFailure {
    const nowMs = this.clock.monotonicMs();
    if (this.#uses.size >= this.#sweepAt) this.#sweep(nowMs);
    const ofBuyer = this.#of(buyer.buyerId, null, buyer.limits);
    const ofAccount = this.#of(buyer.buyerId, buyer.account, buyer.subUser?.limits ?? UNLIMITED);
    for (const use of [ofBuyer, ofAccount]) {
      const refusal = use.refusal(nowMs);
      if (refusal?.code === 'RATE_LIMIT') {
        this.#onAsked(use);
        if (use.connectionsPortion !== null) this.onShort(use);
      }
      if (refusal !== null) return refusal;
    }
    ofBuyer.take();
    ofAccount.take();
    return new Place(ofBuyer, ofAccount, this.#onAsked);
  }

  /** A request that several gateways were asked for came to nothing: it counts as one connection, here. */
  count(buyer: LimitedAccess): void {
    const admission = this.acquire(buyer);
    if (admission.ok) admission.release();
  }

  /** What the account's streams may move here now, as part of what it may move over all gateways. */
  bandwidthRates({ buyerId, account, limits, subUser }: LimitedAccess): BandwidthRates {
    const ofBuyer = this.#of(buyerId, null, limits);
    const ofAccount = this.#of(buyerId, account, subUser?.limits ?? UNLIMITED);
    if (ofBuyer.isShared) this.onLimits(ofBuyer);
    if (ofAccount.isShared) this.onLimits(ofAccount);
    return { buyerBytesPerSecond: ofBuyer.bytesPerSecond, accountBytesPerSecond: ofAccount.bytesPerSecond };
  }

  /** Live streams of the account through this gateway, or of a buyer (by id) and all its sub-users. */
  streams(accountOrBuyerId: string): number {
    return this.#uses.get(accountOrBuyerId)?.streams ?? 0;
  }

  #of(buyerId: string, account: string | null, limits: OwnerLimits): LimitUse {
    const key = account ?? buyerId;
    let use = this.#uses.get(key);
    if (use === undefined) {
      use = new LimitUse(buyerId, account);
      this.#uses.set(key, use);
    }
    use.limits = limits;
    return use;
  }

  #sweep(nowMs: number): void {
    for (const [key, use] of this.#uses) if (use.isIdle(nowMs)) this.#uses.delete(key);
    this.#sweepAt = Math.max(SWEEP_AT, this.#uses.size * 2);
  }
}
