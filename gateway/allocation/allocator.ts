import { randomUUID } from 'node:crypto';
import type { ProxyFailure } from '../errors.js';
import type { GatewayRun, PackageRoute, StickyRecord } from '../live/records.js';
import type { Log } from '../runtime/logging.js';
import { type Soon, soon } from '../runtime/soon.js';
import { AllocationBook, type AllocationBookDeps } from './allocation-book.js';
import { type AllocatorSettings, allocatorDefaults } from './allocator-settings.js';
import type { CandidateIndex } from './candidate-index.js';
import {
  type AllocationBuyer,
  type Candidate,
  exitKey,
  fits,
  type Place,
  placesOf,
  type RouteWish,
  takesStreams,
} from './candidates.js';
import { type ClaimAttempt, Claiming, type ClaimingDeps } from './claiming.js';
import { type Held, Holdings } from './holdings.js';
import { type AllocationEnd, LiveAllocation } from './live-allocation.js';
import { StickySessions } from './sticky-sessions.js';
import { followRoutes, RENEWAL_INTERVAL_MS, renewAllocations, sweepAllocations } from './upkeep.js';

export type { AllocatorSettings };

export interface AllocatorDeps<C extends Candidate> extends AllocationBookDeps, ClaimingDeps {
  index: CandidateIndex<C>;
  log: Log;
  /**
   * The allocation serves nobody any more; called once, before its exit is free for others. Cut the streams it
   * still has and make its meters FINAL. Only a pulled package that ends by `shutdown` is not over: it is served
   * again under the same id, by another gateway or this one's next life.
   */
  onAllocationEnded(allocation: LiveAllocation, reason: AllocationEnd): void;
  /** [0, 1); for tests. */
  random?: () => number;
  /** Which other worker of this gateway has the device; left out: none. */
  workerWith?: (deviceId: string) => number | null;
  /** Which other gateway has it, that can be asked; left out: none can. Never rejects. */
  gatewayWith?: ((deviceId: string) => Promise<string | null>) | undefined;
}

/** An allocation and the device to dial through. */
export interface Allocated<C> {
  ok: true;
  allocation: LiveAllocation;
  candidate: C;
  /** Call when the stream has ended, or was never made. Calling it again does nothing. */
  release(): void;
}

/**
 * NO_PEER: no device free that fits, or the live state is away (`detail`): try again. SESSION_LOST: a strict
 * session whose exit is gone. AUTH_FAILED: not this buyer's package, or ended by the platform. QUOTA_REACHED: the
 * package is used up.
 */
export type AllocationOutcome<C> = Allocated<C> | NoAllocation;

/** `heldBy`: the worker, or by its id the gateway, that has the device which the named session keeps. */
export type NoAllocation = ProxyFailure & { heldBy?: number | string };

type Choice<C> = Held<C> | { allocation: null; candidate: C } | null;

const NONE: ReadonlySet<string> = new Set();
const NO_PEER: ProxyFailure = { ok: false, code: 'NO_PEER' };
const AWAY: ProxyFailure = { ok: false, code: 'NO_PEER', detail: 'live state unavailable' };

/**
 * Gives each connection an exit. One provider at one address serves one allocation at a time; the claim in Redis
 * decides, also between gateways. What this gateway holds already is given out again without asking Redis.
 */
export class Allocator<C extends Candidate> {
  readonly #settings: AllocatorSettings;
  readonly #book: AllocationBook;
  readonly #holdings: Holdings<C>;
  readonly #claiming: Claiming;
  readonly #sessions: StickySessions;
  /** One choice at a time for a session, so that its first connections all get the same exit. */
  readonly #binding = new Map<string, Promise<unknown>>();
  readonly #random: () => number;
  #timer: NodeJS.Timeout | null = null;
  #renewedAtMs: number;

  constructor(
    private readonly deps: AllocatorDeps<C>,
    settings: Partial<AllocatorSettings> = {},
  ) {
    this.#settings = { ...allocatorDefaults, ...settings };
    this.#book = new AllocationBook(deps, this.#settings.takenRetryMs);
    this.#holdings = new Holdings(deps, this.#book);
    this.#claiming = new Claiming(deps, this.#book);
    this.#sessions = new StickySessions(deps, this.#settings.sessionsMax);
    this.#random = deps.random ?? Math.random;
    this.#renewedAtMs = deps.clock.monotonicMs();
  }

  /** Live allocations of this gateway. */
  get size(): number {
    return this.#book.size;
  }

  get(allocationId: string): LiveAllocation | undefined {
    return this.#book.get(allocationId);
  }

  all(): IterableIterator<LiveAllocation> {
    return this.#book.all();
  }

