import type { ProxyFailure } from '../errors.js';
import type { Clock } from '../runtime/clock.js';
import type { BuyerAccess } from './directory.js';

/** One admitted connection. `release` when its stream has ended; calling it again does nothing. */
export interface Admission {
  ok: true;
  release(): void;
}

interface Usage {
  streams: number;
  /** Connections that may still be made now. */
  tokens: number;
  refilledAtMs: number;
}

/** Accounts remembered before idle ones are swept out: at most one pass over the map for as many new ones. */
const SWEEP_AT = 10_000;

/**
 * What an account may do at once and per second **through this gateway**: its live streams (CONN_LIMIT) and its new
 * connections (RATE_LIMIT, a token bucket that holds one second's worth and refills on the monotonic clock).
 * A limit of 0 admits nothing.
 */
export class AccountLimits {
  readonly #usage = new Map<string, Usage>();
  #sweepAt = SWEEP_AT;

  constructor(private readonly clock: Pick<Clock, 'monotonicMs'>) {}

  /** Counts a new connection of the account, unless a limit refuses it; a refusal uses nothing up. */
  acquire(buyer: Pick<BuyerAccess, 'account' | 'limits'>): Admission | ProxyFailure {
    const { streamsMax, connectionsPerSecondMax } = buyer.limits;
    const nowMs = this.clock.monotonicMs();
    let usage = this.#usage.get(buyer.account);
    if (!usage) {
      if (this.#usage.size >= this.#sweepAt) this.#sweep(nowMs);
      usage = { streams: 0, tokens: connectionsPerSecondMax, refilledAtMs: nowMs };
      this.#usage.set(buyer.account, usage);
    }
    usage.tokens = Math.min(
      connectionsPerSecondMax,
      usage.tokens + ((nowMs - usage.refilledAtMs) / 1_000) * connectionsPerSecondMax,
    );
    usage.refilledAtMs = nowMs;
    if (usage.streams >= streamsMax) return { ok: false, code: 'CONN_LIMIT' };
    if (usage.tokens < 1) return { ok: false, code: 'RATE_LIMIT' };
    usage.tokens -= 1;
    usage.streams += 1;
    const held = usage;
    let released = false;
    return {
      ok: true,
      release() {
        if (released) return;
        released = true;
        held.streams -= 1;
      },
    };
  }

  /** Live streams of the account through this gateway. */
  streams(account: string): number {
    return this.#usage.get(account)?.streams ?? 0;
  }

  #sweep(nowMs: number): void {
    // After a second without a connection every bucket is full again: nothing is forgotten.
    for (const [account, usage] of this.#usage)
      if (usage.streams === 0 && nowMs - usage.refilledAtMs > 1_000) this.#usage.delete(account);
    this.#sweepAt = Math.max(SWEEP_AT, this.#usage.size * 2);
  }
}
