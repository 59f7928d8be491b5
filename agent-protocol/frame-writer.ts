import { FRAME_HEADER_BYTES, FRAME_HEADROOM, FrameType, writeFrameHeader } from './frame.js';
import { defaultLimits, HELD_DATA_BYTES_MAX } from './limits.js';
import type { RawSocket } from './raw-socket.js';
import { encodeClose, encodePong, messageHeaderBytes, writeMessageHeader } from './websocket-frames.js';

const nothing = new Uint8Array(0);
/** So much that is held leaves at once: the other end works on it while this one goes on. */
const HELD_BYTES_MAX = 4_096;
/** DATA of up to so many bytes joins what is held: a copy costs less than a second write. */
const JOIN_BYTES_MAX = 2_048;

/** What is held lies in one of these, frame behind frame: a buffer for each frame would cost more than the frame. */
const HOLD_BLOCK_BYTES = 2 * HELD_BYTES_MAX;
/** Blocks that nobody uses, at most so many. */
const HOLD_BLOCKS_SPARE_MAX = 16;
const spareBlocks: Buffer[] = [];

/** Writers that hold something in this turn of the event loop. */
let holding: FrameWriter[] = [];

function flushAll(): void {
  const writers = holding;
  holding = [];
  for (const writer of writers) writer.flush();
}

/**
 * Puts frames on the socket of a tunnel, each frame one message. A write to a tunnel wakes its other end and costs more
 * than all that set-up does beside it, so the short frames of streams (OPEN, OPENED, FIN, RESET, CREDIT, little DATA)
 * of one turn of the event loop leave in one write, at its end, or with the next other frame. Order is kept.
 */
export class FrameWriter {
  /** All bytes written, overhead included. */
  bytesOut = 0;
  /** Payload of one DATA frame; set from WELCOME, before which there is none. */
  frameBytesMax = defaultLimits.frameBytesMax;
  readonly #raw: RawSocket;
  readonly #masked: boolean;
  /** A block whose first `#heldBytes` are messages that wait for the end of the turn; null: none do. */
  #held: Buffer | null = null;
  #heldBytes = 0;
  /** The socket had not taken at once what was held last. */
  #isSlow = false;
  /** Payload of DATA that was held and that the operating system may not have yet; it ends at this `bytesOut`. */
  #heldDataBytes = 0;
  #heldDataEnd = 0;

  /** @param masked whether this end is the WebSocket client */
  constructor(raw: RawSocket, masked: boolean) {
    this.#raw = raw;
    this.#masked = masked;
  }

  /**
   * Payload bytes of DATA for which `data` said true and that the operating system does not have all the same: they
   * are held, or were and now wait in the socket. At most HELD_DATA_BYTES_MAX.
   */
  get heldDataBytes(): number {
    const takenBytes = this.bytesOut - this.#heldBytes - this.#raw.backlogBytes;
    if (takenBytes >= this.#heldDataEnd) this.#heldDataBytes = 0;
    return this.#heldDataBytes;
  }

  /**
   * DATA of `buffer[start, end)` in frames of at most `frameBytesMax`. The headers of the first one are written in front
   * of `start` when `headroomBytes` hold them, as FRAME_HEADROOM always does; else the bytes are copied. Returns whether
   * the operating system has taken all that was ever written, but for `heldDataBytes`.
   */
  data(streamId: number, buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    if (!this.#raw.writable) return false;
    if (this.#mayHold(end - start)) {
      this.#heldDataBytes += end - start;
      const taken = this.#hold(FrameType.DATA, streamId, buffer, start, end);
      this.#heldDataEnd = this.bytesOut;
      return taken;
    }
    let taken = true;
    let from = start;
    while (from < end) {
      const to = Math.min(end, from + this.frameBytesMax);
      // In front of a later frame lie bytes of the one before, which may still be on their way.
      if (from === start && headroomBytes >= this.#headerBytes(to - from))
        taken = this.#inPlace(FrameType.DATA, streamId, buffer, from, to);
      else taken = this.#copied(FrameType.DATA, streamId, buffer.subarray(from, to));
      from = to;
    }
    return taken;
  }

  #headerBytes(payloadBytes: number): number {
    return messageHeaderBytes(FRAME_HEADER_BYTES + payloadBytes, this.#masked) + FRAME_HEADER_BYTES;
  }

  /** Behind a backlog nothing is gained by waiting, and whoever sends must know of it. */
  #mayHold(dataBytes: number): boolean {
    return (
      dataBytes <= this.frameBytesMax &&
      this.heldDataBytes + dataBytes <= HELD_DATA_BYTES_MAX &&
      this.#raw.backlogBytes === 0
    );
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
    const bytes = payload ?? nothing;
    if (streamId === 0 || bytes.length > HELD_BYTES_MAX) this.#copied(type, streamId, bytes);
    else if (this.#raw.writable) this.#hold(type, streamId, bytes, 0, bytes.length);
  }

  /** What is held leaves now. Returns whether the operating system has taken all that was ever written. */
  flush(): boolean {
    const block = this.#held;
    if (block === null) return true;
    const bytes = block.subarray(0, this.#heldBytes);
    this.#held = null;
    this.#heldBytes = 0;
    if (!this.#raw.writable) return true;
    // What is still to leave is read from the block; a socket that keeps things, as one in TLS, gets its own copy.
    const copied = this.#isSlow;
    const taken = this.#raw.write(copied ? Buffer.from(bytes) : bytes);
    this.#isSlow = !taken;
    if ((taken || copied) && spareBlocks.length < HOLD_BLOCKS_SPARE_MAX) spareBlocks.push(block);
    return taken;
  }

  webSocketPong(payload: Buffer): void {
    this.#write(encodePong(payload, this.#masked));
  }

  webSocketClose(code: number, reason: string): void {
    this.#write(encodeClose(code, reason, this.#masked));
  }

  /** Holds a frame of `payload[start, end)`, at most HELD_BYTES_MAX. As `flush`; true while it waits. */
  #hold(type: FrameType, streamId: number, payload: Uint8Array, start: number, end: number): boolean {
    const frameBytes = FRAME_HEADER_BYTES + end - start;
    const headerBytes = messageHeaderBytes(frameBytes, this.#masked);
    if (this.#heldBytes + headerBytes + frameBytes > HOLD_BLOCK_BYTES) this.flush();
    if (this.#held === null) {
      this.#held = spareBlocks.pop() ?? Buffer.allocUnsafeSlow(HOLD_BLOCK_BYTES);
      if (holding.push(this) === 1) setImmediate(flushAll);
    }
    const block = this.#held;
    const frameStart = this.#heldBytes + headerBytes;
    writeMessageHeader(block, frameStart, frameBytes, this.#masked);
    const bytesStart = frameStart + FRAME_HEADER_BYTES;
    writeFrameHeader(block, bytesStart, type, streamId);
    // A view costs as much as the copy of so many bytes.
    if (end - start > 64) block.set(payload.subarray(start, end), bytesStart);
    else for (let n = 0; n < end - start; n++) block[bytesStart + n] = payload[start + n] as number;
    this.#heldBytes = bytesStart + end - start;
    this.bytesOut += headerBytes + frameBytes;
    return this.#heldBytes < HELD_BYTES_MAX || this.flush();
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
    const block = this.#held;
    if (block === null) return this.#raw.write(bytes);
    if (bytes.length <= JOIN_BYTES_MAX) {
      block.set(bytes, this.#heldBytes);
      this.#heldBytes += bytes.length;
      return this.flush();
    }
    this.flush();
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