  /** Ends idle allocations and renews claims by itself from now on, until `stop`. */
  start(): void {
    this.#timer ??= setInterval(() => {
      this.sweep();
      if (this.deps.clock.monotonicMs() - this.#renewedAtMs >= RENEWAL_INTERVAL_MS) void this.renew();
    }, 1_000).unref();
  }

  /** Ends every allocation (`shutdown`) and resolves when their claims are released, or could not be. */
  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    for (const allocation of [...this.#book.all()]) this.#book.end(allocation, 'shutdown');
    await this.#book.released();
  }

  /** Ends what is idle, expired or used up. Called every second after `start`. */
  sweep(): void {
    sweepAllocations(this.#book, this.deps.clock);
    this.#sessions.sweep((allocationId) => this.#book.get(allocationId));
  }

  /** Renews all claims now: every third of their ttl after `start`; call it when `CommandReader` reports a resync. */
  async renew(): Promise<void> {
    this.#renewedAtMs = this.deps.clock.monotonicMs();
    await followRoutes(this.#book, this.deps);
    await renewAllocations(this.#book, this.deps);
  }

  /** Ends one; false: it does not live here. A pulled package is not served again. */
  end(allocationId: string, reason: 'ended' | 'used_up' = 'ended'): boolean {
    const allocation = this.#book.get(allocationId);
    if (allocation) this.#book.end(allocation, reason);
    return allocation !== undefined;
  }

  /** A traffic session stopped for good: its allocations end. Pulled packages wait for their exit to come back. */
  sessionStopped(sessionId: string): void {
    for (const allocation of [...this.#book.all()])
      if (allocation.device?.sessionId === sessionId) this.#book.end(allocation, 'device_gone');
  }

  /** Another worker has the device now: what it served here ends. Resolves when its exit is free there; null: it was. */
  deviceMoved(deviceId: string): Promise<void> | null {
    const served = [...this.#book.all()].filter(({ device }) => device?.deviceId === deviceId);
    for (const allocation of served) this.#book.end(allocation, 'device_gone');
    return served.length === 0 ? null : this.#book.released();
  }

  /** That process has ended, or given exits back: those that it kept out of reach are tried again at once. */
  heldNoMore(run: GatewayRun): void {
    this.#book.heldNoMore(run);
  }

  /**
   * Chooses the exit for one connection. `exclude`: devices that failed it already. Never rejects. What it gives
   * counts as in use until `release`. At once when nothing has to be asked of Redis.
   */
  allocate(
    buyer: AllocationBuyer,
    wish: RouteWish,
    exclude: ReadonlySet<string> = NONE,
  ): Soon<AllocationOutcome<C>> {
    if (wish.packageId !== null) return this.#forPackage(buyer, wish.packageId, exclude);
    if (wish.session !== null) return this.#forSession(buyer, wish, wish.session, exclude);
    return this.#rotate(buyer, placesOf(wish), exclude);
  }

  // Rotation ---------------------------------------------------------------------------------------------------

  /** Any device that fits, spread over those the buyer holds and free ones. */
  #rotate(
    buyer: AllocationBuyer,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
  ): Soon<AllocationOutcome<C>> {
    const choice = this.#choose(buyer, places, exclude);
    if (choice?.allocation) return this.#hold(choice.allocation, choice.candidate);
    return this.#claimOrWait(buyer, places, exclude, choice);
  }

  /** As `#rotate`; what it chose first needs Redis, or patience. */
  async #claimOrWait(
    buyer: AllocationBuyer,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
    first: Choice<C>,
  ): Promise<AllocationOutcome<C>> {
    for (let tries = 0; tries < this.#settings.triesMax; tries++) {
      const choice = tries === 0 ? first : this.#choose(buyer, places, exclude);
      if (choice === null) {
        if (await this.#claiming.next(buyer.account)) continue; // another connection of the buyer gets one
        if (this.#holdings.reclaim(buyer.account, places, exclude, this.#settings.reclaimIdleMs)) continue;
        return NO_PEER;
      }
      if (choice.allocation) return this.#hold(choice.allocation, choice.candidate);
      const taken = await this.#take(buyer, choice.candidate);
      if (taken instanceof LiveAllocation) return this.#hold(taken, choice.candidate);
      if (taken === 'away') return this.#holdOwn(buyer, places, exclude) ?? AWAY;
    }
    return this.#holdOwn(buyer, places, exclude) ?? NO_PEER;
  }

  /** One that the buyer holds, or (allocation null) a free device to be claimed; null: neither. */
  #choose(buyer: AllocationBuyer, places: readonly Place[], exclude: ReadonlySet<string>): Choice<C> {
    const held = this.#book.ofAccount(buyer.account).length;
    for (const place of places) {
      const own = held > 0 ? this.#holdings.own(buyer.account, place, exclude) : undefined;
      const free = this.deps.index.freeCount(place);
      const enough =
        held >= this.#settings.rotatingAllocationsMax || this.deps.redis.status !== 'ready' || free === 0;
      // As if drawn from both: the more are free there, the likelier a new one.
      const newIsDrawn = () =>
        this.#random() * (free + this.#holdings.fittingCount(buyer.account, place)) < free;
      if (own && (enough || !newIsDrawn())) return own;
      const candidate = this.deps.index.pickFree(place, exclude);
      if (candidate) return { allocation: null, candidate };
      if (own) return own;
    }
    return null;
  }

  #holdOwn(
    buyer: AllocationBuyer,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
  ): Allocated<C> | undefined {
    for (const place of places) {
      const own = this.#holdings.own(buyer.account, place, exclude);
      if (own) return this.#hold(own.allocation, own.candidate);
    }
    return undefined;
  }

  // Sessions ---------------------------------------------------------------------------------------------------

  /** The session's own exit while it can be had; else another one, or SESSION_LOST when strict. */
  #forSession(
    buyer: AllocationBuyer,
    wish: RouteWish,
    session: string,
    exclude: ReadonlySet<string>,
  ): Soon<AllocationOutcome<C>> {
    const key = StickySessions.key(buyer.account, session);
    const places = placesOf(wish);
    const bound = this.#binding.has(key) ? undefined : this.#bound(key, places, exclude);
    if (bound) return this.#holdFor(buyer, wish, session, bound);
    return this.#inTurn(key, buyer, wish, session, places, exclude);
  }

  /** As `#forSession`, behind those that are choosing for the session. */
  async #inTurn(
    key: string,
    buyer: AllocationBuyer,
    wish: RouteWish,
    session: string,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
  ): Promise<AllocationOutcome<C>> {
    for (let other = this.#binding.get(key); other; other = this.#binding.get(key)) await other;
    const bound = this.#bound(key, places, exclude);
    if (bound) return this.#holdFor(buyer, wish, session, bound);
    const binding = this.#bind(buyer, wish, session, places, exclude);
    this.#binding.set(key, binding);
    try {
      return await binding;
    } finally {
      this.#binding.delete(key);
    }
  }

  #bound(key: string, places: readonly Place[], exclude: ReadonlySet<string>): Held<C> | undefined {
    const sticky = this.#sessions.get(key);
    const allocation = sticky && this.#book.get(sticky.allocationId);
    const candidate = allocation && this.#holdings.usable(allocation);
    if (!candidate || exclude.has(candidate.deviceId)) return undefined;
    return places.some((place) => fits(candidate, place)) ? { allocation, candidate } : undefined;
  }

  /** @param decided what another gateway has decided meanwhile */
  async #bind(
    buyer: AllocationBuyer,
    wish: RouteWish,
    session: string,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
    decided: StickyRecord | null = null,
  ): Promise<AllocationOutcome<C>> {
    const before = decided ?? (await this.#sessions.before(buyer.account, session));
    if (before === 'unavailable') {
      if (wish.strict) return AWAY; // it may have an exit that nobody can name now
    } else if (before !== null) {
      const candidate = this.deps.index.byDevice(before.deviceId);
      const heldBy = candidate || wish.stays ? null : await this.#holderOf(before.deviceId);
      if (heldBy != null) return { ok: false, code: wish.strict ? 'SESSION_LOST' : 'NO_PEER', heldBy };
      const same =
        candidate !== undefined &&
        takesStreams(candidate) &&
        exitKey(candidate) === exitKey(before) &&
        !exclude.has(candidate.deviceId) &&
        places.some((place) => fits(candidate, place));
      const again = same ? await this.#retake(buyer, candidate, before.allocationId) : 'taken';
      if (candidate && again instanceof LiveAllocation)
        return this.#holdFor(buyer, wish, session, { allocation: again, candidate });
      if (wish.strict) return again === 'away' ? AWAY : { ok: false, code: 'SESSION_LOST' };
    }
    const fresh = await this.#fresh(buyer, places, exclude);
    if (!fresh.ok) return fresh;
    const { allocation } = fresh;
    const { account } = buyer;
    const faster = decided ? null : await this.#sessions.decide(account, session, wish, allocation, before);
    if (faster !== null) {
      fresh.release();
      if (allocation.streams === 0 && allocation.sessions.size === 0) this.#book.end(allocation, 'ended');
      return this.#bind(buyer, wish, session, places, exclude, faster);
    }
    this.#sessions.use(account, session, wish.ttlMinutes, allocation);
    return fresh;
  }

  /** Who else has the device. */
  async #holderOf(deviceId: string): Promise<number | string | null> {
    return this.deps.workerWith?.(deviceId) ?? (await this.deps.gatewayWith?.(deviceId)) ?? null;
  }

  /** The exit that a session had: through what the buyer holds on it, or a new claim in place of a dead one. */
  async #retake(buyer: AllocationBuyer, candidate: C, deadAllocationId: string): Promise<ClaimAttempt> {
    const holder = this.#book.onExit(exitKey(candidate));
    const isOwn = holder?.account === buyer.account;
    if (holder && isOwn && this.#holdings.usable(holder) === candidate) return holder;
    // `usable` may just have ended it (used up, new traffic session): the exit is free again.
    if (this.#book.onExit(exitKey(candidate))) return 'taken';
    return this.#take(buyer, candidate, deadAllocationId);
  }

  /** For a new session: an exit of its own if one is free, else one that the buyer holds already. */
  async #fresh(
    buyer: AllocationBuyer,
    places: readonly Place[],
    exclude: ReadonlySet<string>,
  ): Promise<AllocationOutcome<C>> {
    for (let tries = 0; tries < this.#settings.triesMax; tries++) {
      const candidate = this.#firstFree(places, exclude);
      if (!candidate) break;
      const taken = await this.#take(buyer, candidate);
      if (taken instanceof LiveAllocation) return this.#hold(taken, candidate);
      if (taken === 'away') break;
    }
    return this.#rotate(buyer, places, exclude);
  }

  #firstFree(places: readonly Place[], exclude: ReadonlySet<string>): C | undefined {
    for (const place of places) {
      const candidate = this.deps.index.pickFree(place, exclude);
      if (candidate) return candidate;
    }
    return undefined;
  }

  // Pulled packages --------------------------------------------------------------------------------------------

  #forPackage(
    buyer: AllocationBuyer,
    packageId: string,
    exclude: ReadonlySet<string>,
  ): Soon<AllocationOutcome<C>> {
    const { packageRoute: route } = buyer;
    const isOwn = route?.packageId === packageId && route.buyerId === buyer.buyerId;
    if (!route || !isOwn || route.expiresAtMs <= this.deps.clock.nowMs())
      return { ok: false, code: 'AUTH_FAILED' };
    const over = this.#book.endedPackage(route.allocationId);
    if (over) return { ok: false, code: over === 'used_up' ? 'QUOTA_REACHED' : 'AUTH_FAILED' };

    const live = this.#book.get(route.allocationId);
    const allocation = live ?? this.#packageAllocation(route);
    allocation.follow(route);
    if (allocation.remainingBytes <= 0) {
      if (live) this.#book.end(live, 'used_up');
      return { ok: false, code: 'QUOTA_REACHED' };
    }
    const candidate = this.deps.index.byExit(allocation.exit, exclude);
    if (!candidate) return NO_PEER;
    return soon(live ?? this.#claiming.take(allocation), (taken) => {
      if (taken instanceof LiveAllocation) return this.#hold(taken, candidate);
      return taken === 'away' ? AWAY : NO_PEER;
    });
  }

  #packageAllocation(route: PackageRoute): LiveAllocation {
    const keptUntilItExpires = Number.POSITIVE_INFINITY;
    return new LiveAllocation({ ...route, device: null }, keptUntilItExpires, this.deps.clock.monotonicMs());
  }

  // What connections hold --------------------------------------------------------------------------------------

  /** A new allocation on the device's exit, unless somebody else holds it. */
  #take(buyer: AllocationBuyer, candidate: C, displaces: string | null = null): Promise<ClaimAttempt> {
    const facts = {
      allocationId: randomUUID(),
      buyerId: buyer.buyerId,
      account: buyer.account,
      providerId: candidate.providerId,
      exitIp: candidate.exitIp,
      device: { deviceId: candidate.deviceId, sessionId: candidate.sessionId },
      packageId: null,
      sizeBytes: candidate.offerBytes,
      assignedAtMs: this.deps.clock.nowMs(),
      expiresAtMs: null,
    };
    const allocation = new LiveAllocation(facts, this.#settings.idleMs, this.deps.clock.monotonicMs());
    return this.#claiming.take(allocation, displaces);
  }

  #holdFor(buyer: AllocationBuyer, wish: RouteWish, session: string, held: Held<C>): Allocated<C> {
    this.#sessions.use(buyer.account, session, wish.ttlMinutes, held.allocation);
    return this.#hold(held.allocation, held.candidate);
  }

  #hold(allocation: LiveAllocation, candidate: C): Allocated<C> {
    const { clock } = this.deps;
    allocation.streams++;
    allocation.usedAtMs = clock.monotonicMs();
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      allocation.streams--;
      allocation.usedAtMs = clock.monotonicMs();
      this.#sessions.touch(allocation.sessions, allocation.usedAtMs);
    };
    return { ok: true, allocation, candidate, release };
  }
}
