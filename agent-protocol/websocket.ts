/**
 * Where `ws` ends and our own byte path begins: `ws` does the HTTP handshake of both ends, then the raw socket is
 * taken from it before it reads or writes a frame.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ConnectionOptions } from 'node:tls';
import { type ClientOptions, WebSocket, WebSocketServer } from 'ws';
import { SUBPROTOCOL } from './frame.js';
import type { Heartbeat } from './heartbeat.js';
import { REFUSAL_BODY_BYTES_MAX, type SessionTimings } from './limits.js';
import { adoptSocket, takeBuffered } from './raw-socket.js';
import { MuxSession, type SessionHandler, type SessionRole } from './session.js';
import type { SessionOptions } from './session-contract.js';
import type { TlsSessions } from './tls-sessions.js';

/**
 * `ws` hands the connected socket to `setSocket` once the handshake is done. That method is not documented, but every
 * way out of ws's handshake goes through it; a test fails when an upgrade of ws changes that.
 */
class HandshakeOnly extends WebSocket {
  taken: { socket: Socket; head: Buffer } | null = null;
  setSocket(socket: Socket, head: Buffer): void {
    this.taken = { socket, head };
    this.emit('taken');
  }
}

/** Options of both ends. */
export interface TunnelOptions extends Pick<SessionOptions, 'wireVersions' | 'datagramBytesMax'> {
  /** Default: `gateway` for the one who accepts, `agent` for the one who connects. */
  role?: SessionRole;
  timings?: Partial<SessionTimings>;
  heartbeat?: Heartbeat;
}

function startSession(
  taken: { socket: Socket; head: Buffer },
  isClient: boolean,
  role: SessionRole,
  handler: SessionHandler,
  options: TunnelOptions,
): MuxSession {
  const buffered = takeBuffered(taken.socket);
  const raw = adoptSocket(taken.socket);
  const session = new MuxSession(raw, {
    role,
    isClient,
    handler,
    timings: options.timings,
    heartbeat: options.heartbeat,
    wireVersions: options.wireVersions,
    datagramBytesMax: options.datagramBytesMax,
  });
  // What came glued to the handshake is read when the caller has the session in hands.
  const early = Buffer.concat([taken.head, buffered]);
  process.nextTick(() => {
    if (early.length > 0) raw.inject(early);
    raw.resume();
  });
  return session;
}

const upgrades = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  WebSocket: HandshakeOnly,
  handleProtocols: () => SUBPROTOCOL,
});

/**
 * Gateway: answers an upgrade request with 101 and returns the session, or answers 400 and returns null when the
 * request is not a WebSocket one or does not offer the subprotocol. To be called from the 'upgrade' event of node:http,
 * after the ticket was checked; a caller that waits for that check must have put an 'error' listener on `socket`.
 */
export function upgradeTunnel(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  handler: SessionHandler,
  options: TunnelOptions = {},
): MuxSession | null {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  if (!offered.includes(SUBPROTOCOL)) {
    refuseUpgrade(socket, 400, 'subprotocol_unknown', `offer the subprotocol ${SUBPROTOCOL}`);
    return null;
  }
  let session: MuxSession | null = null;
  upgrades.handleUpgrade(request, socket, head, (webSocket) => {
    const { taken } = webSocket as unknown as HandshakeOnly;
    if (taken !== null) session = startSession(taken, false, options.role ?? 'gateway', handler, options);
  });
  return session;
}

/** The ticket of an upgrade request (`Authorization: Bearer …`), or null. */
export function ticketOf(request: IncomingMessage): string | null {
  return /^Bearer ([\x21-\x7e]{1,512})$/i.exec(request.headers.authorization ?? '')?.[1] ?? null;
}

/**
 * Answers an upgrade request with an HTTP error whose body is problem details (RFC 9457) with a stable `code`, and
 * closes. `retryAfterSeconds` becomes Retry-After.
 */
