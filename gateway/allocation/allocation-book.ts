import { CLAIM_TTL_MS, releaseClaim } from '../live/claims.js';
import type { LiveRedis } from '../live/connection.js';
import type { GatewayRun } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { AllocatorSettings } from './allocator-settings.js';
import type { CandidateIndex } from './candidate-index.js';
import type { Candidate } from './candidates.js';
import type { Changes } from './changes.js';
import type { AllocationEnd, LiveAllocation } from './live-allocation.js';

export interface AllocationBookDeps {
  redis: LiveRedis;
  index: Pick<CandidateIndex<Candidate>, 'setTaken'>;
  clock: Clock;
  /** See `AllocatorDeps`. */
  onAllocationEnded(allocation: LiveAllocation, reason: AllocationEnd): void;
}

/**
 * The live allocations of this gateway, and which exits are out of reach. Only this file begins and ends them, so
 * that the maps, the index and the claims agree.
 */
export class AllocationBook {
  readonly #byId = new Map<string, LiveAllocation>();
  readonly #byExit = new Map<string, LiveAllocation>();
  readonly #byAccount = new Map<string, LiveAllocation[]>();
  /** Exits that somebody else holds. */
  readonly #elsewhere = new Map<
    string,
    { untilMs: number; by: GatewayRun | undefined; isPassing: boolean }
  >();
  /**
   * Pulled packages that are over before their time, until then: a route to them may still be in Redis. They are not
   * served again under the same id, since their meters are FINAL.
   */
  readonly #endedPackages = new Map<string, { reason: AllocationEnd; expiresAtMs: number }>();
  readonly #releases = new Set<Promise<unknown>>();

  constructor(
    private readonly deps: AllocationBookDeps,
    private readonly settings: Pick<AllocatorSettings, 'takenRetryMs' | 'passingRetryMs'>,
    private readonly changes: Pick<Changes, 'tell'>,
  ) {}

  get size(): number {
    return this.#byId.size;
  }

  get(allocationId: string): LiveAllocation | undefined {
    return this.#byId.get(allocationId);
  }

  all(): IterableIterator<LiveAllocation> {
    return this.#byId.values();
  }

  onExit(exit: string): LiveAllocation | undefined {
    return this.#byExit.get(exit);
  }

  /** In no order; changes with `add` and `end`. */
  ofAccount(account: string): readonly LiveAllocation[] {
    return this.#byAccount.get(account) ?? [];
  }

  /** Its claim is held: it lives. */
  add(allocation: LiveAllocation): void {
    const before = this.#byExit.get(allocation.exit);
    // Redis was wiped in between and gave our own exit away; the claim is what counts.
    if (before) this.end(before, 'claim_lost');
    this.#byId.set(allocation.allocationId, allocation);
    this.#byExit.set(allocation.exit, allocation);
    const ofAccount = this.#byAccount.get(allocation.account);
    if (ofAccount) ofAccount.push(allocation);
    else this.#byAccount.set(allocation.account, [allocation]);
    this.#elsewhere.delete(allocation.exit);
    this.deps.index.setTaken(allocation.exit, true);
  }

  /**
   * Its device has moved to another gateway, and the exit with it: nothing new goes through it, and it ends with the
   * last stream it has.
   */
  leave(allocation: LiveAllocation): void {
    if (allocation.endedBy !== null || allocation.isLeaving) return;
    allocation.isLeaving = true;
    this.#forget(allocation);
    this.takenElsewhere(allocation.exit);
    this.streamEnded(allocation);
  }

  /** What was only to see its streams end is over when it has none any more. */
  streamEnded(allocation: LiveAllocation): void {
    if (allocation.streams > 0) return;
    if (allocation.isLeaving) this.end(allocation, 'device_gone');
    else if (allocation.isWanted) this.end(allocation, 'reclaimed');
  }

