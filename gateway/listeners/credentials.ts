import { isAscii } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import type { ProxyFailure } from '../errors.js';

/** What a client logs in with. */
export interface ProxyCredentials {
  username: string;
  /** null: none was given. Clients that have none send an empty one, so empty counts as none. */
  password: string | null;
}

/** A client that sent no login at all: its address may do. */
export const NO_CREDENTIALS: ProxyCredentials = { username: '', password: null };

/**
 * Whether a client that sent no login is to be asked for one: its address opens nothing, or nobody can tell at the
 * moment. Any other failure is of the account that the address stands for.
 */
export function asksForLogin({ code }: ProxyFailure): boolean {
  return code === 'AUTH_FAILED' || code === 'INTERNAL';
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * `Proxy-Authorization: Basic …` (RFC 7617: UTF-8, split at the first colon). Null when it is another scheme or
 * malformed.
 */
export function readBasicCredentials(headerValue: string): ProxyCredentials | null {
  const encoded = /^basic +([A-Za-z0-9+/]*={0,2})$/i.exec(headerValue)?.[1];
  if (encoded === undefined) return null;
  const text = readUtf8(Buffer.from(encoded, 'base64'));
  const colon = text?.indexOf(':') ?? -1;
  if (text === null || colon < 0) return null;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) || null };
}

/** Text of a login field; null when it is not UTF-8. */
export function readUtf8(bytes: Buffer): string | null {
  if (isAscii(bytes)) return bytes.toString('latin1');
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

/** A short random name of one request, told to the buyer and the log. */
export function newRequestId(): string {
  // The last group of a version 4 UUID is random throughout, and node:crypto draws UUIDs in batches.
  return randomUUID().slice(-12);
}
