import { datagramHeadBytes, isDatagramToName } from './datagram.js';
import type { DatagramBacklog } from './datagram-backlog.js';
import { type DialCode, dialCodeOf, FrameType, ResetCode } from './frame.js';
import { BACKLOG_HIGH_WATER_BYTES, type SessionLimits, STREAM_DATAGRAM_BYTES_MAX } from './limits.js';
import { ReceiveWindow, type WindowBudget } from './receive-window.js';

/** What becomes of a stream; implemented by the bridge to a socket and by the relay. */
export interface StreamHandler {
  /** Opener only: the agent's answer. With another code than 0 the stream is over. */
  onOpened?(stream: MuxStream, code: DialCode): void;
  /**
   * Bytes in order. They are valid only during the call, unless `stream.session.readHeadroomBytes` is above 0
   * and `stream.session.keepReadBuffer()` is called. What is taken must be given back to `stream.consumed`.
   */
  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void;
  /**
   * No more of this stream follows what `onData` gave right before: the next frame is another's, or the read is at its end.
   * Until then its bytes are valid, though `onData` has returned.
   */
  onRunEnd?(stream: MuxStream): void;
  /** The peer sends no more; the other direction goes on. */
  onFin(stream: MuxStream): void;
  /** The stream is cut in both directions: a ResetCode, or RESET_TUNNEL_LOST when the whole tunnel went. */
  onReset(stream: MuxStream, code: number): void;
  /** After `send` said false: window and backlog allow again. */
  onWritable(stream: MuxStream): void;
  /**
   * A UDP datagram; streams of network `udp` only, which hear nothing else but onReset. `payload` is well-formed (see
   * datagram.ts) and valid only during the call.
   */
  onDatagram?(stream: MuxStream, payload: Buffer): void;
}

/** Of a stream that nobody has taken yet or any more. */
export const ignoringStream: StreamHandler = {
  onData: (stream, _buffer, start, end) => stream.consumed(end - start),
  onFin: () => {},
  onReset: () => {},
  onWritable: () => {},
};

/** What a stream needs of the session that carries it. */
export interface StreamCarrier {
  /** Which end this is. */
  readonly role: 'gateway' | 'agent';
  readonly limits: SessionLimits;
  /** Round trip of the tunnel without queues, ms; 0 until the first PONG. */
  readonly pathRttMs: number;
  /** Bytes written to the tunnel's socket that the operating system has not taken. */
  readonly backlogBytes: number;
  /** Payload bytes for which `writeData` said true and that the operating system does not have; HELD_DATA_BYTES_MAX. */
  readonly heldDataBytes: number;
  /**
   * Of the bytes now handed to `onData`: so many in front of them may be overwritten, as long as they are kept, because
   * only headers that were read lie there. 0: they may not be kept; they do not lie in a buffer of the tunnel's own,
   * or too many of those are kept already (KEPT_READ_BUFFERS_MAX).
   */
  readonly readHeadroomBytes: number;
  /** To be called within `onData` when something still refers to its bytes: the tunnel takes another buffer. */
  keepReadBuffer(): void;
  /** Once for each `keepReadBuffer`: what was kept is no longer needed. */
  letGoOfReadBuffer(): void;
  /** @internal returns whether the operating system has taken all of it, but for `heldDataBytes` */
  writeData(streamId: number, buffer: Buffer, start: number, end: number, headroomBytes: number): boolean;
  /** @internal */
  writeFrame(type: FrameType, streamId: number, payload: Uint8Array | null): void;
  /** @internal the datagrams of all its streams that wait for the socket */
  readonly datagrams: DatagramBacklog;
  /** @internal returns whether the operating system has taken all of it */
  writeDatagram(streamId: number, head: Uint8Array, bytes: Uint8Array): boolean;
  /** @internal calls `stream.wake()` in its turn, once all that is in the backlog now has left it */
  awaitDrain(stream: MuxStream): void;
  /** @internal what its streams' receive windows grow by */
  readonly windowBudget: WindowBudget;
  /**
   * How often one of its streams came to the end of its window. `send`: of what the peer grants, whose side is slow;
   * `receive`: of what this end grants.
   */
  readonly stalls: { send: number; receive: number };
  /** @internal the stream is over: forget it */
  release(stream: MuxStream, windowBytes: number): void;
}

/**
 * A stream, seen from either end:
 *
 * | state | holds | opened 0 | opened other | send FIN | receive FIN | RESET, tunnel lost |
 * |---|---|---|---|---|---|---|
 * | opening | OPEN went or came; no bytes yet | open | closed | – | – | closed |
 * | open | bytes both ways | – | – | finSent | finReceived | closed |
 * | finSent | only the peer still sends | – | – | – | closed | closed |
 * | finReceived | only this end still sends | – | – | closed | – | closed |
 * | closed | nothing; the session has forgotten it | – | – | – | – | – |
 *
 * A dash is not allowed: done by this end it is ignored, coming from the peer it is a protocol error.
 */
