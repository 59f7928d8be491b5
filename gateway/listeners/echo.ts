import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ProxyFailure } from '../errors.js';
import type { Attempts, Authenticated, EchoAnswer, ProxyPipeline } from './connect-pipeline.js';
import { newRequestId } from './credentials.js';
import { successHeaders } from './http-headers.js';

/** The answer for the login, or why a connection of it would be refused. The page is on port 80 only. */
export async function echo(
  pipeline: Pick<ProxyPipeline, 'echo'>,
  auth: Authenticated,
  port: number,
  attempts?: Attempts,
): Promise<EchoAnswer | ProxyFailure> {
  return port === 80 ? pipeline.echo(auth, attempts) : { ok: false, code: 'PORT_BLOCKED' };
}

/** Answers a request for the echo page: JSON, or HTML for those who would rather have that. */
export function sendEcho(
  req: IncomingMessage,
  res: ServerResponse,
  answer: EchoAnswer,
  requestId: string,
): void {
  const facts = factsOf(answer);
  const html = prefersHtml(req.headers.accept);
  const body = html ? page(facts) : `${JSON.stringify(facts)}\n`;
  res.writeHead(200, [
    'Content-Type',
    html ? 'text/html; charset=utf-8' : 'application/json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Cache-Control',
    'no-store',
    'Vary',
    'Accept',
    ...successHeaders(answer.exit, requestId),
  ]);
  res.end(body);
}

/** Exactly what the page tells. */
function factsOf({ exit, city, asn, bytesLeft }: EchoAnswer) {
  return {
    exit_id: exit.id,
    country: exit.country,
    city,
    asn,
    session: exit.session,
    bytes_left: bytesLeft,
  };
}

const LABELS: Readonly<Record<keyof ReturnType<typeof factsOf>, string>> = {
  exit_id: 'Exit',
  country: 'Country',
  city: 'City',
  asn: 'ASN',
  session: 'Session',
  bytes_left: 'Bytes left',
};

function page(facts: ReturnType<typeof factsOf>): string {
  const rows = Object.entries(facts).map(
    ([key, value]) =>
      `<tr><th>${LABELS[key as keyof typeof LABELS]}<td>${value === null ? '–' : escapeHtml(String(value))}`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Your exit</title>
<style>body{font:16px system-ui;margin:3em}th{text-align:left;padding-right:2em}</style>
<h1>Your exit</h1><table>${rows.join('')}</table></html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Whether `Accept` (RFC 9110 section 12.5.1) puts text/html above application/json. */
export function prefersHtml(accept: string | undefined): boolean {
  if (accept === undefined) return false;
  return qualityOf(accept, 'text', 'html') > qualityOf(accept, 'application', 'json');
}

/** The weight given to a media type by the range that fits it best; 0: none does. */
function qualityOf(accept: string, type: string, subtype: string): number {
  let best = { precision: -1, quality: 0 };
  for (const item of accept.split(',', 32)) {
    const [range = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    const precision = [`*/*`, `${type}/*`, `${type}/${subtype}`].indexOf(range);
    if (precision <= best.precision) continue;
    const weight = parameters.find((parameter) => /^q=/.test(parameter))?.slice(2) ?? '1';
    const quality = /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(weight) ? Number(weight) : 0;
    best = { precision, quality };
  }
  return best.quality;
}

/** The echo page for clients that tunnel plain HTTP too: a web server at the gateway's end of the tunnel. */
export class EchoServer {
  readonly #server: Server;
  readonly #answers = new WeakMap<Duplex, EchoAnswer>();

  constructor() {
    this.#server = createServer({ keepAliveTimeout: 0 }, (req, res) => {
      const answer = this.#answers.get(req.socket);
      if (answer) sendEcho(req, res, answer, newRequestId());
      else req.socket.destroy();
    });
  }

  /**
   * Takes a connection over, on which every request gets this answer: the tunnel's exit stays what it was when it was
   * opened. It is closed `timeoutMs` later at the latest.
   */
  serve(socket: Duplex, answer: EchoAnswer, timeoutMs: number): void {
    this.#answers.set(socket, answer);
    socket.on('error', () => {});
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    socket.once('close', () => clearTimeout(timer));
    this.#server.emit('connection', socket);
  }
}
