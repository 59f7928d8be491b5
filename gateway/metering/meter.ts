import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterReport } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Journal } from './journal.js';
import { FLAG_ALLOCATION_ENDED, FLAG_FINAL, type SlotIdentity } from './journal-format.js';
import type { JournalSlot } from './journal-slot.js';

/** Told of every meter that changed and is not in the queue of changes yet. */
export interface MeterChanges {
  changed(meter: Meter): void;
}

/**
 * The cumulative bytes of one allocation on one traffic session at one pair of prices, since one start of this
 * gateway. Counts never fall, and never exceed what the journal holds.
 */
export class Meter {
  /** `meterKey(...)`: the same in Redis and Postgres. */
  readonly key: string;
  readonly identity: Readonly<SlotIdentity>;
  /** @internal Whether it waits in the queue of changes. */
  queued = false;
  /** @internal Monotonic ms of the first change since it was last delivered. */
  changedAtMs = 0;
  #bytesUp: number;
  #bytesDown: number;
  #activeAtMs: number;
  #final: boolean;
  #allocationEnded: boolean;
  readonly #slot: JournalSlot;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #changes: MeterChanges;

  /** @internal Made by MeterRegistry. */
  constructor(
    key: string,
    identity: SlotIdentity,
    counts: { bytesUp: number; bytesDown: number; activeAtMs: number; flags: number },
    slot: JournalSlot,
    owner: { journal: Journal; clock: Clock; changes: MeterChanges },
  ) {
    this.key = key;
    this.identity = identity;
    this.#bytesUp = counts.bytesUp;
    this.#bytesDown = counts.bytesDown;
    this.#activeAtMs = counts.activeAtMs;
    this.#final = (counts.flags & FLAG_FINAL) !== 0;
    this.#allocationEnded = (counts.flags & FLAG_ALLOCATION_ENDED) !== 0;
    this.#slot = slot;
    this.#journal = owner.journal;
    this.#clock = owner.clock;
    this.#changes = owner.changes;
  }

  /** Payload bytes buyer → destination. */
  get bytesUp(): number {
    return this.#bytesUp;
  }
  /** Payload bytes destination → buyer. */
  get bytesDown(): number {
    return this.#bytesDown;
  }
  /** FINAL: the counts never grow again. */
  get final(): boolean {
    return this.#final;
  }
  get allocationEnded(): boolean {
    return this.#allocationEnded;
  }

  /**
   * Counts bytes that are about to go up. true: they are in the journal and may go on. false: the meter is FINAL or
   * the journal has failed; they must not go on and are not counted. Throws RangeError for what is not a byte count.
   */
  countUp(bytes: number): boolean {
    return this.#count(this.#bytesUp + bytes, this.#bytesDown, bytes);
  }

  /** The same for bytes that are about to go down. */
  countDown(bytes: number): boolean {
    return this.#count(this.#bytesUp, this.#bytesDown + bytes, bytes);
  }

  #count(bytesUp: number, bytesDown: number, bytes: number): boolean {
    if (this.#final) return false;
    if (!Number.isSafeInteger(bytes) || bytes < 0 || !Number.isSafeInteger(bytesUp + bytesDown))
      throw new RangeError('not a byte count');
    const nowMs = this.#clock.nowMs();
    if (!this.#journal.write(this.#slot, bytesUp, bytesDown, nowMs, 0)) return false;
    this.#bytesUp = bytesUp;
    this.#bytesDown = bytesDown;
    this.#activeAtMs = nowMs;
    if (!this.queued) this.#changes.changed(this);
    return true;
  }

  /** @internal false: the journal failed, and the meter stays as it is until a restart replays it as FINAL. */
  finish(allocationEnded: boolean): boolean {
    const ended = allocationEnded || this.#allocationEnded;
    const flags = FLAG_FINAL | (ended ? FLAG_ALLOCATION_ENDED : 0);
    if (!this.#journal.write(this.#slot, this.#bytesUp, this.#bytesDown, this.#activeAtMs, flags))
      return false;
    this.#final = true;
    this.#allocationEnded = ended;
    if (!this.queued) this.#changes.changed(this);
    return true;
  }

  /** @internal */
  release(): boolean {
    return this.#journal.release(this.#slot);
  }

  /** The meter as it is reported to the live state and to settlement. */
  report(): MeterReport {
    const { identity } = this;
    return {
      sessionId: identity.sessionId,
      allocationId: identity.allocationId,
      epoch: identity.epoch,
      providerPriceMicrosPerGb: identity.providerPriceMicrosPerGb,
      buyerPriceMicrosPerGb: identity.buyerPriceMicrosPerGb,
      buyerId: identity.buyerId,
      packageId: identity.packageId,
      subUserId: identity.subUserId,
      bytesUp: this.#bytesUp,
      bytesDown: this.#bytesDown,
      openedAtMs: identity.openedAtMs,
      activeAtMs: this.#activeAtMs,
      final: this.#final,
      allocationEnded: this.#allocationEnded,
    };
  }
}

/** Why a count was refused last. */
export type CountRefusal = 'LIMIT' | 'CLOSED' | 'JOURNAL_FAILED';

/**
 * What the streams of one allocation hold: counts into the meter of the prices in force. A price change swaps the
 * meter under it; streams notice nothing.
 */
export class MeterBinding {
  /**
   * Bytes, up and down together, that may be counted through this binding since it was opened; the count that would
   * pass it is refused whole. Infinity: no limit. Set it from a package size or a lease.
   */
  limitBytes = Infinity;
  #countedBytes = 0;
  #meter: Meter;
  #refusal: CountRefusal | null = null;
  #closed = false;

  /** @internal Made by MeterRegistry. */
  constructor(meter: Meter) {
    this.#meter = meter;
  }

  /** The meter of the prices in force. */
  get meter(): Meter {
    return this.#meter;
  }
  /** Bytes counted through this binding, over all its prices. */
  get countedBytes(): number {
    return this.#countedBytes;
  }
  /** Why the latest refused count was refused; null when none was. */
  get refusal(): CountRefusal | null {
    return this.#refusal;
  }
  /** Whether it was closed: every further count is refused. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Counts bytes about to go up; unless GO they must not go on (`refusal` says why). */
  countUp(bytes: number): Verdict {
    if (this.#countedBytes + bytes > this.limitBytes) return this.#refuse('LIMIT');
    if (!this.#meter.countUp(bytes)) return this.#refuse(this.#closed ? 'CLOSED' : 'JOURNAL_FAILED');
    this.#countedBytes += bytes;
    return Verdict.GO;
  }

  /** The same for bytes about to go down. */
  countDown(bytes: number): Verdict {
    if (this.#countedBytes + bytes > this.limitBytes) return this.#refuse('LIMIT');
    if (!this.#meter.countDown(bytes)) return this.#refuse(this.#closed ? 'CLOSED' : 'JOURNAL_FAILED');
    this.#countedBytes += bytes;
    return Verdict.GO;
  }

  #refuse(why: CountRefusal): Verdict {
    this.#refusal = why;
    return Verdict.REFUSE;
  }

  /** @internal */
  swap(meter: Meter): void {
    this.#meter = meter;
  }
  /** @internal */
  markClosed(): void {
    this.#closed = true;
  }
}