export type StreamState = 'opening' | 'open' | 'finSent' | 'finReceived' | 'closed';
type StreamEvent = 'opened' | 'refused' | 'sendFin' | 'receiveFin' | 'cut';

const transitions: Readonly<Record<StreamState, Readonly<Partial<Record<StreamEvent, StreamState>>>>> = {
  opening: { opened: 'open', refused: 'closed', cut: 'closed' },
  open: { sendFin: 'finSent', receiveFin: 'finReceived', cut: 'closed' },
  finSent: { receiveFin: 'closed', cut: 'closed' },
  finReceived: { sendFin: 'closed', cut: 'closed' },
  closed: {},
};

/** One relayed connection inside a tunnel. */
export class MuxStream {
  readonly id: number;
  readonly session: StreamCarrier;
  readonly network: 'tcp' | 'udp';
  /** May be replaced at any time, for example when the relay takes over from the dialling. */
  handler: StreamHandler;

  /** Bytes the peer allows to send now. */
  sendWindowBytes: number;
  #state: StreamState = 'opening';
  /** Said false to `send` and owes an onWritable. */
  #blocked = false;
  /** Waits in the session's queue for a drain: its own bytes may be in the backlog. */
  #queued = false;

  /** Bytes of datagrams written since the tunnel's drain number `#datagramsSinceDrain` that may not have left. */
  #datagramBytes = 0;
  #datagramsSinceDrain = 0;

  /** Granted to the peer. */
  readonly #window: ReceiveWindow;
  /** What of it the peer may still send. */
  #receivableBytes: number;

  /** @internal made by MuxSession */
  constructor(id: number, session: StreamCarrier, network: 'tcp' | 'udp', handler: StreamHandler) {
    this.id = id;
    this.session = session;
    this.network = network;
    this.handler = handler;
    const { streamWindowBytes, streamWindowBytesMax } = session.limits;
    this.sendWindowBytes = streamWindowBytes;
    this.#window = new ReceiveWindow(streamWindowBytes, streamWindowBytesMax, session.windowBudget);
    this.#receivableBytes = streamWindowBytes;
  }

  get state(): StreamState {
    return this.#state;
  }

  /** Size of the window this end grants, bytes; grows and shrinks with traffic. */
  get windowBytes(): number {
    return this.#window.bytes;
  }

