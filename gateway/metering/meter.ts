import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterReport } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Journal } from './journal.js';
import { FLAG_ALLOCATION_ENDED, FLAG_FINAL, type SlotIdentity } from './journal-format.js';
import type { JournalSlot } from './journal-slot.js';
import type { Lease, LeaseHolder, WalletRefusal } from './lease.js';
import type { MeterWaiter, Wallet } from './wallet.js';

/** Told what a meter has to be delivered for. */
export interface MeterChanges {
  /** It counts again, and waits for nothing yet. */
  grown(meter: Meter): void;
  /** It is FINAL. */
  finished(meter: Meter): void;
}

/**
 * The cumulative bytes of one allocation on one traffic session at one pair of prices, since one start of this
 * gateway. Counts never fall, and the journal has each before the bytes go on.
 */
export class Meter {
  /** `meterKey(...)`: the same in Redis and Postgres. */
  readonly key: string;
  readonly identity: Readonly<SlotIdentity>;
  /** @internal What it waits for: its turn among those that grow, or the next tick; null: it is delivered. */
  queued: 'growing' | 'urgent' | null = null;
  /** @internal Monotonic ms of the first change since it was last delivered. */
  changedAtMs = 0;
  /** @internal Monotonic ms of when this process made it FINAL. */
  finalAtMs = 0;
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
   * Counts bytes that are about to go up. true: the journal has them and they may go on. false: the meter is FINAL or
   * the journal has failed; they must not go on and are not counted. Throws RangeError for what is not a byte count.
   */
  countUp(bytes: number): boolean {
    return this.#count(bytes, 0);
  }
  /** The same for bytes that are about to go down. */
  countDown(bytes: number): boolean {
    return this.#count(0, bytes);
  }

  #count(up: number, down: number): boolean {
    if (this.#final) return false;
    const bytesUp = this.#bytesUp + up;
    const bytesDown = this.#bytesDown + down;
    if (!(up >= 0 && down >= 0 && Number.isSafeInteger(bytesUp + bytesDown)))
      throw new RangeError('not a byte count');
    // The clock costs as much as half a count: while it waits to be delivered the time of its first count is enough.
    const waits = this.queued !== null;
    const nowMs = waits ? this.#activeAtMs : this.#clock.nowMs();
    if (!this.#journal.write(this.#slot, bytesUp, bytesDown, nowMs, 0)) return false;
    this.#bytesUp = bytesUp;
    this.#bytesDown = bytesDown;
    this.#activeAtMs = nowMs;
    if (!waits) this.#changes.grown(this);
    return true;
  }

  /** @internal false: the journal failed, and the meter stays as it is until a restart replays it as FINAL. */
  finish(allocationEnded: boolean): boolean {
    const ended = allocationEnded || this.#allocationEnded;
    const flags = FLAG_FINAL | (ended ? FLAG_ALLOCATION_ENDED : 0);
    if (!this.#journal.write(this.#slot, this.#bytesUp, this.#bytesDown, this.#activeAtMs, flags))
      return false;
    this.#final = true;
    this.finalAtMs = this.#clock.monotonicMs();
    this.#allocationEnded = ended;
    this.#changes.finished(this);
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

export type { MeterWaiter } from './wallet.js';

/** Why a count was refused last. */
export type CountRefusal = WalletRefusal | 'CLOSED' | 'JOURNAL_FAILED';

/**
 * What the streams of one allocation hold: counts into the meter of the prices in force, as far as the wallets allow.
 * A price change swaps the meter under it; streams notice nothing.
 */
export class MeterBinding implements LeaseHolder {
  #countedBytes = 0;
  /** Up to here nobody has to be asked; at most the least of the leases' limits. */
  #limitBytes = Infinity;
  #meter: Meter;
  readonly #leases: Lease[];
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

  /** Counts bytes about to go up; unless GO they must not go on. WAIT: see `wait`; REFUSE: see `refusal`. */
  countUp(bytes: number): Verdict {
    if (this.#countedBytes + bytes > this.#limitBytes) {
      const verdict = this.#extend(bytes);
      if (verdict !== Verdict.GO) return verdict;
    }
    if (!this.#meter.countUp(bytes)) return this.#notCounted();
    this.#countedBytes += bytes;
    return Verdict.GO;
  }

  /** The same for bytes about to go down. */
  countDown(bytes: number): Verdict {
    if (this.#countedBytes + bytes > this.#limitBytes) {
      const verdict = this.#extend(bytes);
      if (verdict !== Verdict.GO) return verdict;
    }
    if (!this.#meter.countDown(bytes)) return this.#notCounted();
    this.#countedBytes += bytes;
    return Verdict.GO;
  }

  /** These bound it as well from now on; those that do already stay as they are. */
  bindTo(wallets: readonly Wallet[]): void {
    if (this.#closed) return;
    for (const wallet of wallets) {
      if (this.#leases.some((lease) => lease.wallet === wallet)) continue;
      this.#leases.push(wallet.lease(this, priceFor(wallet, this.#meter)));
      this.#limitBytes = Math.min(this.#limitBytes, this.#countedBytes);
    }
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
