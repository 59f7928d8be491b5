import type { DialCode } from '../../agent-protocol/control.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';

/**
 * Handler of a stream from OPEN until the relay takes it over. A destination that speaks first (SSH, SMTP) may send
 * in the same read as the device's OPENED: what comes is kept here, bounded by the stream's window, and replayed.
 */
export class HeldStream implements StreamHandler {
  #onAnswer: ((code: DialCode | 'lost') => void) | null;
  #pieces: Buffer[] = [];
  #finished = false;
  #resetCode: number | null = null;

  /** `onAnswer` is called once: with the device's dial code, or 'lost' when the tunnel went first. */
  constructor(onAnswer: (code: DialCode | 'lost') => void) {
    this.#onAnswer = onAnswer;
  }

  onOpened(_stream: MuxStream, code: DialCode): void {
    this.#answer(code);
  }

  onData(_stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    this.#pieces.push(Buffer.from(buffer.subarray(start, end)));
  }

  onFin(): void {
    this.#finished = true;
  }

  onReset(_stream: MuxStream, code: number): void {
    this.#resetCode = code;
    this.#answer('lost');
  }

  onWritable(): void {}

  /** Gives what was held to the handler that the stream now has, in order. */
  replay(stream: MuxStream): void {
    const pieces = this.#pieces;
    this.#pieces = [];
    for (const piece of pieces) stream.handler.onData(stream, piece, 0, piece.length);
    if (this.#resetCode !== null) stream.handler.onReset(stream, this.#resetCode);
    else if (this.#finished) stream.handler.onFin(stream);
  }

  #answer(code: DialCode | 'lost'): void {
    const onAnswer = this.#onAnswer;
    this.#onAnswer = null;
    onAnswer?.(code);
  }
}
