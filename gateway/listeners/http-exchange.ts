import {
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
} from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline as pipe } from 'node:stream';
import type { ProxyFailure } from '../errors.js';
import type { Authenticated, ProxyPipeline } from './connect-pipeline.js';
import type { AbsoluteTarget } from './destination.js';
import { successHeaders } from './http-connect.js';
import { headerValue } from './http-head.js';
import { headersForClient, headersForOrigin, passableTrailers } from './http-headers.js';
import { type OriginAgent, type OriginRequestOptions, StreamRefused } from './origin-agent.js';

/** A plain HTTP request whose target, login and framing are sound. */
export interface ForwardRequest extends AbsoluteTarget {
  auth: Authenticated;
  requestId: string;
  /** Names the login: streams to an origin are reused only for the same one. */
  route: string;
}

/** What an exchange needs of the connection it is on. */
export interface ExchangeContext {
  agent: OriginAgent;
  pipeline: ProxyPipeline;
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
    openStream: () => context.pipeline.connect(auth, destination),
  };
  const upstream = request(options);
  upstream.maxHeadersCount = 0; // the size is limited instead: a count would drop headers silently
  return upstream;
}

/**
 * Forwards one request and its answer, bodies streamed, framing renewed on each side. A failure before the answer's
 * head goes to `refuse`; after it, the client's connection is reset so that a cut answer can not pass for a whole one.
 */
export function exchangeWithOrigin(
  req: IncomingMessage,
  res: ServerResponse,
  forward: ForwardRequest,
  context: ExchangeContext & {
    /** The client waits for `100 Continue`. */
    expectContinue: boolean;
    /** Time the rest of an upload is read when the answer was there before it, ms. */
    lingerTimeoutMs: number;
  },
): void {
  const method = req.method ?? 'GET';
  const chunked = headerValue(req.rawHeaders, 'transfer-encoding') !== null;
  const length = headerValue(req.rawHeaders, 'content-length');
  const hasBody = chunked || Number(length ?? 0) > 0;
  const headers = headersForOrigin(req.rawHeaders, forward.authority, { upgrade: false, chunked });
  if (!chunked && length === null && !USUALLY_WITHOUT_BODY.has(method)) headers.push('Content-Length', '0');
  let upstream: ClientRequest;
  let continued = false;
  let answer: IncomingMessage | null = null;

  function send(mayRepeat: boolean): void {
    upstream = requestToOrigin(req, forward, context, headers);
    if (context.expectContinue) {
      upstream.on('continue', () => {
        continued = true;
        if (!res.headersSent) res.writeContinue();
      });
    }
    upstream.on('information', (info) => {
      if (info.statusCode === 100 || res.headersSent || req.httpVersionMinor === 0) return;
      const kept = headersForClient(info.rawHeaders, { upgrade: false, chunked: false });
      res.socket?.write(headBytes(info.statusCode, info.statusMessage, kept));
    });
    upstream.on('response', (response) => {
      answer = response;
      if (!forwardAnswer(response)) fail({ ok: false, code: 'PEER_DROPPED', detail: 'response' });
    });
    upstream.on('error', (error) => {
      if (res.headersSent || res.destroyed || answer) return;
      if (mayRepeat && upstream.reusedSocket && !hasBody && IDEMPOTENT.has(method)) return send(false);
      fail(failureOf(error));
    });
  }

  function forwardAnswer(response: IncomingMessage): boolean {
    const status = response.statusCode ?? 0;
    const coding = headerValue(response.rawHeaders, 'transfer-encoding');
    if (coding !== null && coding.toLowerCase() !== 'chunked') return false;
    const keepChunks = coding !== null && req.httpVersionMinor === 1 && status !== 204 && status !== 304;
    const answerHeaders = headersForClient(response.rawHeaders, { upgrade: false, chunked: keepChunks });
    const exit = context.agent.exitOf(upstream.socket);
    answerHeaders.push(...successHeaders(exit, forward.requestId));
    // A client that was not told to continue may send its body or not: the next request could not be told from it.
    if (context.expectContinue && !continued) answerHeaders.push('Connection', 'close');
    res.sendDate = false;
    try {
      res.writeHead(status, response.statusMessage ?? '', answerHeaders);
    } catch {
      return false; // a reason phrase that HTTP does not allow
    }
    if (keepChunks) {
      response.once('end', () => {
        const trailers = passableTrailers(response.rawTrailers);
        if (trailers.length > 0) res.addTrailers(trailers);
      });
    }
    response.once('error', () => resetConnection(req.socket));
    pipe(response, res, () => {});
    return true;
  }

  function fail(failure: ProxyFailure): void {
    upstream.destroy();
    req.unpipe(upstream);
    req.resume();
    context.refuse(failure);
  }

  send(true);
  res.once('close', () => {
    if (answer?.complete && req.complete) return;
    upstream.destroy();
    req.unpipe(upstream);
    discardBody(req, context.lingerTimeoutMs);
  });
  if (!hasBody) {
    upstream!.end();
    return;
  }
  upstream!.flushHeaders();
  if (chunked) {
    req.once('end', () => {
      const trailers = passableTrailers(req.rawTrailers);
      if (trailers.length > 0) upstream.addTrailers(trailers);
    });
  }
  req.pipe(upstream!);
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
export function resetConnection(socket: Duplex): void {
  if ('resetAndDestroy' in socket && typeof socket.resetAndDestroy === 'function') socket.resetAndDestroy();
  else socket.destroy();
}
