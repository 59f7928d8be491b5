import type { LiveRedis } from '../live/connection.js';
import { dropLimitUse, type Portion, shareLimits, type ToldUse } from '../live/limit-use.js';
import type { BandwidthLimits } from '../relay/bandwidth.js';
import { type Clock, nodeTimer, type SetTimer } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { LimitUse } from './limit-use.js';
import { ACCOUNT_LIMITS_DEFAULTS, type AccountLimits } from './limits.js';

/** Settings of sharing limits between gateways. */
export interface SharedLimitsSettings {
  /** How often a gateway tells what an owner does that is near a limit or has changed much, ms; others a sixth as often. */
  limitsShareIntervalMs: number;
  /** How long a connection waits at most for the first answer about its owner, ms; as in `AccountLimitsSettings`. */
  limitsWaitMs: number;
}

/** The default of each. */
export const SHARED_LIMITS_DEFAULTS: Readonly<SharedLimitsSettings> = Object.freeze({
  limitsShareIntervalMs: 500,
  limitsWaitMs: ACCOUNT_LIMITS_DEFAULTS.limitsWaitMs,
});

/** Intervals after which an owner that does nothing is forgotten. */
const IDLE_INTERVALS = 3;
/** Intervals from its beginning in which an owner is told each time: it may have begun at several gateways in the same moment. */
const NEW_INTERVALS = 2.5;
/** Intervals after which an owner is told of though little has changed. */
const REFRESH_INTERVALS = 6;
/** Intervals after which what was told counts no more, since its gateway is dead or cut off; far from every limit twice as many. */
const EXPIRY_INTERVALS = 6;
/** From this part of a limit on, it is told each interval, and so learnt what others do. */
const NEAR = 1 / 4;
/** Below it, when it has changed by this part of a limit. */
const MUCH = 1 / 32;
/**
 * Gateways that an owner may be active at before each of them tells of it less often, in proportion: what Redis does for one
 * owner then grows no more than the number of gateways.
 */
const FULL_PACE_GATEWAYS = 32;
/** Who refuses a connection for want of a portion asks again after this part of an interval. */
const SHORT_PART = 1 / 5;
/** What is moved without waiting may grow by so much before it has to wait. */
const BYTES_HEADROOM = 1.25;

/** What the sharing is made of. */
export interface LimitSharingDeps {
  redis: LiveRedis;
  clock: Pick<Clock, 'monotonicMs'>;
  log: Log;
  gatewayId: string;
  limits: AccountLimits;
  bandwidth: BandwidthLimits;
  /** Gateways that show signs of life, this one included. */
  gatewayCount: () => number;
  /** Left out: that of Node. */
  setTimer?: SetTimer;
}

/** What waits until an answer about an owner has come for the first time. */
interface FirstAnswer {
  readonly promise: Promise<void>;
  settle(): void;
}

/** What was told of a use last. */
interface Told {
  /** When it was first to be told, and when it last was; monotonic ms. */
  readonly sinceMs: number;
  atMs: number | null;
  /** What waits for the first answer; null: nothing does. */
  first: FirstAnswer | null;
  /** The first answer has not come in time: it is not waited for any more. */
  overdue: boolean;
  /** When something last happened. */
  activeAtMs: number;
  askedWhenActive: number;
  /** As of `atMs`; cumulative ones to measure from. */
  asked: number;
  movedBytes: number;
  waits: number;
  /** At how many gateways the owner is, as last heard. */
  gateways: number;
  use: ToldUse;
}

/**
 * Makes the limits of buyers and sub-users hold over all gateways, workers included: tells Redis what owners do here and what
 * of it is wanted, and learns from the same answer what the others have and what portion of each limit is this gateway's.
 * An owner that is new here is told at once and in the next two intervals, then in each while it is near a limit or changes
 * much, else each sixth, and costs nothing once it does nothing. Where other gateways are alive, its first connections wait
 * for the first answer, once there is a device for them; no others ever wait for it.
 *
 * While Redis does not answer, the portions heard last stay; of an owner that was never heard of, each gateway takes an equal
 * part of every limit at once, or as soon as it is found not to answer. So the whole limit is never had at several gateways, and there is no end to it of its
 * own: what is known of accounts and their money ends sooner (TS_SNAPSHOT_TERM_MS, TS_WALLET_TERM_MS).
 */
