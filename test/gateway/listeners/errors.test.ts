import t from 'tap';
import {
  httpRefusal,
  httpRefusalBytes,
  type ProxyErrorCode,
  proxyErrors,
  socksAuthBytes,
  socksReplyBytes,
} from '../../../gateway/errors.js';

/** PROXY.md, "Errors": code, HTTP status, error=, SOCKS5 reply (or login status), Retry-After. */
const contract: Array<[ProxyErrorCode, number, string, { reply: number } | { auth: number }, boolean]> = [
  ['AUTH_FAILED', 407, 'http_request_denied', { auth: 1 }, false],
  ['BAD_PARAM', 400, 'http_request_error', { auth: 4 }, false],
  ['NO_BALANCE', 402, 'http_request_denied', { auth: 2 }, false],
  ['QUOTA_REACHED', 402, 'http_request_denied', { auth: 2 }, false],
  ['ACCOUNT_SUSPENDED', 403, 'http_request_denied', { auth: 3 }, false],
  ['KYC_REQUIRED', 403, 'http_request_denied', { auth: 3 }, false],
  ['TARGET_BLOCKED', 403, 'http_request_denied', { reply: 2 }, false],
  ['PORT_BLOCKED', 403, 'http_request_denied', { reply: 2 }, false],
  ['UDP_NOT_ALLOWED', 403, 'http_request_denied', { reply: 2 }, false],
  ['IP_PROHIBITED', 403, 'destination_ip_prohibited', { reply: 2 }, false],
  ['CONN_LIMIT', 429, 'connection_limit_reached', { reply: 1 }, true],
  ['RATE_LIMIT', 429, 'connection_limit_reached', { reply: 1 }, true],
  ['NO_PEER', 503, 'destination_unavailable', { reply: 3 }, true],
  ['SESSION_LOST', 502, 'connection_terminated', { reply: 6 }, false],
  ['PEER_DROPPED', 502, 'connection_terminated', { reply: 1 }, false],
  ['DNS_FAIL', 502, 'dns_error', { reply: 4 }, false],
  ['REFUSED', 502, 'connection_refused', { reply: 5 }, false],
  ['UNREACHABLE', 502, 'destination_ip_unroutable', { reply: 3 }, false],
  ['CONNECT_TIMEOUT', 504, 'connection_timeout', { reply: 4 }, false],
  ['DRAINING', 503, 'proxy_internal_response', { reply: 1 }, true],
  ['INTERNAL', 500, 'proxy_internal_error', { reply: 1 }, false],
];

t.test('the table is the contract of PROXY.md', async (t) => {
  t.same(Object.keys(proxyErrors).sort(), contract.map(([code]) => code).sort());
  for (const [code, status, error, socks, retryAfter] of contract) {
    const row = proxyErrors[code];
    t.equal(row.httpStatus, status, code);
    t.equal(row.proxyStatusError, error, code);
    if ('auth' in socks) {
      t.equal(row.socksAuthStatus, socks.auth, code);
      t.ok(row.socksReply > 0, `${code} has a reply for when the login was answered already`);
    } else {
      t.equal(row.socksReply, socks.reply, code);
      t.equal(row.socksAuthStatus, null, code);
    }
    t.equal(row.retryAfterSeconds !== null, retryAfter, `${code} Retry-After`);
  }
});

t.test('what the destination itself said is not asked again of another device', async (t) => {
  t.equal(proxyErrors.REFUSED.retryOnAnotherDevice, false);
  t.equal(proxyErrors.IP_PROHIBITED.retryOnAnotherDevice, false);
  t.equal(proxyErrors.SESSION_LOST.retryOnAnotherDevice, false);
  t.equal(proxyErrors.PEER_DROPPED.retryOnAnotherDevice, true);
});

t.test('an HTTP refusal says its code in every place a client may show', async (t) => {
  for (const [code, status, error, , retryAfter] of contract) {
    const text = httpRefusalBytes({ ok: false, code }, 'abc123').toString('latin1');
    const [head, body] = text.split('\r\n\r\n') as [string, string];
    const lines = head.split('\r\n');
    t.equal(lines[0], `HTTP/1.1 ${status} ${code}`);
    t.match(
      head,
      new RegExp(`\\r\\nProxy-Status: traffic-share; error=${error}; details="${code}[^"\\\\]*"\\r\\n`),
    );
    t.match(head, new RegExp(`\\r\\nX-TS-Error: ${code}\\r\\n`));
    t.match(head, /\r\nX-TS-Request-Id: abc123\r\n/);
    t.match(head, /\r\nConnection: close$/);
    t.equal(/\r\nRetry-After: [1-9]\d*\r\n/.test(head), retryAfter, `${code} Retry-After`);
    t.equal(head.includes('\r\nProxy-Authenticate: Basic realm="traffic-share"\r\n'), status === 407);
    t.equal(Number(/Content-Length: (\d+)/.exec(head)?.[1]), Buffer.byteLength(body));
    const json = JSON.parse(body) as Record<string, unknown>;
    t.equal(json.error, code);
    t.equal(json.request_id, 'abc123');
  }
});

t.test('BAD_PARAM names the key, whatever the client made of it', async (t) => {
  t.equal(httpRefusal({ ok: false, code: 'BAD_PARAM', detail: 'country' }, 'x').reason, 'BAD_PARAM country');
  const { reason, headers, body } = httpRefusal(
    { ok: false, code: 'BAD_PARAM', detail: `a"\\\r\nX: y ü${'z'.repeat(300)}` },
    'x',
  );
  t.match(reason, /^BAD_PARAM [A-Za-z0-9_.?-]{1,64}$/);
  for (const value of headers) t.notMatch(value, /[^\x20-\x7e]/);
  t.match(JSON.parse(body), { error: 'BAD_PARAM' });
});

t.test('SOCKS5 answers', async (t) => {
  t.same(socksReplyBytes(5), Buffer.from([5, 5, 0, 1, 0, 0, 0, 0, 0, 0]));
  t.same(socksAuthBytes(2), Buffer.from([1, 2]));
});
