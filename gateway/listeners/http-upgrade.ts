import type { IncomingMessage } from 'node:http';
import { type Duplex, pipeline as pipe } from 'node:stream';
import {
  type ExchangeContext,
  type ForwardRequest,
  failureOf,
  headBytes,
  requestToOrigin,
} from './http-exchange.js';
import { headersForClient, headersForOrigin, successHeaders } from './http-headers.js';

/**
 * An upgrade (WebSocket) asked for in plain HTTP: forwards the request; when the origin switches, both sides are
 * joined; when it does not, its answer is passed on and the connection is closed. `head` is what followed the
 * request.
 */
export function upgradeAtOrigin(
  req: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  forward: ForwardRequest,
  context: ExchangeContext,
): void {
  const headers = headersForOrigin(req.rawHeaders, forward.authority, { upgrade: true, chunked: false });
  const upstream = requestToOrigin(req, forward, context, headers);
  let answered = false;
  const own = () => successHeaders(context.agent.exitOf(upstream.socket), forward.requestId);

  upstream.on('upgrade', (response, stream, streamHead) => {
    answered = true;
    const kept = headersForClient(response.rawHeaders, { upgrade: true, chunked: false });
    socket.write(headBytes(101, response.statusMessage ?? '', [...kept, ...own()]));
    if (streamHead.length > 0) socket.write(streamHead);
    joinStreams(socket, stream, head);
  });
  upstream.on('response', (response) => {
    answered = true;
    const kept = headersForClient(response.rawHeaders, { upgrade: false, chunked: false });
    const status = response.statusCode ?? 0;
    socket.write(headBytes(status, response.statusMessage ?? '', [...kept, ...own(), 'Connection', 'close']));
    pipe(response, socket, () => socket.destroy());
  });
  upstream.on('error', (error) => {
    if (!answered && !socket.destroyed) context.refuse(failureOf(error));
  });
  socket.once('close', () => upstream.destroy());
  upstream.end();
}

/** Passes bytes both ways, each direction ended on its own; an error of either side ends both. */
export function joinStreams(socket: Duplex, stream: Duplex, head: Buffer): void {
  if (head.length > 0) stream.write(head);
  const ended = (error: NodeJS.ErrnoException | null) => {
    if (!error) return;
    socket.destroy();
    stream.destroy();
  };
  pipe(socket, stream, ended);
  pipe(stream, socket, ended);
}
