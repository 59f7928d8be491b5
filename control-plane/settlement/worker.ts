import type pg from 'pg';
import type { LiveRedis } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { forgetMeteringGateway, readMeteringGateways, settleMeters } from '../../gateway/live/meters.js';
import { readGatewayPresence } from '../../gateway/live/store.js';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { isDatabaseAway, withTransaction } from '../db/pool.js';
import { type BookResult, bookMeters } from './book.js';
import type { MeterGain } from './booked.js';
import { type CompletedSession, completeSessions } from './complete.js';
import { releaseHolds } from './release.js';
import { type MeterClaim, readReport, type SetAsideReason } from './reports.js';
import type { SettlementSettings } from './settings.js';

export interface SettlementDeps {
  pool: pg.Pool;
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  /** Read anew for every pass: business settings change without a restart. */
  settings: () => SettlementSettings;
  /** Brings buyers' new balances to the gateways; must not reject for a Redis that is away. */
  balancesChanged: (buyerIds: readonly string[]) => Promise<void>;
  /** After a commit: what was booked, for live figures. Must not throw. */
  onBooked?: (gains: readonly MeterGain[]) => void;
  /** In the transaction that completes sessions. */
  onCompleted?: (client: pg.PoolClient, sessions: readonly CompletedSession[]) => Promise<void>;
  /** After a commit: providers some of whose earnings became available. Must not throw. */
  onReleased?: (providerIds: readonly string[]) => void;
}

/** Counters since the start, for metrics. */
export interface SettlementCounts {
  passes: number;
  metersBooked: number;
  bytesBooked: bigint;
  chargedMicros: bigint;
  earnedMicros: bigint;
  /** Reports that could not be booked, by reason; counted each time one is tried. */
  setAside: Record<SetAsideReason, number>;
  failures: number;
  /** ms since the epoch of the last pass without a failure; 0: none yet. */
  lastPassAtMs: number;
}

/** A gateway without meters and without presence is forgotten after this long, not at once: it may be restarting. */
const FORGET_GATEWAY_AFTER_MS = 60_000;
/** Pauses after a pass that failed: doubled from the first up to the last. */
const RETRY_DELAY_MS = 250;
const RETRY_DELAY_MAX_MS = 5_000;
/** Sessions are completed and holds released this often at most: neither is urgent, both read many rows. */
const HOUSEKEEPING_INTERVAL_MS = 1_000;

/**
 * Books what the gateways report, for ever. Any number of workers may run: the rows they book are locked, the marks
 * never fall, and a booking that was committed but not acknowledged (a crash in between, Redis away) books nothing
 * when it comes again. Nothing is taken from Redis before Postgres has committed it.
 */
