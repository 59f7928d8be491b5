import type { RawSink, RawSocket } from '../../agent-protocol/raw-socket.js';
import type { Soon } from '../runtime/soon.js';
import type { ClientPeer } from './client-peer.js';

/** What a reader made of the bytes so far: null wants more, else the value and how many bytes it took. */
export type Reading<T> = { value: T; bytes: number } | null;

export interface ClientConnectionSettings {
  /** Time until the request must be complete, ms; then the connection is closed without an answer. */
  handshakeTimeoutMs: number;
  /** That time is over: called before the connection is closed. */
  onDeadline: () => void;
  /** Bytes kept that are not asked for yet; above it nothing more is read. At least the longest message. */
  unreadBytesMax: number;
  /** Time a refused client has to read the refusal and close, ms; then the connection is dropped. */
  lingerTimeoutMs: number;
}

const nothing: Buffer = Buffer.alloc(0);

/**
 * A client's socket from accept until a relay or node:http takes it over: bytes in any pieces become messages,
 * within a deadline.
 */
export class ClientConnection implements RawSink {
  readonly peer: ClientPeer;
  readonly #raw: RawSocket;
  readonly #settings: ClientConnectionSettings;
  #unread: Buffer;
  #discarding = false;
  #retry: (() => void) | null = null;
  #timer: NodeJS.Timeout | null = null;
  #deadlineAtMs = 0;
  /** Where the client connected to, as it was told with the connection; undefined: the socket knows. */
  readonly toldLocalAddress: string | undefined;

  /**
   * `unread`: what was read of the socket before, to come first. `timeLeftMs`: to the deadline, when what came before
   * on the connection used some of the time. `localAddress`: where the client connected to, when it is not the socket's.
   */
  constructor(
    raw: RawSocket,
    peer: ClientPeer,
    settings: ClientConnectionSettings,
    {
      unread = nothing,
      timeLeftMs = settings.handshakeTimeoutMs,
      localAddress,
    }: { unread?: Buffer; timeLeftMs?: number; localAddress?: string } = {},
  ) {
    this.toldLocalAddress = localAddress;
    this.#raw = raw;
    this.peer = peer;
    this.#settings = settings;
    this.#unread = unread;
    raw.setSink(this);
    raw.resume();
    this.#startDeadline(timeLeftMs);
  }

  /** The address of this machine that the client connected to; empty once the connection is gone. */
  get localAddress(): string {
    return this.toldLocalAddress ?? this.#raw.localAddress;
  }

  /** The client is gone, or it was told goodbye. */
  get closed(): boolean {
    return this.#raw.closed || this.#discarding;
  }

  /**
   * The next message, which `reader` finds in the unread bytes; they all begin where the last message ended. Null
   * when the client ended or the deadline passed before it was complete. At once when it is there. One call at a time.
   */
  read<T>(reader: (unread: Buffer) => Reading<T>): Soon<T | null> {
    const read = this.#tryToRead(reader);
    if (read !== undefined) return read;
    return new Promise((resolve) => {
      const again = () => {
        const later = this.#tryToRead(reader);
        if (later === undefined) this.#waitFor(again);
        else resolve(later);
      };
      this.#waitFor(again);
    });
  }

  /** Undefined: more must come. */
  #tryToRead<T>(reader: (unread: Buffer) => Reading<T>): T | null | undefined {
    if (this.closed) return null;
    const reading = this.#unread.length > 0 ? reader(this.#unread) : null;
    if (reading) {
      this.#unread = this.#unread.subarray(reading.bytes);
      return reading.value;
    }
    if (!this.#raw.ended) return undefined;
    this.destroy();
    return null;
  }

  #waitFor(retry: () => void): void {
    this.#retry = retry;
    this.#raw.resume();
  }

  write(bytes: Buffer): void {
    if (!this.closed) this.#raw.write(bytes);
  }

  /** Says no and closes: lingers until the client has closed too, since closing at once could lose the answer. */
  refuse(bytes: Buffer): void {
    if (this.closed) return;
    this.#raw.write(bytes);
    this.#raw.end();
    this.#unread = nothing;
    this.#startTimer(this.#settings.lingerTimeoutMs, () => this.destroy());
    this.#discarding = true;
    this.#raw.resume();
  }

  destroy(): void {
    this.#raw.destroy();
  }

  /** From now the client has `handshakeTimeoutMs` to state its request. */
  startDeadline(): void {
    this.#startDeadline(this.#settings.handshakeTimeoutMs);
  }

  /** To the deadline, ms; 0 when it has passed. For whoever goes on with the connection after `release`. */
  get timeLeftMs(): number {
    return Math.max(0, this.#deadlineAtMs - performance.now());
  }

  #startDeadline(timeLeftMs: number): void {
    this.#deadlineAtMs = performance.now() + timeLeftMs;
    this.#startTimer(timeLeftMs, () => {
      this.#settings.onDeadline();
      this.destroy();
    });
  }

  stopDeadline(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Gives the socket away, with the bytes that came after the last message. The receiver sets its own sink. */
  release(): { socket: RawSocket; head: Buffer } {
    this.stopDeadline();
    return { socket: this.#raw, head: this.#unread };
  }

  onBytes(buffer: Buffer, start: number, end: number): boolean {
    if (this.#discarding) return false;
    const bytes = buffer.subarray(start, end);
    this.#unread = this.#unread.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#unread, bytes]);
    if (this.#unread.length >= this.#settings.unreadBytesMax) this.#raw.pause();
    this.#tryAgain();
    return false;
  }

  onDrain(): void {}

  onEnd(): void {
    if (this.#discarding) this.destroy();
    this.#tryAgain();
  }

  onClose(): void {
    this.stopDeadline();
    this.#tryAgain();
  }

  #startTimer(timeoutMs: number, onTimeout: () => void): void {
    this.stopDeadline();
    if (!this.#raw.closed) this.#timer = setTimeout(onTimeout, timeoutMs);
  }

  #tryAgain(): void {
    const retry = this.#retry;
    this.#retry = null;
    retry?.();
  }
}
