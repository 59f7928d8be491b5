import type { BridgeObserver } from '../../agent-protocol/bridge-observer.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { MeterBinding, MeterWaiter } from '../metering/meter.js';
import type { AccountBandwidth, BandwidthWaiter } from './bandwidth.js';

/** Bytes an allocation may use; `bytesUsed` grows as they flow. */
export interface Allowance {
  readonly allocationId: string;
  readonly sizeBytes: number;
  bytesUsed: number;
}

/** What this process relayed since it started, payload bytes. */
export interface RelayTotals {
  bytesUp: number;
  bytesDown: number;
}

/** How a buyer's connection was let in, for judging it again when something has changed. */
export interface StreamAccess {
  /** The client's address, as `plainAddress` gives it; null: unreadable. */
  clientAddress: string | null;
  /** A password or token, an address that needs none, or a pulled package's own password. */
  proof: 'credential' | 'address' | 'package';
  /** Of which credential; null: another proof. */
  tokenId: string | null;
}

/** Whose bytes flow and where they are counted. */
export interface SpliceSubject {
  sessionId: string;
  deviceId: string;
  buyerId: string;
  account: string;
  /** `*`: an association, each of whose datagrams names its own. */
  destinationHost: string;
  destinationPort: number;
  network: 'tcp' | 'udp';
  access: StreamAccess;
  allowance: Allowance;
  binding: MeterBinding;
  bandwidth: AccountBandwidth;
}

/** What the splice belongs to while it lives. */
export interface SpliceOwner {
  readonly totals: RelayTotals;
  ended(splice: Splice, how: 'finished' | 'reset' | 'refused'): void;
}

/**
 * One relayed connection between a buyer and a device's stream, and the only place where bytes are counted: each
 * piece passes through here **before** it goes on, in either direction, whether a socket or an HTTP forwarder holds
 * the buyer's side. A piece that may not be counted (package used up, journal failed, allocation ended) does not go
 * on, and the connection is cut; one that may not be counted yet (the wallet is being filled, the account's bandwidth
 * is used up) waits where it is.
 */
export class Splice implements BridgeObserver, MeterWaiter {
  readonly subject: SpliceSubject;
  readonly stream: MuxStream;
  /** What was counted of this connection, payload bytes. */
  bytesUp = 0;
  bytesDown = 0;
  readonly #owner: SpliceOwner;
  readonly #allowance: Allowance;
  readonly #binding: MeterBinding;
  readonly #totals: RelayTotals;
  readonly #bandwidth: AccountBandwidth;
  /** Places in the queue for bandwidth, one a direction; null: never needed so far. */
  #upTurn: BandwidthWaiter | null = null;
  #downTurn: BandwidthWaiter | null = null;
  #cut: () => void;
  #retry: () => void = () => {};
  #waiting = false;
  #over = false;
  /** @internal The owner's: what there is to do when it has ended. */
  afterEnd: ((how: 'finished' | 'reset' | 'refused') => void) | null = null;
  /** Of an association: the hosts its datagrams went to. */
  #hosts: ReadonlySet<string> | null = null;

  /** `cut` drops both sides at once; the buyer's side replaces it when it takes the stream (`onCut`). */
  constructor(stream: MuxStream, subject: SpliceSubject, owner: SpliceOwner, cut: () => void) {
    this.stream = stream;
    this.subject = subject;
    this.#owner = owner;
    this.#allowance = subject.allowance;
    this.#binding = subject.binding;
    this.#totals = owner.totals;
    this.#bandwidth = subject.bandwidth;
    this.#cut = cut;
  }

  /** Who drops both sides from now on. */
  onCut(cut: () => void): void {
    this.#cut = cut;
  }

  /** Who holds bytes that were told to wait and offers them again. */
  onRetry(retry: () => void): void {
    this.#retry = retry;
  }

  /** An association has many destinations: `hosts` are those it used lately. */
  alsoReaches(hosts: ReadonlySet<string>): void {
    this.#hosts = hosts;
  }

  /** Whether its bytes go to the host (in normal form). */
  reaches(host: string): boolean {
    return this.subject.destinationHost === host || this.#hosts?.has(host) === true;
  }

  /** Drops the connection now: access ended. Calling it again does nothing. */
  cut(): void {
    this.#stopWaiting();
    if (!this.#over) this.#cut();
  }

  /** From the binding, after a WAIT: what waits may be counted now, or is told to wait again. */
  retry(): void {
    this.#waiting = false;
    if (!this.#over) this.#retry();
  }

  onBytesOut(bytes: number): Verdict {
    const allowance = this.#allowance;
    if (allowance.bytesUsed + bytes > allowance.sizeBytes) return Verdict.REFUSE;
    const bandwidth = this.#bandwidth;
    if (bandwidth.limited) {
      this.#upTurn ??= this.#turn();
      if (!bandwidth.admits(this.#upTurn)) return Verdict.WAIT;
    }
    const verdict = this.#binding.countUp(bytes);
    if (verdict !== Verdict.GO) return this.#notNow(verdict);
    if (bandwidth.limited) bandwidth.spend(bytes);
    allowance.bytesUsed += bytes;
    this.bytesUp += bytes;
    this.#totals.bytesUp += bytes;
    return verdict;
  }

  onBytesIn(bytes: number): Verdict {
    const allowance = this.#allowance;
    if (allowance.bytesUsed + bytes > allowance.sizeBytes) return Verdict.REFUSE;
    const bandwidth = this.#bandwidth;
    if (bandwidth.limited) {
      this.#downTurn ??= this.#turn();
      if (!bandwidth.admits(this.#downTurn)) return Verdict.WAIT;
    }
    const verdict = this.#binding.countDown(bytes);
    if (verdict !== Verdict.GO) return this.#notNow(verdict);
    if (bandwidth.limited) bandwidth.spend(bytes);
    allowance.bytesUsed += bytes;
    this.bytesDown += bytes;
    this.#totals.bytesDown += bytes;
    return verdict;
  }

  #turn(): BandwidthWaiter {
    return {
      retry: () => {
        if (!this.#over) this.#retry();
      },
    };
  }

  /** Both directions may wait at once; the binding knows one waiter. */
  #notNow(verdict: Verdict): Verdict {
    if (verdict === Verdict.WAIT && !this.#waiting) {
      this.#waiting = true;
      this.#binding.wait(this);
    }
    return verdict;
  }

  #stopWaiting(): void {
    if (this.#upTurn !== null) this.#bandwidth.leave(this.#upTurn);
    if (this.#downTurn !== null) this.#bandwidth.leave(this.#downTurn);
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#binding.unwait(this);
  }

  onEnd(how: 'finished' | 'reset' | 'refused'): void {
    if (this.#over) return;
    this.#over = true;
    this.#stopWaiting();
    this.#owner.ended(this, how);
  }
}
