import {
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
} from 'node:http';
import { pipeline as pipe } from 'node:stream';
import { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import type { ProxyFailure } from '../errors.js';
import type { Connected } from './connect-pipeline.js';
import type { AbsoluteTarget, Destination } from './destination.js';
import type { Login } from './hand-over.js';
import { headerValue } from './http-head.js';
import { headersForClient, headersForOrigin, passableTrailers, successHeaders } from './http-headers.js';
import { type OriginAgent, type OriginRequestOptions, StreamRefused } from './origin-agent.js';

/** A plain HTTP request whose target, login and framing are sound. */
export interface ForwardRequest extends AbsoluteTarget {
  auth: Login;
  requestId: string;
  /** Names the login: streams to an origin are reused only for the same one. */
  route: string;
}

/** What an exchange needs of the connection it is on. */
export interface ExchangeContext {
  agent: OriginAgent;
  /** As `ProxyPipeline.connect`. */
  connect(login: Login, destination: Destination): Promise<Connected | ProxyFailure>;
  /** Longest response head of an origin, bytes; above it the request fails. */
  originHeadBytesMax: number;
  refuse(failure: ProxyFailure): void;
}

/** Requests that may be sent again when a reused stream turns out closed (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);
/** Methods that node:http sends without a body when no length is given; others it would send chunked. */
const USUALLY_WITHOUT_BODY = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'DELETE']);

/** Starts the request to the origin, head not sent yet. Its headers go as given, case and order kept. */
export function requestToOrigin(
  req: IncomingMessage,
  forward: ForwardRequest,
  context: ExchangeContext,
  headers: string[],
): ClientRequest {
  const { destination, auth } = forward;
  const options: RequestOptions & OriginRequestOptions = {
    agent: context.agent,
    host: destination.host,
    port: destination.port,
    method: req.method ?? 'GET',
    path: forward.path,
    headers,
    maxHeaderSize: context.originHeadBytesMax,
    route: forward.route,
    openStream: async () => context.connect(auth, destination),
  };
  const upstream = request(options);
  upstream.maxHeadersCount = 0; // the size is limited instead: a count would drop headers silently
  return upstream;
}

export interface ExchangeOptions extends ExchangeContext {
  /** The client waits for `100 Continue`. */
  expectContinue: boolean;
  /** Time the rest of an upload is read when the answer was there before it, ms. */
  lingerTimeoutMs: number;
}

/**
 * Forwards one request and its answer, bodies streamed, framing renewed on each side. A failure before the answer's
 * head goes to `refuse`; after it, the client's connection is reset so that a cut answer can not pass for a whole one.
 */
export function exchangeWithOrigin(
  req: IncomingMessage,
  res: ServerResponse,
  forward: ForwardRequest,
  options: ExchangeOptions,
): void {
  new Exchange(req, res, forward, options);
}

class Exchange {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #forward: ForwardRequest;
  readonly #options: ExchangeOptions;
  readonly #headers: string[];
  readonly #hasBody: boolean;
  #upstream: ClientRequest;
  #answer: IncomingMessage | null = null;
  #continued = false;

