import type { MeterReport } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { MeteringSettings } from './limits.js';
import type { Meter } from './meter.js';
import type { MeterSink } from './meter-sink.js';
import type { MeterRegistry } from './registry.js';

/** What the delivery needs from outside. */
export interface DeliveryOptions {
  gatewayId: string;
  registry: MeterRegistry;
  sink: MeterSink;
  clock: Clock;
  log: Log;
  settings: Readonly<MeteringSettings>;
}

/** Ticks between two looks for marks that nobody waits for: they come from a report that was sent twice. */
const SWEEP_EVERY_TICKS = 40;
/** How often whoever only settles says that it is not done, ms. */
const SETTLE_TRY_MS = 30_000;

/**
 * Brings the meters to the live state and frees the slots of those that Postgres has committed. Each tick does a
 * bounded amount of work:
 *
 * 1. asks for the marks of some FINAL meters, frees those that are committed in full;
 * 2. sends what changed;
 * 3. sends a share of everything else again, so that within `deliveryResendMs` all of it has been sent: an emptied
 *    or rolled back Redis heals without anyone noticing that it was;
 * 4. now and then forgets marks that no meter waits for.
 *
 * A tick that fails is tried again after a pause that doubles up to `deliveryBackoffMsMax`; the first success sends
 * everything anew.
 */
export class MeterDelivery {
  readonly #o: DeliveryOptions;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<boolean> | null = null;
  #started = false;
  #ticks = 0;
  #failuresInARow = 0;
  #resend: Iterator<Meter> | null = null;
  /** The part of a meter that is left over of a tick's share. */
  #resendOwed = 0;
  #poll: Iterator<Meter> | null = null;
  #sweepCursor = '0';
  /** Monotonic ms of the oldest change in a batch under way or failed. */
  #sendingSinceMs: number | null = null;

  #reportsSent = 0;
  #failures = 0;
  #marksShort = 0;

  constructor(options: DeliveryOptions) {
    this.#o = options;
  }

  /** Reports sent since start, repetitions included. */
  get reportsSent(): number {
    return this.#reportsSent;
  }
  /** Ticks that failed since start. */
  get failures(): number {
    return this.#failures;
  }
  /** Whether the latest tick reached the live state. */
  get connected(): boolean {
    return this.#failuresInARow === 0;
  }
  /** Age of the oldest change that has not been delivered, ms; 0 when there is none. */
  get deliveryLagMs(): number {
    const oldest = this.#sendingSinceMs ?? this.#o.registry.oldestChangeMs;
    return oldest === null ? 0 : Math.max(0, this.#o.clock.monotonicMs() - oldest);
  }
  /** Time the meter that waits longest to be committed as FINAL has been so, ms; 0 when none waits. */
  get finalWaitMs(): number {
    const oldest = this.#o.registry.oldestFinalMs;
    return oldest === null ? 0 : Math.max(0, this.#o.clock.monotonicMs() - oldest);
  }
  /** Meters that Postgres has not committed as FINAL, counting ones included. */
  get unsettledMeters(): number {
    return this.#o.registry.meterCount;
  }
  /** Times a mark was FINAL with less than was counted here: settlement owes an adjustment; the meter stays. */
  get marksShort(): number {
    return this.#marksShort;
  }

  /** Starts ticking. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#schedule(this.#o.settings.deliveryIntervalMs);
  }

  /** Ends ticking; resolves when the tick under way is over. What is not delivered stays in the journal. */
  async stop(): Promise<void> {
    this.#started = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await this.#running;
  }

  /** Sends everything again from the next tick on; for whoever learns that the live state was emptied. */
  resendAll(): void {
    this.#o.registry.queueAll();
  }

  /** What every meter says now: the way to settlement that does not lead through the live state. */
  snapshot(): MeterReport[] {
    return this.#o.registry.snapshot();
  }

  /**
   * For draining: makes every meter FINAL, delivers, and waits until all are committed or the time is over. What is
   * left then stays in the journal, and the next start delivers it.
   */
  async flush(
    timeoutMs: number,
    how: { allocationEnded: boolean } = { allocationEnded: true },
  ): Promise<{ settled: boolean; unsettledMeters: number }> {
    const { clock, registry } = this.#o;
    registry.closeAll(how);
    const end = clock.monotonicMs() + timeoutMs;
    while (registry.meterCount > 0) {
      const leftMs = end - clock.monotonicMs();
      if (leftMs <= 0) break;
      const timeUp = pause(leftMs);
      const ok = await Promise.race([this.tick(), timeUp.over]);
      timeUp.cancel();
      if (registry.meterCount === 0) break;
      // Settlement needs a moment between report and mark; a live state that is away needs more.
      await pause(Math.min(ok ? 25 : 100, Math.max(0, end - clock.monotonicMs()))).over;
    }
    return { settled: registry.meterCount === 0, unsettledMeters: registry.meterCount };
  }

  /** Flushes until all is settled, however long that takes; the log says that it does. */
  async settle(): Promise<void> {
    while (!(await this.flush(SETTLE_TRY_MS)).settled)
      this.#o.log.warn({ unsettledMeters: this.unsettledMeters }, 'meters_not_settled_yet');
  }

  /** One tick now, or the one under way. Resolves to whether it reached the live state; never rejects. */
  tick(): Promise<boolean> {
    this.#running ??= this.#tick().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  #schedule(delayMs: number): void {
    this.#timer = setTimeout(() => {
      void this.tick().then(() => {
        if (this.#started) this.#schedule(this.#pauseMs());
      });
    }, delayMs).unref();
  }

  #pauseMs(): number {
    const { deliveryIntervalMs, deliveryBackoffMsMax } = this.#o.settings;
    if (this.#failuresInARow === 0) return deliveryIntervalMs;
    const doubled = deliveryIntervalMs * 2 ** Math.min(this.#failuresInARow, 16);
    return Math.max(deliveryIntervalMs, Math.min(doubled, deliveryBackoffMsMax)) * (0.75 + Math.random() / 4);
  }

  async #tick(): Promise<boolean> {
    this.#ticks++;
    try {
      await this.#freeCommitted();
      await this.#resendShare(await this.#sendChanges());
      if (this.#ticks % SWEEP_EVERY_TICKS === 0) await this.#sweepMarks();
    } catch (error) {
      this.#failures++;
      this.#failuresInARow++;
      if (this.#failuresInARow === 1) this.#o.log.warn({ err: error }, 'meter delivery failed');
      return false;
    }
    if (this.#failuresInARow > 0) {
      this.#o.log.info({ attempts: this.#failuresInARow }, 'meter delivery works again');
      this.#failuresInARow = 0;
      this.resendAll();
    }
    return true;
  }

  async #freeCommitted(): Promise<void> {
    const { registry, sink, gatewayId, settings } = this.#o;
    const asked = this.#next(registry.finalCount, settings.deliveryPollMeters, 'poll');
    if (asked.length === 0) return;
    const marks = await this.#limited(
      sink.settled(
        gatewayId,
        asked.map((meter) => meter.key),
      ),
    );
    const freed: string[] = [];
    asked.forEach((meter, i) => {
      const mark = marks[i];
      if (!mark) return;
      if (registry.settle(meter, mark)) freed.push(meter.key);
      else if (mark.final && (mark.bytesUp < meter.bytesUp || mark.bytesDown < meter.bytesDown)) {
        this.#marksShort++;
      }
    });
    if (freed.length > 0) await this.#limited(sink.forget(gatewayId, freed));
  }

  /**
   * Resolves to what was sent. What changes again meanwhile waits for the next tick: else a busy meter would be sent over
   * and over.
   */
  async #sendChanges(): Promise<Set<Meter>> {
    const { registry, settings } = this.#o;
    const due = registry.takeChanges(settings.deliveryBatchMeters * settings.deliveryBatchesPerTick);
    for (let from = 0; from < due.length; from += settings.deliveryBatchMeters) {
      this.#sendingSinceMs = (due[from] as Meter).changedAtMs;
      try {
        await this.#send(due.slice(from, from + settings.deliveryBatchMeters));
      } catch (error) {
        registry.giveBack(due.slice(from));
        throw error;
      }
      this.#sendingSinceMs = null;
    }
    return new Set(due);
  }

