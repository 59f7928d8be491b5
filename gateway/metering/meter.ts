import { COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterReport } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Journal } from './journal.js';
import { FLAG_ALLOCATION_ENDED, FLAG_FINAL, type SlotIdentity } from './journal-format.js';
import type { JournalSlot } from './journal-slot.js';
import type { Lease, LeaseHolder, WalletRefusal } from './lease.js';
import type { MeterWaiter, Wallet } from './wallet.js';

/** Told of every meter that changed and is not in the queue of changes yet. */
export interface MeterChanges {
  changed(meter: Meter): void;
}

/**
 * Most bytes by which the journal's record may be ahead of the counts of one binding, however many streams would allow
 * more: further on hardly a write is saved, and a kill would charge what nobody was about to send.
 */
export const JOURNAL_AHEAD_BYTES_MAX = 1024 * 1024;

/**
 * The cumulative bytes of one allocation on one traffic session at one pair of prices, since one start of this
 * gateway. Counts never fall, and never exceed what the journal holds: its record may be **ahead** of them, so that
 * many pieces are covered by one write. The counts are what is reported; the record is what a killed gateway leaves.
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
  /** What the journal's record says; each at least the count. */
  #recordedUp: number;
  #recordedDown: number;
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
    this.#bytesUp = this.#recordedUp = counts.bytesUp;
    this.#bytesDown = this.#recordedDown = counts.bytesDown;
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

  /** Bytes by which the journal's record is ahead of the counts, both directions together. */
  get aheadBytes(): number {
    return this.#recordedUp - this.#bytesUp + (this.#recordedDown - this.#bytesDown);
  }

  /**
   * Counts bytes that are about to go up. true: the journal's record covers them and they may go on. false: the meter
   * is FINAL or the journal has failed; they must not go on and are not counted. Throws RangeError for what is not a
   * byte count.
   * @param aheadBytesMax if the record must be written: how far it may be ahead of the counts afterwards
   */
  countUp(bytes: number, aheadBytesMax = 0): boolean {
    if (!this.#mayCount(bytes)) return false;
    const bytesUp = this.#bytesUp + bytes;
    if (bytesUp > this.#recordedUp) {
      const bytesDown = this.#bytesDown;
      const keptBytes = keptAhead(this.#recordedDown - bytesDown, aheadBytesMax);
      if (!this.#record(bytesUp, bytesDown, aheadBytesMax - keptBytes, keptBytes)) return false;
    }
    this.#bytesUp = bytesUp;
    this.#activeAtMs = this.#clock.nowMs();
    if (!this.queued) this.#changes.changed(this);
    return true;
  }

  /** The same for bytes that are about to go down. */
  countDown(bytes: number, aheadBytesMax = 0): boolean {
    if (!this.#mayCount(bytes)) return false;
    const bytesDown = this.#bytesDown + bytes;
    if (bytesDown > this.#recordedDown) {
      const bytesUp = this.#bytesUp;
      const keptBytes = keptAhead(this.#recordedUp - bytesUp, aheadBytesMax);
      if (!this.#record(bytesUp, bytesDown, keptBytes, aheadBytesMax - keptBytes)) return false;
    }
    this.#bytesDown = bytesDown;
    this.#activeAtMs = this.#clock.nowMs();
    if (!this.queued) this.#changes.changed(this);
    return true;
  }

  #mayCount(bytes: number): boolean {
    // What is covered already is refused, too, once the journal has failed.
    if (this.#final || this.#journal.state !== 'open') return false;
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new RangeError('not a byte count');
    return true;
  }

  #record(bytesUp: number, bytesDown: number, aheadUp: number, aheadDown: number): boolean {
    if (!Number.isSafeInteger(bytesUp + bytesDown)) throw new RangeError('not a byte count');
    const fits = Number.isSafeInteger(bytesUp + bytesDown + aheadUp + aheadDown);
    const recordedUp = fits ? bytesUp + aheadUp : bytesUp;
    const recordedDown = fits ? bytesDown + aheadDown : bytesDown;
    if (!this.#journal.write(this.#slot, recordedUp, recordedDown, this.#clock.nowMs(), 0)) return false;
    this.#recordedUp = recordedUp;
    this.#recordedDown = recordedDown;
    return true;
  }

  /** @internal The record may be so far ahead and no further. Should the journal fail, nothing is counted any more. */
  limitAhead(aheadBytesMax: number): void {
    if (this.#final || this.aheadBytes <= aheadBytesMax) return;
    const keptBytes = keptAhead(this.#recordedUp - this.#bytesUp, aheadBytesMax);
    this.#record(this.#bytesUp, this.#bytesDown, keptBytes, aheadBytesMax - keptBytes);
  }

  /** @internal false: the journal failed, and the meter stays as it is until a restart replays it as FINAL. */
  finish(allocationEnded: boolean): boolean {
    const ended = allocationEnded || this.#allocationEnded;
    const flags = FLAG_FINAL | (ended ? FLAG_ALLOCATION_ENDED : 0);
    if (!this.#journal.write(this.#slot, this.#bytesUp, this.#bytesDown, this.#activeAtMs, flags))
      return false;
    this.#recordedUp = this.#bytesUp;
    this.#recordedDown = this.#bytesDown;
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

/**
 * What the direction that is not being counted keeps of its lead: half, so that it soon is the other's when it rests,
 * and two that take turns both have some.
 */
function keptAhead(aheadBytes: number, aheadBytesMax: number): number {
  return Math.min(Math.floor(aheadBytes / 2), aheadBytesMax);
}

export type { MeterWaiter } from './wallet.js';

/** Why a count was refused last. */
export type CountRefusal = WalletRefusal | 'CLOSED' | 'JOURNAL_FAILED';

/**
 * What the streams of one allocation hold: counts into the meter of the prices in force, as far as the wallets allow.
 * A price change swaps the meter under it; streams notice nothing.
 *
 * A killed gateway charges what its journal says, so that may exceed what was handed to the operating system by
 * COUNT_BYTES_MAX for each live stream and no more. What the streams do not need of this for bytes on their way, the
 * record may be ahead of the counts: at any moment
 *
 *     (recorded − counted) + (counted − sent) ≤ live streams × COUNT_BYTES_MAX
 *
 * and recorded ≤ what the leases have paid for. A binding whose streams were not announced is never ahead.
 */
export class MeterBinding implements LeaseHolder {
  #countedBytes = 0;
  /** Up to here nobody has to be asked; at most the least of the leases' limits. */
  #limitBytes = Infinity;
  /** Live streams. */
  #streams = 0;
  /** Bytes counted that the operating system has not got from us, over all prices. */
  #unsentBytes = 0;
  #meter: Meter;
  readonly #leases: readonly Lease[];
  /** Whose WAIT was the latest. */
  #short: Wallet | null = null;
  #refusal: CountRefusal | null = null;
  #closed = false;

  /** @internal Made by MeterRegistry. `wallets`: everything that bounds it; none: nothing does. */
  constructor(meter: Meter, wallets: readonly Wallet[] = []) {
    this.#meter = meter;
    this.#leases = wallets.map((wallet) => wallet.lease(this, priceFor(wallet, meter)));
    if (wallets.length > 0) this.#limitBytes = 0;
  }

  /** The meter of the prices in force. */
  get meter(): Meter {
    return this.#meter;
  }
  /** Bytes counted through this binding, over all its prices. */
  get countedBytes(): number {
    return this.#countedBytes;
  }
  /** Why the latest refused count was refused, or the latest waiter cut; null when none was. */
  get refusal(): CountRefusal | null {
    return this.#refusal;
  }
  /** Whether it was closed: every further count is refused. */
  get closed(): boolean {
    return this.#closed;
  }

  /** A stream is going to count here; its end is to be told by `streamEnded`. */
  streamOpened(): void {
    this.#streams++;
  }

  /** The operating system has taken so many of the bytes counted. */
  sent(bytes: number): void {
    this.#unsentBytes -= bytes;
  }

  /** A stream is over; of what it counted so many bytes were never `sent`, nor will be. */
  streamEnded(unsentBytes: number): void {
    this.#streams--;
    this.#unsentBytes -= unsentBytes;
    if (this.#meter.aheadBytes > this.#streams * COUNT_BYTES_MAX - this.#unsentBytes)
      this.#meter.limitAhead(this.#aheadBytesMax(0));
  }

  /**
   * How far the record may be ahead once `bytes` more are counted. One stream's share is left alone, so that the next
   * stream to end does not cost a write.
   */
  #aheadBytesMax(bytes: number): number {
    const unusedBytes =
      this.#streams * COUNT_BYTES_MAX - Math.max(COUNT_BYTES_MAX, this.#unsentBytes + bytes);
    const paidBytes = this.#limitBytes - this.#countedBytes - bytes;
    return Math.max(0, Math.min(JOURNAL_AHEAD_BYTES_MAX, unusedBytes, paidBytes));
  }

  /**
   * Counts bytes about to go up; unless GO they must not go on. WAIT: see `wait`; REFUSE: see `refusal`.
   * @param aheadBytesMax how far the journal's record may be ahead, as far as the caller knows of limits
   */
  countUp(bytes: number, aheadBytesMax = 0): Verdict {
    if (this.#countedBytes + bytes > this.#limitBytes) {
      const verdict = this.#extend(bytes);
      if (verdict !== Verdict.GO) return verdict;
    }
    const ahead = Math.min(aheadBytesMax, this.#aheadBytesMax(bytes));
    if (!this.#meter.countUp(bytes, ahead)) return this.#notCounted();
    this.#countedBytes += bytes;
    this.#unsentBytes += bytes;
    return Verdict.GO;
  }

  /** The same for bytes about to go down. */
  countDown(bytes: number, aheadBytesMax = 0): Verdict {
    if (this.#countedBytes + bytes > this.#limitBytes) {
      const verdict = this.#extend(bytes);
      if (verdict !== Verdict.GO) return verdict;
    }
    const ahead = Math.min(aheadBytesMax, this.#aheadBytesMax(bytes));
    if (!this.#meter.countDown(bytes, ahead)) return this.#notCounted();
    this.#countedBytes += bytes;
    this.#unsentBytes += bytes;
    return Verdict.GO;
  }

  /** After a WAIT: the waiter is told once when to try again, or that it is in vain. Waiting already: nothing changes. */
  wait(waiter: MeterWaiter): void {
    this.#short?.wait(waiter, this);
  }
  /** It waits no more, whatever for. */
  unwait(waiter: MeterWaiter): void {
    for (const { wallet } of this.#leases) wallet.unwait(waiter);
  }

  #extend(bytes: number): Verdict {
    if (this.#closed) return this.#notCounted();
    const wanted = this.#countedBytes + bytes;
    let limitBytes = Number.POSITIVE_INFINITY;
    for (const lease of this.#leases) {
      const verdict = lease.wallet.cover(lease, wanted);
      if (verdict === Verdict.WAIT) this.#short = lease.wallet;
      if (verdict === Verdict.REFUSE) this.#refusal = lease.wallet.refusal;
      if (verdict !== Verdict.GO) return verdict;
      limitBytes = Math.min(limitBytes, lease.limitBytes);
    }
    this.#limitBytes = limitBytes;
    return Verdict.GO;
  }

  #notCounted(): Verdict {
    this.#refusal = this.#closed ? 'CLOSED' : 'JOURNAL_FAILED';
    return Verdict.REFUSE;
  }

  /** @internal A wallet takes back what is not used. */
  lowerLimit(limitBytes: number): void {
    this.#limitBytes = Math.min(this.#limitBytes, limitBytes);
    // What the record is ahead is not to be paid for any more: it may be another's the next moment.
    this.#meter.limitAhead(this.#aheadBytesMax(0));
  }
  /** @internal A wallet cuts a waiter. */
  refuse(why: WalletRefusal): void {
    this.#refusal = why;
  }

  /** @internal */
  swap(meter: Meter): void {
    this.#meter = meter;
    if (this.#leases.length === 0) return;
    for (const lease of this.#leases) lease.wallet.roll(lease, priceFor(lease.wallet, meter));
    this.#limitBytes = this.#countedBytes;
  }
  /** @internal */
  markClosed(): void {
    this.#closed = true;
    this.#limitBytes = Math.min(this.#limitBytes, this.#countedBytes);
    for (const lease of this.#leases) lease.wallet.end(lease);
  }
}

/** Money is counted at the meter's price, packages and limits in bytes. */
function priceFor(wallet: Wallet, meter: Meter): bigint | null {
  return wallet.owner.kind === 'buyer' ? BigInt(meter.identity.buyerPriceMicrosPerGb) : null;
}
