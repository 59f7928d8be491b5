import { FRAME_HEADER_BYTES, FrameType, frameRules } from './frame.js';
import { defaultLimits } from './limits.js';

/** Takes what FrameReader finds in the messages of a tunnel. */
export interface FrameSink {
  /** A piece of a DATA frame's payload; the bytes are valid during the call. */
  onDataBytes(streamId: number, buffer: Buffer, start: number, end: number): void;
  /** Any other frame, whole; `payload` is valid during the call. */
  onFrame(type: FrameType, streamId: number, payload: Buffer): void;
  /** A violation of SPEC.md; the reader takes nothing more. */
  onFrameFault(reason: string): void;
}

const nothing = Buffer.alloc(0);

/**
 * Takes messages apart into frames. DATA is handed on in pieces as it comes; of every other frame the length is
 * checked against its rule before a byte of it is kept.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  /** Set from WELCOME; DATA can not come before. */
  frameBytesMax = defaultLimits.frameBytesMax;
  /** Bytes of the 5-byte header seen so far. */
  #headerBytes = 0;
  #type = 0;
  #streamId = 0;
  #payloadBytes = 0;
  /** Payload collected over several pieces; most frames come whole and never need it. */
  #collected: Buffer | null = null;
  #failed = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** The next bytes of the current message; `last` when the message ends with them. */
  read(buffer: Buffer, start: number, end: number, last: boolean): void {
    if (this.#failed) return;
    let at = start;
    while (this.#headerBytes < FRAME_HEADER_BYTES && at < end) {
      const byte = buffer[at++] as number;
      if (this.#headerBytes++ === 0) this.#type = byte;
      else this.#streamId = ((this.#streamId << 8) | byte) >>> 0;
      if (this.#headerBytes === FRAME_HEADER_BYTES && !this.#headerAllowed()) return;
    }
    if (this.#headerBytes === FRAME_HEADER_BYTES) {
      if (this.#type === FrameType.DATA) this.#readData(buffer, at, end);
      else this.#readWhole(buffer, at, end, last);
    }
    if (last && !this.#failed) this.#endMessage();
  }

  #headerAllowed(): boolean {
    const rule = frameRules[this.#type];
    if (rule === undefined) return this.#fail(`unknown frame type ${this.#type}`);
    if ((rule.stream === 'session') !== (this.#streamId === 0))
      return this.#fail(`${rule.name} on stream ${this.#streamId}`);
    return true;
  }

  #readData(buffer: Buffer, start: number, end: number): void {
    if (start === end) return;
    this.#payloadBytes += end - start;
    if (this.#payloadBytes > this.frameBytesMax) this.#fail('DATA longer than frame_bytes_max');
    else this.#sink.onDataBytes(this.#streamId, buffer, start, end);
  }

  #readWhole(buffer: Buffer, start: number, end: number, last: boolean): void {
    const rule = frameRules[this.#type];
    if (rule === undefined) return;
    const bytes = end - start;
    const total = this.#payloadBytes + bytes;
    if (total > rule.payloadBytesMax) {
      this.#fail(`${rule.name} longer than ${rule.payloadBytesMax} bytes`);
      return;
    }
    if (last && this.#collected === null) {
      this.#payloadBytes = total;
      if (total < rule.payloadBytesMin) return;
      this.#sink.onFrame(this.#type as FrameType, this.#streamId, buffer.subarray(start, end));
      return;
    }
    if (bytes > 0) {
      if (this.#collected === null || this.#collected.length < total) {
        const larger = Buffer.allocUnsafe(Math.min(rule.payloadBytesMax, Math.max(64, total * 2)));
        this.#collected?.copy(larger, 0, 0, this.#payloadBytes);
        this.#collected = larger;
      }
      buffer.copy(this.#collected, this.#payloadBytes, start, end);
      this.#payloadBytes = total;
    }
    if (last && total >= rule.payloadBytesMin)
      this.#sink.onFrame(
        this.#type as FrameType,
        this.#streamId,
        (this.#collected ?? nothing).subarray(0, total),
      );
  }

  #endMessage(): void {
    if (this.#headerBytes < FRAME_HEADER_BYTES) {
      this.#fail('message shorter than a frame header');
      return;
    }
    const rule = frameRules[this.#type];
    if (rule !== undefined && this.#payloadBytes < rule.payloadBytesMin) {
      this.#fail(`${rule.name} shorter than ${rule.payloadBytesMin} bytes`);
      return;
    }
    this.#headerBytes = 0;
    this.#streamId = 0;
    this.#payloadBytes = 0;
    this.#collected = null;
  }

  #fail(reason: string): false {
    this.#failed = true;
    this.#sink.onFrameFault(reason);
    return false;
  }
}
