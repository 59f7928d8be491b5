import { randomBytes } from 'node:crypto';
import { type MeterReport, meterKey, runOf, type SettledMark } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import type { Journal } from './journal.js';
import { FLAG_ALLOCATION_ENDED, FLAG_FINAL, type SlotIdentity } from './journal-format.js';
import type { MeteringSettings } from './limits.js';
import { Meter, MeterBinding } from './meter.js';
import type { Wallet } from './wallet.js';

/** The pair of prices under which bytes are counted, decimal micro-dollars per 10^9 bytes. */
export interface MeterPrices {
  providerPriceMicrosPerGb: string;
  buyerPriceMicrosPerGb: string;
}

/** Whose bytes a binding counts, and at which prices. Ids are lower-case UUIDs. */
export interface MeterSubject extends MeterPrices {
  sessionId: string;
  allocationId: string;
  buyerId: string;
  packageId: string | null;
  /** null: the buyer's own account. */
  subUserId: string | null;
  /** What bounds it (`WalletBook.wallet`); none: nothing does. Those that the binding was opened with stay. */
  wallets?: readonly Wallet[];
}

/**
 * `JOURNAL_FULL`: no slot and no room to grow; open meters go on. `JOURNAL_FAILED`: nothing can be counted any more.
 */
export type MeterOpened =
  | { ok: true; binding: MeterBinding }
  | { ok: false; code: 'JOURNAL_FULL' | 'JOURNAL_FAILED' };

/** 128 random bits as 32 hex digits: what tells counters that began at zero apart from all others. */
export function drawEpoch(): string {
  return randomBytes(16).toString('hex');
}

/** A further epoch of the same run: its last 32 bits are drawn anew, the run's 96 stay. */
function nextEpoch(epoch: string, drawBits: () => string): string {
  for (;;) {
    const next = runOf(epoch) + drawBits();
    if (next !== epoch) return next;
  }
}

const draw32Bits = () => randomBytes(4).toString('hex');

/**
 * Every meter of this gateway that Postgres has not committed as FINAL: the ones that count, and the FINAL ones of
 * this and of earlier processes.
 *
 * A key never counts twice from zero. When an allocation is opened again at prices under which it was finalised in
 * this process (a price that came back, a device that came back), a new epoch is drawn for what is opened from then
 * on; meters that are open keep theirs.
 */
export class MeterRegistry {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #finalKeysMax: number;
  readonly #growthMs: number;
  readonly #drawBits: () => string;
  #epoch: string;
  /** By `meterKey`. */
  readonly #meters = new Map<string, Meter>();
  readonly #final = new Set<Meter>();
  /** By session + allocation + sub-user. */
  readonly #bindings = new Map<string, MeterBinding>();
  /** Keys finalised under the present epoch. */
  readonly #finalKeys = new Set<string>();
  /** Changed meters that are delivered with the next tick: new and FINAL ones, and those to be sent again. */
  #urgent: Meter[] = [];
  /** Meters that have only grown, oldest change first; some have become urgent since, and count no more here. */
  #growing: Meter[] = [];
  #growingCount = 0;
  #freed = 0;
  #marksAboveCount = 0;

