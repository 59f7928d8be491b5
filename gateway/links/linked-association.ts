/** Both ends of an association whose client is at one gateway and whose device is at another one. */
import { datagramHeadBytes, decodeDatagram, encodeDatagramHead } from '../../agent-protocol/datagram.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import { COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import type { Associated } from '../listeners/connect-pipeline.js';
import { readHost } from '../listeners/destination.js';
import type { AssociationClient, DatagramWay } from '../relay/association.js';
import { DatagramRate } from '../relay/datagram-rate.js';
import type { DatagramTotals } from '../relay/datagram-totals.js';
import type { Clock } from '../runtime/clock.js';

/** What the entry gateway's end is handed beside its stream. */
export interface LinkedAssociationDeps {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly totals: Pick<DatagramTotals, 'drop'>;
  /** Of one association towards the link; above it they are dropped here, as they would be there. */
  readonly datagramsPerSecondMax: number;
}

/**
 * At the entry gateway: the client here, the device there. Nothing is judged, counted as passed on, or kept: the other
 * gateway does the first two, and what can not go on at once is dropped. It ends when the client goes, when the other
 * gateway ends it, or with the link.
 */
export class LinkedAssociation implements StreamHandler, DatagramWay {
  readonly #stream: MuxStream;
  readonly #client: AssociationClient;
  readonly #deps: LinkedAssociationDeps;
  readonly #up: DatagramRate;
  readonly #onEnd: () => void;
  #over = false;

  /** `onEnd` is called once, however it ends. */
  constructor(stream: MuxStream, client: AssociationClient, deps: LinkedAssociationDeps, onEnd: () => void) {
    this.#stream = stream;
    this.#client = client;
    this.#deps = deps;
    this.#up = new DatagramRate(deps.datagramsPerSecondMax, deps.clock.monotonicMs());
    this.#onEnd = onEnd;
    stream.handler = this;
  }

  send(host: string, port: number, bytes: Buffer): void {
    if (this.#over) return;
    const { clock, totals } = this.#deps;
    if (!this.#up.take(clock.monotonicMs())) totals.drop('rate');
    else if (!this.#stream.sendDatagram(encodeDatagramHead(host, port), bytes)) totals.drop('backlog');
  }

  close(): void {
    if (this.#end()) this.#stream.reset(ResetCode.CANCELLED);
  }

  onDatagram(_stream: MuxStream, payload: Buffer): void {
    if (this.#over) return;
    const { totals } = this.#deps;
    if (!this.#client.isReachable) totals.drop('stranger');
    else if (this.#client.unsentBytes + payload.length - datagramHeadBytes(payload) > COUNT_BYTES_MAX)
      totals.drop('backlog');
    else this.#client.deliver(payload);
  }

  /** The other gateway ended it, or the link went. */
  onReset(): void {
    if (this.#end()) this.#client.onAssociationEnd();
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}

  /** false: it was over. */
  #end(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#onEnd();
    return true;
  }
}

/**
 * At the gateway with the device: the client is at another one, which vouches that its datagrams are of one client. They
 * are judged and counted as any client's, those back before they go on the link, and only while that takes them at once.
 */
export class ClientOnLink implements StreamHandler, AssociationClient {
  readonly #stream: MuxStream;
  readonly #totals: Pick<DatagramTotals, 'drop'>;
  #way: DatagramWay | null = null;

  constructor(stream: MuxStream, totals: Pick<DatagramTotals, 'drop'>) {
    this.#stream = stream;
    this.#totals = totals;
  }

  /** Carries datagrams from now on; `associated` is over when the stream is, and the other way round. */
  start(associated: Associated): void {
    this.#stream.handler = this;
    this.#way = associated.start(this);
  }

  // ---- from the other gateway -------------------------------------------------------------------------------------

  onDatagram(_stream: MuxStream, payload: Buffer): void {
    const datagram = decodeDatagram(payload);
    const host = datagram === null ? null : readHost(datagram.host);
    if (datagram === null || host === null) this.#totals.drop('malformed');
    else this.#way?.send(host, datagram.port, datagram.bytes);
  }

  onReset(): void {
    this.#way?.close();
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}

  // ---- to it ------------------------------------------------------------------------------------------------------

  get isReachable(): boolean {
    return this.#stream.state === 'open';
  }
  get unsentBytes(): number {
    return this.#stream.unsentDatagramBytes;
  }
  takes(bytes: number): boolean {
    return this.#stream.takesDatagram(bytes);
  }
  deliver(payload: Buffer): void {
    const headBytes = datagramHeadBytes(payload);
    this.#stream.sendDatagram(payload.subarray(0, headBytes), payload.subarray(headBytes));
  }
  onAssociationEnd(): void {
    this.#stream.reset(ResetCode.CANCELLED);
  }
}