export class LimitSharing {
  readonly #deps: LimitSharingDeps;
  readonly #intervalMs: number;
  readonly #waitMs: number;
  readonly #shared = new Map<LimitUse, Told>();
  /** To be told without waiting for the interval. */
  readonly #urgent = new Set<LimitUse>();
  #scheduled = false;
  #timer: NodeJS.Timeout | null = null;
  #working: Promise<void> | null = null;
  #failing = false;
  #stopped = false;
  /** Times that Redis did not answer. */
  failures = 0;

  constructor(deps: LimitSharingDeps, settings: Partial<SharedLimitsSettings> = {}) {
    this.#deps = deps;
    const { limitsShareIntervalMs, limitsWaitMs } = { ...SHARED_LIMITS_DEFAULTS, ...settings };
    this.#intervalMs = limitsShareIntervalMs;
    this.#waitMs = limitsWaitMs;
    deps.limits.onUnshared = (use) => this.#share(use);
    deps.limits.onShort = (use) => this.#short(use);
    deps.limits.onLimits = (use) => this.#limitsSeen(use);
    deps.limits.onGivenBack = (use) => this.#hurry(use);
    deps.limits.untilHeard = (use) => this.#untilHeard(use);
  }

  /** Owners that other gateways are told of. */
  get sharedCount(): number {
    return this.#shared.size;
  }

  start(): void {
    this.#timer ??= setInterval(() => void this.refresh(), this.#intervalMs);
  }

  /** Other gateways have this one's portions from now on; never rejects. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#working;
    await this.#drop([...this.#shared.keys()]);
  }

  /** What was told may be lost: everything is told anew. */
  resync(): void {
    for (const use of this.#shared.keys()) this.#hurry(use);
  }

  /** Tells what is due; never rejects. */
  refresh(): Promise<void> {
    this.#working ??= this.#refresh().finally(() => {
      this.#working = null;
      if (this.#urgent.size > 0) this.#schedule();
    });
    return this.#working;
  }

