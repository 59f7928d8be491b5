import { Readable } from 'node:stream';

/** Bytes that wait here for the client's socket before it counts as full. */
const BUFFER_BYTES = 16_384;
/** Time a stream that has been ended gets to reach its reader; then it is cut. */
const END_GRACE_MS = 1_000;

/**
 * Server-sent events (HTML, section 9.2) for one reader. Nothing is kept for a reader that does not read: while `full`
 * holds, write nothing, and later what is true then. At most `BUFFER_BYTES` and one event wait.
 */
export class EventStream extends Readable {
  #fullSinceMs: number | null = null;
  readonly #nowMs: () => number;
  #over = false;

  /** `nowMs`: monotonic. `retryMs`: what a client waits before it connects again. */
  constructor(nowMs: () => number, retryMs: number) {
    super({ highWaterMark: BUFFER_BYTES });
    this.#nowMs = nowMs;
    this.#push(`retry: ${retryMs}\n\n`);
  }

  override _read(): void {
    this.#fullSinceMs = null;
  }

  /** For how long the reader has taken nothing though something waits, ms; 0: there is room. */
  get fullForMs(): number {
    return this.#fullSinceMs === null ? 0 : Math.max(1, this.#nowMs() - this.#fullSinceMs);
  }

  /** `data` is sent as JSON. */
  event(name: string, id: string, data: object): void {
    this.#push(`id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** Tells the reader, and whatever stands between, that the connection lives. */
  heartbeat(): void {
    this.#push(': \n\n');
  }

  /** The last event, then the end; a reader that does not take it is cut. Calling it again does nothing. */
  finish(code: string): void {
    if (this.#over || this.destroyed) return;
    if (this.fullForMs === 0) this.#push(`event: end\ndata: ${JSON.stringify({ code })}\n\n`);
    this.#over = true;
    this.push(null);
    const timer = setTimeout(() => this.destroy(), END_GRACE_MS);
    this.once('close', () => clearTimeout(timer));
  }

  #push(text: string): void {
    if (this.#over || this.destroyed) return;
    if (!this.push(text)) this.#fullSinceMs ??= this.#nowMs();
  }
}
