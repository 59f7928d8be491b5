import type { FrameType } from './frame.js';
import { FrameReader, type FrameSink } from './frame-reader.js';
import { FrameWriter } from './frame-writer.js';
import { KEPT_READ_BUFFERS_MAX } from './limits.js';
import type { RawSink, RawSocket } from './raw-socket.js';
import { CloseCode, type MessageSink, WebSocketReader } from './websocket-frames.js';

/** Takes the frames of a FrameConnection and what becomes of it. Nothing comes after close() or destroy(). */
export interface ConnectionSink extends Pick<FrameSink, 'onDataBytes' | 'onFrame'> {
  /** What `onDataBytes` gave last ends a run: the next frame is not DATA of that stream, or the read is at its end. */
  onRunEnd(streamId: number): void;
  /** A WebSocket ping came; false: no answer. */
  onWebSocketPing(): boolean;
  /** A violation of RFC 6455 or of the frame layer; the connection is to be closed with `closeCode`. */
  onFault(closeCode: number, reason: string): void;
  /** The peer closed the WebSocket; to be closed with the same code. */
  onPeerClose(closeCode: number, reason: string): void;
  /** The socket is gone or its peer sends no more. */
  onLost(reason: string): void;
  /** Everything written has gone to the operating system. */
  onDrain(): void;
}

/** A connected WebSocket as a sequence of mux frames. */
export class FrameConnection implements RawSink, MessageSink, FrameSink {
  readonly raw: RawSocket;
  /** Bytes of the WebSocket that came, all overhead included. */
  bytesIn = 0;
  /** Set with every read; whoever watches for silence takes it back. */
  heard = true;
  readonly #sink: ConnectionSink;
  readonly #closeTimeoutMs: number;
  readonly #messages: WebSocketReader;
  readonly #frames: FrameReader;
  readonly #writer: FrameWriter;
  #closed = false;
  #mayKeep = false;
  #kept = false;
  /** Where the part of the read buffer begins that nothing read so far needs. */
  #freeFrom = 0;
  #headroomBytes = 0;
  /** Whose DATA was handed on last in this read; 0: nobody's, or a frame followed. */
  #runStreamId = 0;
  /** How often a read buffer was kept and not let go of yet. */
  #heldBuffers = 0;

  /**
   * @param isClient whether this end is the WebSocket client, which masks
   * @param closeTimeoutMs time for the last frames to leave and the peer to go, after close()
   */
  constructor(raw: RawSocket, isClient: boolean, closeTimeoutMs: number, sink: ConnectionSink) {
    this.raw = raw;
    this.#sink = sink;
    this.#closeTimeoutMs = closeTimeoutMs;
    this.#messages = new WebSocketReader(this, !isClient);
    this.#frames = new FrameReader(this);
    this.#writer = new FrameWriter(raw, isClient);
    raw.setSink(this);
  }

  get bytesOut(): number {
    return this.#writer.bytesOut;
  }

  /** Most payload bytes of one DATA frame, either way. */
  set frameBytesMax(bytes: number) {
    this.#frames.frameBytesMax = bytes;
    this.#writer.frameBytesMax = bytes;
  }

  /** See StreamCarrier. */
  get readHeadroomBytes(): number {
    return this.#mayKeep && this.#heldBuffers < KEPT_READ_BUFFERS_MAX ? this.#headroomBytes : 0;
  }

  keepReadBuffer(): void {
    this.#kept = true;
    this.#heldBuffers++;
  }

  letGoOfReadBuffer(): void {
    this.#heldBuffers--;
  }

  /** See FrameWriter. */
  get heldDataBytes(): number {
    return this.#writer.heldDataBytes;
  }

  /** See FrameWriter.data. */
  writeData(streamId: number, buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    return this.#writer.data(streamId, buffer, start, end, headroomBytes);
  }

  /** See FrameWriter.datagram. */
  writeDatagram(streamId: number, head: Uint8Array, bytes: Uint8Array): boolean {
    return this.#writer.datagram(streamId, head, bytes);
  }

  writeFrame(type: FrameType, streamId: number, payload: Uint8Array | null): void {
    this.#writer.frame(type, streamId, payload);
  }

  /** Sends a WebSocket close behind what was written, then FIN; what comes meanwhile is discarded. */
  close(closeCode: number, reason: string): void {
    if (this.#closed) return;
    this.#stop();
    this.#writer.webSocketClose(closeCode, reason);
    this.raw.end();
    const timer = setTimeout(() => this.raw.destroy(), this.#closeTimeoutMs).unref();
    this.raw.onceClosed(() => clearTimeout(timer));
  }

  /** Drops the socket. */
  destroy(): void {
    if (!this.#closed) this.#stop();
    this.raw.destroy();
  }

  #stop(): void {
    this.#closed = true;
    this.#messages.stop();
  }

  // RawSink

  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    if (this.#closed) return false;
    this.heard = true;
    this.bytesIn += end - start;
    this.#mayKeep = headroomBytes > 0;
    this.#freeFrom = start - headroomBytes;
    this.#kept = false;
    this.#messages.read(buffer, start, end);
    this.#endRun();
    this.#mayKeep = false;
    return this.#kept;
  }

  onDrain(): void {
    if (!this.#closed) this.#sink.onDrain();
  }

  onEnd(): void {
    if (!this.#closed) this.#sink.onLost('end of file');
    this.raw.end();
  }

  onClose(error: Error | null): void {
    if (!this.#closed) this.#sink.onLost((error as NodeJS.ErrnoException | null)?.code ?? 'closed');
  }

  // MessageSink

  onMessageBytes(buffer: Buffer, start: number, end: number, last: boolean): void {
    this.#frames.read(buffer, start, end, last);
  }

  onWebSocketPing(payload: Buffer): void {
    if (this.#sink.onWebSocketPing()) this.#writer.webSocketPong(payload);
  }

  onWebSocketClose(code: number, reason: string): void {
    this.#sink.onPeerClose(code, reason);
  }

  onWebSocketFault(closeCode: number, reason: string): void {
    this.#sink.onFault(closeCode, reason);
  }

  // FrameSink

  onDataBytes(streamId: number, buffer: Buffer, start: number, end: number): void {
    this.#headroomBytes = start - this.#freeFrom;
    this.#freeFrom = end;
    if (this.#closed) return;
    if (streamId !== this.#runStreamId) {
      this.#endRun();
      this.#runStreamId = streamId;
    }
    this.#sink.onDataBytes(streamId, buffer, start, end);
  }

  #endRun(): void {
    const streamId = this.#runStreamId;
    if (streamId === 0) return;
    this.#runStreamId = 0;
    if (!this.#closed) this.#sink.onRunEnd(streamId);
  }

  onFrame(type: FrameType, streamId: number, payload: Buffer): void {
    this.#endRun();
    if (!this.#closed) this.#sink.onFrame(type, streamId, payload);
  }

  onFrameFault(reason: string): void {
    if (!this.#closed) this.#sink.onFault(CloseCode.PROTOCOL_ERROR, reason);
  }
}
