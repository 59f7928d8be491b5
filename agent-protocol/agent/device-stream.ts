import { type Bridge, type BridgeObserver, bridgeSocket } from '../bridge.js';
import type { Open } from '../control.js';
import { DialCode, ResetCode } from '../frame.js';
import { READ_BUFFER_BYTES_MAX } from '../limits.js';
import { dialSocket, type RawSocket } from '../raw-socket.js';
import type { MuxStream, StreamHandler } from '../stream.js';
import { Verdict } from '../verdict.js';
import { type Attempt, type Dial, type DialSettings, dial } from './dial.js';
import type { OwnerRules } from './owner-rules.js';

/** Any stream of a device's tunnel, a connection or an association. */
export interface OwnedStream {
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
  /** Exactly once; nothing of it is left. */
  onStreamOver(stream: OwnedStream): void;
}

/** Connects by the wire core's sockets. */
export const attemptRawSocket: Attempt<RawSocket> = (address, port, onResult) => {
  const raw = dialSocket({ host: address, port });
  raw.socket.once('connect', () => onResult(null));
  raw.socket.once('error', onResult);
  return raw;
};

/**
 * One OPEN on the device's side.
 *
 * | state | holds | leaves to |
 * |---|---|---|
 * | dialling | the dial; the gateway may not send yet | relaying (connected), over (failed, RESET, cut) |
 * | relaying | the bridge, which now is the stream's handler | over (ended, reset, refused by the owner's rules, lingered) |
 * | over | nothing | |
 */
export class DeviceStream implements StreamHandler, BridgeObserver, OwnedStream {
  readonly pieceBytesMax = READ_BUFFER_BYTES_MAX;
  readonly lingerMs: number;
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
    this.#dial = dial(this.#owner.dialSettings, open.host, open.port, {
      onConnected: (socket) => this.#relay(socket),
      onFailed: (failure) => {
        this.#dial = null;
        this.#stream.opened(DialCode[failure]);
        this.#finish();
      },
    });
  }

  cut(why: 'CAP_REACHED' | 'PAUSED'): void {
    if (this.#bridge !== null) {
      this.#bridge.reset(ResetCode[why]);
      return;
    }
    this.#dial?.cancel();
    this.#stream.opened(DialCode[why]);
    this.#finish();
  }

  #relay(socket: RawSocket): void {
    this.#dial = null;
    this.#stream.opened(DialCode.OK);
    this.#bridge = bridgeSocket(socket, this.#stream, this);
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
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
    if (!this.#owner.rules.countDown(bytes)) return this.#refuse();
    this.#owner.bytesDown += bytes;
    return Verdict.GO;
  }

  /** Tunnel → destination: up. */
  onBytesIn(bytes: number): Verdict {
    if (!this.#owner.rules.countUp(bytes)) return this.#refuse();
    this.#owner.bytesUp += bytes;
    return Verdict.GO;
  }

  onEnd(): void {
    this.#finish();
  }

  #refuse(): Verdict {
    this.#owner.onRefusedByRules();
    return Verdict.REFUSE;
  }
}
