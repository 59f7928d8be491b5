import { type Clock, nodeTimer, type SetTimer } from '../runtime/clock.js';
import { TokenBucket } from './token-bucket.js';

/** Settings of bandwidth limits: unit in the name, what happens at each beside it. */
export interface BandwidthSettings {
  /**
   * What an account that was idle may send at once, in ms at its rate, and at least one piece (COUNT_BYTES_MAX);
   * after that it is held to the rate.
   */
  bandwidthBurstMs: number;
  /** Accounts remembered before idle ones are swept out: one pass over the map for as many new ones. */
  bandwidthSweepAt: number;
}

/** The defaults of every bandwidth setting. */
export const BANDWIDTH_DEFAULTS: Readonly<BandwidthSettings> = Object.freeze({
  bandwidthBurstMs: 100,
  bandwidthSweepAt: 10_000,
});

/** Payload bytes a second, both directions together; null: no limit. */
export interface BandwidthRates {
  /** Over all accounts of the buyer. */
  buyerBytesPerSecond: number | null;
  /** Of the account alone. */
  accountBytesPerSecond: number | null;
}

/** One direction of a stream that was told to wait for its turn. Called once, never from inside `admits`. */
export interface BandwidthWaiter {
  retry(): void;
}

/** What an account, or all of a buyer's, has done of its bandwidth so far. */
export interface BandwidthUse {
  /** Bytes that went on while there was a limit. */
  spentBytes: number;
  /** Times that a piece had to wait. */
  waits: number;
  /** Directions of streams that wait now. */
  waiting: number;
}

const NO_USE: BandwidthUse = { spentBytes: 0, waits: 0, waiting: 0 };

/**
 * The bandwidth of accounts through this gateway. Each account has a token bucket of its own and a share in its
 * buyer's; a piece of bytes needs a token of both. Pieces that find none wait: the accounts of a buyer are served in
 * turn, within an account its streams and their directions, one piece each. Nobody overtakes who waits.
 */
