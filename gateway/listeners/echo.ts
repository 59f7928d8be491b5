import { createServer, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Authenticated, ProxyPipeline } from './connect-pipeline.js';
import { newRequestId } from './credentials.js';

/** Answers the echo page: what the gateway knows of the caller's exit, or 404 when it does not offer it. */
export function sendEcho(
  res: ServerResponse,
  answer: Record<string, unknown> | null,
  requestId: string,
): void {
  const body = `${JSON.stringify(answer ?? { error: 'NOT_FOUND', request_id: requestId })}\n`;
  res.writeHead(answer ? 200 : 404, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-TS-Request-Id': requestId,
  });
  res.end(body);
}

/** The echo page for clients that tunnel plain HTTP too: a web server at the gateway's end of the tunnel. */
export class EchoServer {
  readonly #pipeline: ProxyPipeline;
  readonly #server: Server;
  readonly #callers = new WeakMap<Duplex, Authenticated>();

  constructor(pipeline: ProxyPipeline) {
    this.#pipeline = pipeline;
    this.#server = createServer({ keepAliveTimeout: 0 }, (req, res) => {
      const auth = this.#callers.get(req.socket);
      const answer = auth && this.#pipeline.echo ? this.#pipeline.echo(auth) : Promise.resolve(null);
      answer.then(
        (found) => sendEcho(res, found, newRequestId()),
        () => req.socket.destroy(),
      );
    });
  }

  /** Takes a connection over; it is closed `timeoutMs` later at the latest. */
  serve(socket: Duplex, auth: Authenticated, timeoutMs: number): void {
    this.#callers.set(socket, auth);
    socket.on('error', () => {});
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    socket.once('close', () => clearTimeout(timer));
    this.#server.emit('connection', socket);
  }
}
