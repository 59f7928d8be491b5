import { type Bridge, bridgeSocket } from '../bridge.js';
import type { BridgeObserver } from '../bridge-observer.js';
import type { Open } from '../control.js';
import { DialCode, ResetCode } from '../frame.js';
import { READ_BUFFER_BYTES_MAX } from '../limits.js';
import type { Place } from '../live-set.js';
import { dialAddress, type RawSocket } from '../raw-socket.js';
import type { MuxStream, StreamHandler } from '../stream.js';
import { Verdict } from '../verdict.js';
import type { BandwidthWaiter } from './bandwidth.js';
import {
  type Attempt,
  type Dial,
  type DialFailure,
  type DialHandler,
  type DialSettings,
  dial,
} from './dial.js';
import type { OwnerRules } from './owner-rules.js';

/** Any stream of a device's tunnel, a connection or an association. */
export interface OwnedStream {
  /** Where the tunnel keeps it; null: not yet. */
  place: Place<OwnedStream> | null;
  /** Ends it now, whatever it is at: the owner's rules say so. */
  cut(why: 'CAP_REACHED' | 'PAUSED'): void;
}

/** What a stream tells the tunnel it belongs to. */
export interface DeviceStreamOwner {
  readonly rules: OwnerRules;
  readonly dialSettings: DialSettings<RawSocket>;
  /** See BridgeObserver. */
  readonly lingerMs: number;
  /** Payload bytes of this tunnel, for STATUS. */
  bytesUp: number;
  bytesDown: number;
  /** The owner's rules refused bytes: nothing may be relayed any more. */
  onRefusedByRules(): void;
  /** OPEN was answered. */
  onAnswered(code: keyof typeof DialCode): void;
  /** Exactly once; nothing of it is left. */
  onStreamOver(stream: OwnedStream): void;
}

/** Connects by the wire core's sockets. */
export const attemptRawSocket: Attempt<RawSocket> = (address, port, onResult) =>
  dialAddress(address, port, onResult);

/**
 * One OPEN on the device's side.
 *
 * | state | holds | leaves to |
 * |---|---|---|
 * | dialling | the dial; the gateway may not send yet | relaying (connected), over (failed, RESET, cut) |
 * | relaying | the bridge, which now is the stream's handler | over (ended, reset, refused by the owner's rules, lingered) |
 * | over | nothing | |
 */
export class DeviceStream
  implements StreamHandler, BridgeObserver, OwnedStream, BandwidthWaiter, DialHandler<RawSocket>
{
  readonly pieceBytesMax = READ_BUFFER_BYTES_MAX;
  readonly lingerMs: number;
  place: Place<OwnedStream> | null = null;
  readonly #stream: MuxStream;
  readonly #owner: DeviceStreamOwner;
  #dial: Dial | null = null;
  #bridge: Bridge | null = null;
  #over = false;

  constructor(stream: MuxStream, owner: DeviceStreamOwner) {
    this.#stream = stream;
    this.#owner = owner;
    this.lingerMs = owner.lingerMs;
    stream.handler = this;
  }

  /** Dials the destination and answers OPEN with what came of it. */
  begin(open: Open): void {
    this.#dial = dial(this.#owner.dialSettings, open.host, open.port, this);
  }

  cut(why: 'CAP_REACHED' | 'PAUSED'): void {
    if (this.#bridge !== null) {
      this.#bridge.reset(ResetCode[why]);
      return;
    }
    this.#dial?.cancel();
    this.#stream.opened(DialCode[why]);
    this.#owner.onAnswered(why);
    this.#finish();
  }

  onConnected(socket: RawSocket): void {
    this.#dial = null;
    this.#stream.opened(DialCode.OK);
    this.#owner.onAnswered('OK');
    this.#bridge = bridgeSocket(socket, this.#stream, this);
  }

  onFailed(failure: DialFailure): void {
    this.#dial = null;
    this.#stream.opened(DialCode[failure]);
    this.#owner.onAnswered(failure);
    this.#finish();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#owner.rules.bandwidth.forget(this);
    this.#owner.onStreamOver(this);
  }

  // While dialling the gateway can only reset: anything else is a protocol error, which the session deals with

  onReset(): void {
    this.#dial?.cancel();
    this.#dial = null;
    this.#finish();
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}

  /** Destination → tunnel: down. */
  onBytesOut(bytes: number): Verdict {
    const { rules } = this.#owner;
    if (!rules.bandwidth.take(bytes, this)) return Verdict.WAIT;
    if (!rules.countDown(bytes)) return this.#refuse();
    this.#owner.bytesDown += bytes;
    return Verdict.GO;
  }

  /** Tunnel → destination: up. */
  onBytesIn(bytes: number): Verdict {
    const { rules } = this.#owner;
    if (!rules.bandwidth.take(bytes, this)) return Verdict.WAIT;
    if (!rules.countUp(bytes)) return this.#refuse();
    this.#owner.bytesUp += bytes;
    return Verdict.GO;
  }

  onEnd(): void {
    this.#finish();
  }

  /** There is bandwidth for what waits. */
  retry(): void {
    this.#bridge?.retry();
  }

  #refuse(): Verdict {
    this.#owner.onRefusedByRules();
    return Verdict.REFUSE;
  }
}
