import { Duplex } from 'node:stream';
import { ResetCode } from '../../agent-protocol/frame.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import type { Splice } from './splice.js';

/**
 * A device's stream as a Duplex, for forwarding plain HTTP with node:http. Bytes are copied and counted by the same
 * splice as everywhere else. It looks enough like a socket for http.Agent.
 */
export class StreamDuplex extends Duplex implements StreamHandler {
  readonly #stream: MuxStream;
  readonly #splice: Splice;
  /** What is being written: the part of a chunk that the window did not allow yet. */
  #rest: Buffer | null = null;
  #written: ((error?: Error | null) => void) | null = null;
  /** Bytes pushed and not yet given back as credit. */
  #owedBytes = 0;
  #finReceived = false;
  #finSent = false;

  constructor(stream: MuxStream, splice: Splice) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    this.#splice = splice;
    stream.handler = this;
    splice.onCut(() => this.destroy());
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#rest = chunk;
    this.#written = done;
    this.#send();
  }

  #send(): void {
    while (this.#rest !== null) {
      const rest = this.#rest;
      const bytes = Math.min(rest.length, this.#stream.sendWindowBytes);
      if (bytes === 0 && rest.length > 0) return;
      if (!this.#splice.onBytesOut(bytes)) {
        this.#fail('the allocation is used up', 'refused');
        return;
      }
      this.#rest = bytes === rest.length ? null : rest.subarray(bytes);
      // A headroom of 0: the bytes are copied, so the caller's buffer is free at once.
      if (this.#stream.send(rest, 0, bytes, 0)) continue;
      if (this.#stream.state === 'closed') this.#fail('the stream was reset', 'reset');
      return; // onWritable goes on
    }
    this.#finishWrite();
  }

  #finishWrite(): void {
    const written = this.#written;
    this.#written = null;
    written?.();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#finSent = true;
    this.#stream.fin();
    this.#endWhenBothSidesAre();
    done();
  }

  override _read(): void {
    const bytes = this.#owedBytes;
    this.#owedBytes = 0;
    if (bytes > 0) this.#stream.consumed(bytes);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stream.reset(ResetCode.CANCELLED);
    this.#splice.onEnd(this.#finReceived && this.#finSent ? 'finished' : 'reset');
    const written = this.#written;
    this.#written = null;
    written?.(error);
    done(error);
  }

  onData(_stream: MuxStream, buffer: Buffer, start: number, end: number): void {
    if (this.destroyed) return;
    if (!this.#splice.onBytesIn(end - start)) {
      this.#fail('the allocation is used up', 'refused');
      return;
    }
    this.#owedBytes += end - start;
    if (this.push(Buffer.from(buffer.subarray(start, end)))) this._read();
  }

  onFin(): void {
    this.#finReceived = true;
    this.push(null);
    this.#endWhenBothSidesAre();
  }

  onReset(): void {
    this.#fail('the stream was reset', 'reset');
  }

  onWritable(): void {
    this.#send();
  }

  #endWhenBothSidesAre(): void {
    if (this.#finReceived && this.#finSent) this.#splice.onEnd('finished');
  }

  #fail(message: string, how: 'reset' | 'refused'): void {
    this.#splice.onEnd(how);
    this.destroy(Object.assign(new Error(message), { code: 'ECONNRESET' }));
  }

  // What http.Agent calls on a socket; a stream in a tunnel has no such things to set.
  setKeepAlive(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