  constructor(req: IncomingMessage, res: ServerResponse, forward: ForwardRequest, options: ExchangeOptions) {
    this.#req = req;
    this.#res = res;
    this.#forward = forward;
    this.#options = options;
    const chunked = headerValue(req.rawHeaders, 'transfer-encoding') !== null;
    const length = headerValue(req.rawHeaders, 'content-length');
    this.#hasBody = chunked || Number(length ?? 0) > 0;
    this.#headers = headersForOrigin(req.rawHeaders, forward.authority, { upgrade: false, chunked });
    if (!chunked && length === null && !USUALLY_WITHOUT_BODY.has(req.method ?? ''))
      this.#headers.push('Content-Length', '0');

    this.#upstream = this.#send(true);
    res.once('close', () => this.#onClientDone());
    if (!this.#hasBody) return;
    this.#upstream.flushHeaders();
    if (chunked) {
      req.once('end', () => {
        const trailers = passableTrailers(req);
        if (trailers.length > 0) this.#upstream.addTrailers(trailers);
      });
    }
    req.pipe(this.#upstream);
  }

  #send(mayRepeat: boolean): ClientRequest {
    const req = this.#req;
    const res = this.#res;
    const upstream = requestToOrigin(req, this.#forward, this.#options, this.#headers);
    upstream.on('information', (info) => {
      if (res.headersSent || req.httpVersionMinor === 0) return;
      if (info.statusCode === 100) {
        if (this.#options.expectContinue && !this.#continued) res.writeContinue();
        this.#continued = true;
        return;
      }
      const kept = headersForClient(info.rawHeaders, { upgrade: false, chunked: false });
      res.socket?.write(headBytes(info.statusCode, info.statusMessage, kept));
    });
    upstream.on('response', (answer) => {
      this.#answer = answer;
      if (!this.#forwardAnswer(answer)) this.#fail({ ok: false, code: 'PEER_DROPPED', detail: 'response' });
    });
    // 101 to a request that offered nothing: what follows is in no protocol that the client expects.
    upstream.once('upgrade', (_answer, stream) => {
      stream.destroy();
      if (!res.headersSent) this.#fail({ ok: false, code: 'PEER_DROPPED', detail: 'response' });
    });
    upstream.on('error', (error) => {
      // Without a length, node:http would take an answer cut by an error for a whole one.
      if (this.#answer && !this.#answer.complete) resetConnection(req.socket);
      if (this.#answer || res.headersSent || res.destroyed) return;
      const repeats =
        mayRepeat && upstream.reusedSocket && !this.#hasBody && IDEMPOTENT.has(req.method ?? '');
      if (repeats) this.#upstream = this.#send(false);
      else this.#fail(failureOf(error));
    });
    if (!this.#hasBody) upstream.end();
    return upstream;
  }

  /** False when the answer is nothing to pass on. */
  #forwardAnswer(answer: IncomingMessage): boolean {
    const req = this.#req;
    const res = this.#res;
    const status = answer.statusCode ?? 0;
    const coding = headerValue(answer.rawHeaders, 'transfer-encoding');
    if (coding !== null && coding.toLowerCase() !== 'chunked') return false;
    const chunked = coding !== null && req.httpVersionMinor === 1 && status !== 204 && status !== 304;
    const headers = headersForClient(answer.rawHeaders, { upgrade: false, chunked });
    headers.push(
      ...successHeaders(this.#options.agent.exitOf(this.#upstream.socket), this.#forward.requestId),
    );
    // A client that was not told to continue may send its body or not: the next request could not be told from it.
    if (this.#options.expectContinue && !this.#continued) headers.push('Connection', 'close');
    res.sendDate = false;
    try {
      res.writeHead(status, answer.statusMessage ?? '', headers);
    } catch {
      return false; // a reason phrase that HTTP does not allow
    }
    if (chunked) {
      answer.once('end', () => {
        const trailers = passableTrailers(answer);
        if (trailers.length > 0) res.addTrailers(trailers);
      });
    }
    answer.once('error', () => resetConnection(req.socket));
    pipe(answer, res, () => {});
    return true;
  }

  #fail(failure: ProxyFailure): void {
    this.#upstream.destroy();
    this.#req.unpipe();
    this.#options.refuse(failure);
  }

  #onClientDone(): void {
    if (this.#answer?.complete && this.#req.complete) return;
    this.#upstream.destroy();
    this.#req.unpipe();
    discardBody(this.#req, this.#options.lingerTimeoutMs);
  }
}

/**
 * Reads the rest of a body nobody wants, for so long: closing at once would reset the connection before the client
 * has read its answer. Then the connection is closed.
 */
export function discardBody(req: IncomingMessage, lingerTimeoutMs: number): void {
  if (req.complete || req.socket.destroyed) return;
  const timer = setTimeout(() => req.socket.destroy(), lingerTimeoutMs);
  req.once('close', () => clearTimeout(timer));
  req.resume();
}

/** Why a request to an origin failed before its answer began. */
export function failureOf(error: Error): ProxyFailure {
  if (error instanceof StreamRefused) return error.failure;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  // node:http's parser names what it can not read HPE_…; what is left is a stream that ended early.
  return { ok: false, code: 'PEER_DROPPED', detail: code.startsWith('HPE_') ? 'response' : 'closed' };
}

/** A status line and headers as bytes. */
export function headBytes(status: number, reason: string, headers: readonly string[]): Buffer {
  let head = `HTTP/1.1 ${status} ${reason}\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return Buffer.from(`${head}\r\n`, 'latin1');
}

/** Ends the connection with RST where that is possible: without it, an answer without length would seem complete. */
function resetConnection(socket: unknown): void {
  if (socket instanceof SocketDuplex) socket.raw.reset();
}
