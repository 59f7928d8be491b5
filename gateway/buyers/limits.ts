import type { ProxyFailure } from '../errors.js';
import type { BandwidthRates } from '../relay/bandwidth.js';
import { type Clock, nodeTimer, type SetTimer } from '../runtime/clock.js';
import type { Soon } from '../runtime/soon.js';
import type { BuyerAccess } from './directory.js';
import { LimitUse, type OwnerLimits } from './limit-use.js';
import { RateQueue } from './rate-queue.js';

/** Settings of limits: unit in the name, what happens at each beside it. */
export interface AccountLimitsSettings {
  /**
   * How long a connection waits where the owner's rate has room and this gateway's portion of it has none, ms; then RATE_LIMIT.
   * 0: it does not wait.
   */
  limitsWaitMs: number;
}

/** The default of each. */
export const ACCOUNT_LIMITS_DEFAULTS: Readonly<AccountLimitsSettings> = Object.freeze({ limitsWaitMs: 500 });

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

  readonly #waitMs: number;

  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    settings: Partial<AccountLimitsSettings> = {},
    private readonly setTimer: SetTimer = nodeTimer,
  ) {
    this.#waitMs = { ...ACCOUNT_LIMITS_DEFAULTS, ...settings }.limitsWaitMs;
  }

  /**
   * Counts a new connection of the account, unless a limit refuses it; a refusal uses nothing up. Where other gateways hold what
   * it would need of the rate, it waits for some of that, after those that wait already.
   */
  acquire(buyer: LimitedAccess): Soon<Admission | ProxyFailure> {
    const [ofBuyer, ofAccount] = this.#owners(buyer);
    const outcome = this.#admit(ofBuyer, ofAccount, null);
    if (!(outcome instanceof LimitUse)) return outcome;
    if (this.#waitMs === 0) return this.#tooMany(outcome);
    return new Promise((resolve) => {
      const deadlineMs = this.clock.monotonicMs() + this.#waitMs;
      const wait = (short: LimitUse): void => {
        const giveUp = () => resolve(this.#tooMany(short));
        // Between two queues, too, it gives up in time.
        if (this.clock.monotonicMs() >= deadlineMs) {
          giveUp();
          return;
        }
        const attempt = () => {
          const outcome = this.#admit(ofBuyer, ofAccount, short);
          if (outcome === short) return false;
          if (outcome instanceof LimitUse) wait(outcome);
          else resolve(outcome);
          return true;
        };
        this.#queueOf(short).add({ deadlineMs, attempt, giveUp });
      };
      wait(outcome);
    });
  }

  /** Or, of whom this gateway has too small a portion now. `next`: whose turn to be served it is. */
  #admit(ofBuyer: LimitUse, ofAccount: LimitUse, next: LimitUse | null): Admission | ProxyFailure | LimitUse {
    const nowMs = this.clock.monotonicMs();
    for (const use of [ofBuyer, ofAccount]) {
      const refusal = use.refusal(nowMs, use === next);
      if (refusal === null) continue;
      if (refusal === 'short') {
        this.onShort(use);
        return use;
      }
      return refusal.code === 'RATE_LIMIT' ? this.#tooMany(use) : refusal;
    }
    ofBuyer.take();
    ofAccount.take();
    return new Place(ofBuyer, ofAccount, this.#onAsked);
  }

  /** What is refused was wanted, too. */
  #tooMany(use: LimitUse): ProxyFailure {
    this.#onAsked(use);
    if (use.connectionsPortion !== null) this.onShort(use);
    return { ok: false, code: 'RATE_LIMIT' };
  }

  #queueOf(use: LimitUse): RateQueue {
    use.queue ??= new RateQueue(
      () => this.clock.monotonicMs(),
      () => use.msUntilRoom(this.clock.monotonicMs()),
      this.setTimer,
    );
    return use.queue;
  }

  #owners({ buyerId, account, limits, subUser }: LimitedAccess): [ofBuyer: LimitUse, ofAccount: LimitUse] {
    if (this.#uses.size >= this.#sweepAt) this.#sweep(this.clock.monotonicMs());
    return [this.#of(buyerId, null, limits), this.#of(buyerId, account, subUser?.limits ?? UNLIMITED)];
  }

  /** A request that several gateways were asked for came to nothing: it counts as one connection, here. */
  count(buyer: LimitedAccess): void {
    const admission = this.#admit(...this.#owners(buyer), null);
    if (admission instanceof LimitUse) this.#tooMany(admission);
    else if (admission.ok) admission.release();
  }

  /** What the account's streams may move here now, as part of what it may move over all gateways. */
  bandwidthRates(buyer: LimitedAccess): BandwidthRates {
    const [ofBuyer, ofAccount] = this.#owners(buyer);
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
