import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { spanEnded } from '../../gateway/runtime/spans.js';
import { isDatabaseAway } from '../db/pool.js';
import type { BookResult } from './book.js';
import type { MeterGain } from './booked.js';
import type { MeterInbox, ReportBatch } from './inbox.js';
import { type MeterClaim, readReport, type SetAsideReason } from './reports.js';
import type { SettlementSettings } from './settings.js';

/** What a worker works with; `createSettlement` makes one over Postgres and Redis. */
export interface SettlementDeps {
  inbox: MeterInbox;
  /** Books in one transaction. What it resolves to is committed; when it rejects, nothing or all of it may be. */
  book: (gatewayId: string, claims: readonly MeterClaim[]) => Promise<BookResult>;
  /** What follows from bookings and is not urgent: holds that come of age, sessions that are complete. */
  housekeeping: () => Promise<void>;
  clock: Clock;
  log: Log;
  /** Read anew for every pass: business settings change without a restart. */
  settings: () => SettlementSettings;
  /** After a commit: what was booked, for live figures. Must not throw. */
  onBooked?: (gains: readonly MeterGain[]) => void;
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
      unknown_sub_user: 0,
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
   * at once share a pass. Rejects when Postgres or Redis fails; what can be booked of other gateways is booked then
   * unless Postgres is away.
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

  /**
   * Books reports that came another way than through the inbox, checked like all others. Resolves to what is
   * committed of each meter; those missing from the answer were set aside. Rejects when Postgres is away.
   */
  async bookReports(gatewayId: string, reports: ReportBatch): Promise<BookResult['marks']> {
    const { batchMetersMax } = this.#deps.settings();
    const sorted = [...reports].sort(([a], [b]) => (a < b ? -1 : 1));
    const marks: BookResult['marks'] = [];
    for (let i = 0; i < sorted.length; i += batchMetersMax)
      marks.push(...(await this.#bookReports(gatewayId, new Map(sorted.slice(i, i + batchMetersMax)))));
    return marks;
  }

  async #settle(everything: boolean): Promise<void> {
    const { inbox, clock } = this.#deps;
    const settings = this.#deps.settings();
    const sweep = clock.monotonicMs() - this.#sweptAtMs >= settings.sweepIntervalMs;
    if (sweep) this.#aside.clear();
    let failure: { error: unknown } | null = null;
    for (const gatewayId of await inbox.gateways()) {
      try {
        const any = await this.#settleGateway(gatewayId, sweep ? 'all' : 'dirty', settings);
        await this.#forgetWhenGone(gatewayId, any);
      } catch (error) {
        // Without Postgres the others would only fail as well. Anything else may be this gateway's own trouble, and
        // they come in no order: one that fails every time must not keep those behind it from being booked.
        if (isDatabaseAway(error)) throw error;
        failure ??= { error };
      }
    }
    if (sweep && failure === null) this.#sweptAtMs = clock.monotonicMs();

    const housekeeping = clock.monotonicMs() - this.#housekeptAtMs >= HOUSEKEEPING_INTERVAL_MS;
    if (everything || housekeeping) {
      this.#housekeptAtMs = clock.monotonicMs();
      await this.#deps.housekeeping();
    }
    if (failure !== null) throw failure.error;
    this.counts.passes++;
    this.counts.lastPassAtMs = clock.nowMs();
  }

  /**
   * Several batches are under way at once: while Postgres works on some, the next one is read and planned here. They
   * share few rows, because the inbox gives them in the order of their sessions. Resolves to whether there were any.
   */
  async #settleGateway(
    gatewayId: string,
    which: 'dirty' | 'all',
    { batchMetersMax, batchesInFlight }: SettlementSettings,
  ): Promise<boolean> {
    const underWay = new Set<Promise<void>>();
    let failure: { error: unknown } | null = null;
    let any = false;
    try {
      for await (const reports of this.#deps.inbox.reports(gatewayId, which, batchMetersMax)) {
        any = true;
        const one: Promise<void> = this.#settleBatch(gatewayId, reports)
          .catch((error) => {
            failure ??= { error };
          })
          .finally(() => underWay.delete(one));
        underWay.add(one);
        if (underWay.size >= batchesInFlight) await Promise.race(underWay);
        if (failure) break;
      }
    } finally {
      await Promise.all(underWay);
    }
    if (failure) throw (failure as { error: unknown }).error;
    return any;
  }

  async #settleBatch(gatewayId: string, reports: ReportBatch): Promise<void> {
    const startedAtMs = performance.now();
    let failed = true;
    try {
      const marks = await this.#bookReports(gatewayId, reports);
      // Committed: only now may the gateway free the slots.
      if (marks.length > 0) await this.#deps.inbox.settled(gatewayId, marks);
      failed = false;
    } finally {
      spanEnded(() => ({
        name: 'settlement batch',
        kind: 'internal',
        durationMs: performance.now() - startedAtMs,
        attributes: { 'ts.gateway': gatewayId, 'ts.reports': reports.size },
        failed,
      }));
    }
  }

  async #bookReports(gatewayId: string, reports: ReportBatch): Promise<BookResult['marks']> {
    const claims: MeterClaim[] = [];
    const nowMs = this.#deps.clock.nowMs();
    for (const [key, text] of reports) {
      if (this.#aside.get(`${gatewayId} ${key}`) === text) continue;
      const read = readReport(key, text, nowMs);
      if (read.ok) claims.push(read.claim);
      else this.#setAside(gatewayId, key, text, read.reason);
    }
    if (claims.length === 0) return [];
    const results = await this.#book(gatewayId, claims);
    const marks: BookResult['marks'] = [];
    for (const result of results) {
      for (const { key, reason } of result.setAside)
        this.#setAside(gatewayId, key, reports.get(key) ?? '', reason);
      for (const gain of result.gains) {
        this.counts.metersBooked++;
        this.counts.bytesBooked += gain.bytesUp + gain.bytesDown;
        this.counts.chargedMicros += gain.chargedMicros;
        this.counts.earnedMicros += gain.earnedMicros;
      }
      if (result.gains.length > 0) this.#deps.onBooked?.(result.gains);
      marks.push(...result.marks);
    }
    return marks;
  }

  /** When a booking fails for a reason of its own, in halves, until the report to blame is alone. */
  async #book(gatewayId: string, claims: readonly MeterClaim[]): Promise<BookResult[]> {
    const { log } = this.#deps;
    try {
      return [await this.#deps.book(gatewayId, claims)];
    } catch (error) {
      if (isDatabaseAway(error) || (error as { code?: unknown }).code === '57014') throw error;
      const [only] = claims;
      if (claims.length === 1 && only) {
        log.error({ err: error, gateway_id: gatewayId, meter: only.key }, 'settlement_meter_not_bookable');
        return [
          {
            marks: [],
            gains: [],
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
    const { inbox, clock } = this.#deps;
    if (any || !(await inbox.isGone(gatewayId))) {
      this.#emptySinceMs.delete(gatewayId);
      return;
    }
    const sinceMs = this.#emptySinceMs.get(gatewayId) ?? clock.monotonicMs();
    this.#emptySinceMs.set(gatewayId, sinceMs);
    if (clock.monotonicMs() - sinceMs < FORGET_GATEWAY_AFTER_MS) return;
    await inbox.forget(gatewayId);
    this.#emptySinceMs.delete(gatewayId);
  }
}
