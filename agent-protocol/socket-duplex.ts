import { Duplex } from 'node:stream';
import type { RawSink, RawSocket } from './raw-socket.js';

/**
 * A RawSocket as an ordinary stream, for node:http (`server.emit('connection', duplex)`). Bytes are copied. Give it
 * back with `release()`.
 */
export class SocketDuplex extends Duplex implements RawSink {
  readonly raw: RawSocket;
  /** Told of each chunk given to be written, once nothing here refers to its memory any more. */
  onSent: ((chunk: Buffer) => void) | null = null;
  #writing: Buffer[] = [];
  #written: ((error?: Error | null) => void) | null = null;
  #released = false;
  readonly #onTimeout = () => this.emit('timeout');

  constructor(raw: RawSocket) {
    super({ allowHalfOpen: true });
    this.raw = raw;
    raw.socket.on('timeout', this.#onTimeout);
    raw.setSink(this);
  }

  /**
   * Ends the use as a stream: returns the bytes read but not consumed; the socket is paused and waits for another
   * sink. What was written must have been flushed.
   */
  release(): Buffer {
    this.#released = true;
    this.raw.pause();
    this.raw.socket.removeListener('timeout', this.#onTimeout);
    this.raw.socket.setTimeout(0);
    const unread = (this.readableLength > 0 ? (this.read() as Buffer | null) : null) ?? Buffer.alloc(0);
    // Not destroyed: that would destroy the socket for those who listen to 'close' of this stream.
    this.removeAllListeners();
    this.on('error', () => {});
    return unread;
  }

  onBytes(buffer: Buffer, start: number, end: number): boolean {
    if (!this.push(Buffer.from(buffer.subarray(start, end)))) this.raw.pause();
    return false;
  }

  onDrain(): void {
    const written = this.#written;
    const chunks = this.#writing;
    this.#written = null;
    this.#writing = [];
    for (const chunk of chunks) this.onSent?.(chunk);
    written?.();
  }

  onEnd(): void {
    this.push(null);
  }

  onClose(error: Error | null): void {
    // They will never be written.
    for (const chunk of this.#writing.splice(0)) this.onSent?.(chunk);
    this.destroy(error ?? undefined);
  }

  override _read(): void {
    if (!this.#released) this.raw.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: (error?: Error | null) => void): void {
    if (this.raw.write(chunk)) {
      this.onSent?.(chunk);
      written();
    } else {
      this.#writing = [chunk];
      this.#written = written;
    }
  }

  override _writev(
    writes: Array<{ chunk: Buffer; encoding: BufferEncoding }>,
    written: (error?: Error | null) => void,
  ): void {
    this.#writing = writes.map(({ chunk }) => chunk);
    this.#written = written;
    if (this.raw.writeAll(this.#writing)) this.onDrain();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.raw.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.#released) this.raw.destroy();
    const written = this.#written;
    this.#written = null;
    written?.(error ?? new Error('socket closed'));
    done(error);
  }

  setTimeout(timeoutMs: number, onTimeout?: () => void): this {
    this.raw.socket.setTimeout(timeoutMs);
    if (onTimeout) this.once('timeout', onTimeout);
    return this;
  }
  setNoDelay(enable = true): this {
    this.raw.socket.setNoDelay(enable);
    return this;
  }
  setKeepAlive(enable = false, initialDelayMs = 0): this {
    this.raw.socket.setKeepAlive(enable, initialDelayMs);
    return this;
  }
  ref(): this {
    this.raw.socket.ref();
    return this;
  }
  unref(): this {
    this.raw.socket.unref();
    return this;
  }
  get remoteAddress(): string | undefined {
    return this.raw.socket.remoteAddress;
  }
  get remotePort(): number | undefined {
    return this.raw.socket.remotePort;
  }
  get localAddress(): string | undefined {
    return this.raw.socket.localAddress;
  }
  get localPort(): number | undefined {
    return this.raw.socket.localPort;
  }
}
