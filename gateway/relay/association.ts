import { datagramHeadBytes, encodeDatagramHead } from '../../agent-protocol/datagram.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import { COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import type { Clock } from '../runtime/clock.js';
import type { AssociationUsage } from './association-usage.js';
import { DatagramRate } from './datagram-rate.js';
import type { DatagramTotals, DropReason } from './datagram-totals.js';
import type { Splice } from './splice.js';

/** The device's side of an association, wherever the device is. */
export interface DatagramWay {
  /** Passes a datagram of the client on, to a host as it wrote it, or drops it and counts that; `bytes` are copied. */
  send(host: string, port: number, bytes: Buffer): void;
  /** The client is gone. A second call does nothing. */
  close(): void;
}

/** The client's side of an association. */
export interface AssociationClient {
  /** Whether it is known where datagrams go. */
  readonly isReachable: boolean;
  /** Bytes of `deliver` that the operating system has not taken. */
  readonly unsentBytes: number;
  /** Whether `deliver` takes so many payload bytes now: else they are dropped before they are counted. */
  takes(bytes: number): boolean;
  /** Sends a datagram: the payload of a DATAGRAM frame (its sender, then the bytes), valid only during the call. */
  deliver(payload: Buffer): void;
  /** It is over, once; nothing more is delivered. Not called after `DatagramWay.close`. */
  onAssociationEnd(): void;
}

/** Limits of one association; settings of the gateway. */
export interface AssociationSettings {
  /** Without a datagram either way for so long it ends, ms. */
  readonly idleMs: number;
  /** Datagrams a second in each direction; above it they are dropped. */
  readonly datagramsPerSecondMax: number;
}

/** What an association is handed beside its stream. */
export interface AssociationDeps {
  readonly settings: AssociationSettings;
  readonly totals: DatagramTotals;
  readonly usage: AssociationUsage;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** The destination in its normal form when the buyer may reach it now, else null. */
  mayReach(host: string, port: number): string | null;
}

/** Hosts remembered of one association, so that it can be cut when one of them is denied. */
const HOSTS_MAX = 1_024;

/**
 * Datagrams between a buyer and a device's stream. Each is judged, and counted by the same splice as any stream's
 * bytes (its payload) before it goes on. Nothing is ever kept: what cannot go on at once, or may not be counted yet, is
 * dropped; what may not be counted at all ends the association. Of both directions together at most COUNT_BYTES_MAX
 * are counted and not with the operating system.
 */
export class Association implements StreamHandler, DatagramWay {
  readonly #stream: MuxStream;
  readonly #splice: Splice;
  readonly #deps: AssociationDeps;
  readonly #client: AssociationClient;
  readonly #up: DatagramRate;
  readonly #down: DatagramRate;
  /** Those used last, oldest first. */
  readonly #hosts = new Set<string>();
  #usedAtMs: number;
  #timer: NodeJS.Timeout;
  #over = false;

  constructor(stream: MuxStream, splice: Splice, deps: AssociationDeps, client: AssociationClient) {
    this.#stream = stream;
    this.#splice = splice;
    this.#deps = deps;
    this.#client = client;
    const nowMs = deps.clock.monotonicMs();
    this.#up = new DatagramRate(deps.settings.datagramsPerSecondMax, nowMs);
    this.#down = new DatagramRate(deps.settings.datagramsPerSecondMax, nowMs);
    this.#usedAtMs = nowMs;
    this.#timer = setTimeout(() => this.#whenIdle(), deps.settings.idleMs);
    deps.totals.associations++;
    stream.handler = this;
    splice.onCut(() => this.#end(ResetCode.REFUSED, 'refused'));
    splice.alsoReaches(this.#hosts);
  }

  send(host: string, port: number, bytes: Buffer): void {
    if (this.#over) return;
    const reason = this.#passUp(host, port, bytes);
    if (reason !== null) this.#deps.totals.drop(reason);
  }

  close(): void {
    this.#close(ResetCode.CANCELLED, 'finished');
  }

  #passUp(host: string, port: number, bytes: Buffer): DropReason | null {
    const nowMs = this.#deps.clock.monotonicMs();
    if (!this.#up.take(nowMs)) return 'rate';
    const normal = this.#deps.mayReach(host, port);
    if (normal === null) return 'policy';
    if (!this.#stream.takesDatagram(bytes.length) || !this.#hasRoom(bytes.length)) return 'backlog';
    const verdict = this.#splice.onBytesOut(bytes.length);
    if (verdict !== Verdict.GO) return this.#notCounted(verdict);
    this.#usedAtMs = nowMs;
    this.#remember(normal);
    this.#deps.usage.up(normal, port, bytes.length);
    this.#deps.totals.up++;
    this.#stream.sendDatagram(encodeDatagramHead(normal, port), bytes);
    return null;
  }

  onDatagram(_stream: MuxStream, payload: Buffer): void {
    if (this.#over) return;
    const reason = this.#passDown(payload);
    if (reason !== null) this.#deps.totals.drop(reason);
  }

  #passDown(payload: Buffer): DropReason | null {
    const nowMs = this.#deps.clock.monotonicMs();
    if (!this.#down.take(nowMs)) return 'rate';
    if (!this.#client.isReachable) return 'stranger';
    const headBytes = datagramHeadBytes(payload);
    const bytes = payload.length - headBytes;
    if (!this.#client.takes(bytes) || !this.#hasRoom(bytes)) return 'backlog';
    const verdict = this.#splice.onBytesIn(bytes);
    if (verdict !== Verdict.GO) return this.#notCounted(verdict);
    this.#usedAtMs = nowMs;
    this.#deps.usage.down(payload, headBytes);
    this.#deps.totals.down++;
    this.#client.deliver(payload);
    return null;
  }

  #hasRoom(bytes: number): boolean {
    return this.#stream.unsentDatagramBytes + this.#client.unsentBytes + bytes <= COUNT_BYTES_MAX;
  }

  /** WAIT: the splice has asked for more, and cuts when there is none. */
  #notCounted(verdict: Verdict): DropReason {
    if (verdict === Verdict.REFUSE) this.#end(ResetCode.REFUSED, 'refused');
    return 'balance';
  }

  #remember(host: string): void {
    this.#hosts.delete(host);
    this.#hosts.add(host);
    if (this.#hosts.size <= HOSTS_MAX) return;
    for (const oldest of this.#hosts) {
      this.#hosts.delete(oldest);
      return;
    }
  }

  #whenIdle(): void {
    const { clock, settings } = this.#deps;
    const leftMs = this.#usedAtMs + settings.idleMs - clock.monotonicMs();
    if (leftMs > 0) this.#timer = setTimeout(() => this.#whenIdle(), leftMs);
    else this.#end(ResetCode.TIMEOUT, 'finished');
  }

  /** The device reset it, or its tunnel went. */
  onReset(): void {
    this.#end(ResetCode.CANCELLED, 'reset');
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}

  #end(code: ResetCode, how: 'finished' | 'reset' | 'refused'): void {
    if (this.#close(code, how)) this.#client.onAssociationEnd();
  }

  /** false: it was over. */
  #close(code: ResetCode, how: 'finished' | 'reset' | 'refused'): boolean {
    if (this.#over) return false;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#deps.totals.associations--;
    this.#stream.reset(code);
    this.#splice.onEnd(how);
    return true;
  }
}