export function refuseUpgrade(
  socket: Duplex,
  status: number,
  code: string,
  detail: string,
  retryAfterSeconds?: number,
): void {
  const body = JSON.stringify({ type: 'about:blank', status, code, detail });
  const retryAfter = retryAfterSeconds === undefined ? '' : `Retry-After: ${retryAfterSeconds}\r\n`;
  socket.on('error', () => {});
  socket.once('finish', () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: application/problem+json\r\nConnection: close\r\n` +
      `${retryAfter}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** Why a tunnel did not come about. */
export class TunnelRefused extends Error {
  /** HTTP status of the answer; null when there was none. */
  readonly status: number | null;
  /**
   * `code` of the answer's body, or `refused` without one; `connect_timeout`, or `connect_failed` with `cause`, when
   * there was no answer.
   */
  readonly code: string;
  /** From Retry-After. */
  readonly retryAfterMs: number | null;
  constructor(
    code: string,
    status: number | null,
    detail: string,
    retryAfterMs: number | null,
    cause?: unknown,
  ) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = 'TunnelRefused';
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface ConnectOptions extends TunnelOptions {
  /** `ws://` or `wss://`, with the path, usually `/tunnel`. */
  url: string;
  /** Sent as `Authorization: Bearer <ticket>`; left out where a certificate says who connects. */
  ticket?: string;
  /** Further request headers. */
  headers?: Record<string, string>;
  /**
   * For `wss:`; certificates are always verified. `sessions`: those of earlier connections with the same `ca`, of which
   * one is used, and where this one's are kept.
   */
  tls?: {
    ca?: string | Buffer;
    servername?: string;
    sessions?: TlsSessions;
    /** The certificate of this end and its key, PEM, where the other one asks for one. */
    own?: { cert: string; key: string };
    /** Judges the other end's certificate, which `ca` has signed, instead of the host name in `url`. */
    checkServerIdentity?: ConnectionOptions['checkServerIdentity'];
  };
  /** Time for TCP, TLS and the handshake together; default 15 s. */
  timeoutMs?: number;
}

/** Agent: connects a tunnel; say `session.hello` next. Rejects with TunnelRefused. */
export function connectTunnel(options: ConnectOptions, handler: SessionHandler): Promise<MuxSession> {
  return new Promise((resolve, reject) => {
    const webSocket = new HandshakeOnly(options.url, [SUBPROTOCOL], {
      perMessageDeflate: false,
      followRedirects: false,
      headers: {
        ...options.headers,
        ...(options.ticket === undefined ? {} : { Authorization: `Bearer ${options.ticket}` }),
      },
      ...tlsOptions(options.tls),
      ...resumption(options),
    });
    const timer = setTimeout(() => {
      fail(new TunnelRefused('connect_timeout', null, 'no answer in time', null));
      webSocket.terminate();
    }, options.timeoutMs ?? 15_000);
    const fail = (error: TunnelRefused): void => {
      clearTimeout(timer);
      reject(error);
    };
    // terminate() before the connection is up makes ws emit an error as well; the promise is settled by then.
    webSocket.on('error', (cause) =>
      fail(new TunnelRefused('connect_failed', null, cause.message, null, cause)),
    );
    webSocket.on('unexpected-response', (request, response) => {
      readRefusal(response).then(fail, (cause: unknown) =>
        fail(new TunnelRefused('refused', response.statusCode ?? null, 'answer cut short', null, cause)),
      );
      response.once('close', () => request.destroy());
    });
    webSocket.on('taken', () => {
      clearTimeout(timer);
      const { taken } = webSocket;
      if (taken !== null) resolve(startSession(taken, true, options.role ?? 'agent', handler, options));
    });
  });
}

function tlsOptions(tls: ConnectOptions['tls'] = {}): ClientOptions {
  const { ca, servername, own, checkServerIdentity } = tls;
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(servername === undefined ? {} : { servername }),
    ...own,
    // Its declared type is wrong: it goes to node:tls as it is.
    ...(checkServerIdentity && ({ checkServerIdentity } as object)),
  };
}

/** Options of ws that use a session of `tls.sessions` and keep the ones that come. */
function resumption({
  url,
  tls,
}: ConnectOptions): { session?: Buffer } & Pick<ClientOptions, 'finishRequest'> {
  const sessions = tls?.sessions;
  if (sessions === undefined) return {};
  const site = `${new URL(url).host} ${tls?.servername ?? ''}`;
  const session = sessions.take(site);
  return {
    ...(session && { session }),
    finishRequest: (request) => {
      request.once('socket', (socket) =>
        socket.on('session', (newest: Buffer) => sessions.keep(site, newest)),
      );
      request.end();
    },
  };
}

async function readRefusal(response: IncomingMessage): Promise<TunnelRefused> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > REFUSAL_BODY_BYTES_MAX) break;
    pieces.push(piece);
  }
  const status = response.statusCode ?? null;
  const retryAfterSeconds = Number(response.headers['retry-after'] ?? Number.NaN);
  const retryAfterMs = Number.isFinite(retryAfterSeconds) ? Math.max(0, retryAfterSeconds * 1_000) : null;
  const { code, detail } = problemOf(Buffer.concat(pieces).toString());
  return new TunnelRefused(code ?? 'refused', status, detail ?? `HTTP ${status}`, retryAfterMs);
}

function problemOf(body: string): { code: string | null; detail: string | null } {
  try {
    const problem: unknown = JSON.parse(body);
    if (typeof problem !== 'object' || problem === null) return { code: null, detail: null };
    const { code, detail } = problem as Record<string, unknown>;
    return {
      code: typeof code === 'string' ? code : null,
      detail: typeof detail === 'string' ? detail : null,
    };
  } catch {
    return { code: null, detail: null };
  }
}
