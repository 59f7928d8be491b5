import type { LiveRedis } from '../live/connection.js';
import type { StickyRecord } from '../live/records.js';
import { readSticky, takeSticky, writeSticky } from '../live/sticky.js';
import type { Clock } from '../runtime/clock.js';
import type { CandidateIndex } from './candidate-index.js';
import type { Candidate } from './candidates.js';
import type { LiveAllocation } from './live-allocation.js';

/** Which exit a named proxy session keeps. It outlives its allocation until the session's idle time is over. */
export interface StickySession {
  readonly key: string;
  readonly account: string;
  readonly session: string;
  deviceId: string;
  providerId: string;
  exitIp: string;
  /** The allocation that was last used for it. */
  allocationId: string;
  ttlMs: number;
  usedAtMs: number;
  writtenAtMs: number;
}

/**
 * Named proxy sessions of this gateway: in memory, and copied to Redis so that they survive a restart and other
 * gateways know them. The copy is renewed at a quarter of the idle time, in the background.
 */
export class StickySessions {
  readonly #sessions = new Map<string, StickySession>();

  constructor(
    private readonly deps: {
      redis: LiveRedis;
      clock: Clock;
      index: Pick<CandidateIndex<Candidate>, 'byDevice'>;
      /** As the allocator's. */
      gatewayWith?: ((deviceId: string) => Promise<string | null>) | undefined;
      workerWith?: ((deviceId: string) => number | null) | undefined;
    },
    private readonly sessionsMax: number,
  ) {}

  static key(account: string, session: string): string {
    return `${account} ${session}`;
  }

  get(key: string): StickySession | undefined {
    return this.#sessions.get(key);
  }

  /** Remembered by Redis from another life or another gateway; null: nothing is, `unavailable`: cannot tell. */
  async recall(account: string, session: string): Promise<StickyRecord | null | 'unavailable'> {
    try {
      return await readSticky(this.deps.redis, account, session);
    } catch {
      return 'unavailable';
    }
  }

  /**
   * What is remembered of the session, here or by Redis. Where its device is not here any more, another gateway may have
   * served it since: Redis knows.
   */
  async before(account: string, session: string): Promise<StickyRecord | null | 'unavailable'> {
    const { gatewayWith, index } = this.deps;
    const own = this.#sessions.get(StickySessions.key(account, session));
    if (own !== undefined && (!gatewayWith || index.byDevice(own.deviceId) !== undefined)) return own;
    const recalled = await this.recall(account, session);
    return own !== undefined && (recalled === null || recalled === 'unavailable') ? own : recalled;
  }

  /**
   * Before a session goes out through another device than it did. Returns null, or what another gateway or worker has
   * decided at the same moment, which holds. Never rejects: while Redis is away each decides alone.
   */
  async decide(
    account: string,
    session: string,
    { ttlMinutes }: { ttlMinutes: number },
    { allocationId, device, providerId, exitIp }: LiveAllocation,
    before: StickyRecord | null | 'unavailable',
  ): Promise<StickyRecord | null> {
    const { redis, gatewayWith, workerWith } = this.deps;
    const isAlone = !gatewayWith && !workerWith;
    if (isAlone || device === null || before === 'unavailable') return null;
    const record: StickyRecord = { allocationId, deviceId: device.deviceId, providerId, exitIp };
    const deviceIdBefore = before?.deviceId ?? null;
    return takeSticky(redis, account, session, record, ttlMinutes * 60_000, deviceIdBefore).catch(() => null);
  }

  /** The session was used with this allocation (and from now on goes out through its device). */
  use(account: string, session: string, ttlMinutes: number, allocation: LiveAllocation): void {
    const { device } = allocation;
    if (device === null) return;
    const ttlMs = ttlMinutes * 60_000;
    const nowMs = this.deps.clock.monotonicMs();
    const key = StickySessions.key(account, session);
    let sticky = this.#sessions.get(key);
    const changed =
      sticky?.allocationId !== allocation.allocationId ||
      sticky.ttlMs !== ttlMs ||
      nowMs - sticky.writtenAtMs > ttlMs / 4;
    if (!sticky) {
      sticky = {
        key,
        account,
        session,
        deviceId: device.deviceId,
        providerId: allocation.providerId,
        exitIp: allocation.exitIp,
        allocationId: allocation.allocationId,
        ttlMs,
        usedAtMs: nowMs,
        writtenAtMs: nowMs,
      };
      this.#sessions.set(key, sticky);
      for (const oldest of this.#sessions.keys()) {
        if (this.#sessions.size <= this.sessionsMax) break;
        this.#sessions.delete(oldest);
      }
    } else {
      sticky.deviceId = device.deviceId;
      sticky.providerId = allocation.providerId;
      sticky.exitIp = allocation.exitIp;
      sticky.allocationId = allocation.allocationId;
      sticky.ttlMs = ttlMs;
    }
    sticky.usedAtMs = nowMs;
    allocation.sessions.add(key);
    allocation.idleMs = Math.max(allocation.idleMs, ttlMs);
    if (changed) this.#write(sticky, nowMs);
  }

  /** The allocation that served the sessions was used: they were, too. */
  touch(keys: Iterable<string>, nowMs: number): void {
    for (const key of keys) {
      const sticky = this.#sessions.get(key);
      if (sticky) sticky.usedAtMs = nowMs;
    }
  }

  /** Forgets sessions idle for their idle time; `find` gives the live allocation of that id. */
  sweep(find: (allocationId: string) => LiveAllocation | undefined): void {
    const nowMs = this.deps.clock.monotonicMs();
    for (const sticky of this.#sessions.values()) {
      const allocation = find(sticky.allocationId);
      if (allocation && allocation.streams > 0) {
        // Streams for longer than the idle time, without a new connection: it is in use all the same.
        sticky.usedAtMs = nowMs;
        if (nowMs - sticky.writtenAtMs > sticky.ttlMs / 4) this.#write(sticky, nowMs);
      } else if (nowMs - sticky.usedAtMs > sticky.ttlMs) {
        this.#sessions.delete(sticky.key);
        allocation?.sessions.delete(sticky.key);
      }
    }
  }

  #write(sticky: StickySession, nowMs: number): void {
    sticky.writtenAtMs = nowMs;
    const { allocationId, deviceId, providerId, exitIp } = sticky;
    const record: StickyRecord = { allocationId, deviceId, providerId, exitIp };
    // The copy is a convenience: without it the session lasts as long as this process.
    writeSticky(this.deps.redis, sticky.account, sticky.session, record, sticky.ttlMs).catch(() => {});
  }
}
