import type { Clock } from '../runtime/clock.js';
import type { AllocationBook } from './allocation-book.js';
import type { CandidateIndex } from './candidate-index.js';
import { type Candidate, fits, type Place, takesStreams } from './candidates.js';
import type { LiveAllocation } from './live-allocation.js';

/** An allocation that this gateway holds, with the device that serves it. */
export interface Held<C> {
  allocation: LiveAllocation;
  candidate: C;
}

/** Of an account that holds more, so many are looked at to estimate how many fit. */
const LOOKS_MAX = 32;

/** Finds among the live allocations what a connection can use. */
export class Holdings<C extends Candidate> {
  /** Moves on with each connection: where to begin among a buyer's allocations. */
  #turn = 0;

  constructor(
    private readonly deps: { index: Pick<CandidateIndex<C>, 'byDevice'>; clock: Clock },
    private readonly book: AllocationBook,
  ) {}

  /** One of the account's allocations that fits and whose device takes streams, in turn. */
  own(account: string, place: Place, exclude: ReadonlySet<string>): Held<C> | undefined {
    const held = [...this.book.ofAccount(account)];
    const start = this.#turn++;
    for (let i = 0; i < held.length; i++) {
      const allocation = held[(start + i) % held.length] as LiveAllocation;
      const candidate = allocation.isWanted ? undefined : this.usable(allocation);
      if (candidate && !exclude.has(candidate.deviceId) && fits(candidate, place))
        return { allocation, candidate };
    }
    return undefined;
  }

  /** How many of the account's allocations fit the place, about. */
  fittingCount(account: string, place: Place): number {
    const held = this.book.ofAccount(account);
    const looks = Math.min(held.length, LOOKS_MAX);
    let fitting = 0;
    for (let i = 0; i < looks; i++) {
      const { device } = held[(this.#turn + i) % held.length] as LiveAllocation;
      const candidate = device && this.deps.index.byDevice(device.deviceId);
      if (candidate && fits(candidate, place)) fitting++;
    }
    return looks === 0 ? 0 : (fitting * held.length) / looks;
  }

  /** The device that serves the allocation (not a pulled one) if it takes streams now. May end the allocation. */
  usable(allocation: LiveAllocation): C | undefined {
    const { device } = allocation;
    if (device === null || allocation.endedBy !== null || allocation.isLeaving) return undefined;
    if (allocation.remainingBytes <= 0) {
      this.book.end(allocation, 'used_up');
      return undefined;
    }
    const candidate = this.deps.index.byDevice(device.deviceId);
    if (candidate === undefined) return undefined; // it may come back
    if (candidate.sessionId !== device.sessionId || candidate.exitIp !== allocation.exitIp) {
      this.book.end(allocation, 'device_gone');
      return undefined;
    }
    return takesStreams(candidate) ? candidate : undefined;
  }

  /** Frees the exit that fits and was idle longest, of another account that holds several; false: there is none. */
  reclaim(account: string, places: readonly Place[], exclude: ReadonlySet<string>, idleMs: number): boolean {
    const idleSinceMs = this.deps.clock.monotonicMs() - idleMs;
    let longest: LiveAllocation | undefined;
    const isWorth = ({ streams, usedAtMs }: LiveAllocation) =>
      streams === 0 && usedAtMs <= idleSinceMs && !(longest && longest.usedAtMs <= usedAtMs);
    for (const allocation of this.#sparable(isWorth, account, places, exclude)) longest = allocation;
    if (longest) this.book.end(longest, 'reclaimed');
    return longest !== undefined;
  }

  /** For an account that has nothing: what another one can spare with the fewest streams; undefined: there is nothing. */
  sparest(
    account: string,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
  ): LiveAllocation | undefined {
    let sparest: LiveAllocation | undefined;
    const isWorth = ({ isWanted, streams }: LiveAllocation) =>
      !isWanted && !(sparest && sparest.streams <= streams);
    for (const allocation of this.#sparable(isWorth, account, places, exclude)) sparest = allocation;
    return sparest;
  }

  /** Exits that fit, of other accounts that have another one and do not keep this one for a named session. */
  *#sparable(
    isWorth: (allocation: LiveAllocation) => boolean,
    account: string,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
  ): Generator<LiveAllocation> {
    for (const allocation of this.book.all()) {
      const { device, sessions, isKept, isLeaving, account: holder } = allocation;
      if (device === null || sessions.size > 0 || isKept || isLeaving || holder === account) continue;
      if (!isWorth(allocation)) continue;
      const candidate = this.deps.index.byDevice(device.deviceId);
      if (!candidate || !takesStreams(candidate) || exclude.has(candidate.deviceId)) continue;
      if (places.some((place) => fits(candidate, place)) && this.#hasAnother(allocation)) yield allocation;
    }
  }

  /** Whether its account could go on without it. */
  #hasAnother(allocation: LiveAllocation): boolean {
    return this.book.ofAccount(allocation.account).some((other) => {
      if (other === allocation || other.isWanted || other.device === null) return false;
      const candidate = this.deps.index.byDevice(other.device.deviceId);
      return candidate !== undefined && takesStreams(candidate);
    });
  }
}
