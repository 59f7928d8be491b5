import { DialCode, ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { HeldStream } from '../tunnels/held-stream.js';
import { ANSWER_BYTES_MAX, ANSWER_HEAD } from './messages.js';

const LINE_END = 0x0a;

/** What came of a question. `unspoken`: the other gateway does not understand it; `refused`: it takes no more streams; `lost`: the link went, or no answer came; `silent`: not even to OPEN. */
export type Asked =
  | { ok: true; line: string; held: HeldStream }
  | { ok: false; why: 'unspoken' | 'refused' | 'lost' | 'silent' };

/** Time in which OPEN is answered, which needs nobody's help, ms: else the way there is broken, noticed or not. */
const OPENED_TIMEOUT_MS = 2_000;

/**
 * Reads the answer of a stream on a link, a line or on a `udp` stream a datagram; what comes behind a line is held for
 * whoever goes on with the stream.
 */
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
    if (code !== DialCode.OK)
      this.#tell({ ok: false, why: code === DialCode.UNSUPPORTED ? 'unspoken' : 'refused' });
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
      const held = this.#hold(stream);
      if (lineEnd + 1 < end) held.onData(stream, buffer, lineEnd + 1, end);
      this.#tell({ ok: true, line: this.#line.toString('utf8'), held });
    }
  }

  onDatagram(stream: MuxStream, payload: Buffer): void {
    const answerBytes = payload.length - ANSWER_HEAD.length;
    if (answerBytes > ANSWER_BYTES_MAX || !payload.subarray(0, ANSWER_HEAD.length).equals(ANSWER_HEAD)) {
      stream.reset(ResetCode.INTERNAL);
      this.#tell({ ok: false, why: 'lost' });
    } else
      this.#tell({ ok: true, line: payload.toString('utf8', ANSWER_HEAD.length), held: this.#hold(stream) });
  }

  #hold(stream: MuxStream): HeldStream {
    const held = new HeldStream(() => {});
    stream.handler = held;
    return held;
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