  /** The one place that moves the state; false when the table has no such move. */
  #move(event: StreamEvent): boolean {
    const next = transitions[this.#state][event];
    if (next === undefined) return false;
    this.#state = next;
    if (next === 'closed') this.session.release(this, this.#window.bytes);
    return true;
  }

  /**
   * Sends `buffer[start, end)`, at most `sendWindowBytes` (callers slice; more throws RangeError).
   *
   * When `headroomBytes` hold the headers, as FRAME_HEADROOM always does, they are written in front of `start` and all
   * leaves in one write without a copy; then the buffer must stay untouched until `session.backlogBytes` is 0. With 0
   * the bytes are copied and the buffer is free at once.
   *
   * Returns false when the caller must stop until onWritable: without window, and as long as what was sent is not with
   * the operating system, but for `session.heldDataBytes`. So a stream has at most one call's bytes, and those, in the
   * tunnel's backlog. On a stream that is closed or finished nothing is sent and false returned.
   */
  send(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    const bytes = end - start;
    if (bytes > this.sendWindowBytes) throw new RangeError('send beyond the window');
    if (this.#state !== 'open' && this.#state !== 'finReceived') return false;
    if (bytes > 0) {
      this.sendWindowBytes -= bytes;
      if (!this.session.writeData(this.id, buffer, start, end, headroomBytes)) this.#queue();
      else if (this.sendWindowBytes > 0) return true;
    } else if (this.sendWindowBytes > 0) return true;
    if (!this.#blocked && this.sendWindowBytes === 0) this.session.stalls.send++;
    this.#blocked = true;
    return false;
  }

  /** Bytes of datagrams sent here that may not be with the operating system yet, heads left out. */
  get unsentDatagramBytes(): number {
    return this.session.datagrams.drainCount === this.#datagramsSinceDrain ? this.#datagramBytes : 0;
  }

  /** Whether `sendDatagram` takes so many bytes now. */
  takesDatagram(bytes: number): boolean {
    return (
      this.network === 'udp' &&
      this.#state === 'open' &&
      this.unsentDatagramBytes + bytes <= STREAM_DATAGRAM_BYTES_MAX &&
      this.session.datagrams.takes(bytes)
    );
  }

  /**
   * Sends one UDP datagram: `head` as `encodeDatagramHead` makes it, and the bytes; both are copied. Datagrams are not
   * flow-controlled: false means that it was dropped, because too much waits for the tunnel's socket or the stream is
   * not open.
   */
  sendDatagram(head: Uint8Array, bytes: Uint8Array): boolean {
    if (!this.takesDatagram(bytes.length)) return false;
    const before = this.unsentDatagramBytes;
    const taken = this.session.writeDatagram(this.id, head, bytes);
    this.#datagramBytes = taken ? 0 : before + bytes.length;
    this.#datagramsSinceDrain = this.session.datagrams.drainCount;
    return true;
  }

  /** Tells that the slow side has taken bytes that onData gave; see ReceiveWindow for when they are given back. */
  consumed(bytes: number): void {
    if (this.#state !== 'open' && this.#state !== 'finSent') return;
    const credit = this.#window.taken(bytes, this.session.pathRttMs, performance.now());
    if (credit === 0) return;
    this.#receivableBytes += credit;
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32BE(credit, 0);
    this.session.writeFrame(FrameType.CREDIT, this.id, payload);
  }

  /** Half-close: this end sends no more. A `udp` stream has no such thing: nothing happens. */
  fin(): void {
    if (this.network === 'udp') return;
    if (transitions[this.#state].sendFin === undefined) return;
    this.session.writeFrame(FrameType.FIN, this.id, null);
    this.#move('sendFin');
  }

  /** Cuts both directions; the handler hears nothing more. `code` is a ResetCode. */
  reset(code: number): void {
    if (this.#state === 'closed') return;
    this.session.writeFrame(FrameType.RESET, this.id, Uint8Array.of(code));
    this.#move('cut');
  }

  /** Agent side: the answer to OPEN, once. With another code than 0 the stream is over. */
  opened(code: DialCode): void {
    if (this.#state !== 'opening') return;
    this.session.writeFrame(FrameType.OPENED, this.id, Uint8Array.of(code));
    this.#move(code === 0 ? 'opened' : 'refused');
  }

  // What the session tells its stream. Each returns null or what of the protocol was violated.

  /** @internal A frame of it but OPEN and DATA, its length checked. */
  receiveFrame(type: FrameType, payload: Buffer): string | null {
    switch (type) {
      case FrameType.OPENED:
        return this.#receiveOpened(dialCodeOf(payload[0] as number));
      case FrameType.CREDIT:
        return this.#receiveCredit(payload.readUInt32BE(0));
      case FrameType.FIN:
        return this.#receiveFin();
      case FrameType.DATAGRAM:
        return this.#receiveDatagram(payload);
      default:
        this.cut(payload[0] as number);
        return null;
    }
  }

  #receiveOpened(code: DialCode): string | null {
    if (!this.#move(code === 0 ? 'opened' : 'refused')) return `OPENED in state ${this.#state}`;
    this.handler.onOpened?.(this, code);
    return null;
  }

  /** @internal */
  receiveData(buffer: Buffer, start: number, end: number): string | null {
    if (this.#state !== 'open' && this.#state !== 'finSent') return `DATA in state ${this.#state}`;
    if (this.network === 'udp') return 'DATA on a udp stream';
    this.#receivableBytes -= end - start;
    if (this.#receivableBytes <= 0) {
      if (this.#receivableBytes < 0) return 'DATA beyond the window';
      this.session.stalls.receive++;
    }
    this.handler.onData(this, buffer, start, end);
    return null;
  }

  #receiveDatagram(payload: Buffer): string | null {
    if (this.network !== 'udp') return 'DATAGRAM on a tcp stream';
    if (this.#state !== 'open') return `DATAGRAM in state ${this.#state}`;
    if (datagramHeadBytes(payload) === 0) return 'malformed DATAGRAM';
    if (this.session.role === 'gateway' && isDatagramToName(payload)) return 'DATAGRAM from a name';
    this.handler.onDatagram?.(this, payload);
    return null;
  }

  #receiveFin(): string | null {
    if (this.network === 'udp') return 'FIN on a udp stream';
    if (!this.#move('receiveFin')) return `FIN in state ${this.#state}`;
    this.handler.onFin(this);
    return null;
  }

  #receiveCredit(bytes: number): string | null {
    if (this.#state === 'opening') return 'CREDIT in state opening';
    if (this.network === 'udp') return 'CREDIT on a udp stream';
    if (bytes === 0) return 'CREDIT of 0 bytes';
    this.sendWindowBytes += bytes;
    if (this.sendWindowBytes > this.session.limits.streamWindowBytesMax)
      return 'CREDIT beyond stream_window_bytes_max';
    if (!this.#blocked || this.#queued) return null;
    if (this.session.backlogBytes > BACKLOG_HIGH_WATER_BYTES) this.#queue();
    else this.#unblock();
    return null;
  }

  /** @internal the peer's RESET, or RESET_TUNNEL_LOST from the session itself */
  cut(code: number): void {
    if (this.#move('cut')) this.handler.onReset(this, code);
  }

  /** @internal the session's turn after a drain */
  wake(): void {
    this.#queued = false;
    // Without window the next CREDIT wakes it.
    if (this.#blocked && this.sendWindowBytes > 0) this.#unblock();
  }

  #queue(): void {
    if (this.#queued) return;
    this.#queued = true;
    this.session.awaitDrain(this);
  }

  #unblock(): void {
    this.#blocked = false;
    if (this.#state === 'open' || this.#state === 'finReceived') this.handler.onWritable(this);
  }
}

export { ResetCode };
