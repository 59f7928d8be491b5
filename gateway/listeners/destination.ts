import { isIP, SocketAddress } from 'node:net';
import { domainToASCII } from 'node:url';

/** Where a client wants to go, as its protocol named it. */
export interface Destination {
  /** A name in ASCII, or an IP address without brackets. Whether it is allowed is decided behind the listeners. */
  host: string;
  /** 0 to 65535. */
  port: number;
}

/** The name the gateway answers itself, with what it knows of the caller's exit. Never dialled. */
const ECHO_HOST = 'echo.traffic-share.internal';

const ASCII_HOST = /^[A-Za-z0-9._-]{1,255}$/;

/** Whether the host is the echo page's: in any case, with or without the dot of the root. */
export function isEchoHost(host: string): boolean {
  const dots = host.length - ECHO_HOST.length;
  return (dots === 0 || dots === 1) && host.toLowerCase().replace(/\.$/, '') === ECHO_HOST;
}

/**
 * A host as clients write it: an IPv6 address with or without brackets (no zone), an IPv4 address, a name. Names in
 * UTF-8 become ASCII (IDNA). Null when it is none of these.
 */
export function readHost(text: string): string | null {
  const host = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  if (host !== text || host.includes(':')) {
    // One spelling for one address, so that lists behind the listeners can compare.
    return isIP(host) === 6 && !host.includes('%')
      ? new SocketAddress({ address: host, family: 'ipv6' }).address
      : null;
  }
  if (ASCII_HOST.test(host)) return host;
  // Only names beyond ASCII are converted: domainToASCII would also make addresses out of odd spellings.
  if (!/^[A-Za-z0-9._\u0080-\u{10ffff}-]{1,255}$/u.test(host)) return null;
  const ascii = domainToASCII(host);
  // Full-width signs become such as may not be written otherwise.
  return ASCII_HOST.test(ascii) ? ascii : null;
}

/**
 * `host:port`, or `host` when there is a default port (RFC 3986 section 3.2 without userinfo). Null when malformed;
 * `portDefault` null makes the port required, as CONNECT does (RFC 9110 section 9.3.6).
 */
export function readAuthority(authority: string, portDefault: number | null): Destination | null {
  const parts = /^(\[[^\]]*\]|[^:]*)(?::([0-9]{0,5}))?$/.exec(authority);
  if (!parts) return null;
  const host = readHost(parts[1] as string);
  const portText = parts[2];
  const port = portText ? Number(portText) : portDefault;
  if (host === null || port === null || port > 65_535) return null;
  return { host, port };
}

/** What a plain HTTP request of a proxy client names. */
export interface AbsoluteTarget {
  destination: Destination;
  /** The authority as written. */
  authority: string;
  /** Path and query as written; what the origin is asked for. */
  path: string;
}

/**
 * The absolute form of a request target (RFC 9112 section 3.2.2), `http` only: TLS goes through CONNECT. Null when it
 * is none, or when it carries a login (RFC 9110 section 4.2.4).
 */
export function readAbsoluteTarget(target: string, method: string): AbsoluteTarget | null {
  const parts = /^http:\/\/([^/?#]*)([^#]*)$/i.exec(target);
  if (!parts) return null;
  const authority = parts[1] as string;
  const rest = parts[2] as string;
  const destination = readAuthority(authority, 80);
  if (!destination) return null;
  if (rest === '' && method === 'OPTIONS') return { destination, authority, path: '*' };
  return { destination, authority, path: rest.startsWith('/') ? rest : `/${rest}` };
}
