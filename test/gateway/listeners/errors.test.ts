import t from 'tap';
import {
  httpRefusal,
  httpRefusalBytes,
  proxyErrors,
  socksAuthBytes,
  socksReplyBytes,
} from '../../../gateway/errors.js';
import { errorContract } from '../error-contract.js';

t.test('the table is the contract of PROXY.md', async (t) => {
  t.same(Object.keys(proxyErrors).sort(), errorContract.map(({ code }) => code).sort());
  for (const { code, status, error, socks, retryAfter, retried } of errorContract) {
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
    t.equal(row.retryOnAnotherDevice, retried, `${code}: tried on another device`);
  }
});

t.test('an HTTP refusal says its code in every place a client may show', async (t) => {
  for (const { code, status, error, retryAfter } of errorContract) {
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
  t.match(reason, /^BAD_PARAM [A-Za-z0-9_.? -]{1,64}$/);
  for (const value of headers) t.notMatch(value, /[^\x20-\x7e]/);
  t.match(JSON.parse(body), { error: 'BAD_PARAM' });
});

t.test('SOCKS5 answers', async (t) => {
  t.same(socksReplyBytes(5), Buffer.from([5, 5, 0, 1, 0, 0, 0, 0, 0, 0]));
  t.same(socksAuthBytes(2), Buffer.from([1, 2]));
});
