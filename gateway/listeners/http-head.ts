import type { ProxyFailure } from '../errors.js';

/** A request head as it was sent: names keep their case, values their inner blanks, all in order. */
export interface HttpHead {
  method: string;
  target: string;
  /** 0 for HTTP/1.0, 1 for HTTP/1.1. */
  minorVersion: 0 | 1;
  /** Name, value, name, value…, bytes read as Latin-1. */
  rawHeaders: string[];
}

export type HttpHeadOutcome = { ok: true; head: HttpHead; bytes: number } | ProxyFailure;

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const TARGET = /^[\x21-\x7e]+$/;
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const CR = 13;
const LF = 10;

/**
 * Reads one HTTP/1.x request head out of bytes that arrive in any pieces. Stricter than RFC 9112 allows a recipient
 * to be: whatever two readers could understand differently is refused, since that is how requests are smuggled.
 */
export class HttpHeadParser {
  readonly #bytesMax: number;
  #scanned = 0;
  #lineStart = 0;
  /** Where the request line starts, past empty lines before it (RFC 9112 section 2.2). */
  #start = 0;

  /** `bytesMax`: a head longer than this is refused. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /**
   * `bytes` is everything received so far, so each call's begins with the last call's. Null: not complete yet.
   * Otherwise the head and its length in bytes with the empty line, or BAD_PARAM with the bad part as detail.
   */
  parse(bytes: Buffer): HttpHeadOutcome | null {
    const end = Math.min(bytes.length, this.#bytesMax);
    for (let i = this.#scanned; i < end; i++) {
      const byte = bytes[i];
      if (byte === 0) return bad('head');
      if (byte === LF) {
        if (i === 0 || bytes[i - 1] !== CR) return bad('head');
        const emptyLine = this.#lineStart === i - 1;
        this.#lineStart = i + 1;
        if (!emptyLine) continue;
        if (this.#start < i - 1) return parseLines(bytes.toString('latin1', this.#start, i - 1), i + 1);
        this.#start = i + 1;
      } else if (i > 0 && bytes[i - 1] === CR) return bad('head');
    }
    this.#scanned = end;
    return bytes.length >= this.#bytesMax ? bad('head') : null;
  }
}

function parseLines(text: string, bytes: number): HttpHeadOutcome {
  const lines = text.split('\r\n');
  lines.pop();
  const [method, target, version, more] = (lines[0] as string).split(' ');
  if (!method || !TOKEN.test(method)) return bad('method');
  if (!target || !TARGET.test(target)) return bad('target');
  if ((version !== 'HTTP/1.1' && version !== 'HTTP/1.0') || more !== undefined) return bad('version');

  const rawHeaders: string[] = [];
  for (let i = 1; i < lines.length; i++) {
    const line = lines[i] as string;
    const colon = line.indexOf(':');
    const name = line.slice(0, colon);
    // Refuses folded lines (RFC 9112 section 5.2) and a blank before the colon (section 5.1) too.
    if (colon < 0 || !TOKEN.test(name)) return bad('header');
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '');
    if (!FIELD_VALUE.test(value)) return bad(name);
    rawHeaders.push(name, value);
  }
  const head: HttpHead = { method, target, minorVersion: version === 'HTTP/1.1' ? 1 : 0, rawHeaders };
  return checkFraming(head) ?? { ok: true, head, bytes };
}

/** Header names that are errors when they come twice. */
const SINGLE = ['host', 'content-length', 'transfer-encoding', 'proxy-authorization'];

/**
 * Refuses heads whose end of message is open to interpretation (RFC 9112 section 6, RFC 9110 section 7.2): null when
 * sound, else BAD_PARAM with the header's name. Transfer codings other than `chunked` are refused as well.
 */
export function checkFraming(head: HttpHead): ProxyFailure | null {
  const seen = new Map<string, string>();
  for (let i = 0; i < head.rawHeaders.length; i += 2) {
    const name = (head.rawHeaders[i] as string).toLowerCase();
    const value = head.rawHeaders[i + 1] as string;
    if (SINGLE.includes(name) && seen.has(name)) return bad(name);
    if (name === 'connection' || name === 'proxy-connection') {
      // A nomination takes the header out: without these the message would be another one.
      if (value.split(',').some((item) => /^\s*(content-length|host)\s*$/i.test(item))) return bad(name);
    }
    seen.set(name, value);
  }
  const host = seen.get('host');
  if (host === undefined ? head.minorVersion === 1 : !/^[^\s,/?#@\\]*$/.test(host)) return bad('host');

  const contentLength = seen.get('content-length');
  const transferEncoding = seen.get('transfer-encoding');
  if (contentLength !== undefined && !/^[0-9]{1,15}$/.test(contentLength)) return bad('content-length');
  if (transferEncoding !== undefined) {
    if (contentLength !== undefined || head.minorVersion === 0) return bad('transfer-encoding');
    if (transferEncoding.toLowerCase() !== 'chunked') return bad('transfer-encoding');
  }
  if (head.method === 'CONNECT') {
    if (transferEncoding !== undefined) return bad('transfer-encoding');
    if (contentLength !== undefined && Number(contentLength) !== 0) return bad('content-length');
  }
  return null;
}

/** The value of the header, or null; `name` in lower case. */
export function headerValue(rawHeaders: readonly string[], name: string): string | null {
  for (let i = 0; i < rawHeaders.length; i += 2)
    if ((rawHeaders[i] as string).toLowerCase() === name) return rawHeaders[i + 1] as string;
  return null;
}

function bad(detail: string): ProxyFailure {
  return { ok: false, code: 'BAD_PARAM', detail };
}
