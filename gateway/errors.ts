/** Why a buyer's request got no connection. The codes are a contract with buyers: never renamed, only added to. */
export type ProxyErrorCode =
  | 'AUTH_FAILED'
  | 'BAD_PARAM'
  | 'NO_BALANCE'
  | 'QUOTA_REACHED'
  | 'ACCOUNT_SUSPENDED'
  | 'KYC_REQUIRED'
  | 'TARGET_BLOCKED'
  | 'PORT_BLOCKED'
  | 'UDP_NOT_ALLOWED'
  | 'IP_PROHIBITED'
  | 'CONN_LIMIT'
  | 'RATE_LIMIT'
  | 'NO_PEER'
  | 'SESSION_LOST'
  | 'PEER_DROPPED'
  | 'DNS_FAIL'
  | 'REFUSED'
  | 'UNREACHABLE'
  | 'CONNECT_TIMEOUT'
  | 'DRAINING'
  | 'INTERNAL';

/** A refusal as every stage returns it. None is billed. */
export interface ProxyFailure {
  ok: false;
  code: ProxyErrorCode;
  /** BAD_PARAM: the key or part of the request that is wrong. May hold what the client sent; never a secret. */
  detail?: string;
  /** When it is known better than the table says: `Retry-After`, at least 1. */
  retryAfterSeconds?: number;
  /**
   * Told to nobody: no (further) device of this process will do, one of another may. `devicesLeft`: how many may still be
   * dialled for the request; `worker`, `gateway`: who has the device it is bound to, where that is known.
   */
  elsewhere?: { devicesLeft: number; worker: number | null; gateway?: string | null };
}

/** What one code means to each side. */
export interface ProxyErrorRow {
  /** Status of the HTTP answer; its reason phrase is the code. */
  httpStatus: number;
  /** Error type of `Proxy-Status`, RFC 9209 section 2.3. */
  proxyStatusError: string;
  /** REP of the SOCKS5 reply, RFC 1928 section 6. */
  socksReply: number;
  /** STATUS of the SOCKS5 login answer, RFC 1929; null: told in the reply to the request instead. */
  socksAuthStatus: number | null;
  /** Whether the gateway tries another device before the buyer hears of it. */
  retryOnAnotherDevice: boolean;
  /** Seconds of `Retry-After`; null: no such header. */
  retryAfterSeconds: number | null;
  fault: 'buyer' | 'destination' | 'device' | 'platform';
  /** For people; clients go by the code. */
  text: string;
}