  #share(use: LimitUse): void {
    if (this.#stopped) return;
    use.isShared = true;
    const nowMs = this.#deps.clock.monotonicMs();
    const { spentBytes, waits } = this.#deps.bandwidth.useOf(use.buyerId, use.account);
    this.#shared.set(use, {
      sinceMs: nowMs,
      atMs: null,
      first: null,
      overdue: false,
      activeAtMs: nowMs,
      askedWhenActive: use.asked,
      asked: use.asked - 1,
      movedBytes: spentBytes,
      waits,
      gateways: 1,
      use: NOTHING,
    });
    this.#hurry(use);
  }

  #limitsSeen(use: LimitUse): void {
    const told = this.#shared.get(use);
    if (told && told.atMs !== null && haveChanged(use, told.use)) this.#hurry(use);
  }

  #short(use: LimitUse): void {
    const told = this.#shared.get(use);
    if (told === undefined || told.atMs === null || told.gateways === 1) return;
    if (this.#deps.clock.monotonicMs() - told.atMs >= SHORT_PART * this.#paceMs(told)) this.#hurry(use);
  }

  #hurry(use: LimitUse): void {
    this.#urgent.add(use);
    if (this.#working === null) this.#schedule();
  }

  /** At the end of this turn: whatever comes in it is told together. */
  #schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      void this.refresh();
    });
  }

  async #refresh(): Promise<void> {
    const nowMs = this.#deps.clock.monotonicMs();
    const due: Array<[LimitUse, Told]> = [];
    const uses: ToldUse[] = [];
    const idle: LimitUse[] = [];
    for (const [use, told] of this.#shared) {
      if (this.#isIdle(use, told, nowMs)) {
        idle.push(use);
        continue;
      }
      this.#divide(use, told, nowMs);
      const hurries = this.#urgent.has(use);
      if (!hurries && told.atMs !== null && nowMs - told.atMs < 0.9 * this.#paceMs(told)) continue;
      const next = this.#useOf(use, told, nowMs);
      if (!hurries && !this.#isDue(use, told, next, nowMs)) continue;
      due.push([use, told]);
      uses.push(next);
    }
    this.#urgent.clear();
    const dropped = this.#drop(idle);
    if (due.length > 0) await this.#tell(due, uses, nowMs);
    await dropped;
  }

  async #tell(due: ReadonlyArray<[LimitUse, Told]>, uses: readonly ToldUse[], nowMs: number): Promise<void> {
    const { redis, gatewayId, log } = this.#deps;
    const before = due.map(([use]) => this.#totals(use));
    try {
      const portions = await shareLimits(redis, gatewayId, uses);
      due.forEach(([use, told], n) => {
        const portion = portions[n];
        if (!portion) return;
        const { gateways } = portion;
        Object.assign(told, { atMs: nowMs, gateways, use: uses[n] }, before[n]);
        this.#apply(use, told, portion);
      });
      if (portions.includes(null)) throw new Error('Redis refused some');
      this.#failing = false;
    } catch (error) {
      for (const [use, told] of due) this.#giveUp(use, told);
      this.failures++;
      if (!this.#failing) log.warn({ reason: (error as Error).message }, 'limits_not_shared');
      this.#failing = true;
    }
  }

  #totals(use: LimitUse): Pick<Told, 'asked' | 'movedBytes' | 'waits'> {
    const { spentBytes, waits } = this.#deps.bandwidth.useOf(use.buyerId, use.account);
    return { asked: use.asked, movedBytes: spentBytes, waits };
  }

  /** What is to be told of it now. */
  #useOf(use: LimitUse, told: Told, nowMs: number): ToldUse {
    const { spentBytes, waits, waiting } = this.#deps.bandwidth.useOf(use.buyerId, use.account);
    const sinceMs = nowMs - (told.atMs ?? told.sinceMs);
    const perSecond = (amount: number, atLeastMs: number) =>
      Math.ceil((Math.max(0, amount) * 1_000) / Math.max(atLeastMs, sinceMs));
    // Who asks for more within an interval has the rate of now, not one that is thinned by what it has not asked for yet.
    const askedMs = told.atMs === null ? this.#intervalMs : SHORT_PART * this.#intervalMs;
    const bytesPerSecondMax = use.limits.bandwidthBytesPerSecondMax ?? null;
    const isShort = waiting > 0 || waits !== told.waits;
    const bytes = isShort
      ? (bytesPerSecondMax ?? 0)
      : Math.ceil(BYTES_HEADROOM * perSecond(spentBytes - told.movedBytes, this.#intervalMs));
    const next = {
      owner: use.account ?? use.buyerId,
      ttlMs: 0,
      streams: use.served,
      connectionsPerSecondMax: use.limits.connectionsPerSecondMax ?? null,
      // Half of what it was, at least: who comes in bursts keeps its portion between two of them.
      connectionsWanted: Math.max(
        perSecond(use.asked - told.asked, askedMs) + use.waiting,
        Math.floor(told.use.connectionsWanted / 2),
      ),
      bytesPerSecondMax,
      bytesWanted: Math.max(bytes, Math.floor(told.use.bytesWanted / 2)),
      bytesWeight: Math.max(1, isShort ? waiting : use.served),
    };
    const intervals = isNear(use, next) ? EXPIRY_INTERVALS : 2 * REFRESH_INTERVALS;
    return { ...next, ttlMs: Math.ceil(intervals * this.#paceMs(told)) };
  }

  /** How long an interval of this owner is, ms. */
  #paceMs({ gateways }: Told): number {
    return this.#intervalMs * Math.max(1, gateways / FULL_PACE_GATEWAYS);
  }

  #isDue(use: LimitUse, last: Told, next: ToldUse, nowMs: number): boolean {
    const { atMs, use: told } = last;
    if (atMs === null || nowMs - last.sinceMs < NEW_INTERVALS * this.#intervalMs) return true;
    if (nowMs - atMs >= (REFRESH_INTERVALS - 0.5) * this.#paceMs(last)) return true;
    return haveChanged(use, told) || isNear(use, next) || reaches(use, changeOf(next, told), MUCH);
  }

  #isIdle(use: LimitUse, told: Told, nowMs: number): boolean {
    if (use.served > 0 || use.waiting > 0 || use.asked !== told.askedWhenActive) {
      told.activeAtMs = nowMs;
      told.askedWhenActive = use.asked;
    }
    return use.streams === 0 && nowMs - told.activeAtMs >= IDLE_INTERVALS * this.#intervalMs;
  }

  /** Nobody answers for it: it may be at every gateway there is. */
  #divide(use: LimitUse, told: Told, nowMs: number): void {
    if (use.isHeard || (!told.overdue && nowMs - told.sinceMs < this.#intervalMs)) return;
    const parts = this.#deps.gatewayCount();
    if (use.parts === parts) return;
    use.parts = parts;
    this.#setRate(use);
  }

  #untilHeard(use: LimitUse): Promise<void> | null {
    const told = this.#shared.get(use);
    if (told === undefined || use.isHeard || told.overdue || this.#deps.gatewayCount() === 1) return null;
    if (this.#failing) {
      this.#giveUp(use, told);
      return null;
    }
    told.first ??= this.#firstAnswer(() => this.#giveUp(use, told));
    return told.first.promise;
  }

  #firstAnswer(giveUp: () => void): FirstAnswer {
    const cancel = (this.#deps.setTimer ?? nodeTimer)(this.#waitMs, giveUp);
    let resolve = () => {};
    const promise = new Promise<void>((resolveIt) => {
      resolve = resolveIt;
    });
    const settle = () => {
      cancel();
      resolve();
    };
    return { promise, settle };
  }

  /** What waits for the first answer goes by an equal part. */
  #giveUp(use: LimitUse, told: Told): void {
    if (use.isHeard || this.#shared.get(use) !== told) return;
    told.overdue = true;
    this.#divide(use, told, this.#deps.clock.monotonicMs());
    this.#settle(told);
  }

  #settle(told: Told | undefined): void {
    told?.first?.settle();
    if (told) told.first = null;
  }

  #apply(use: LimitUse, told: Told, portion: Portion): void {
    use.isHeard = true;
    use.parts = 1;
    use.streamsElsewhere = portion.streamsElsewhere;
    use.connectionsPortion = portion.connectionsPerSecond;
    use.bytesPortion = portion.bytesPerSecond;
    this.#setRate(use);
    this.#settle(told);
  }

  #setRate({ buyerId, account, bytesPerSecond }: LimitUse): void {
    this.#deps.bandwidth.setRate(buyerId, account, bytesPerSecond);
  }

  /** What is not dropped for want of Redis expires there. */
  async #drop(uses: readonly LimitUse[]): Promise<void> {
    const { redis, gatewayId } = this.#deps;
    for (const use of uses) {
      const told = this.#shared.get(use);
      this.#shared.delete(use);
      this.#urgent.delete(use);
      use.unshare();
      this.#settle(told);
    }
    const owners = uses.map(({ account, buyerId }) => account ?? buyerId);
    await dropLimitUse(redis, gatewayId, owners).catch(() => {});
  }
}

