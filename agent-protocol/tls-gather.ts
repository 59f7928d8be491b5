import type { Socket } from 'node:net';
import {
  allocateRead,
  giveReadBytes,
  READ_HEADROOM_BYTES,
  type ReadMemory,
  takeReadBytes,
} from './read-buffer.js';
import { callError, type TcpHandle, type TcpHandles, tcpHandles } from './tcp-handle.js';

/** The largest TLS record; one that is full means that more follows (RFC 8446 section 5.1). */
const TLS_RECORD_BYTES = 16 * 1024;
/** Records of one turn of the event loop are gathered up to this many bytes. */
const TLS_GATHER_BYTES = 8 * TLS_RECORD_BYTES;
/** This many short messages in a row, with nothing long between them, give the gathering buffer back. */
const SHORT_MESSAGES_MAX = 16;

/** See RawSink.onBytes; returns whether the bytes were kept. */
type Deliver = (buffer: Buffer, start: number, end: number, headroomBytes: number) => boolean;

/** One record at a time is handed out of it, so all sockets share it: an idle one costs no buffer. */
let common: ReadMemory | null = null;

/**
 * The memory a TLS socket reads into: OpenSSL's records, which node:tls hands on one by one, are put behind each other,
 * and what one turn of the event loop brings goes on in pieces of up to TLS_GATHER_BYTES.
 */
export class TlsGather {
  readonly #deliver: Deliver;
  readonly #deliverEnd: () => void;
  readonly #common: ReadMemory;
  /** Came, and is still to be told. */
  #ended = false;
  /** null: the common one is used. */
  #own: ReadMemory | null = null;
  /** Gathered is `[#start, #end)` of #own; what lies in front of it is free. */
  #start = READ_HEADROOM_BYTES;
  #end = READ_HEADROOM_BYTES;
  /** What `next` gave last, and of which memory: the next record comes there, whatever happens meanwhile. */
  #offered: Buffer;
  #offeredOf: ReadMemory;
  #shortMessages = 0;
  #scheduled = false;
  #held = true;

  constructor(deliver: Deliver, deliverEnd: () => void) {
    this.#deliver = deliver;
    this.#deliverEnd = deliverEnd;
    common ??= allocateRead(TLS_RECORD_BYTES);
    this.#common = common;
    this.#offered = common.view;
    this.#offeredOf = common;
  }

