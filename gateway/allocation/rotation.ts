import type { LiveRedis } from '../live/connection.js';
import type { Clock } from '../runtime/clock.js';
import type { AllocationBook } from './allocation-book.js';
import type { AllocatorSettings } from './allocator-settings.js';
import type { CandidateIndex } from './candidate-index.js';
import { type AllocationBuyer, type Candidate, fits, type Place } from './candidates.js';
import type { Changes } from './changes.js';
import type { Claiming } from './claiming.js';
import type { Held, Holdings } from './holdings.js';
import { LiveAllocation } from './live-allocation.js';

type Choice<C> = Held<C> | { allocation: null; candidate: C } | null;

/** What may serve a connection; `away`: the live state would have to be asked and is not there; null: nothing. */
export type Found<C> = Held<C> | 'away' | null;

/** Who looks for an exit, and where. */
export interface Search {
  buyer: AllocationBuyer;
  /** Best first. */
  places: readonly Place[];
  /** Devices that failed the connection already. */
  exclude: ReadonlySet<string>;
  /** Until when it may wait for what is about to come free, monotonic ms: 0 where others can be asked instead. */
  untilMs: number;
}

export interface RotationParts<C extends Candidate> {
  redis: Pick<LiveRedis, 'status'>;
  index: CandidateIndex<C>;
  clock: Clock;
  random: () => number;
  book: AllocationBook;
  holdings: Holdings<C>;
  claiming: Claiming;
  changes: Changes;
}

/** Nobody tells when a device takes streams again: those who wait look so often, ms. */
const LOOK_INTERVAL_MS = 100;

/** Spreads an account's connections over the exits it holds and free ones. */
export class Rotation<C extends Candidate> {
  /** What others are to give up to accounts that have nothing, by account, with the connections that wait for it. */
  readonly #wanted = new Map<string, Wanted>();

  constructor(
    private readonly parts: RotationParts<C>,
    private readonly settings: AllocatorSettings,
  ) {}

  /** One that the buyer holds, or (allocation null) a free device to be claimed; null: neither. */
  choose({ buyer, places, exclude }: Search): Choice<C> {
    const { book, holdings, index, redis, random } = this.parts;
    const held = book.ofAccount(buyer.account).length;
    for (const place of places) {
      const own = held > 0 ? holdings.own(buyer.account, place, exclude) : undefined;
      const free = index.freeCount(place);
      const enough = held >= this.settings.rotatingAllocationsMax || redis.status !== 'ready' || free === 0;
      // As if drawn from both: the more are free there, the likelier a new one.
      const newIsDrawn = () => random() * (free + holdings.fittingCount(buyer.account, place)) < free;
      if (own && (enough || !newIsDrawn())) return own;
      const candidate = index.pickFree(place, exclude);
      if (candidate) return { allocation: null, candidate };
      if (own) return own;
    }
    return null;
  }

  /** As `choose`; what it chose first needs Redis, or patience. */
  async claimOrWait(search: Search, first: Choice<C>): Promise<Found<C>> {
    const { claiming, holdings } = this.parts;
    const { buyer, places, exclude } = search;
    const wait: Wait = { wanted: null };
    try {
      let choice = first;
      for (let tries = 0; tries < this.settings.triesMax; choice = this.choose(search)) {
        if (choice === null) {
          tries++;
          if (await claiming.next(buyer.account)) continue; // another connection of the buyer gets one
          if (holdings.reclaim(buyer.account, places, exclude, this.settings.reclaimIdleMs)) continue;
          if (!(await this.#waited(search, wait))) return null;
          tries = 0;
          continue;
        }
        if (choice.allocation) return choice;
        tries++;
        const { candidate } = choice;
        const taken = await claiming.takeFor(buyer, candidate);
        if (taken instanceof LiveAllocation) return { allocation: taken, candidate };
        if (taken === 'away') return this.#own(search) ?? 'away';
      }
      return this.#own(search) ?? null;
    } finally {
      this.#waitNoMore(buyer.account, wait);
    }
  }

  /** For a new session: an exit of its own if one is free, else one that the buyer holds already. */
  async fresh(search: Search): Promise<Found<C>> {
    for (let tries = 0; tries < this.settings.triesMax; tries++) {
      const candidate = this.#firstFree(search);
      if (!candidate) break;
      const taken = await this.parts.claiming.takeFor(search.buyer, candidate);
      if (taken instanceof LiveAllocation) return { allocation: taken, candidate };
      if (taken === 'away') break;
    }
    return this.claimOrWait(search, this.choose(search));
  }

  #firstFree({ places, exclude }: Search): C | undefined {
    for (const place of places) {
      const candidate = this.parts.index.pickFree(place, exclude);
      if (candidate) return candidate;
    }
    return undefined;
  }

  #own({ buyer, places, exclude }: Search): Held<C> | undefined {
    for (const place of places) {
      const own = this.parts.holdings.own(buyer.account, place, exclude);
      if (own) return own;
    }
    return undefined;
  }

  // Waiting ----------------------------------------------------------------------------------------------------

  /** Waits until something may be in reach; false, at once: nothing is about to be, or it took too long. */
  async #waited(search: Search, wait: Wait): Promise<boolean> {
    const leftMs = search.untilMs - this.parts.clock.monotonicMs();
    if (leftMs <= 0) return false;
    if (this.#wantOne(search, wait) === 'had') return true;
    if (wait.wanted === null && !this.#isPassing(search)) return false;
    await this.parts.changes.within(Math.min(leftMs, LOOK_INTERVAL_MS));
    return true;
  }

  /** Who has nothing is given an exit of somebody who has several, once its streams have ended; `had`: there were none. */
  #wantOne({ buyer, places, exclude }: Search, wait: Wait): 'had' | 'wanted' | 'none' {
    const { book, holdings } = this.parts;
    const { account } = buyer;
    let wanted = this.#wanted.get(account);
    if (wanted === undefined || wanted.allocation.endedBy !== null || wanted.allocation.isLeaving) {
      wait.wanted = null;
      this.#wanted.delete(account);
      if (places.some((place) => holdings.fittingCount(account, place) > 0)) return 'none';
      const allocation = holdings.sparest(account, places, exclude);
      if (allocation === undefined) return 'none';
      wanted = { allocation, waiting: 0 };
      this.#wanted.set(account, wanted);
      allocation.isWanted = true;
    }
    if (wait.wanted !== wanted) wanted.waiting++;
    wait.wanted = wanted;
    book.streamEnded(wanted.allocation);
    return wanted.allocation.endedBy === null ? 'wanted' : 'had';
  }

  #waitNoMore(account: string, { wanted }: Wait): void {
    if (wanted === null || --wanted.waiting > 0) return;
    wanted.allocation.isWanted = false;
    if (this.#wanted.get(account) === wanted) this.#wanted.delete(account);
  }

  /** Whether a device that fits waits only for its gateway of before to let go of its exit. */
  #isPassing({ places, exclude }: Search): boolean {
    const { book, index } = this.parts;
    for (const exit of book.passing()) {
      const candidate = index.byExit(exit, exclude);
      if (candidate && places.some((place) => fits(candidate, place))) return true;
    }
    return false;
  }
}

/** What another account is to give up, and how many connections wait for it. */
interface Wanted {
  allocation: LiveAllocation;
  waiting: number;
}

/** What one connection waits for, and is counted there. */
interface Wait {
  wanted: Wanted | null;
}
