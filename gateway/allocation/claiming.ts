import { randomUUID } from 'node:crypto';
import { readClaim, takeClaim } from '../live/claims.js';
import type { LiveRedis } from '../live/connection.js';
import type { ClaimRecord, GatewayRun } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { AllocationBook } from './allocation-book.js';
import type { CandidateIndex } from './candidate-index.js';
import { type AllocationBuyer, type Candidate, exitKey } from './candidates.js';
import { LiveAllocation } from './live-allocation.js';

/** The allocation that lives now; `taken`: somebody else holds the exit; `away`: Redis gave no answer. */
export type ClaimAttempt = LiveAllocation | 'taken' | 'away';

type ExitDevice = Pick<Candidate, 'providerId' | 'exitIp' | 'deviceId' | 'sessionId' | 'offerBytes'> & {
  sinceMs?: number | null;
};

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
  /** Exits of devices that came a moment ago: whether a claim came with them is being asked. */
  readonly #arrivals = new Map<string, Promise<void>>();

  constructor(
    private readonly deps: ClaimingDeps,
    private readonly book: AllocationBook,
    /** As of `AllocatorSettings`. */
    private readonly idleMs: number,
  ) {}

  /** A new allocation on the device's exit, unless somebody else holds it. `displaces` as for `take`. */
  takeFor(
    { account, buyerId }: Pick<AllocationBuyer, 'account' | 'buyerId'>,
    candidate: ExitDevice,
    displaces: string | null = null,
  ): Promise<ClaimAttempt> {
    return this.take(this.#onExitOf(candidate, { account, buyerId }), displaces);
  }

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

  /** Waits for the next attempt under way to come out that may give the account an exit; false: there are none. */
  async next(account: string): Promise<boolean> {
    const attempts = [...(this.#attempts.get(account) ?? []), ...this.#arrivals.values()];
    if (attempts.length === 0) return false;
    await Promise.race(attempts);
    return true;
  }

  /**
   * A device has come. Whoever held its exit by the tunnel it had before, here or at another gateway, holds it from now on
   * by this one. Out of others' reach while Redis is asked. Never rejects.
   */
  async arrived(candidate: Candidate): Promise<void> {
    const here = this.book.onExit(exitKey(candidate));
    const { sinceMs } = candidate;
    if (here?.device?.deviceId === candidate.deviceId) here.sinceMs = sinceMs ?? null;
    if (here !== undefined || sinceMs === undefined) return;
    const exit = exitKey(candidate);
    const arrival = this.#inherit(candidate);
    this.#arrivals.set(exit, arrival);
    await arrival;
    if (this.#arrivals.get(exit) === arrival) this.#arrivals.delete(exit);
  }

  /** Resolves when it is known whether a claim came with the device that came to the exit last. */
  async arrival(exit: string): Promise<void> {
    await this.#arrivals.get(exit);
  }

  async #inherit(candidate: Candidate): Promise<void> {
    const exit = exitKey(candidate);
    this.deps.index.setTaken(exit, true);
    try {
      const holder = await readClaim(this.deps.redis, candidate.providerId, candidate.exitIp);
      const heir = holder && this.#heirOf(holder, candidate);
      if (heir) await this.take(heir, holder.allocationId);
      else this.book.free(exit);
    } catch {
      this.book.free(exit);
    }
  }

  /** The allocation that goes on with what the device served by an earlier tunnel; null: that is not what it is. */
  #heirOf(holder: ClaimRecord, candidate: ExitDevice): LiveAllocation | null {
    const heir = this.#onExitOf(candidate, holder);
    if (holder.sessionId !== candidate.sessionId || !heir.comesAfter(holder)) return null;
    if (holder.sessionIdleMs !== undefined) {
      heir.isKept = true;
      heir.idleMs = Math.max(heir.idleMs, holder.sessionIdleMs);
    }
    return heir;
  }

  #onExitOf(
    { providerId, exitIp, deviceId, sessionId, offerBytes, sinceMs = null }: ExitDevice,
    { account, buyerId }: Pick<AllocationBuyer, 'account' | 'buyerId'>,
  ): LiveAllocation {
    const allocation = new LiveAllocation(
      {
        allocationId: randomUUID(),
        buyerId,
        account,
        providerId,
        exitIp,
        device: { deviceId, sessionId },
        packageId: null,
        sizeBytes: offerBytes,
        assignedAtMs: this.deps.clock.nowMs(),
        expiresAtMs: null,
      },
      this.idleMs,
      this.deps.clock.monotonicMs(),
    );
    allocation.sinceMs = sinceMs;
    return allocation;
  }

  /**
   * Whether the claim may be taken over. It was left by this gateway's earlier run, or by a worker beside this one, which
   * is over; or it is of what the same device served by an earlier tunnel, unless that goes on for another account. A
   * pulled package stays in its buyer's hands all the same.
   */
  #mayDisplace(holder: ClaimRecord | null, allocation: LiveAllocation): holder is ClaimRecord {
    if (holder?.packageId !== null) return false;
    const goesOn = holder.account !== allocation.account && holder.sessionId === allocation.device?.sessionId;
    if (allocation.comesAfter(holder) && !goesOn) return true;
    const { gatewayId, epoch } = this.deps.gateway;
    const by = holder.gateway;
    if (!by) return false;
    return (by.gatewayId === gatewayId && by.epoch !== epoch) || this.deps.isOver?.(by) === true;
  }

  /** Somebody else holds the exit. It goes on here for an account whose device has come here. */
  #passedOver(
    { exit, device, providerId, exitIp, sizeBytes, sinceMs }: LiveAllocation,
    holder: ClaimRecord | null,
  ): void {
    if (holder === null || holder.packageId !== null || device === null) {
      this.book.takenElsewhere(exit, holder?.gateway && { by: holder.gateway });
      return;
    }
    const heir = this.#heirOf(holder, { ...device, providerId, exitIp, sinceMs, offerBytes: sizeBytes });
    if (heir !== null) {
      void this.take(heir, holder.allocationId);
      return;
    }
    // A gateway that tells nothing of tunnels: it lets go of the exit when the device has left it.
    const isPassing = holder.device === undefined && holder.sessionId === device.sessionId;
    this.book.takenElsewhere(exit, { ...(holder.gateway && { by: holder.gateway }), isPassing });
  }

  async #attempt(allocation: LiveAllocation, displaces: string | null): Promise<ClaimAttempt> {
    const { redis, index, clock, gateway } = this.deps;
    // Out of others' sight while the answer is under way.
    index.setTaken(allocation.exit, true);
    try {
      const claim = allocation.claim(clock.nowMs(), gateway);
      if (displaces !== null) claim.displacesAllocationId = displaces;
      let outcome = await takeClaim(redis, claim);
      if (!outcome.held && this.#mayDisplace(outcome.holder, allocation))
        outcome = await takeClaim(redis, { ...claim, displacesAllocationId: outcome.holder.allocationId });
      if (outcome.held) {
        // Two first connections of a pulled package: the object that came first is the one that lives.
        const live = this.book.get(allocation.allocationId);
        if (live) return live;
        this.book.add(allocation);
        return allocation;
      }
      this.#passedOver(allocation, outcome.holder);
      return 'taken';
    } catch {
      // Nobody knows whether we hold it; if we do, it lapses unused.
      this.book.takenElsewhere(allocation.exit);
      return 'away';
    }
  }
}