const NOTHING: ToldUse = {
  owner: '',
  ttlMs: 0,
  streams: 0,
  connectionsPerSecondMax: null,
  connectionsWanted: 0,
  bytesPerSecondMax: null,
  bytesWanted: 0,
  bytesWeight: 1,
};

function haveChanged({ limits }: LimitUse, told: ToldUse): boolean {
  return (
    (limits.connectionsPerSecondMax ?? null) !== told.connectionsPerSecondMax ||
    (limits.bandwidthBytesPerSecondMax ?? null) !== told.bytesPerSecondMax
  );
}

type Amounts = Pick<ToldUse, 'streams' | 'connectionsWanted' | 'bytesWanted'>;

/** Whether any of the amounts is that part of what may be done here. */
function reaches(use: LimitUse, { streams, connectionsWanted, bytesWanted }: Amounts, part: number): boolean {
  const { streamsMax } = use.limits;
  return (
    (streamsMax != null && streams >= part * streamsMax) ||
    connectionsWanted >= part * use.connectionsPerSecond ||
    (use.bytesPerSecond !== null && bytesWanted >= part * use.bytesPerSecond)
  );
}

function isNear(use: LimitUse, next: Amounts): boolean {
  return reaches(use, { ...next, streams: next.streams + use.streamsElsewhere }, NEAR);
}

function changeOf(next: Amounts, told: Amounts): Amounts {
  return {
    streams: Math.abs(next.streams - told.streams),
    connectionsWanted: Math.abs(next.connectionsWanted - told.connectionsWanted),
    bytesWanted: Math.abs(next.bytesWanted - told.bytesWanted),
  };
}