  /** It is found by its id alone from now on. */
  #forget(allocation: LiveAllocation): void {
    if (this.#byExit.get(allocation.exit) === allocation) this.#byExit.delete(allocation.exit);
    const ofAccount = this.#byAccount.get(allocation.account) ?? [];
    const at = ofAccount.indexOf(allocation);
    if (at >= 0) ofAccount.splice(at, 1);
    if (ofAccount.length === 0) this.#byAccount.delete(allocation.account);
  }

  /** Ends it once: its owner is told first, then its exit is free for others. */
  end(allocation: LiveAllocation, reason: AllocationEnd): void {
    if (allocation.endedBy !== null) return;
    allocation.endedBy = reason;
    this.#byId.delete(allocation.allocationId);
    this.#forget(allocation);
    if (allocation.expiresAtMs !== null && reason !== 'shutdown')
      this.#endedPackages.set(allocation.allocationId, { reason, expiresAtMs: allocation.expiresAtMs });
    this.deps.onAllocationEnded(allocation, reason);
    if (reason === 'claim_lost') {
      this.takenElsewhere(allocation.exit);
      return;
    }
    if (!allocation.isLeaving) {
      this.deps.index.setTaken(allocation.exit, false);
      this.changes.tell();
    }
    // A pulled package outlives this gateway: its exit stays its own until it expires.
    if (reason !== 'shutdown' || allocation.packageId === null) this.release(allocation);
  }

  /** Gives the exit back in the background; when Redis is away, the claim lapses by itself. */
  release(allocation: LiveAllocation): void {
    const release = releaseClaim(this.deps.redis, allocation).catch(() => false);
    this.#releases.add(release);
    void release.then(() => this.#releases.delete(release));
  }

  /** Resolves when the claims of what has ended are released, or could not be. */
  async released(): Promise<void> {
    await Promise.all(this.#releases);
  }

  /**
   * Somebody else holds the exit: out of reach for a while. `by`: the process, where it is known. `isPassing`: it is to
   * let go of it in a moment.
   */
  takenElsewhere(
    exit: string,
    { by, isPassing = false }: { by?: GatewayRun; isPassing?: boolean } = {},
  ): void {
    const retryMs = isPassing ? this.settings.passingRetryMs : this.settings.takenRetryMs;
    const taken = { untilMs: this.deps.clock.monotonicMs() + retryMs, by, isPassing };
    this.#elsewhere.set(exit, taken);
    this.deps.index.setTaken(exit, true);
    if (!isPassing) return;
    setTimeout(() => {
      if (this.#elsewhere.get(exit) === taken) this.free(exit);
    }, retryMs).unref();
  }

  /** Exits that are to come within reach in a moment. */
  *passing(): Generator<string> {
    for (const [exit, { isPassing }] of this.#elsewhere) if (isPassing) yield exit;
  }

  /** What that process kept out of reach may be tried again. */
  heldNoMore({ gatewayId, epoch }: GatewayRun): void {
    for (const [exit, { by }] of this.#elsewhere)
      if (by?.gatewayId === gatewayId && by.epoch === epoch) this.free(exit);
  }

  /** Nobody else is known to hold the exit: it may be tried. */
  free(exit: string): void {
    this.#elsewhere.delete(exit);
    if (this.#byExit.has(exit)) return;
    this.deps.index.setTaken(exit, false);
    this.changes.tell();
  }

  /** Why a pulled package is not served any more, or undefined. */
  endedPackage(allocationId: string): AllocationEnd | undefined {
    return this.#endedPackages.get(allocationId)?.reason;
  }

  /** Brings exits back into reach whose time has come, and forgets packages that have expired. */
  sweep(): void {
    const nowMs = this.deps.clock.monotonicMs();
    for (const [exit, { untilMs }] of this.#elsewhere) if (untilMs <= nowMs) this.free(exit);
    const wallMs = this.deps.clock.nowMs();
    for (const [allocationId, { expiresAtMs }] of this.#endedPackages)
      if (expiresAtMs + CLAIM_TTL_MS < wallMs) this.#endedPackages.delete(allocationId);
  }
}
