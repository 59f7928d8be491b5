import { FRAME_HEADER_BYTES, FRAME_HEADROOM, FrameType, writeFrameHeader } from './frame.js';
import { defaultLimits } from './limits.js';
import type { RawSocket } from './raw-socket.js';
import { encodeClose, encodePong, writeMessageHeader } from './websocket-frames.js';

const nothing = new Uint8Array(0);

/** Puts frames on the socket of a tunnel: each frame one message, each message one write. */
export class FrameWriter {
  /** All bytes written, overhead included. */
  bytesOut = 0;
  /** Payload of one DATA frame; set from WELCOME, before which there is none. */
  frameBytesMax = defaultLimits.frameBytesMax;
  readonly #raw: RawSocket;
  readonly #masked: boolean;

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

  /** Any other frame. */
  frame(type: FrameType, streamId: number, payload: Uint8Array | null): void {
    this.#copied(type, streamId, payload ?? nothing);
  }

  webSocketPong(payload: Buffer): void {
    this.#write(encodePong(payload, this.#masked));
  }

  webSocketClose(code: number, reason: string): void {
    this.#write(encodeClose(code, reason, this.#masked));
  }

  #copied(type: FrameType, streamId: number, payload: Uint8Array): boolean {
    const buffer = Buffer.allocUnsafe(FRAME_HEADROOM + payload.length);
    buffer.set(payload, FRAME_HEADROOM);
    return this.#inPlace(type, streamId, buffer, FRAME_HEADROOM, buffer.length);
  }

  #inPlace(type: FrameType, streamId: number, buffer: Buffer, start: number, end: number): boolean {
    const frameStart = writeFrameHeader(buffer, start, type, streamId);
    const frameBytes = FRAME_HEADER_BYTES + end - start;
    return this.#write(
      buffer.subarray(writeMessageHeader(buffer, frameStart, frameBytes, this.#masked), end),
    );
  }

  #write(bytes: Buffer): boolean {
    if (!this.#raw.writable) return false;
    this.bytesOut += bytes.length;
    return this.#raw.write(bytes);
  }
}