  /**
   * `epoch` is drawn at gateway start (`drawEpoch`); `drawBits` gives 8 random hex digits for each further one. Meters that the journal replays become FINAL under their own
   * epochs here: the process that counted them is gone. Their allocations ended with it, except where the journal
   * says that only the price had changed.
   */
  constructor(
    journal: Journal,
    epoch: string,
    clock: Clock,
    settings: Readonly<MeteringSettings>,
    drawBits: () => string = draw32Bits,
  ) {
    this.#drawBits = drawBits;
    this.#journal = journal;
    this.#epoch = epoch;
    this.#clock = clock;
    this.#finalKeysMax = settings.finalKeysRemembered;
    this.#growthMs = settings.deliveryGrowthMs;
    for (const { slot, record } of journal.replayed) {
      const key = meterKey(record);
      const meter = new Meter(key, record, record, slot, this.#owner());
      const wasFinal = (record.flags & FLAG_FINAL) !== 0;
      if (!meter.finish(!wasFinal || (record.flags & FLAG_ALLOCATION_ENDED) !== 0))
        throw journal.failure ?? new Error('the meter journal cannot be written');
      this.#meters.set(key, meter);
      this.#final.add(meter);
    }
  }

  /** The epoch of meters opened now. */
  get epoch(): string {
    return this.#epoch;
  }
  /** Whether new streams may be taken. Ask before allocating, not per chunk. */
  get canAdmit(): boolean {
    return this.#journal.canAdmit;
  }
  /** Meters not settled yet, counting ones included. */
  get meterCount(): number {
    return this.#meters.size;
  }
  /** Meters that are FINAL and wait for Postgres. */
  get finalCount(): number {
    return this.#final.size;
  }
  /** Monotonic ms of when the meter that waits longest for Postgres became FINAL; null when none waits. */
  get oldestFinalMs(): number | null {
    for (const meter of this.#final) return meter.finalAtMs;
    return null;
  }
  get bindingCount(): number {
    return this.#bindings.size;
  }
  /** Meters settled and freed since start. */
  get freedCount(): number {
    return this.#freed;
  }
  /** FINAL meters whose committed mark was above this journal's counts: the host had lost its last second. */
  get marksAboveCount(): number {
    return this.#marksAboveCount;
  }

  /**
   * The binding of an allocation on a traffic session, shared by all its streams of one account; opened when there is none. When it
   * is open at other prices, they change to the ones given. Throws RangeError for ids or prices out of form.
   */
  open(subject: MeterSubject): MeterOpened {
    const existing = this.#bindings.get(bindingKey(subject));
    if (existing !== undefined) {
      existing.bindTo(subject.wallets ?? []);
      return this.roll(existing, subject);
    }
    const meter = this.#openMeter(subject);
    if (meter === null) return this.#noSlot();
    const binding = new MeterBinding(meter, subject.wallets);
    this.#bindings.set(bindingKey(subject), binding);
    return { ok: true, binding };
  }

  /** The binding of an allocation on a session while it is open. */
  find(sessionId: string, allocationId: string, subUserId: string | null = null): MeterBinding | null {
    return this.#bindings.get(bindingKey({ sessionId, allocationId, subUserId })) ?? null;
  }

  /** Runs (`runOf`) that have meters here: not settled yet, this run's included. */
  runs(): Set<string> {
    const runs = new Set<string>();
    for (const { identity } of this.#meters.values()) runs.add(runOf(identity.epoch));
    return runs;
  }

  /**
   * Prices changed: what is counted from now on goes to a meter of the new ones, the old meter is FINAL. When there
   * is no slot for it, the old meter goes on unchanged and the caller must stop the streams.
   */
  roll(binding: MeterBinding, prices: MeterPrices): MeterOpened {
    const old = binding.meter;
    if (
      prices.providerPriceMicrosPerGb === old.identity.providerPriceMicrosPerGb &&
      prices.buyerPriceMicrosPerGb === old.identity.buyerPriceMicrosPerGb
    )
      return this.#journal.state === 'open' ? { ok: true, binding } : this.#noSlot();
    if (binding.closed) throw new Error('a closed binding has no prices');
    const { sessionId, allocationId, buyerId, packageId, subUserId } = old.identity;
    const meter = this.#openMeter({
      sessionId,
      allocationId,
      buyerId,
      packageId,
      subUserId,
      providerPriceMicrosPerGb: prices.providerPriceMicrosPerGb,
      buyerPriceMicrosPerGb: prices.buyerPriceMicrosPerGb,
    });
    if (meter === null) return this.#noSlot();
    binding.swap(meter);
    this.#finish(old, false);
    return { ok: true, binding };
  }

  /** Rolls every open binding; returns those that found no slot, whose streams must be stopped. */
  rollAll(pricesOf: (identity: Readonly<SlotIdentity>) => MeterPrices): MeterBinding[] {
    const stranded: MeterBinding[] = [];
    for (const binding of this.#bindings.values())
      if (!this.roll(binding, pricesOf(binding.meter.identity)).ok) stranded.push(binding);
    return stranded;
  }

  /**
   * No stream will count through the binding any more; its meter is FINAL. `allocationEnded`: the allocation is over
   * with it (expired, used up, stopped), not only the device's tunnel. With a failed journal the meter stays not
   * FINAL until a restart replays it. Closing twice does nothing.
   */
  close(binding: MeterBinding, how: { allocationEnded: boolean }): void {
    if (binding.closed) return;
    binding.markClosed();
    this.#bindings.delete(bindingKey(binding.meter.identity));
    this.#finish(binding.meter, how.allocationEnded);
  }

  /** Closes every binding; for draining. */
  closeAll(how: { allocationEnded: boolean }): void {
    for (const binding of [...this.#bindings.values()]) this.close(binding, how);
  }

  /** Every meter that is not settled, FINAL ones included. Live: may be walked while meters come and go. */
  meters(): IterableIterator<Meter> {
    return this.#meters.values();
  }
  /** The FINAL ones among them. Live, too. */
  finalMeters(): IterableIterator<Meter> {
    return this.#final.values();
  }
  has(key: string): boolean {
    return this.#meters.has(key);
  }

  /** What every meter says now, for a settlement that asks the gateway itself. */
  snapshot(): MeterReport[] {
    return Array.from(this.#meters.values(), (meter) => meter.report());
  }

  /**
   * Changed meters that are due, at most `max`: new and FINAL ones first, then those that have been growing for
   * `deliveryGrowthMs`, oldest first.
   */
  takeChanges(max: number): Meter[] {
    const taken = this.#urgent.splice(0, max);
    const grownBeforeMs = this.#clock.monotonicMs() - this.#growthMs;
    let seen = 0;
    for (; seen < this.#growing.length && taken.length < max; seen++) {
      const meter = this.#growing[seen] as Meter;
      if (meter.queued !== 'growing') continue;
      if (meter.changedAtMs > grownBeforeMs) break;
      this.#growingCount--;
      taken.push(meter);
    }
    this.#growing.splice(0, seen);
    for (const meter of taken) meter.queued = null;
    return taken;
  }
  /** Meters that wait to be delivered, due or not. */
  get changeCount(): number {
    return this.#urgent.length + this.#growingCount;
  }
  /** Monotonic ms of the oldest change not taken; null when none waits. */
  get oldestChangeMs(): number | null {
    const growing = this.#growing.find((meter) => meter.queued === 'growing');
    const oldest = Math.min(growing?.changedAtMs ?? Infinity, this.#urgent[0]?.changedAtMs ?? Infinity);
    return oldest === Infinity ? null : oldest;
  }

  /** Makes every meter due, as changed now unless it waits already. */
  queueAll(): void {
    for (const meter of this.#meters.values()) this.#urge(meter);
  }

  /** Puts meters back, due at once and in front: their delivery failed. */
  giveBack(meters: readonly Meter[]): void {
    const again = meters.filter((meter) => meter.queued === null && this.#meters.has(meter.key));
    for (const meter of again) meter.queued = 'urgent';
    if (again.length > 0) this.#urgent = [...again, ...this.#urgent];
  }

  /**
   * Tells what Postgres has committed of a meter. Frees the slot when the mark is FINAL and nothing counted here is
   * missing from it; returns whether it did. A mark above the counts is possible only after a loss of the host.
   */
  settle(meter: Meter, mark: SettledMark): boolean {
    if (!meter.final || !mark.final) return false;
    if (mark.bytesUp < meter.bytesUp || mark.bytesDown < meter.bytesDown) return false;
    if (!meter.release()) return false;
    if (mark.bytesUp > meter.bytesUp || mark.bytesDown > meter.bytesDown) this.#marksAboveCount++;
    this.#meters.delete(meter.key);
    this.#final.delete(meter);
    this.#freed++;
    return true;
  }

  #openMeter(subject: MeterSubject): Meter | null {
    let key = meterKey({ ...subject, epoch: this.#epoch });
    // In use already: another sub-user on the same allocation.
    if (this.#finalKeys.has(key) || this.#meters.has(key) || this.#finalKeys.size >= this.#finalKeysMax) {
      this.#epoch = nextEpoch(this.#epoch, this.#drawBits);
      this.#finalKeys.clear();
      key = meterKey({ ...subject, epoch: this.#epoch });
    }
    const identity: SlotIdentity = {
      sessionId: subject.sessionId,
      allocationId: subject.allocationId,
      buyerId: subject.buyerId,
      packageId: subject.packageId,
      subUserId: subject.subUserId,
      epoch: this.#epoch,
      providerPriceMicrosPerGb: subject.providerPriceMicrosPerGb,
      buyerPriceMicrosPerGb: subject.buyerPriceMicrosPerGb,
      openedAtMs: this.#clock.nowMs(),
    };
    const slot = this.#journal.allocate(identity);
    if (slot === null) return null;
    const counts = { bytesUp: 0, bytesDown: 0, activeAtMs: identity.openedAtMs, flags: 0 };
    const meter = new Meter(key, identity, counts, slot, this.#owner());
    this.#meters.set(key, meter);
    this.#urge(meter);
    return meter;
  }

  #finish(meter: Meter, allocationEnded: boolean): void {
    if (!meter.finish(allocationEnded)) return;
    this.#final.add(meter);
    if (meter.identity.epoch === this.#epoch) this.#finalKeys.add(meter.key);
  }

  #noSlot(): MeterOpened {
    return { ok: false, code: this.#journal.state === 'open' ? 'JOURNAL_FULL' : 'JOURNAL_FAILED' };
  }

  #owner() {
    return {
      journal: this.#journal,
      clock: this.#clock,
      changes: {
        grown: (meter: Meter) => this.#grown(meter),
        finished: (meter: Meter) => this.#urge(meter),
      },
    };
  }

  #grown(meter: Meter): void {
    meter.queued = 'growing';
    meter.changedAtMs = this.#clock.monotonicMs();
    this.#growing.push(meter);
    this.#growingCount++;
  }

  #urge(meter: Meter): void {
    if (meter.queued === 'urgent') return;
    if (meter.queued === 'growing') this.#growingCount--;
    else meter.changedAtMs = this.#clock.monotonicMs();
    meter.queued = 'urgent';
    this.#urgent.push(meter);
  }
}

function bindingKey(m: { sessionId: string; allocationId: string; subUserId: string | null }): string {
  return m.subUserId === null
    ? `${m.sessionId}.${m.allocationId}`
    : `${m.sessionId}.${m.allocationId}.${m.subUserId}`;
}