export class SettlementWorker {
  readonly counts: SettlementCounts = {
    passes: 0,
    metersBooked: 0,
    bytesBooked: 0n,
    chargedMicros: 0n,
    earnedMicros: 0n,
    setAside: {
      unreadable: 0,
      key_mismatch: 0,
      unknown_session: 0,
      unknown_buyer: 0,
      allocation_of_another_buyer: 0,
      grew_after_final: 0,
      not_bookable: 0,
    },
    failures: 0,
    lastPassAtMs: 0,
  };
  readonly #deps: SettlementDeps;
  #running = false;
  #loop: Promise<void> = Promise.resolve();
  #wake: (() => void) | null = null;
  #pass: Promise<void> | null = null;
  #nextPass: Promise<void> | null = null;
  /** Reports set aside: not tried again before the next sweep unless their text changes. */
  readonly #aside = new Map<string, string>();
  readonly #emptySinceMs = new Map<string, number>();
  #sweptAtMs = Number.NEGATIVE_INFINITY;
  #housekeptAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: SettlementDeps) {
    this.#deps = deps;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#loop = this.#run();
  }

  /** Ends the loop after the pass it is in. */
  async stop(): Promise<void> {
    this.#running = false;
    this.#wake?.();
    await this.#loop;
    await Promise.allSettled([this.#pass, this.#nextPass]);
  }

  /**
   * Books everything that was in Redis when it was called (and releases and completes what that allows). Many calls
   * at once share a pass. Rejects when Postgres or Redis fails.
   */
  settleNow(): Promise<void> {
    if (this.#pass === null) {
      this.#pass = this.#settle(true).finally(() => {
        this.#pass = null;
      });
      return this.#pass;
    }
    // The running pass may have read past what the caller wants to see: one more after it, shared by all who wait.
    this.#nextPass ??= this.#pass
      .catch(() => {})
      .then(() => {
        this.#nextPass = null;
        return this.settleNow();
      });
    return this.#nextPass;
  }

  async #run(): Promise<void> {
    let delayMs = 0;
    while (this.#running) {
      try {
        await (this.#pass ?? this.#startPass());
        delayMs = 0;
      } catch (error) {
        this.counts.failures++;
        delayMs = Math.min(Math.max(RETRY_DELAY_MS, delayMs * 2), RETRY_DELAY_MAX_MS);
        this.#deps.log.error({ err: error, retry_in_ms: delayMs }, 'settlement_failed');
      }
      if (this.#running) await this.#sleep(delayMs || this.#deps.settings().intervalMs);
    }
  }

  #startPass(): Promise<void> {
    this.#pass = this.#settle(false).finally(() => {
      this.#pass = null;
    });
    return this.#pass;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      const self = this;
      function done() {
        clearTimeout(timer);
        self.#wake = null;
        resolve();
      }
      this.#wake = done;
    });
  }

  async #settle(everything: boolean): Promise<void> {
    const { redis, clock, pool } = this.#deps;
    const settings = this.#deps.settings();
    const sweep = clock.monotonicMs() - this.#sweptAtMs >= settings.sweepIntervalMs;
    if (sweep) this.#aside.clear();
    for (const gatewayId of await readMeteringGateways(redis)) {
      const any = sweep ? await this.#settleAll(gatewayId) : await this.#settleDirty(gatewayId);
      await this.#forgetWhenGone(gatewayId, any);
    }
    if (sweep) this.#sweptAtMs = clock.monotonicMs();

    const housekeeping = clock.monotonicMs() - this.#housekeptAtMs >= HOUSEKEEPING_INTERVAL_MS;
    if (everything || housekeeping) {
      this.#housekeptAtMs = clock.monotonicMs();
      const cutoffMs = settings.holdMs === 0 ? null : clock.nowMs() - settings.holdMs;
      const released = await releaseHolds(pool, cutoffMs);
      if (released.length > 0) this.#deps.onReleased?.(released);
      await completeSessions(pool, redis, clock.nowMs() - settings.completionGraceMs, this.#deps.onCompleted);
    }
    this.counts.passes++;
    this.counts.lastPassAtMs = clock.nowMs();
  }

  /** One iteration over the dirty set: everything that was in it at the start is seen. */
  async #settleDirty(gatewayId: string): Promise<boolean> {
    const { redis } = this.#deps;
    const { batchMetersMax } = this.#deps.settings();
    let any = false;
    let cursor = '0';
    let keys = new Set<string>();
    do {
      const [next, page] = await redis.sscan(
        liveKeys.dirtyMeters(gatewayId),
        cursor,
        'COUNT',
        batchMetersMax,
      );
      cursor = next;
      for (const key of page) keys.add(key);
      while (keys.size >= batchMetersMax || (cursor === '0' && keys.size > 0)) {
        any = true;
        const batch = [...keys].slice(0, batchMetersMax);
        keys = new Set([...keys].slice(batchMetersMax));
        const texts = await redis.hmget(liveKeys.meters(gatewayId), ...batch);
        const fields = new Map<string, string>();
        const orphans: string[] = [];
        batch.forEach((key, i) => {
          const text = texts[i];
          if (typeof text === 'string') fields.set(key, text);
          else orphans.push(key);
        });
        // Deleted with their FINAL by another worker. Should a report come in this very moment, the sweep finds it.
        if (orphans.length > 0) await redis.srem(liveKeys.dirtyMeters(gatewayId), ...orphans);
        await this.#settleFields(gatewayId, fields);
      }
    } while (cursor !== '0');
    return any;
  }

  /** Every report of the gateway, dirty or not. */
  async #settleAll(gatewayId: string): Promise<boolean> {
    const { redis } = this.#deps;
    const { batchMetersMax } = this.#deps.settings();
    let any = false;
    let cursor = '0';
    do {
      const [next, flat] = await redis.hscan(liveKeys.meters(gatewayId), cursor, 'COUNT', batchMetersMax);
      cursor = next;
      const fields = new Map<string, string>();
      for (let i = 0; i + 1 < flat.length; i += 2) fields.set(flat[i] as string, flat[i + 1] as string);
      if (fields.size === 0) continue;
      any = true;
      await this.#settleFields(gatewayId, fields);
    } while (cursor !== '0');
    return any;
  }

  async #settleFields(gatewayId: string, fields: ReadonlyMap<string, string>): Promise<void> {
    const claims: MeterClaim[] = [];
    const nowMs = this.#deps.clock.nowMs();
    for (const [key, text] of fields) {
      if (this.#aside.get(`${gatewayId} ${key}`) === text) continue;
      const read = readReport(key, text, nowMs);
      if (read.ok) claims.push(read.claim);
      else this.#setAside(gatewayId, key, text, read.reason);
    }
    if (claims.length === 0) return;
    const results = await this.#book(gatewayId, claims);
    for (const result of results) {
      for (const { key, reason } of result.setAside)
        this.#setAside(gatewayId, key, fields.get(key) ?? '', reason);
      for (const gain of result.gains) {
        this.counts.metersBooked++;
        this.counts.bytesBooked += gain.bytesUp + gain.bytesDown;
        this.counts.chargedMicros += gain.chargedMicros;
        this.counts.earnedMicros += gain.earnedMicros;
      }
      if (result.gains.length > 0) this.#deps.onBooked?.(result.gains);
    }
    // Committed: only now may the gateway free the slots.
    for (const result of results)
      if (result.marks.length > 0) await settleMeters(this.#deps.redis, gatewayId, result.marks);
    const buyerIds = new Set(results.flatMap((r) => [...r.buyerIds]));
    if (buyerIds.size > 0) await this.#deps.balancesChanged([...buyerIds]);
  }

  /** In one transaction; when that fails for a reason of its own, in halves, until the report to blame is alone. */
  async #book(gatewayId: string, claims: readonly MeterClaim[]): Promise<BookResult[]> {
    const { pool, log } = this.#deps;
    const options = this.#deps.settings();
    try {
      return [await withTransaction(pool, (client) => bookMeters(client, gatewayId, claims, options))];
    } catch (error) {
      if (isDatabaseAway(error) || (error as { code?: unknown }).code === '57014') throw error;
      const [only] = claims;
      if (claims.length === 1 && only) {
        log.error({ err: error, gateway_id: gatewayId, meter: only.key }, 'settlement_meter_not_bookable');
        return [
          {
            marks: [],
            gains: [],
            buyerIds: new Set(),
            setAside: [{ key: only.key, reason: 'not_bookable' }],
          },
        ];
      }
      const half = Math.ceil(claims.length / 2);
      return [
        ...(await this.#book(gatewayId, claims.slice(0, half))),
        ...(await this.#book(gatewayId, claims.slice(half))),
      ];
    }
  }

  #setAside(gatewayId: string, key: string, text: string, reason: SetAsideReason): void {
    this.counts.setAside[reason]++;
    this.#aside.set(`${gatewayId} ${key}`, text);
    this.#deps.log.error({ gateway_id: gatewayId, meter: key, reason }, 'settlement_report_set_aside');
  }

  async #forgetWhenGone(gatewayId: string, any: boolean): Promise<void> {
    const { redis, clock } = this.#deps;
    const gone =
      !any &&
      (await redis.hlen(liveKeys.meters(gatewayId))) === 0 &&
      (await readGatewayPresence(redis, gatewayId)) === null;
    if (!gone) {
      this.#emptySinceMs.delete(gatewayId);
      return;
    }
    const sinceMs = this.#emptySinceMs.get(gatewayId) ?? clock.monotonicMs();
    this.#emptySinceMs.set(gatewayId, sinceMs);
    if (clock.monotonicMs() - sinceMs < FORGET_GATEWAY_AFTER_MS) return;
    await forgetMeteringGateway(redis, gatewayId);
    this.#emptySinceMs.delete(gatewayId);
  }
}
