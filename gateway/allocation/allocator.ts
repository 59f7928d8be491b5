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
  placesOf,
  type RouteWish,
  takesStreams,
} from './candidates.js';
import { Changes } from './changes.js';
import { type ClaimAttempt, Claiming, type ClaimingDeps } from './claiming.js';
import { type Held, Holdings } from './holdings.js';
import { type AllocationEnd, LiveAllocation } from './live-allocation.js';
import { type Found, Rotation, type Search } from './rotation.js';
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
  readonly #rotation: Rotation<C>;
  readonly #changes = new Changes();
  readonly #sessions: StickySessions;
  /** One choice at a time for a session, so that its first connections all get the same exit. */
  readonly #binding = new Map<string, Promise<unknown>>();
  #timer: NodeJS.Timeout | null = null;
  #renewedAtMs: number;

  constructor(
    private readonly deps: AllocatorDeps<C>,
    settings: Partial<AllocatorSettings> = {},
  ) {
    this.#settings = { ...allocatorDefaults, ...settings };
    this.#book = new AllocationBook(deps, this.#settings, this.#changes);
    this.#holdings = new Holdings(deps, this.#book);
    this.#claiming = new Claiming(deps, this.#book, this.#settings.idleMs);
    this.#sessions = new StickySessions(deps, this.#settings.sessionsMax);
    const { redis, index, clock, random = Math.random } = deps;
    const parts = { redis, index, clock, random, holdings: this.#holdings, claiming: this.#claiming };
    this.#rotation = new Rotation<C>({ ...parts, book: this.#book, changes: this.#changes }, this.#settings);
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

  /** A device has come: it may be chosen, and whoever held its exit by its tunnel of before holds it on. */
  deviceCame(candidate: C): void {
    this.deps.index.add(candidate);
    void this.#claiming.arrived(candidate).then(() => this.#changes.tell());
  }

  /** The device has another tunnel at another gateway: its exit goes there, what goes through it here may end in peace. */
  deviceLeft(deviceId: string): void {
    for (const allocation of [...this.#book.all()])
      if (allocation.device?.deviceId === deviceId) this.#book.leave(allocation);
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
   * Chooses the exit for one connection. `exclude`: devices that failed it already. `isLast`: nobody else can serve it, so
   * it waits for what is about to come free, `waitMs` at most. Never rejects. What it gives counts as in use until
   * `release`. At once when nothing has to be asked of Redis.
   */
  allocate(
    buyer: AllocationBuyer,
    wish: RouteWish,
    exclude: ReadonlySet<string> = NONE,
    isLast = false,
  ): Soon<AllocationOutcome<C>> {
    if (wish.packageId !== null) return this.#forPackage(buyer, wish.packageId, exclude);
    const untilMs = isLast ? this.deps.clock.monotonicMs() + this.#settings.waitMs : 0;
    const search = { buyer, places: placesOf(wish), exclude, untilMs };
    if (wish.session !== null) return this.#forSession(search, wish, wish.session);
    return this.#rotate(search);
  }

  /** Any device that fits, spread over those the buyer holds and free ones. */
  #rotate(search: Search): Soon<AllocationOutcome<C>> {
    const choice = this.#rotation.choose(search);
    if (choice?.allocation) return this.#hold(choice.allocation, choice.candidate);
    return this.#rotation.claimOrWait(search, choice).then((found) => this.#outcome(found));
  }

  #outcome(found: Found<C>): AllocationOutcome<C> {
    if (found === null) return NO_PEER;
    return found === 'away' ? AWAY : this.#hold(found.allocation, found.candidate);
  }

  // Sessions ---------------------------------------------------------------------------------------------------

  /** The session's own exit while it can be had; else another one, or SESSION_LOST when strict. */
  #forSession(search: Search, wish: RouteWish, session: string): Soon<AllocationOutcome<C>> {
    const { buyer } = search;
    const key = StickySessions.key(buyer.account, session);
    const bound = this.#binding.has(key) ? undefined : this.#bound(key, search);
    if (bound) return this.#holdFor(buyer, wish, session, bound);
    return this.#inTurn(key, search, wish, session);
  }

  /** As `#forSession`, behind those that are choosing for the session. */
  async #inTurn(
    key: string,
    search: Search,
    wish: RouteWish,
    session: string,
  ): Promise<AllocationOutcome<C>> {
    for (let other = this.#binding.get(key); other; other = this.#binding.get(key)) await other;
    const bound = this.#bound(key, search);
    if (bound) return this.#holdFor(search.buyer, wish, session, bound);
    const binding = this.#bind(search, wish, session);
    this.#binding.set(key, binding);
    try {
      return await binding;
    } finally {
      this.#binding.delete(key);
    }
  }

  #bound(key: string, search: Search): Held<C> | undefined {
    const sticky = this.#sessions.get(key);
    const allocation = sticky && this.#book.get(sticky.allocationId);
    const candidate = allocation && this.#holdings.usable(allocation);
    return candidate && suits(candidate, search) ? { allocation, candidate } : undefined;
  }

  /** @param decided what another gateway has decided meanwhile */
  async #bind(
    search: Search,
    wish: RouteWish,
    session: string,
    decided: StickyRecord | null = null,
  ): Promise<AllocationOutcome<C>> {
    const { buyer } = search;
    const before = decided ?? (await this.#sessions.before(buyer.account, session));
    if (before === 'unavailable') {
      if (wish.strict) return AWAY; // it may have an exit that nobody can name now
    } else if (before !== null) {
      const known = this.deps.index.byDevice(before.deviceId);
      const candidate = known?.hasLeft === true ? undefined : known;
      const heldBy = candidate || wish.stays ? null : await this.#holderOf(before.deviceId);
      if (heldBy != null) return { ok: false, code: wish.strict ? 'SESSION_LOST' : 'NO_PEER', heldBy };
      const same =
        candidate !== undefined &&
        takesStreams(candidate) &&
        exitKey(candidate) === exitKey(before) &&
        suits(candidate, search);
      const again = same ? await this.#retake(buyer, candidate, before.allocationId) : 'taken';
      if (candidate && again instanceof LiveAllocation)
        return this.#holdFor(buyer, wish, session, { allocation: again, candidate });
      if (wish.strict) return again === 'away' ? AWAY : { ok: false, code: 'SESSION_LOST' };
    }
    const fresh = this.#outcome(await this.#rotation.fresh(search));
    if (!fresh.ok) return fresh;
    const { allocation } = fresh;
    const { account } = buyer;
    const faster = decided ? null : await this.#sessions.decide(account, session, wish, allocation, before);
    if (faster !== null) {
      fresh.release();
      if (allocation.streams === 0 && allocation.sessions.size === 0) this.#book.end(allocation, 'ended');
      return this.#bind(search, wish, session, faster);
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
    await this.#claiming.arrival(exitKey(candidate));
    const holder = this.#book.onExit(exitKey(candidate));
    const isOwn = holder?.account === buyer.account;
    if (holder && isOwn && this.#holdings.usable(holder) === candidate) return holder;
    // `usable` may just have ended it (used up, new traffic session): the exit is free again.
    if (this.#book.onExit(exitKey(candidate))) return 'taken';
    return this.#claiming.takeFor(buyer, candidate, deadAllocationId);
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
      this.#book.streamEnded(allocation);
    };
    return { ok: true, allocation, candidate, release };
  }
}

/** Whether the device is where the connection wants to go out, and has not failed it. */
function suits(candidate: Candidate, { places, exclude }: Search): boolean {
  return !exclude.has(candidate.deviceId) && places.some((place) => fits(candidate, place));
}
