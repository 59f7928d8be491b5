/**
 * What origin and client say to each other. One port: the first byte of a connection chooses.
 *
 * - `D` and 8 bytes (big endian) n: the origin sends n bytes, then ends.
 * - `U`: the origin swallows whatever comes and counts it.
 * - `G` (of `GET `): a small HTTP request; the origin answers RESPONSE and ends the connection, as a server that is
 *   told `Connection: close` does, so that the port in TIME_WAIT is its own.
 * - `H`: the origin answers one byte and holds the connection open.
 * - `E`: the origin sends back whatever comes, this byte included.
 * - `A`: whatever comes is sent back, this byte included, by a process aside: the origin may be busy with bulk streams.
 */
export const DOWN = 0x44;
export const UP = 0x55;
export const GET = 0x47;
export const HOLD = 0x48;
export const ECHO = 0x45;
export const ASIDE = 0x41;

export const REQUEST = Buffer.from(
  'GET /small HTTP/1.1\r\nHost: origin.bench\r\nUser-Agent: bench\r\nAccept: */*\r\nConnection: close\r\n\r\n',
);
const BODY = 'x'.repeat(100);
export const RESPONSE = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${BODY.length}\r\nConnection: close\r\n\r\n${BODY}`,
);

export interface Endpoint {
  host: string;
  port: number;
}

/** What the client connects to, and how it says where to go from there. */
export interface Route extends Endpoint {
  /** `direct`: nothing is said; the address is the origin's or a plain forward's. */
  kind: 'direct' | 'socks5' | 'connect';
  /** Empty: no authentication. */
  username: string;
  password: string;
}

/** Bytes seen so far and when they were counted (ms, monotonic clock of the counting process). */
export interface Count {
  bytes: number;
  atMs: number;
}

/** Payload bytes in the two directions, as everywhere: `up` is towards the origin. */
export interface Payload {
  bytesUp: number;
  bytesDown: number;
}

export interface ConnectResult {
  done: number;
  failed: number;
  elapsedMs: number;
  /** Text of the first failure. */
  error: string | null;
  /** Time of each request from dialling (`paced`: from when it was due) to the whole answer. */
  latenciesMs: number[];
}

/** Calls a role answers over IPC. */
export interface OriginCalls {
  listen(): Promise<Endpoint>;
  /** Bytes swallowed by `U`. */
  count(): Promise<Count>;
  /** Payload of all connections so far: what came, and what was sent. */
  totals(): Promise<Payload>;
}

export interface LineCalls {
  /** Listens, and leads each connection on to `to` over a line of its own: `delayMs` each way, 1 Gbit/s at first. */
  listen(to: Endpoint, delayMs: number): Promise<Endpoint>;
  /** Of the connections there are and those to come, each way. */
  setRate(megabitsPerSecond: number): Promise<void>;
}

export interface ClientCalls {
  /** Opens `streams` connections that move bytes without end; resolves when all of them are connected. */
  bulkStart(route: Route, origin: Endpoint, direction: 'down' | 'up', streams: number): Promise<void>;
  /** Bytes received (down) since bulkStart. Fails when a stream has broken. */
  bulkCount(): Promise<Count>;
  bulkStop(): Promise<void>;
  /** Small requests, each on a connection of its own, `concurrency` at a time, for a while or until `countMax`. */
  requests(
    route: Route,
    origin: Endpoint,
    load: { concurrency: number; durationMs: number; countMax: number },
  ): Promise<ConnectResult>;
  /**
   * Small requests, each on a connection of its own, one every `1/perSecond` s whether the earlier ones are answered or
   * not. Times count from the moment a request was due: a system that stalls can not hide what had to wait.
   */
  paced(
    route: Route,
    origin: Endpoint,
    load: { perSecond: number; durationMs: number },
  ): Promise<ConnectResult>;
  /**
   * Messages of `bytes` on one connection that stays, each sent when the echo of the one before it was there. The time of
   * each but the first from its first byte to the last of its echo, ms. Fails when the connection breaks or an echo is
   * wrong.
   */
  echoes(route: Route, origin: Endpoint, load: { bytes: number; durationMs: number }): Promise<number[]>;
  /** Opens `count` connections that stay idle; resolves when the origin has answered on each. */
  hold(route: Route, origin: Endpoint, count: number): Promise<void>;
  /** Of those held: how many are gone. */
  lost(): Promise<number>;
  release(): Promise<void>;
}
