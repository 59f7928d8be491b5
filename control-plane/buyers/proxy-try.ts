import { type IncomingMessage, request } from 'node:http';
import type { ProxyAddress } from './schemas.js';

/** What the echo page tells of an exit. */
export interface TriedExit {
  exitId: string;
  country: string;
  city: string | null;
  asn: number | null;
  session: string | null;
  bytesLeft: number | null;
}

/** How a try went; `code`: of the proxy's errors, or PROXY_UNREACHABLE when the proxy did not answer as one. */
export type Tried =
  | { ok: true; exit: TriedExit; requestId: string | null; tookMs: number }
  | {
      ok: false;
      code: string;
      detail: string | null;
      status: number | null;
      requestId: string | null;
      tookMs: number;
    };

export interface TryOptions {
  proxy: ProxyAddress;
  username: string;
  password: string;
  /** For the whole of it, ms. */
  timeoutMs: number;
}

/** The proxy's own page, free of charge: nothing else is ever asked for from here. */
const ECHO_HOST = 'echo.traffic-share.internal';
/** The page has some hundred bytes. */
const ANSWER_BYTES_MAX = 16_384;
const CODE = /^[A-Z_]{1,40}$/;
const REQUEST_ID = /^[\w.-]{1,64}$/;

/** Asks the proxy for its echo page, as a client with this login would. Never rejects. */
export async function tryProxy({ proxy, username, password, timeoutMs }: TryOptions): Promise<Tried> {
  const startMs = performance.now();
  const tookMs = () => Math.round(performance.now() - startMs);
  try {
    const { answer, body } = await fetchEcho(proxy, `${username}:${password}`, timeoutMs);
    const status = answer.statusCode ?? null;
    const requestId = headerOf(answer, 'x-ts-request-id', REQUEST_ID);
    const exit = status === 200 ? exitOf(body) : null;
    if (exit !== null) return { ok: true, exit, requestId, tookMs: tookMs() };
    const code = headerOf(answer, 'x-ts-error', CODE);
    if (code !== null)
      return { ok: false, code, detail: detailOf(body), status, requestId, tookMs: tookMs() };
  } catch {
    // As below: there is nothing at the address that answers as the proxy does.
  }
  return {
    ok: false,
    code: 'PROXY_UNREACHABLE',
    detail: null,
    status: null,
    requestId: null,
    tookMs: tookMs(),
  };
}

function fetchEcho(
  { host, port }: ProxyAddress,
  login: string,
  timeoutMs: number,
): Promise<{ answer: IncomingMessage; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({
      host,
      port,
      path: `http://${ECHO_HOST}/`,
      headers: {
        host: ECHO_HOST,
        accept: 'application/json',
        'proxy-authorization': `Basic ${Buffer.from(login).toString('base64')}`,
      },
      agent: false,
      signal: AbortSignal.timeout(timeoutMs),
    });
    asked.on('error', reject);
    asked.on('response', (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (text: string) => {
        body += text;
        if (body.length > ANSWER_BYTES_MAX) answer.destroy(new Error('too long'));
      });
      answer.on('error', reject);
      answer.on('end', () => resolve({ answer, body }));
    });
    asked.end();
  });
}

function headerOf(answer: IncomingMessage, name: string, pattern: RegExp): string | null {
  const value = answer.headers[name];
  return typeof value === 'string' && pattern.test(value) ? value : null;
}

function objectOf(body: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

const textOrNull = (value: unknown) => (typeof value === 'string' ? value : null);
const countOrNull = (value: unknown) => (Number.isSafeInteger(value) ? (value as number) : null);

function exitOf(body: string): TriedExit | null {
  const facts = objectOf(body);
  if (typeof facts?.exit_id !== 'string' || typeof facts.country !== 'string') return null;
  return {
    exitId: facts.exit_id,
    country: facts.country,
    city: textOrNull(facts.city),
    asn: countOrNull(facts.asn),
    session: textOrNull(facts.session),
    bytesLeft: countOrNull(facts.bytes_left),
  };
}

function detailOf(body: string): string | null {
  return textOrNull(objectOf(body)?.detail)?.slice(0, 64) ?? null;
}