  async #resendShare(sent: ReadonlySet<Meter>): Promise<void> {
    const { registry, settings } = this.#o;
    const wanted =
      this.#resendOwed + (registry.meterCount * settings.deliveryIntervalMs) / settings.deliveryResendMs;
    const limit = settings.deliveryBatchMeters * settings.deliveryBatchesPerTick;
    const share = Math.min(Math.floor(wanted), limit);
    this.#resendOwed = Math.min(wanted - share, 1);
    const next = this.#next(registry.meterCount, share, 'resend');
    const again = next.filter((meter) => !sent.has(meter));
    for (let i = 0; i < again.length; i += settings.deliveryBatchMeters)
      await this.#send(again.slice(i, i + settings.deliveryBatchMeters));
  }

  async #sweepMarks(): Promise<void> {
    const { registry, sink, gatewayId } = this.#o;
    const { cursor, keys } = await this.#limited(sink.marked(gatewayId, this.#sweepCursor));
    this.#sweepCursor = cursor;
    const orphans = keys.filter((key) => !registry.has(key));
    if (orphans.length > 0) await this.#limited(sink.forget(gatewayId, orphans));
  }

  async #send(meters: readonly Meter[]): Promise<void> {
    await this.#limited(
      this.#o.sink.report(
        this.#o.gatewayId,
        meters.map((meter) => meter.report()),
      ),
    );
    this.#reportsSent += meters.length;
  }

  /** Up to `max` meters, going round and round; at most `size` of them, so none twice. */
  #next(size: number, max: number, walk: 'resend' | 'poll'): Meter[] {
    const { registry } = this.#o;
    const found: Meter[] = [];
    const wanted = Math.min(size, max);
    let iterator = walk === 'resend' ? this.#resend : this.#poll;
    let restarted = false;
    while (found.length < wanted) {
      iterator ??= walk === 'resend' ? registry.meters() : registry.finalMeters();
      const { done, value } = iterator.next();
      if (!done) {
        found.push(value);
        continue;
      }
      iterator = null;
      if (restarted) break;
      restarted = true;
    }
    if (walk === 'resend') this.#resend = iterator;
    else this.#poll = iterator;
    return found;
  }

  /** A sink that neither answers nor rejects counts as away; what it still does later does no harm. */
  #limited<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new DeliveryTimeoutError()), this.#o.settings.deliveryTimeoutMs);
      answer.then(
        (result) => {
          clearTimeout(timer);
          resolve(result);
        },
        (error) => {
          clearTimeout(timer);
          reject(error);
        },
      );
    });
  }
}

/** The live state did not answer within `deliveryTimeoutMs`. */
export class DeliveryTimeoutError extends Error {
  readonly code = 'DELIVERY_TIMEOUT';
  constructor() {
    super('the live state did not answer in time');
  }
}

function pause(ms: number): { over: Promise<undefined>; cancel(): void } {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>((done) => {
    timer = setTimeout(done, ms, undefined);
  });
  return { over, cancel: () => clearTimeout(timer) };
}
