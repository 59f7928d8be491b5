import { takeClaim } from '../live/claims.js';
import type { LiveRedis } from '../live/connection.js';
import type { ClaimRecord, GatewayRun } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { AllocationBook } from './allocation-book.js';
import type { CandidateIndex } from './candidate-index.js';
import type { Candidate } from './candidates.js';
import type { LiveAllocation } from './live-allocation.js';

/** The allocation that lives now; `taken`: somebody else holds the exit; `away`: Redis gave no answer. */
export type ClaimAttempt = LiveAllocation | 'taken' | 'away';

export interface ClaimingDeps {
  redis: LiveRedis;
  index: Pick<CandidateIndex<Candidate>, 'setTaken'>;
  clock: Clock;
  /** This process, as claims name it. */
  gateway: GatewayRun;
  /** Whether it is known that the process of that run has ended; left out: of none. */
  isOver?: (run: GatewayRun) => boolean;
}

/** Makes allocations live by taking their claim in Redis. */
export class Claiming {
  /** Under way, by account. */
  readonly #attempts = new Map<string, Set<Promise<ClaimAttempt>>>();

  constructor(
    private readonly deps: ClaimingDeps,
    private readonly book: AllocationBook,
  ) {}

  /** `displaces`: an allocation known to be dead whose claim may still stand. Never rejects. */
  async take(allocation: LiveAllocation, displaces: string | null = null): Promise<ClaimAttempt> {
    const { account } = allocation;
    const attempt = this.#attempt(allocation, displaces);
    const attempts = this.#attempts.get(account) ?? new Set();
    this.#attempts.set(account, attempts.add(attempt));
    const taken = await attempt;
    attempts.delete(attempt);
    if (attempts.size === 0 && this.#attempts.get(account) === attempts) this.#attempts.delete(account);
    return taken;
  }

  /** Waits for the next of the account's attempts under way to come out; false: there are none. */
  async next(account: string): Promise<boolean> {
    const attempts = this.#attempts.get(account);
    if (attempts === undefined) return false;
    await Promise.race(attempts);
    return true;
  }

  /**
   * Left by this gateway's earlier run, or by a worker beside this one, which is over; a pulled package stays in its
   * buyer's hands all the same.
   */
  #isDead(holder: ClaimRecord | null): holder is ClaimRecord {
    const { gatewayId, epoch } = this.deps.gateway;
    const by = holder?.gateway;
    if (holder?.packageId !== null || !by) return false;
    return (by.gatewayId === gatewayId && by.epoch !== epoch) || this.deps.isOver?.(by) === true;
  }

  async #attempt(allocation: LiveAllocation, displaces: string | null): Promise<ClaimAttempt> {
    const { redis, index, clock, gateway } = this.deps;
    // Out of others' sight while the answer is under way.
    index.setTaken(allocation.exit, true);
    try {
      const claim = allocation.claim(clock.nowMs(), gateway);
      if (displaces !== null) claim.displacesAllocationId = displaces;
      let outcome = await takeClaim(redis, claim);
      if (!outcome.held && this.#isDead(outcome.holder))
        outcome = await takeClaim(redis, { ...claim, displacesAllocationId: outcome.holder.allocationId });
      if (outcome.held) {
        // Two first connections of a pulled package: the object that came first is the one that lives.
        const live = this.book.get(allocation.allocationId);
        if (live) return live;
        this.book.add(allocation);
        return allocation;
      }
      this.book.takenElsewhere(allocation.exit, outcome.holder?.gateway);
      return 'taken';
    } catch {
      // Nobody knows whether we hold it; if we do, it lapses unused.
      this.book.takenElsewhere(allocation.exit);
      return 'away';
    }
  }
}
