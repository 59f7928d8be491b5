import type { ProxyFailure } from '../errors.js';
import type { BandwidthRates } from '../relay/bandwidth.js';
import { type Clock, nodeTimer, type SetTimer } from '../runtime/clock.js';
import { type Soon, soon } from '../runtime/soon.js';
import type { BuyerAccess } from './directory.js';
import { LimitUse, type OwnerLimits } from './limit-use.js';
import { RateQueue } from './rate-queue.js';

/** Settings of limits: unit in the name, what happens at each beside it. */
export interface AccountLimitsSettings {
  /**
   * How long a connection waits where the owner's rate has room and this gateway's portion of it has none, ms; then RATE_LIMIT.
   * Before that, as long at most for what other gateways do of an owner of whom nothing was heard yet; then it goes by an equal
   * part of each limit. 0: it waits for neither, and of such an owner goes by the whole of each.
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
  /**
   * This gateway has a device for it: from now on others are told of its stream. Where nothing was heard of them yet, it waits for
   * that, and may be refused (CONN_LIMIT, RATE_LIMIT) after all; then it is released.
   */
  serve(): Soon<ProxyFailure | null>;
  /** Its stream has ended, or it was refused for another reason. */
  release(): void;
  /** Another gateway or worker goes on with it, and counts it. */
  undo(): void;
}

/** What a place needs of the limits that it was let in by. */
interface PlaceOwner {
  onAsked(use: LimitUse): void;
  untilHeard(ofBuyer: LimitUse, ofAccount: LimitUse): Promise<void> | null;
  take(ofBuyer: LimitUse, ofAccount: LimitUse): Soon<ProxyFailure | null>;
  onRefused(use: LimitUse): void;
}

class Place implements Admission {
  readonly ok = true;
  #state: 'held' | 'served' | 'over' = 'held';

  constructor(
    private readonly ofBuyer: LimitUse,
    private readonly ofAccount: LimitUse,
    private readonly owner: PlaceOwner,
  ) {}

  serve(): Soon<ProxyFailure | null> {
    if (this.#state !== 'held') return null;
    this.#state = 'served';
    const { ofBuyer, ofAccount, owner } = this;
    for (const use of [ofBuyer, ofAccount]) {
      use.served++;
      owner.onAsked(use);
    }
    const heard = owner.untilHeard(ofBuyer, ofAccount);
    if (heard === null) return null;
    // Told as if it was let in, so that of many gateways that ask in the same moment each hears of those before it.
    for (const use of [ofBuyer, ofAccount]) use.giveBack();
    return heard.then(() => {
      for (const use of [ofBuyer, ofAccount]) use.asked--;
      return soon(owner.take(ofBuyer, ofAccount), (refused) => {
        if (refused === null) {
          for (const use of [ofBuyer, ofAccount]) use.asked++;
          return null;
        }
        this.#state = 'over';
        for (const use of [ofBuyer, ofAccount]) {
          use.served--;
          owner.onRefused(use);
        }
        return refused;
      });
    });
  }

  release(): void {
    const was = this.#state;
    if (was === 'over') return;
    this.#state = 'over';
    for (const use of [this.ofBuyer, this.ofAccount]) {
      use.streams--;
      if (was === 'served') use.served--;
      else this.owner.onAsked(use);
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
  /** They were told of a stream of it that there will not be. */
  onGivenBack: (use: LimitUse) => void = () => {};
  /** Of an owner whom they are told of and nothing was heard yet: resolves when there is no more to wait for; null: nothing. */
  untilHeard: (use: LimitUse) => Promise<void> | null = () => null;

  readonly #ofPlaces: PlaceOwner = {
    onAsked: (use) => this.#onAsked(use),
    untilHeard: (ofBuyer, ofAccount) => this.#untilHeard(ofBuyer, ofAccount),
    take: (ofBuyer, ofAccount) => this.#take(ofBuyer, ofAccount),
    onRefused: (use) => {
      if (use.isShared) this.onGivenBack(use);
    },
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
    return soon(
      this.#take(ofBuyer, ofAccount),
      (refused) => refused ?? new Place(ofBuyer, ofAccount, this.#ofPlaces),
    );
  }

  /** Takes a place and a part of the rate of both, at once or when there is some, or tells why not. */
  #take(ofBuyer: LimitUse, ofAccount: LimitUse): Soon<ProxyFailure | null> {
    const outcome = this.#tryTake(ofBuyer, ofAccount, null);
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
          const outcome = this.#tryTake(ofBuyer, ofAccount, short);
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
  #tryTake(ofBuyer: LimitUse, ofAccount: LimitUse, next: LimitUse | null): ProxyFailure | LimitUse | null {
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
    return null;
  }

  #onAsked(use: LimitUse): void {
    use.asked++;
    if (!use.isShared && use.hasLimits) this.onUnshared(use);
  }

  #untilHeard(ofBuyer: LimitUse, ofAccount: LimitUse): Promise<void> | null {
    const first = this.#isUnheard(ofBuyer) ? this.untilHeard(ofBuyer) : null;
    const second = this.#isUnheard(ofAccount) ? this.untilHeard(ofAccount) : null;
    return first === null || second === null ? (first ?? second) : first.then(() => second);
  }

  #isUnheard({ isShared, isHeard }: LimitUse): boolean {
    return isShared && !isHeard && this.#waitMs > 0;
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
    const [ofBuyer, ofAccount] = this.#owners(buyer);
    const outcome = this.#tryTake(ofBuyer, ofAccount, null);
    if (outcome instanceof LimitUse) this.#tooMany(outcome);
    else if (outcome === null) new Place(ofBuyer, ofAccount, this.#ofPlaces).release();
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
