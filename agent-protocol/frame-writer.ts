import { FRAME_HEADER_BYTES, FRAME_HEADROOM, FrameType, writeFrameHeader } from './frame.js';
import { defaultLimits } from './limits.js';
import type { RawSocket } from './raw-socket.js';
import { encodeClose, encodePong, writeMessageHeader } from './websocket-frames.js';

const nothing = new Uint8Array(0);
/** So much that is held leaves at once: the other end works on it while this one goes on. */
const HELD_BYTES_MAX = 1_024;
/** DATA of up to so many bytes joins what is held: a copy costs less than a second write. */
const JOIN_BYTES_MAX = 2_048;

/** Writers that hold something in this turn of the event loop. */
let holding: FrameWriter[] = [];

function flushAll(): void {
  const writers = holding;
  holding = [];
  for (const writer of writers) writer.flush();
}

/**
 * Puts frames on the socket of a tunnel, each frame one message. A write to a tunnel wakes its other end and costs more
 * than all that set-up does beside it, so the short frames of streams (OPEN, OPENED, FIN, RESET, CREDIT) of one turn of
 * the event loop leave in one write, at its end, or with the next other frame. Order is kept.
 */
export class FrameWriter {
  /** All bytes written, overhead included. */
  bytesOut = 0;
  /** Payload of one DATA frame; set from WELCOME, before which there is none. */
  frameBytesMax = defaultLimits.frameBytesMax;
  readonly #raw: RawSocket;
  readonly #masked: boolean;
  /** Whole messages that wait for the end of the turn; null: none. */
  #held: Buffer[] | null = null;
  #heldBytes = 0;

  /** @param masked whether this end is the WebSocket client */
  constructor(raw: RawSocket, masked: boolean) {
    this.#raw = raw;
    this.#masked = masked;
  }

  /**
   * DATA of `buffer[start, end)` in frames of at most `frameBytesMax`. With `headroomBytes` of FRAME_HEADROOM or more
   * the headers of the first one are written in front of `start`; else the bytes are copied. Returns whether the
   * operating system has taken all that was ever written.
   */
  data(streamId: number, buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    let taken = true;
    let from = start;
    while (from < end) {
      const to = Math.min(end, from + this.frameBytesMax);
      // In front of a later frame lie bytes of the one before, which may still be on their way.
      if (from === start && headroomBytes >= FRAME_HEADROOM)
        taken = this.#inPlace(FrameType.DATA, streamId, buffer, from, to);
      else taken = this.#copied(FrameType.DATA, streamId, buffer.subarray(from, to));
      from = to;
    }
    return taken;
  }

  /** DATAGRAM of `head` and `bytes`, copied. Returns whether the operating system has taken all that was ever written. */
  datagram(streamId: number, head: Uint8Array, bytes: Uint8Array): boolean {
    const bytesStart = FRAME_HEADROOM + head.length;
    const buffer = Buffer.allocUnsafe(bytesStart + bytes.length);
    buffer.set(head, FRAME_HEADROOM);
    buffer.set(bytes, bytesStart);
    return this.#inPlace(FrameType.DATAGRAM, streamId, buffer, FRAME_HEADROOM, buffer.length);
  }

  /** Any other frame. Those of streams leave by the end of this turn of the event loop, the session's at once. */
  frame(type: FrameType, streamId: number, payload: Uint8Array | null): void {
    if (streamId === 0) this.#copied(type, streamId, payload ?? nothing);
    else this.#hold(copiedMessage(type, streamId, payload ?? nothing, this.#masked));
  }

  /** What is held leaves now. */
  flush(): void {
    const bytes = this.#takeHeld();
    if (bytes !== null && this.#raw.writable) this.#raw.write(bytes);
  }

  webSocketPong(payload: Buffer): void {
    this.#write(encodePong(payload, this.#masked));
  }

  webSocketClose(code: number, reason: string): void {
    this.#write(encodeClose(code, reason, this.#masked));
  }

  #hold(message: Buffer): void {
    if (!this.#raw.writable) return;
    this.bytesOut += message.length;
    this.#heldBytes += message.length;
    if (this.#held !== null) this.#held.push(message);
    else {
      this.#held = [message];
      if (holding.push(this) === 1) setImmediate(flushAll);
    }
    if (this.#heldBytes >= HELD_BYTES_MAX) this.flush();
  }

  #takeHeld(): Buffer | null {
    const held = this.#held;
    if (held === null) return null;
    this.#held = null;
    this.#heldBytes = 0;
    return held.length === 1 ? (held[0] as Buffer) : Buffer.concat(held);
  }

  #copied(type: FrameType, streamId: number, payload: Uint8Array): boolean {
    return this.#write(copiedMessage(type, streamId, payload, this.#masked));
  }

  #inPlace(type: FrameType, streamId: number, buffer: Buffer, start: number, end: number): boolean {
    return this.#write(messageInPlace(type, streamId, buffer, start, end, this.#masked));
  }

  #write(bytes: Buffer): boolean {
    if (!this.#raw.writable) return false;
    this.bytesOut += bytes.length;
    const held = this.#takeHeld();
    if (held === null) return this.#raw.write(bytes);
    if (bytes.length <= JOIN_BYTES_MAX) return this.#raw.write(Buffer.concat([held, bytes]));
    this.#raw.write(held);
    return this.#raw.write(bytes);
  }
}

function copiedMessage(type: FrameType, streamId: number, payload: Uint8Array, masked: boolean): Buffer {
  const buffer = Buffer.allocUnsafe(FRAME_HEADROOM + payload.length);
  buffer.set(payload, FRAME_HEADROOM);
  return messageInPlace(type, streamId, buffer, FRAME_HEADROOM, buffer.length, masked);
}

/** The message of a frame whose payload is `buffer[start, end)`, its headers written in front of it. */
function messageInPlace(
  type: FrameType,
  streamId: number,
  buffer: Buffer,
  start: number,
  end: number,
  masked: boolean,
): Buffer {
  const frameStart = writeFrameHeader(buffer, start, type, streamId);
  const frameBytes = FRAME_HEADER_BYTES + end - start;
  return buffer.subarray(writeMessageHeader(buffer, frameStart, frameBytes, masked), end);
}
