import type { Exit } from './connect-pipeline.js';

/**
 * Which headers of plain HTTP pass through the proxy. Names, their case and their order are kept, for a request that
 * looks unlike the client's own would give away that a proxy forwards it.
 */

/** Meant for one connection only: RFC 9110 section 7.6.1, and the habits older than it. */
const HOP_BY_HOP = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'upgrade',
  'proxy-authorization',
  'proxy-authenticate',
  'proxy-authentication-info',
]);

/** Headers that a trailer must not bring (RFC 9110 section 6.5.1). */
const NEVER_TRAILERS = new Set([
  ...HOP_BY_HOP,
  'content-length',
  'transfer-encoding',
  'host',
  'trailer',
  'authorization',
  'cookie',
  'set-cookie',
]);

/**
 * The headers for the origin. `authority` is the URI's and becomes `Host`. `Connection` (or `Proxy-Connection`, as
 * browsers say to a proxy) stays where it stood, with `keep-alive`, `close` and, with `upgrade`, `Upgrade` left of
 * its items. `chunked` tells that the body is sent chunked, as it came.
 */
export function headersForOrigin(
  rawHeaders: readonly string[],
  authority: string,
  options: { upgrade: boolean; chunked: boolean },
): string[] {
  const nominated = nominatedHeaders(rawHeaders);
  const kept: string[] = [];
  let hostDone = false;
  let connectionDone = false;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const value = rawHeaders[i + 1] as string;
    const lower = name.toLowerCase();
    if (lower === 'host') {
      kept.push(name, authority);
      hostDone = true;
    } else if (lower === 'connection' || lower === 'proxy-connection') {
      if (connectionDone) continue;
      connectionDone = true;
      kept.push('Connection', connectionForOrigin(value, options.upgrade));
    } else if (lower === 'upgrade') {
      if (options.upgrade) kept.push(name, value);
    } else if (lower === 'transfer-encoding' || lower === 'trailer') {
      if (options.chunked) kept.push(name, value);
    } else if (!HOP_BY_HOP.has(lower) && !nominated.has(lower)) kept.push(name, value);
  }
  return hostDone ? kept : ['Host', authority, ...kept];
}

function connectionForOrigin(value: string, upgrade: boolean): string {
  const known = upgrade ? /^(keep-alive|close|upgrade)$/i : /^(keep-alive|close)$/i;
  const items = value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => known.test(item));
  return items.length > 0 ? items.join(', ') : upgrade ? 'Upgrade' : 'keep-alive';
}

/**
 * The origin's headers for the client. `X-TS-…` are the gateway's own words, so an origin's are taken out. `chunked`
 * tells that the client gets the body chunked, as it came.
 */
export function headersForClient(
  rawHeaders: readonly string[],
  options: { upgrade: boolean; chunked: boolean },
): string[] {
  const nominated = nominatedHeaders(rawHeaders);
  const kept: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const lower = name.toLowerCase();
    const passes =
      lower === 'transfer-encoding' || lower === 'trailer'
        ? options.chunked
        : lower === 'connection' || lower === 'upgrade'
          ? options.upgrade
          : !HOP_BY_HOP.has(lower) && !nominated.has(lower) && !lower.startsWith('x-ts-');
    if (passes) kept.push(name, rawHeaders[i + 1] as string);
  }
  return kept;
}

/**
 * The trailers of a message that may pass, as pairs: none that its `Connection` header names, nor the gateway's own
 * `X-TS-…`, which a client could take for ours.
 */
export function passableTrailers(message: {
  rawHeaders: readonly string[];
  rawTrailers: readonly string[];
}): Array<[string, string]> {
  const nominated = nominatedHeaders(message.rawHeaders);
  const kept: Array<[string, string]> = [];
  for (let i = 0; i < message.rawTrailers.length; i += 2) {
    const name = message.rawTrailers[i] as string;
    const lower = name.toLowerCase();
    if (NEVER_TRAILERS.has(lower) || nominated.has(lower) || lower.startsWith('x-ts-')) continue;
    kept.push([name, message.rawTrailers[i + 1] as string]);
  }
  return kept;
}

/** Whether a `Connection` or `Proxy-Connection` header has the item, given in lower case. */
export function connectionHas(rawHeaders: readonly string[], item: string): boolean {
  return nominatedHeaders(rawHeaders).has(item);
}

/** The items of all `Connection` headers in lower case: header names to take out, and options such as `close`. */
function nominatedHeaders(rawHeaders: readonly string[]): Set<string> {
  const items = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!/^(proxy-)?connection$/i.test(rawHeaders[i] as string)) continue;
    for (const item of (rawHeaders[i + 1] as string).split(',')) items.add(item.trim().toLowerCase());
  }
  return items;
}

/** The gateway's own headers of a success, flat; `exit` null where none is known. */
export function successHeaders(exit: Exit | null, requestId: string): string[] {
  const headers: string[] = [];
  if (exit?.session) headers.push('X-TS-Session', exit.session);
  if (exit) headers.push('X-TS-Exit-Country', exit.country, 'X-TS-Exit-Id', exit.id);
  headers.push('X-TS-Request-Id', requestId);
  return headers;
}
