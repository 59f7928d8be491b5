import type { ProxyErrorCode } from '../../gateway/errors.js';

/** One row of PROXY.md, "Errors". */
export interface ContractRow {
  code: ProxyErrorCode;
  status: number;
  /** `error=` of `Proxy-Status`. */
  error: string;
  /** How SOCKS5 tells it: the status of the login, or the reply to the request. */
  socks: { auth: number } | { reply: number };
  retryAfter: boolean;
  /** Another device is tried before the buyer hears of it. */
  retried: boolean;
}

type Says = Pick<ContractRow, 'retryAfter' | 'retried'>;

function says(
  code: ProxyErrorCode,
  status: number,
  error: string,
  socks: ContractRow['socks'],
  more: Partial<Says> = {},
): ContractRow {
  return { code, status, error, socks, retryAfter: false, retried: false, ...more };
}

/** The buyers' contract, written down a second time: `gateway/errors.ts` must not drift from it. */
export const errorContract: readonly ContractRow[] = [
  says('AUTH_FAILED', 407, 'http_request_denied', { auth: 1 }),
  says('BAD_PARAM', 400, 'http_request_error', { auth: 4 }),
  says('NO_BALANCE', 402, 'http_request_denied', { auth: 2 }),
  says('QUOTA_REACHED', 402, 'http_request_denied', { auth: 2 }),
  says('ACCOUNT_SUSPENDED', 403, 'http_request_denied', { auth: 3 }),
  says('KYC_REQUIRED', 403, 'http_request_denied', { auth: 3 }),
  says('TARGET_BLOCKED', 403, 'http_request_denied', { reply: 2 }),
  says('PORT_BLOCKED', 403, 'http_request_denied', { reply: 2 }),
  says('UDP_NOT_ALLOWED', 403, 'http_request_denied', { reply: 2 }),
  says('IP_PROHIBITED', 403, 'destination_ip_prohibited', { reply: 2 }),
  says('CONN_LIMIT', 429, 'connection_limit_reached', { reply: 1 }, { retryAfter: true }),
  says('RATE_LIMIT', 429, 'connection_limit_reached', { reply: 1 }, { retryAfter: true }),
  says('NO_PEER', 503, 'destination_unavailable', { reply: 3 }, { retryAfter: true }),
  says('SESSION_LOST', 502, 'connection_terminated', { reply: 6 }),
  says('PEER_DROPPED', 502, 'connection_terminated', { reply: 1 }, { retried: true }),
  says('DNS_FAIL', 502, 'dns_error', { reply: 4 }, { retried: true }),
  says('REFUSED', 502, 'connection_refused', { reply: 5 }),
  says('UNREACHABLE', 502, 'destination_ip_unroutable', { reply: 3 }, { retried: true }),
  says('CONNECT_TIMEOUT', 504, 'connection_timeout', { reply: 4 }, { retried: true }),
  says('DRAINING', 503, 'proxy_internal_response', { reply: 1 }, { retryAfter: true }),
  says('INTERNAL', 500, 'proxy_internal_error', { reply: 1 }),
];

/** The row of a code. */
export function contractOf(code: ProxyErrorCode): ContractRow {
  return errorContract.find((row) => row.code === code) as ContractRow;
}
