import { ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { HeldStream } from '../tunnels/held-stream.js';
import { ANSWER_BYTES_MAX } from './messages.js';

const LINE_END = 0x0a;

/** What came of a question. `refused`: the other gateway takes no more streams; `lost`: the link went, or no answer came; `silent`: not even to OPEN. */
export type Asked =
  | { ok: true; line: string; held: HeldStream }
  | { ok: false; why: 'refused' | 'lost' | 'silent' };

/** Time in which OPEN is answered, which needs nobody's help, ms: else the way there is broken, noticed or not. */
const OPENED_TIMEOUT_MS = 2_000;

/** Reads the answer line of a stream on a link; what comes behind it is held for whoever goes on with the stream. */
export class Asking implements StreamHandler {
  readonly #answered: (asked: Asked) => void;
  #timer: NodeJS.Timeout;
  #line = Buffer.alloc(0);
  #over = false;

  /** `answered` is called once; a stream that gives no answer within `timeoutMs` is reset. */
  constructor(
    answered: (asked: Asked) => void,
    private readonly timeoutMs: number,
    private readonly stream: () => MuxStream,
  ) {
    this.#answered = answered;
    this.#timer = this.#giveUpAfter(Math.min(timeoutMs, OPENED_TIMEOUT_MS), 'silent');
  }

  #giveUpAfter(timeoutMs: number, why: 'silent' | 'lost'): NodeJS.Timeout {
    return setTimeout(() => {
      this.stream().reset(ResetCode.TIMEOUT);
      this.#tell({ ok: false, why });
    }, timeoutMs);
  }

  onOpened(_stream: MuxStream, code: number): void {
    if (code !== 0) this.#tell({ ok: false, why: 'refused' });
    else {
      clearTimeout(this.#timer);
      this.#timer = this.#giveUpAfter(this.timeoutMs, 'lost');
    }
  }

  onData(stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    const lineBytes = buffer.subarray(start, end).indexOf(LINE_END);
    const isWhole = lineBytes >= 0;
    const lineEnd = isWhole ? start + lineBytes : end;
    this.#line = Buffer.concat([this.#line, buffer.subarray(start, lineEnd)]);
    stream.consumed(lineEnd - start + (isWhole ? 1 : 0));
    if (this.#line.length > ANSWER_BYTES_MAX) {
      stream.reset(ResetCode.INTERNAL);
      this.#tell({ ok: false, why: 'lost' });
    } else if (isWhole) {
      const held = new HeldStream(() => {});
      stream.handler = held;
      if (lineEnd + 1 < end) held.onData(stream, buffer, lineEnd + 1, end);
      this.#tell({ ok: true, line: this.#line.toString('utf8'), held });
    }
  }

  onFin(stream: MuxStream): void {
    stream.reset(ResetCode.INTERNAL);
    this.#tell({ ok: false, why: 'lost' });
  }

  onReset(): void {
    this.#tell({ ok: false, why: 'lost' });
  }

  onWritable(): void {}

  #tell(asked: Asked): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#answered(asked);
  }
}
