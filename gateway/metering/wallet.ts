import { COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { WalletOwner } from '../live/records.js';
import type { Clock } from '../runtime/clock.js';
import { chargeCeil } from './charge.js';
import { Lease, type LeaseHolder, type WalletRefusal } from './lease.js';
import { UsageRate } from './usage-rate.js';
import type { WalletAnswer, WalletAsking } from './wallet-channel.js';
import type { WalletSettings } from './wallet-settings.js';

/** A stream that was told to WAIT. Neither is called from inside a count. */
export interface MeterWaiter {
  /** It may go on; it waits anew if that fails. Called once. */
  retry(): void;
  /** It never will: drop the connection. */
  cut(): void;
}

/** What a new connection is told. `unavailable`: nobody answered in time. */
export type Admission = 'admitted' | 'exhausted' | 'unavailable';

/** What a wallet needs of the book it is in. */
export interface WalletHost {
  readonly clock: Clock;
  readonly settings: Readonly<WalletSettings>;
  /** The wallet wants something now: look at it soon. */
  hungry(wallet: Wallet): void;
}

/**
 * What one run of this gateway may spend of one owner: `granted − renounced` units since the run's start, and never
 * more than that is counted. Leases are cut out of it, and taken back from those that do not use them when it is
 * nearly empty, so that the last bytes can be used by whoever needs them.
 *
 * Units are micro-dollars (buyers) or bytes, whole numbers below 2^53.
 */
export class Wallet {
  readonly owner: WalletOwner;
  /** Its name in Redis. */
  readonly field: string;
  /** Only grows, as everything that is told to the control plane. */
  granted = 0;
  renounced = 0;
  /** What `granted` should be; asked for. */
  want = 0;
  /** Asks up to here are withdrawn: given back, and nothing wanted instead. */
  withdrawn = 0;
  /** The greatest `want` that was answered. */
  answered = 0;
  state: WalletAnswer['state'] = 'open';
  /** What nobody had set aside at the latest answer: for telling people, not for spending. */
  beyond = 0;
  /** Monotonic ms of the reading that last showed it; null: never. */
  confirmedAtMs: number | null = null;
  /** Monotonic ms of the answer to the latest ask; null: none yet. */
  answeredAtMs: number | null = null;

  readonly #host: WalletHost;
  readonly #leases = new Set<Lease>();
  /** Leases that may reach beyond what is counted. */
  readonly #spare = new Set<Lease>();
  readonly #waiters = new Map<MeterWaiter, { holder: LeaseHolder; sinceMs: number }>();
  #admissions: Array<{ sinceMs: number; tell: (admission: Admission) => void }> = [];
  /** Units of meters that are over, as booked. */
  #spentUnits = 0;
  /** Units of leases. */
  #leasedUnits = 0;
  #microsPerGb: bigint | null = null;
  /** Something was refused for want of units since the latest answer. */
  #starved = false;
  /** Waiters may have better luck than last time. */
  #stirred = false;
  /** After an answer that gave less than asked: what was left then. */
  #leftAfterShortAnswer = Number.POSITIVE_INFINITY;
  readonly #rate: UsageRate;
  #activeAtMs: number;
  #sentAtMs: number | null = null;
  #unsent = false;
  #ring = false;
  #finished = false;
  #over = false;

  /** @internal Made by WalletBook. */
  constructor(owner: WalletOwner, field: string, host: WalletHost) {
    this.owner = owner;
    this.field = field;
    this.#host = host;
    this.#activeAtMs = host.clock.monotonicMs();
    this.#rate = new UsageRate(this.#activeAtMs);
  }

  /** Units spent or set aside for open meters. Falls when a lease is given back, never below what will be booked. */
  get used(): number {
    return this.#spentUnits + this.#leasedUnits;
  }
  /** Units that nobody in this gateway has taken. */
  get left(): number {
    return this.granted - this.renounced - this.used;
  }
  /** An ask is not answered yet. */
  get pending(): boolean {
    return this.want > this.answered && this.#wanted;
  }
  /** Somebody waits for it: a stream or a new connection. */
  get awaited(): boolean {
    return this.#waiters.size > 0 || this.#admissions.length > 0;
  }
  get waiterCount(): number {
    return this.#waiters.size;
  }
  get leaseCount(): number {
    return this.#leases.size;
  }
  /** The control plane said, of the latest ask, that there is nothing more. */
  get exhausted(): boolean {
    return this.state === 'exhausted' && !this.pending && this.#wanted;
  }

  // Leases -------------------------------------------------------------------------------------------------------

  /** A lease of nothing yet. `microsPerGb`: of the meter in force, for money; null: bytes. */
  lease(holder: LeaseHolder, microsPerGb: bigint | null): Lease {
    const lease = new Lease(this, holder, microsPerGb);
    this.#leases.add(lease);
    this.#priced(microsPerGb);
    return lease;
  }

  /**
   * Extends the lease so that its binding may count up to `countBytes`, and a bit further when there is plenty.
   * WAIT: not now. REFUSE: nothing will come.
   */
  cover(lease: Lease, countBytes: number): Verdict {
    if (countBytes <= lease.limitBytes) return Verdict.GO;
    if (this.#over) return Verdict.REFUSE;
    if (!this.#usable()) return this.#starve(Verdict.WAIT);
    const needed = lease.unitsTo(countBytes) - lease.units;
    if (needed > this.left) this.#takeBackSpare(lease);
    if (needed > this.left) return this.#starve(this.exhausted ? Verdict.REFUSE : Verdict.WAIT);
    const share = Math.floor((this.left - needed) / (4 * this.#leases.size));
    const limitBytes = Math.min(
      lease.bytesWith(lease.units + needed + share),
      countBytes + this.#host.settings.leaseBytesMax,
    );
    lease.limitBytes = Math.max(countBytes, limitBytes);
    this.#keep(lease, lease.unitsTo(lease.limitBytes));
    this.#spare.add(lease);
    this.#activeAtMs = this.#host.clock.monotonicMs();
    if (this.#mayAsk() && this.left < this.#askBelow()) this.#host.hungry(this);
    return Verdict.GO;
  }

  /** The lease's meter is over and what was counted is what is booked; the next meter begins at this price. */
  roll(lease: Lease, microsPerGb: bigint | null): void {
    this.#book(lease);
    lease.rebase(microsPerGb);
    this.#priced(microsPerGb);
  }

  /** The lease's meter is over, and no other follows. */
  end(lease: Lease): void {
    if (!this.#leases.delete(lease)) return;
    this.#book(lease);
    for (const [waiter, { holder }] of [...this.#waiters])
      if (holder === lease.holder && this.#waiters.delete(waiter)) waiter.cut();
  }

  #book(lease: Lease): void {
    this.#spentUnits += lease.unitsBooked;
    this.#leasedUnits -= lease.units;
    lease.units = 0;
    this.#spare.delete(lease);
    this.#stirred = true;
  }

  #keep(lease: Lease, units: number): void {
    this.#leasedUnits += units - lease.units;
    lease.units = units;
  }

  /** Takes back what leases hold beyond what their bindings have counted. */
  #takeBackSpare(except: Lease | null = null): void {
    for (const lease of this.#spare) {
      if (lease === except) continue;
      this.#spare.delete(lease);
      lease.limitBytes = lease.holder.countedBytes;
      lease.holder.lowerLimit(lease.limitBytes);
      this.#keep(lease, lease.unitsTo(lease.limitBytes));
    }
  }

  #usable(): boolean {
    const { clock, settings } = this.#host;
    return this.confirmedAtMs !== null && clock.monotonicMs() - this.confirmedAtMs <= settings.walletTermMs;
  }

  #starve(verdict: Verdict): Verdict {
    this.#activeAtMs = this.#host.clock.monotonicMs();
    this.#starved = true;
    if (this.#mayAsk()) this.#host.hungry(this);
    return verdict;
  }

  /** Unless an answer is under way, or was that nothing is left: then the control plane comes back to it by itself. */
  #mayAsk(): boolean {
    return !this.#over && (!this.#wanted || (!this.pending && this.state === 'open'));
  }

  /** Whether the latest ask still stands. */
  get #wanted(): boolean {
    return this.want > this.withdrawn;
  }

  #priced(microsPerGb: bigint | null): void {
    if (microsPerGb !== null) this.#microsPerGb = microsPerGb;
  }

  // Who waits ----------------------------------------------------------------------------------------------------

  /** After a WAIT of the holder's lease. Waiting already: nothing changes. */
  wait(waiter: MeterWaiter, holder: LeaseHolder): void {
    if (this.#waiters.has(waiter)) return;
    // What came before it was told to wait does not help it.
    if (this.#waiters.size === 0) this.#stirred = false;
    this.#waiters.set(waiter, { holder, sinceMs: this.#host.clock.monotonicMs() });
    this.#host.hungry(this);
  }
  unwait(waiter: MeterWaiter): void {
    this.#waiters.delete(waiter);
  }

  /**
   * May a new connection begin? At once when that is known, else when the answer has come or `walletAdmitMs` are over.
   * `microsPerGb`: the price in force, for money.
   */
  admit(microsPerGb: bigint | null = null): Admission | Promise<Admission> {
    if (this.#over) return 'unavailable';
    const nowMs = this.#host.clock.monotonicMs();
    this.#priced(microsPerGb);
    this.#activeAtMs = nowMs;
    if (this.exhausted && nowMs - (this.answeredAtMs ?? 0) > this.#host.settings.walletRecheckMs)
      this.askAgain();
    const known = this.#admission();
    if (known !== null) return known;
    return new Promise((tell) => {
      this.#admissions.push({ sinceMs: nowMs, tell });
      this.#starved = true;
      this.#host.hungry(this);
    });
  }

  #admission(): Admission | null {
    if (!this.#usable()) return null;
    if (this.left <= 0) this.#takeBackSpare();
    // With less than one piece a connection would be cut at once; that much may go to waste.
    if (this.exhausted && this.left < this.#costOf(COUNT_BYTES_MAX)) return 'exhausted';
    if (this.left > 0) return 'admitted';
    return this.exhausted ? 'exhausted' : null;
  }

  /** Units, rounded up; of money at the latest price. */
  #costOf(bytes: number): number {
    if (this.owner.kind !== 'buyer') return bytes;
    return this.#microsPerGb === null ? 1 : chargeCeil(bytes, this.#microsPerGb);
  }

  /** @internal Lets those go on who may, and cuts those who waited too long. */
  serve(): void {
    const { clock, settings } = this.#host;
    const nowMs = clock.monotonicMs();
    const admission = this.#admissions.length > 0 ? this.#admission() : null;
    const waiting = this.#admissions;
    this.#admissions = [];
    for (const one of waiting) {
      if (admission !== null) one.tell(admission);
      else if (nowMs - one.sinceMs < settings.walletAdmitMs) this.#admissions.push(one);
      // An answer without money is an answer, too: others hold all of it.
      else one.tell(this.#usable() && this.answered > 0 ? 'exhausted' : 'unavailable');
    }
    if (this.#waiters.size === 0) return;
    if (this.#stirred && this.#usable()) {
      this.#stirred = false;
      for (const waiter of [...this.#waiters.keys()]) if (this.#waiters.delete(waiter)) waiter.retry();
    }
    for (const [waiter, { holder, sinceMs }] of [...this.#waiters]) {
      if (nowMs - sinceMs < settings.walletWaitMs) continue;
      if (!this.#waiters.delete(waiter)) continue;
      this.cutCount++;
      holder.refuse(this.refusal);
      waiter.cut();
    }
  }

  /** Streams cut because nothing came in time. */
  cutCount = 0;

  /** Why its streams are refused. */
  get refusal(): WalletRefusal {
    return this.owner.kind === 'buyer' ? 'NO_BALANCE' : 'QUOTA_REACHED';
  }

  /** @internal Nobody will be served any more, and nothing asked for. */
  dismiss(): void {
    this.#over = true;
    for (const { tell } of this.#admissions.splice(0)) tell('unavailable');
    for (const [waiter, { holder }] of [...this.#waiters]) {
      if (!this.#waiters.delete(waiter)) continue;
      holder.refuse(this.refusal);
      waiter.cut();
    }
  }

  // What is told and heard ---------------------------------------------------------------------------------------

  /** @internal What the live state showed at a moment (monotonic ms); null: nothing. */
  heard(answer: WalletAnswer | null, readAtMs: number): void {
    // Emptied or rolled back: say again what it has forgotten.
    if (answer === null || answer.answered < this.answered) this.#send(true);
    if (answer === null) return;
    this.confirmedAtMs = readAtMs;
    const grew = answer.granted > this.granted;
    if (grew) {
      this.granted = answer.granted;
      this.#stirred = true;
    }
    if (answer.answered < this.answered) return;
    const fresh = grew || answer.answered > this.answered;
    if (answer.state !== this.state) this.#stirred = true;
    this.answered = answer.answered;
    this.state = answer.state;
    this.beyond = answer.beyond ?? this.beyond;
    if (this.pending || !fresh) return;
    this.#stirred = true;
    this.answeredAtMs = readAtMs;
    this.#starved &&= this.left <= 0;
    this.#leftAfterShortAnswer = this.granted < this.want ? this.left : Number.POSITIVE_INFINITY;
  }

  /** @internal Asks once more though the last answer was that there is nothing: the balance may have grown. */
  askAgain(): void {
    if (this.#over || !this.#wanted || this.pending || this.state === 'open') return;
    this.#ask();
    this.#host.hungry(this);
  }

  /** @internal Everything may have been forgotten: say it again. */
  repeat(): void {
    if (this.want > 0 || this.renounced > 0) this.#send(this.awaited);
  }

  /** @internal The run is over and its meters are committed. */
  finish(): void {
    this.#finished = true;
    this.#send(true);
  }

  /** @internal What is to be told now, or null. Looks after what is used and what is not, once a second. */
  due(): WalletAsking | null {
    const { clock, settings } = this.#host;
    const nowMs = clock.monotonicMs();
    if (!this.#usable()) this.#takeBackSpare();
    if (this.#rate.due(nowMs)) this.#survey(nowMs);
    if (this.#mayAsk() && (this.#starved || (this.#inUse() && this.left < this.#askBelow()))) this.#ask();
    const sinceMs = this.#sentAtMs === null ? Number.POSITIVE_INFINITY : nowMs - this.#sentAtMs;
    if (this.pending && sinceMs >= settings.walletRetryMs) this.#send(true);
    if (sinceMs >= settings.walletResendMs) this.repeat();
    if (!this.#unsent) return null;
    return {
      field: this.field,
      wantGranted: this.want,
      renounced: this.renounced,
      withdrawn: this.withdrawn,
      finished: this.#finished,
      ring: this.#ring,
    };
  }

  /** @internal What `due` gave is on its way. */
  sent(): void {
    this.#sentAtMs = this.#host.clock.monotonicMs();
    this.#unsent = false;
    this.#ring = false;
  }

  /**
   * @internal Whether it must be read now and then: it is in use, or holds something, or is asked for; or an ask that
   * was withdrawn may have been granted all the same, and must be given back.
   */
  get live(): boolean {
    return this.#inUse() || this.pending || this.left > 0 || this.want > this.granted;
  }

  /** @internal Gives back everything that is not counted. */
  renounceAll(): void {
    this.#takeBackSpare();
    this.#renounce(this.left);
    if (!this.#wanted) return;
    this.withdrawn = this.want;
    this.#starved = false;
    this.#send(true);
  }

  #inUse(): boolean {
    return this.#leases.size > 0 || this.awaited;
  }

  #ask(): void {
    const wanted = this.renounced + this.used + this.#target();
    // One more than before at least: that tells the answer to this ask from an earlier one.
    this.want = Math.min(Number.MAX_SAFE_INTEGER, Math.max(this.want + 1, this.granted + 1, wanted));
    this.#send(true);
  }

  #send(ring: boolean): void {
    this.#unsent = true;
    this.#ring ||= ring;
  }

  /** Units that should be left after an answer. */
  #target(): number {
    const { walletFillBytesMin, walletFillMs } = this.#host.settings;
    const least = this.#costOf(walletFillBytesMin);
    return Math.min(
      Number.MAX_SAFE_INTEGER,
      Math.max(1, least, Math.ceil(this.#rate.unitsPerMs * walletFillMs)),
    );
  }

  #askBelow(): number {
    return Math.min(this.#target(), this.#leftAfterShortAnswer) / 2;
  }

  #renounce(units: number): void {
    if (units <= 0) return;
    this.renounced += units;
    this.#leftAfterShortAnswer = Math.min(this.#leftAfterShortAnswer, this.left);
    this.#send(true);
  }

  #survey(nowMs: number): void {
    this.#rate.measure(this.used, nowMs);
    for (const lease of this.#leases) {
      if (lease.seenBytes === lease.holder.countedBytes) continue;
      lease.seenBytes = lease.holder.countedBytes;
      this.#activeAtMs = nowMs;
    }
    if (!this.awaited && nowMs - this.#activeAtMs >= this.#host.settings.walletIdleMs) this.renounceAll();
    else if (this.left > 4 * this.#target()) this.#renounce(this.left - 2 * this.#target());
  }
}