  /** Where the next record goes: there is always room for a whole one. */
  next(): Buffer {
    const own = this.#own;
    if (own === null) this.#offered = this.#common.view;
    else if (this.#end > this.#start) this.#offered = own.buffer.subarray(this.#end);
    else {
      this.#start = READ_HEADROOM_BYTES;
      this.#end = READ_HEADROOM_BYTES;
      this.#offered = own.view;
    }
    this.#offeredOf = own ?? this.#common;
    return this.#offered;
  }

  /** So many bytes lie where `next` said. Returns false when no more is wanted until release(). */
  took(bytes: number): boolean {
    // A record that is not full is the end of what there is: it goes on without delay.
    const isLast = bytes < TLS_RECORD_BYTES && !this.#held;
    const isAlone = this.#end === this.#start;
    if (isLast && isAlone && this.#offeredOf === this.#common) this.#deliverOffered(bytes);
    else this.#gather(bytes, isLast);
    if (!isLast || !isAlone) this.#shortMessages = 0;
    else if (++this.#shortMessages >= SHORT_MESSAGES_MAX) this.#giveOwn();
    return !this.#held;
  }

  /** The same for bytes that came elsewhere. */
  add(chunk: Buffer): void {
    let start = 0;
    while (start < chunk.length) {
      const copied = chunk.copy(this.next(), 0, start, start + TLS_RECORD_BYTES);
      start += copied;
      this.took(copied);
    }
  }

  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    this.#schedule();
  }

  /** The end comes behind what is still held. */
  endAfterFlush(): void {
    this.#ended = true;
    if (this.#held && this.#end > this.#start) return;
    this.#flush();
    this.#tellEnd();
  }

  /** The socket is gone, and nothing more is delivered. */
  close(): void {
    this.#end = this.#start;
    this.#giveOwn();
  }

  /** Without headroom: nobody may keep or change what lies in the common memory. */
  #deliverOffered(bytes: number): void {
    this.#deliver(this.#common.buffer, READ_HEADROOM_BYTES, READ_HEADROOM_BYTES + bytes, 0);
  }

  #gather(bytes: number, isLast: boolean): void {
    if (this.#own === null) {
      if (!takeReadBytes(TLS_GATHER_BYTES, this.#held)) {
        this.#deliverOffered(bytes);
        return;
      }
      this.#startIn(allocateRead(TLS_GATHER_BYTES));
    }
    const own = this.#own as unknown as ReadMemory;
    if (this.#offeredOf !== own) this.#offered.copy(own.buffer, this.#end, 0, bytes);
    this.#end += bytes;
    const isFull = this.#end + TLS_RECORD_BYTES > own.buffer.length;
    if (isFull && this.#held) this.#widen(own);
    else if (isFull || isLast) this.#flush();
    this.#schedule();
  }

  #startIn(memory: ReadMemory): void {
    this.#own = memory;
    this.#start = READ_HEADROOM_BYTES;
    this.#end = READ_HEADROOM_BYTES;
  }

  #giveOwn(): void {
    if (this.#own === null) return;
    giveReadBytes(this.#own.view.length);
    this.#own = null;
    this.#shortMessages = 0;
  }

  #flush(): void {
    const own = this.#own;
    const start = this.#start;
    const end = this.#end;
    if (own === null || end === start) return;
    this.#start = end;
    const kept = this.#deliver(own.buffer, start, end, READ_HEADROOM_BYTES);
    if (this.#own !== own) return;
    const wideBytes = own.view.length - TLS_GATHER_BYTES;
    if (!kept && wideBytes === 0) return;
    giveReadBytes(wideBytes);
    this.#startIn(allocateRead(TLS_GATHER_BYTES));
  }

  #schedule(): void {
    if (this.#scheduled || this.#held || this.#end === this.#start) return;
    this.#scheduled = true;
    setImmediate(this.#onImmediate);
  }

  readonly #onImmediate = (): void => {
    this.#scheduled = false;
    if (this.#held) return;
    this.#flush();
    this.#tellEnd();
  };

  #tellEnd(): void {
    if (!this.#ended) return;
    this.#ended = false;
    this.#deliverEnd();
  }

  /** A paused TLS socket may still deliver what it had decrypted; nothing of that may be lost. */
  #widen(own: ReadMemory): void {
    const gatheredBytes = this.#end - this.#start;
    const wider = allocateRead(own.view.length + TLS_GATHER_BYTES);
    takeReadBytes(TLS_GATHER_BYTES, true);
    own.buffer.copy(wider.buffer, READ_HEADROOM_BYTES, this.#start, this.#end);
    this.#startIn(wider);
    this.#end += gatheredBytes;
  }
}

/** What node:tls reads with: called with each record. */
interface TlsHandle extends Pick<TcpHandle, 'useUserBuffer' | 'readStart' | 'readStop'> {
  onread: (this: TlsHandle, bytes: unknown) => Uint8Array | undefined;
  /** node:net's: it has called readStart. */
  reading: boolean;
}

/** Goes with `pause` and `resume` of the socket, which do not reach the handle any more. */
export interface TlsReading {
  start(): void;
  stop(): void;
}

/**
 * Makes a TLS socket read right into `gather`, without what node:net does for each record; errors and the end are told
 * by the socket as ever. Returns null where there are no handles to be had: 'data' events tell then. A test fails when an
 * upgrade of Node changes that.
 */
export function readInto(
  gather: TlsGather,
  socket: Socket,
  handles: TcpHandles | null = tcpHandles,
): TlsReading | null {
  const fields = socket as unknown as { _handle: TlsHandle | null; _unrefTimer(): void };
  const handle = fields._handle;
  if (handles === null || handle === null || typeof handle.useUserBuffer !== 'function') return null;
  const tellNode = handle.onread;
  if (typeof tellNode !== 'function') return null;
  handle.onread = function (this: TlsHandle, bytes: unknown): Uint8Array | undefined {
    const length = handles.readBytes();
    if (length <= 0) return tellNode.call(this, bytes);
    if (socket.destroyed) return undefined;
    if (socket.timeout) fields._unrefTimer();
    if (!gather.took(length)) stop();
    return gather.next();
  };
  handle.useUserBuffer(gather.next());
  const stop = () => {
    if (socket.destroyed || !handle.reading) return;
    handle.reading = false;
    handle.readStop();
  };
  return {
    stop,
    start: () => {
      if (socket.destroyed || handle.reading) return;
      handle.reading = true;
      const status = handle.readStart();
      if (status < 0) socket.destroy(callError(status, 'read'));
    },
  };
}