export class BandwidthLimits {
  readonly #pools = new Map<string, BuyerPool>();
  readonly #settings: BandwidthSettings;
  #accounts = 0;
  #sweepAt: number;

  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    settings: Partial<BandwidthSettings> = {},
    private readonly setTimer: SetTimer = nodeTimer,
  ) {
    this.#settings = { ...BANDWIDTH_DEFAULTS, ...settings };
    this.#sweepAt = this.#settings.bandwidthSweepAt;
  }

  /** The bandwidth of an account for one stream, at these rates from now on; `release` it when the stream has ended. */
  acquire(buyerId: string, account: string, rates: BandwidthRates): AccountBandwidth {
    if (this.#accounts >= this.#sweepAt) this.#sweep();
    let pool = this.#pools.get(buyerId);
    if (!pool) {
      pool = new BuyerPool(this.clock, this.#settings.bandwidthBurstMs, this.setTimer);
      this.#pools.set(buyerId, pool);
    }
    let bandwidth = pool.accounts.get(account);
    if (!bandwidth) {
      bandwidth = new AccountBandwidth(pool, this.clock, this.#settings.bandwidthBurstMs);
      pool.accounts.set(account, bandwidth);
      this.#accounts++;
    }
    bandwidth.streams++;
    pool.setRates(bandwidth, rates);
    return bandwidth;
  }

  /** The rates changed: they hold for open streams at once. An account without streams is left as it is. */
  setRates(buyerId: string, account: string, rates: BandwidthRates): void {
    const pool = this.#pools.get(buyerId);
    const bandwidth = pool?.accounts.get(account);
    if (pool && bandwidth) pool.setRates(bandwidth, rates);
  }

  /** One rate alone changed: of the account, or, `account` null, over all of the buyer's. It holds for open streams at once. */
  setRate(buyerId: string, account: string | null, bytesPerSecond: number | null): void {
    const pool = this.#pools.get(buyerId);
    const bandwidth = account === null ? null : pool?.accounts.get(account);
    if (pool && bandwidth !== undefined) pool.setRate(bandwidth, bytesPerSecond);
  }

  /** What the account has done so far; `account` null: all of the buyer's together. */
  useOf(buyerId: string, account: string | null): BandwidthUse {
    const pool = this.#pools.get(buyerId);
    if (account === null) return pool?.use ?? NO_USE;
    return pool?.accounts.get(account)?.use ?? NO_USE;
  }

  /** Directions of streams that wait for their turn now. */
  get waiterCount(): number {
    let count = 0;
    for (const { use } of this.#pools.values()) count += use.waiting;
    return count;
  }

  /** An account whose buckets are full again is as good as a new one: nothing is forgotten. */
  #sweep(): void {
    for (const [buyerId, pool] of this.#pools) {
      for (const [account, bandwidth] of pool.accounts) {
        if (bandwidth.streams > 0 || !bandwidth.bucket.isFull() || !pool.bucket.isFull()) continue;
        pool.accounts.delete(account);
        this.#accounts--;
      }
      if (pool.accounts.size === 0) this.#pools.delete(buyerId);
    }
    this.#sweepAt = Math.max(this.#settings.bandwidthSweepAt, this.#accounts * 2);
  }
}

/** What the streams of one account ask before each piece, when `limited`. */
export class AccountBandwidth {
  /** Whether there is anything to ask; else nothing here costs more than looking at it. */
  limited = false;
  /** @internal Streams that hold it. */
  streams = 0;
  /** @internal */
  readonly bucket: TokenBucket;
  /** @internal In the order of their turns. */
  readonly waiters = new Set<BandwidthWaiter>();
  /** @internal Had nothing to offer when its turn came (a datagram that was dropped): the next piece goes on. */
  readonly passes = new Set<BandwidthWaiter>();
  /** @internal Times that a piece had to wait. */
  waits = 0;
  readonly #pool: BuyerPool;

  /** @internal Made by BandwidthLimits. */
  constructor(pool: BuyerPool, clock: Pick<Clock, 'monotonicMs'>, burstMs: number) {
    this.#pool = pool;
    this.bucket = new TokenBucket(clock, burstMs);
  }

  /**
   * Whether a piece may go on now; `spend` it then. If not, the waiter has its place in the queue and is told to offer
   * the piece again. Waiting already: it keeps its place.
   */
  admits(waiter: BandwidthWaiter): boolean {
    return this.#pool.admits(this, waiter);
  }

  /** A piece that was admitted goes on. It may be larger than what is left: the next one waits accordingly longer. */
  spend(bytes: number): void {
    this.bucket.spend(bytes);
    this.#pool.bucket.spend(bytes);
  }

  /** @internal */
  get use(): BandwidthUse {
    return { spentBytes: this.bucket.spentBytes, waits: this.waits, waiting: this.waiters.size };
  }

  /** It waits no more. */
  leave(waiter: BandwidthWaiter): void {
    this.waiters.delete(waiter);
    this.passes.delete(waiter);
  }

  /** The stream that acquired it has ended. */
  release(): void {
    this.streams--;
  }
}

/** A buyer's own bucket, and whose turn it is among the buyer's accounts. */
class BuyerPool {
  readonly bucket: TokenBucket;
  readonly accounts = new Map<string, AccountBandwidth>();
  /** Accounts with waiters that have tokens of their own, in the order of their turns. */
  readonly #ready = new Set<AccountBandwidth>();
  /** Accounts with waiters that have none. */
  readonly #resting = new Set<AccountBandwidth>();
  /** May offer one piece now, past all others. */
  #turn: BandwidthWaiter | null = null;
  #serving = false;
  #waits = 0;
  #cancelTimer: (() => void) | null = null;
  #timerAtMs = 0;

  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    burstMs: number,
    private readonly setTimer: SetTimer,
  ) {
    this.bucket = new TokenBucket(clock, burstMs);
  }

  /** Of all accounts together; waits of accounts that were swept out are among them. */
  get use(): BandwidthUse {
    let waiting = 0;
    for (const { waiters } of this.accounts.values()) waiting += waiters.size;
    return { spentBytes: this.bucket.spentBytes, waits: this.#waits, waiting };
  }

  setRates(account: AccountBandwidth, rates: BandwidthRates): void {
    const poolChanged = this.bucket.setRate(rates.buyerBytesPerSecond);
    const accountChanged = account.bucket.setRate(rates.accountBytesPerSecond);
    if (poolChanged || accountChanged) this.#rateChanged();
    else account.limited = this.bucket.limited || account.bucket.limited;
  }

  /** `account` null: of the pool. */
  setRate(account: AccountBandwidth | null, bytesPerSecond: number | null): void {
    if ((account ?? this).bucket.setRate(bytesPerSecond)) this.#rateChanged();
  }

  #rateChanged(): void {
    for (const each of this.accounts.values()) each.limited = this.bucket.limited || each.bucket.limited;
    // Who waits may have a shorter time to wait, or none.
    if (this.#ready.size + this.#resting.size > 0) this.#setTimer(0);
  }

  admits(account: AccountBandwidth, waiter: BandwidthWaiter): boolean {
    if (this.#turn === waiter) {
      this.#turn = null;
      return true;
    }
    if (account.passes.delete(waiter)) return true;
    if (account.waiters.size === 0 && this.#ready.size === 0) {
      if (account.bucket.tokens <= 0) account.bucket.refill(false);
      if (this.bucket.tokens <= 0) this.bucket.refill(false);
      if (account.bucket.tokens > 0 && this.bucket.tokens > 0) return true;
    }
    account.waits++;
    this.#waits++;
    account.waiters.add(waiter);
    this.#place(account);
    return false;
  }

  /** Puts an account with waiters where it belongs and sees to it that it is looked at in time. */
  #place(account: AccountBandwidth): void {
    const isReady = account.bucket.tokens > 0;
    const [to, from] = isReady ? [this.#ready, this.#resting] : [this.#resting, this.#ready];
    from.delete(account);
    to.add(account);
    if (!this.#serving) this.#setTimer((isReady ? this.bucket : account.bucket).msUntilTokens());
  }

  #setTimer(afterMs: number): void {
    const wholeMs = Math.max(1, Math.ceil(afterMs));
    const atMs = this.clock.monotonicMs() + wholeMs;
    if (this.#cancelTimer !== null) {
      if (this.#timerAtMs <= atMs) return;
      this.#cancelTimer();
    }
    this.#timerAtMs = atMs;
    this.#cancelTimer = this.setTimer(wholeMs, () => {
      this.#cancelTimer = null;
      this.#serve();
    });
  }

  #serve(): void {
    this.#serving = true;
    // A timer that was late must not cost the account what it was late.
    this.bucket.refill(this.#ready.size > 0);
    for (const account of this.#resting) {
      account.bucket.refill(true);
      if (account.waiters.size === 0 || account.bucket.tokens > 0) this.#resting.delete(account);
      if (account.waiters.size > 0 && account.bucket.tokens > 0) this.#ready.add(account);
    }
    for (let account = first(this.#ready); account && this.bucket.tokens > 0; account = first(this.#ready)) {
      this.#ready.delete(account);
      const waiter = first(account.waiters);
      if (!waiter) continue;
      account.waiters.delete(waiter);
      this.#turn = waiter;
      waiter.retry();
      if (this.#turn === waiter) account.passes.add(waiter);
      this.#turn = null;
      if (account.waiters.size > 0) this.#place(account);
    }
    this.#serving = false;
    if (this.#ready.size > 0) this.#setTimer(this.bucket.msUntilTokens());
    for (const account of this.#resting) this.#setTimer(account.bucket.msUntilTokens());
  }
}

function first<T>(set: ReadonlySet<T>): T | undefined {
  for (const value of set) return value;
  return undefined;
}
