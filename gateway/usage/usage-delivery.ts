import type { LiveRedis } from '../live/connection.js';
import { deliverUsage, forgetOtherUsageRuns, readBookedUsage, type UsageEntry } from '../live/usage.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { UsageSettings } from './limits.js';
import type { RefusalBook } from './refusal-book.js';
import type { UsageBook } from './usage-book.js';

export interface UsageDeliveryOptions {
  gatewayId: string;
  /** This run of the gateway (`runOf`): batches are numbered within it. */
  run: string;
  book: UsageBook;
  refusals: RefusalBook;
  redis: LiveRedis;
  clock: Clock;
  log: Log;
  settings: Readonly<UsageSettings>;
}

/** A batch as it was made: it is never changed, whatever becomes of it. */
interface Batch {
  seq: number;
  text: string;
  entries: number;
  /** Monotonic ms; null: not yet with Redis. */
  sentAtMs: number | null;
}

/** Pause between two tries of the last delivery, ms. */
const FLUSH_PAUSE_MS = 50;

/**
 * Brings the book's entries to the live state in numbered batches and keeps each until the control plane has booked
 * it. A batch may reach Redis twice or late, or vanish from it: its number lets Postgres take it exactly once, and
 * what is not booked is sent again. While nothing is booked (Redis or the control plane is away) batches stop being
 * made and the book goes on adding up, so that nothing is lost but the entries' detail beyond the book's limits.
 */
export class UsageDelivery {
  readonly #o: UsageDeliveryOptions;
  #batches: Batch[] = [];
  #lastSeq = 0;
  #sweptAtMs: number;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<boolean> | null = null;
  #alone = false;
  #failuresInARow = 0;
  #failures = 0;
  #lost = 0;

  constructor(options: UsageDeliveryOptions) {
    this.#o = options;
    this.#sweptAtMs = options.clock.monotonicMs();
  }

  /** Batches that are not known to be booked. */
  get pendingBatches(): number {
    return this.#batches.length;
  }
  /** Deliveries that failed since start. */
  get failures(): number {
    return this.#failures;
  }
  /** Entries that were given up at stop. */
  get entriesLost(): number {
    return this.#lost;
  }

  /** Entries of both books that no batch has taken. */
  get #held(): number {
    return this.#o.book.size + this.#o.refusals.size;
  }

  start(): void {
    this.#timer ??= setInterval(() => void this.tick(), this.#o.settings.usageDeliveryIntervalMs).unref();
  }

  /** Sends every batch again with the next tick; for whoever learns that the live state was emptied. */
  resendAll(): void {
    for (const batch of this.#batches) batch.sentAtMs = null;
  }

  /** One delivery now, or the one under way. Resolves to whether Redis took all of it; never rejects. */
  tick(): Promise<boolean> {
    this.#running ??= this.#tick().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Delivers what there is once the streams are over, within `usageFlushTimeoutMs`. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#running;
    const { book, clock, log, settings } = this.#o;
    book.sweep();
    const end = clock.monotonicMs() + settings.usageFlushTimeoutMs;
    while (!((await this.tick()) && this.#held === 0) && clock.monotonicMs() < end)
      await new Promise((resolve) => setTimeout(resolve, FLUSH_PAUSE_MS));
    const unsent = this.#batches.filter((batch) => batch.sentAtMs === null);
    this.#lost = unsent.reduce((sum, batch) => sum + batch.entries, this.#held);
    if (this.#lost > 0) log.warn({ entries: this.#lost }, 'usage_lost_at_stop');
  }

  async #tick(): Promise<boolean> {
    const { log, settings } = this.#o;
    try {
      if (this.#batches.length > 0) await this.#dropBooked();
      await this.#sweepWhenDue();
      for (const batch of this.#batches) if (this.#isDue(batch)) await this.#send(batch);
      while (this.#batches.length < settings.usageBatchesMax && this.#held > 0)
        await this.#send(this.#nextBatch());
    } catch (error) {
      this.#failures++;
      this.#failuresInARow++;
      if (this.#failuresInARow === 1) log.warn({ err: error }, 'usage_not_delivered');
      return false;
    }
    if (this.#failuresInARow > 0) log.info({ attempts: this.#failuresInARow }, 'usage_delivered_again');
    this.#failuresInARow = 0;
    return true;
  }

  async #dropBooked(): Promise<void> {
    const { redis, gatewayId, run } = this.#o;
    if (!this.#alone) {
      await forgetOtherUsageRuns(redis, gatewayId, run);
      this.#alone = true;
    }
    const booked = await readBookedUsage(redis, gatewayId, run);
    this.#batches = this.#batches.filter(({ seq }) => !booked.some(([from, to]) => seq >= from && seq < to));
  }

  async #sweepWhenDue(): Promise<void> {
    const { book, clock, settings } = this.#o;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#sweptAtMs < settings.usageSweepIntervalMs) return;
    this.#sweptAtMs = nowMs;
    for (const _turn of book.sweepInTurns(settings.usageSweepStreamsMax))
      await new Promise((resolve) => setImmediate(resolve));
  }

  #nextBatch(): Batch {
    const { book, refusals, settings } = this.#o;
    const refused = refusals.take(settings.usageBatchEntriesMax);
    const entries: UsageEntry[] = [...refused, ...book.take(settings.usageBatchEntriesMax - refused.length)];
    const batch: Batch = {
      seq: ++this.#lastSeq,
      text: JSON.stringify(entries),
      entries: entries.length,
      sentAtMs: null,
    };
    this.#batches.push(batch);
    return batch;
  }

  async #send(batch: Batch): Promise<void> {
    const { redis, gatewayId, run, clock } = this.#o;
    await deliverUsage(redis, gatewayId, { run, seq: batch.seq }, batch.text);
    batch.sentAtMs = clock.monotonicMs();
  }

  #isDue({ sentAtMs }: Batch): boolean {
    return sentAtMs === null || this.#o.clock.monotonicMs() - sentAtMs >= this.#o.settings.usageResendMs;
  }
}
