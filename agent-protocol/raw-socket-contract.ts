/** What a socket of the data path is, whatever it is made of. */
import type { Socket } from 'node:net';

/** Takes what a RawSocket reads and what becomes of it. */
export interface RawSink {
  /**
   * Bytes `buffer[start, end)`. With `headroomBytes` above 0 the sink may overwrite that many in front of `start` and may
   * keep the bytes: it returns true when something still refers to them, and the socket takes another buffer. A sink that
   * has paused the socket gives the buffer back with resume(): from then on nothing may refer to the bytes any more. With
   * 0 it must copy what it wants to keep.
   */
  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean;
  /** All written bytes have gone to the operating system. Comes also without a preceding `write()` of false. */
  onDrain(): void;
  /** The other side will send no more (FIN). */
  onEnd(): void;
  /** The socket is gone; the last call. */
  onClose(error: Error | null): void;
}

/** A connected or connecting socket. Starts paused and without a sink. */
export interface RawSocket {
  /** The other side has sent FIN. */
  readonly ended: boolean;
  /** The socket is gone. */
  readonly closed: boolean;
  /** Bytes written that the operating system has not taken yet. */
  readonly backlogBytes: number;
  readonly writable: boolean;
  /** The address of this machine that the connection has; empty once it is gone. */
  readonly localAddress: string;
  /** The peer's address; undefined once it is gone. */
  readonly remoteAddress: string | undefined;
  /**
   * It as node:net knows it, for those who need a stream (TLS, node:http), and for events of dialling. One that had none
   * gets it now, and costs more from then on; reading and writing go through this object all the same.
   */
  readonly socket: Socket;
  /** Sends everything from now on to `sink`. An end or close that has already been is told to it in the next tick. */
  setSink(sink: RawSink): void;
  /** Called when the socket is gone; not, when it is gone already. */
  onceClosed(closed: () => void): void;
  /** No bytes come until resume(). */
  pause(): void;
  resume(): void;
  /** Hands bytes to the sink as if they had just been read: what came glued to a handshake. */
  inject(bytes: Buffer): void;
  /**
   * Writes without a copy: `bytes` must stay as they are until the backlog is 0. Returns true when the operating
   * system took all of it at once; else the sink's onDrain tells when it has, or onClose that it never will.
   */
  write(bytes: Uint8Array): boolean;
  /**
   * As `write` of `buffer[start, end)`, where the FRAME_HEADROOM bytes in front of it may be overwritten. Left out: there is
   * no use for them.
   */
  writeBehindHeadroom?(buffer: Buffer, start: number, end: number): boolean;
  /** As `write`, of several pieces, with one call to the operating system. */
  writeAll(pieces: Iterable<Uint8Array>): boolean;
  /**
   * Finds out whether the peer has reset a connection that is not being read: nobody would hear of it before bytes are
   * written. If it has, the socket closes. Costs a call to the operating system, when the socket is paused, and nothing
   * else.
   */
  probe(): void;
  /** Half-close: FIN after what is written. */
  end(): void;
  /** Drops the connection with RST where there is one, so that the other side can tell it from a regular end. */
  reset(): void;
  destroy(error?: Error): void;
  /**
   * Takes the connection out of this object, for another one or another process to go on with it: this one is closed
   * then, the connection stays open. Null when that can not be: TLS, written bytes that have not left, an end that came or
   * was told.
   */
  detach(): SocketHandle | null;
}

/** What stands for an open connection at the operating system, as processes pass it to each other. */
export interface SocketHandle {
  readStop?: () => number;
  /** 0, or a negative errno: the peer is gone. */
  getpeername?: (into: { address?: string; port?: number }) => number;
  /** Of this process; the connection lives on where else it is held. */
  close(): void;
}