/** SOCKS5 replies, RFC 1928 section 6. */
export const SOCKS_REPLY = {
  succeeded: 0,
  generalFailure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const;

type Fault = ProxyErrorRow['fault'];

function row(
  httpStatus: number,
  proxyStatusError: string,
  socksReply: number,
  fault: Fault,
  text: string,
  more: Partial<Pick<ProxyErrorRow, 'socksAuthStatus' | 'retryOnAnotherDevice' | 'retryAfterSeconds'>> = {},
): ProxyErrorRow {
  return {
    httpStatus,
    proxyStatusError,
    socksReply,
    socksAuthStatus: null,
    retryOnAnotherDevice: false,
    retryAfterSeconds: null,
    fault,
    text,
    ...more,
  };
}

const DENIED = 'http_request_denied';
const { generalFailure, notAllowed, networkUnreachable, hostUnreachable, refused, ttlExpired } = SOCKS_REPLY;

/**
 * The one table of refusals. The codes with a login status still have a reply, for when the refusal comes after
 * the login was answered.
 */
export const proxyErrors: Readonly<Record<ProxyErrorCode, ProxyErrorRow>> = {
  AUTH_FAILED: row(407, DENIED, notAllowed, 'buyer', 'Unknown account or wrong password.', {
    socksAuthStatus: 1,
  }),
  BAD_PARAM: row(400, 'http_request_error', generalFailure, 'buyer', 'The request is not understood.', {
    socksAuthStatus: 4,
  }),
  NO_BALANCE: row(402, DENIED, notAllowed, 'buyer', 'The balance is used up.', { socksAuthStatus: 2 }),
  QUOTA_REACHED: row(402, DENIED, notAllowed, 'buyer', 'The traffic quota is used up.', {
    socksAuthStatus: 2,
  }),
  ACCOUNT_SUSPENDED: row(403, DENIED, notAllowed, 'buyer', 'The account is suspended.', {
    socksAuthStatus: 3,
  }),
  KYC_REQUIRED: row(403, DENIED, notAllowed, 'buyer', 'The account is not verified yet.', {
    socksAuthStatus: 3,
  }),
  TARGET_BLOCKED: row(403, DENIED, notAllowed, 'buyer', 'This destination is not allowed.'),
  PORT_BLOCKED: row(403, DENIED, notAllowed, 'buyer', 'This destination port is not allowed.'),
  UDP_NOT_ALLOWED: row(403, DENIED, notAllowed, 'buyer', 'UDP is not enabled for this account.'),
  IP_PROHIBITED: row(
    403,
    'destination_ip_prohibited',
    notAllowed,
    'buyer',
    'The destination is not a public address.',
  ),
  CONN_LIMIT: row(
    429,
    'connection_limit_reached',
    generalFailure,
    'buyer',
    'Too many connections are open.',
    { retryAfterSeconds: 1 },
  ),
  RATE_LIMIT: row(429, 'connection_limit_reached', generalFailure, 'buyer', 'Too many new connections.', {
    retryAfterSeconds: 1,
  }),
  NO_PEER: row(
    503,
    'destination_unavailable',
    networkUnreachable,
    'platform',
    'No device matches the request now.',
    { retryAfterSeconds: 5 },
  ),
  SESSION_LOST: row(
    502,
    'connection_terminated',
    ttlExpired,
    'device',
    'The exit of this strict session is gone.',
  ),
  PEER_DROPPED: row(502, 'connection_terminated', generalFailure, 'device', 'The device went away.', {
    retryOnAnotherDevice: true,
  }),
  DNS_FAIL: row(502, 'dns_error', hostUnreachable, 'destination', 'The destination name does not resolve.', {
    retryOnAnotherDevice: true,
  }),
  REFUSED: row(502, 'connection_refused', refused, 'destination', 'The destination refused the connection.'),
  UNREACHABLE: row(
    502,
    'destination_ip_unroutable',
    networkUnreachable,
    'destination',
    'The destination is unreachable.',
    { retryOnAnotherDevice: true },
  ),
  CONNECT_TIMEOUT: row(
    504,
    'connection_timeout',
    hostUnreachable,
    'destination',
    'The destination did not answer in time.',
    { retryOnAnotherDevice: true },
  ),
  DRAINING: row(
    503,
    'proxy_internal_response',
    generalFailure,
    'platform',
    'This gateway takes no new connections now.',
    { retryAfterSeconds: 1 },
  ),
  INTERNAL: row(500, 'proxy_internal_error', generalFailure, 'platform', 'The gateway failed.'),
};

/** An HTTP refusal, whichever way it is written to the client. */
export interface HttpRefusal {
  status: number;
  reason: string;
  /** Flat names and values, `Content-Length` included, `Connection` not. */
  headers: string[];
  body: string;
}

/**
 * The HTTP answer to a refusal: reason phrase, `Proxy-Status` (RFC 9209), `X-TS-Error`, `X-TS-Request-Id` and a
 * small JSON body, since most clients show only one of them.
 */
export function httpRefusal(failure: ProxyFailure, requestId: string): HttpRefusal {
  const row = proxyErrors[failure.code];
  const detail = failure.detail === undefined ? null : printableDetail(failure.detail);
  const reason = failure.code === 'BAD_PARAM' && detail ? `${failure.code} ${detail}` : failure.code;
  const body = `${JSON.stringify({
    error: failure.code,
    ...(detail === null ? {} : { detail }),
    message: row.text,
    request_id: requestId,
  })}\n`;
  const details = detail ? `${failure.code} ${detail}` : failure.code;
  const headers = [
    'Proxy-Status',
    `traffic-share; error=${row.proxyStatusError}; details="${details}: ${row.text}"`,
    'X-TS-Error',
    failure.code,
    'X-TS-Request-Id',
    requestId,
  ];
  const retryAfterSeconds = failure.retryAfterSeconds ?? row.retryAfterSeconds;
  if (retryAfterSeconds !== null) headers.push('Retry-After', String(retryAfterSeconds));
  if (row.httpStatus === 407) headers.push('Proxy-Authenticate', 'Basic realm="traffic-share"');
  headers.push('Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body)));
  return { status: row.httpStatus, reason, headers, body };
}

/** `httpRefusal` as bytes; `keepOpen` says whether the client may send its next request on this connection. */
export function httpRefusalBytes(failure: ProxyFailure, requestId: string, keepOpen = false): Buffer {
  const { status, reason, headers, body } = httpRefusal(failure, requestId);
  let head = `HTTP/1.1 ${status} ${reason}\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return Buffer.from(`${head}Connection: ${keepOpen ? 'keep-alive' : 'close'}\r\n\r\n${body}`, 'latin1');
}

/** A SOCKS5 reply, RFC 1928 section 6; the bound address is not told (all zero), as it would name the device. */
export function socksReplyBytes(reply: number): Buffer {
  return Buffer.from([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
}

/** The answer to a SOCKS5 login, RFC 1929 section 2; 0 is success. */
export function socksAuthBytes(status: number): Buffer {
  return Buffer.from([1, status]);
}

/** What a client sent goes into a status line and a quoted string: only harmless characters, at most 64. */
function printableDetail(detail: string): string {
  return detail.slice(0, 64).replace(/[^A-Za-z0-9_. -]/g, '?');
}
