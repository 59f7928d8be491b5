import type { ProxyFailure } from '../errors.js';
import type { BandwidthRates } from '../relay/bandwidth.js';
import type { Clock } from '../runtime/clock.js';
import type { BuyerAccess } from './directory.js';

/** The bandwidth limits in force for an account. */
export function bandwidthRates({ limits, subUser }: Pick<BuyerAccess, 'limits' | 'subUser'>): BandwidthRates {
  return {
    buyerBytesPerSecond: limits.bandwidthBytesPerSecondMax ?? null,
    accountBytesPerSecond: subUser?.limits?.bandwidthBytesPerSecondMax ?? null,
  };
}

/** One admitted connection. `release` when its stream has ended; calling it again does nothing. */
export interface Admission {
  ok: true;
  release(): void;
}

/** How much a limit allows; a limit of 0 admits nothing. */
interface ConnectionLimits {
  streamsMax: number;
  connectionsPerSecondMax: number;
}

/** Streams and new connections of one account, or of a buyer and all its sub-users together. */
class Usage {
  streams = 0;
  /** Connections that may still be made now; null: none was made yet. */
  #tokens: number | null = null;
  #refilledAtMs = 0;

  /** Why one more is refused, or null; uses nothing up. */
  refusal({ streamsMax, connectionsPerSecondMax }: ConnectionLimits, nowMs: number): ProxyFailure | null {
    const grown = ((nowMs - this.#refilledAtMs) / 1_000) * connectionsPerSecondMax;
    this.#tokens =
      this.#tokens === null
        ? connectionsPerSecondMax
        : Math.min(connectionsPerSecondMax, this.#tokens + (grown || 0));
    this.#refilledAtMs = nowMs;
    if (this.streams >= streamsMax) return { ok: false, code: 'CONN_LIMIT' };
    return this.#tokens < 1 ? { ok: false, code: 'RATE_LIMIT' } : null;
  }

  /** After no refusal. */
  take(): void {
    this.streams++;
    if (this.#tokens !== null) this.#tokens--;
  }

  /** A second after the latest connection every bucket is full again: nothing is forgotten. */
  isIdle(nowMs: number): boolean {
    return this.streams === 0 && nowMs - this.#refilledAtMs > 1_000;
  }
}

/** Accounts and buyers remembered before idle ones are swept out: at most one pass over the map for as many new ones. */
const SWEEP_AT = 20_000;
const UNLIMITED: ConnectionLimits = {
  streamsMax: Number.POSITIVE_INFINITY,
  connectionsPerSecondMax: Number.POSITIVE_INFINITY,
};

/**
 * What may be done at once and per second **through this gateway**: live streams (CONN_LIMIT) and new connections
 * (RATE_LIMIT, a token bucket that holds one second's worth and refills on the monotonic clock). A buyer's limits hold
 * for the sum over the buyer and all its sub-users, a sub-user's for itself.
 */
export class AccountLimits {
  /** By buyer id and by account: an account has no dashes. */
  readonly #usage = new Map<string, Usage>();
  #sweepAt = SWEEP_AT;

  constructor(private readonly clock: Pick<Clock, 'monotonicMs'>) {}

  /** Counts a new connection of the account, unless a limit refuses it; a refusal uses nothing up. */
  acquire(buyer: Pick<BuyerAccess, 'account' | 'buyerId' | 'limits' | 'subUser'>): Admission | ProxyFailure {
    const nowMs = this.clock.monotonicMs();
    if (this.#usage.size >= this.#sweepAt) this.#sweep(nowMs);
    const ofBuyer = this.#of(buyer.buyerId);
    const ofAccount = this.#of(buyer.account);
    const own = buyer.subUser?.limits;
    const refusal =
      ofBuyer.refusal(buyer.limits, nowMs) ??
      ofAccount.refusal(
        {
          streamsMax: own?.streamsMax ?? UNLIMITED.streamsMax,
          connectionsPerSecondMax: own?.connectionsPerSecondMax ?? UNLIMITED.connectionsPerSecondMax,
        },
        nowMs,
      );
    if (refusal !== null) return refusal;
    ofBuyer.take();
    ofAccount.take();
    let released = false;
    return {
      ok: true,
      release() {
        if (released) return;
        released = true;
        ofBuyer.streams--;
        ofAccount.streams--;
      },
    };
  }

  /** Live streams of the account through this gateway, or of a buyer (by id) and all its sub-users. */
  streams(accountOrBuyerId: string): number {
    return this.#usage.get(accountOrBuyerId)?.streams ?? 0;
  }

  #of(key: string): Usage {
    const known = this.#usage.get(key);
    if (known) return known;
    const usage = new Usage();
    this.#usage.set(key, usage);
    return usage;
  }

  #sweep(nowMs: number): void {
    for (const [key, usage] of this.#usage) if (usage.isIdle(nowMs)) this.#usage.delete(key);
    this.#sweepAt = Math.max(SWEEP_AT, this.#usage.size * 2);
  }
}
