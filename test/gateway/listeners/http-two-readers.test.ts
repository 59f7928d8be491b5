/**
 * The first head of a connection is read twice, by our parser and then by node:http. Where they understood a head
 * differently, one could be smuggled past the other.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { HttpHeadParser } from '../../../gateway/listeners/http-head.js';
import { proxyListenerDefaults } from '../../../gateway/listeners/proxy-listener.js';

/** A connection that brings these bytes and takes whatever is answered. */
class Bytes extends Duplex {
  constructor(readonly bytes: Buffer) {
    super({ allowHalfOpen: true });
  }
  override _read(): void {
    this.push(this.bytes);
    this.push(null);
  }
  override _write(_chunk: Buffer, _encoding: BufferEncoding, written: () => void): void {
    written();
  }
}

/** What node:http makes of the bytes: its requests, or null when it can not read them. */
async function nodeReads(bytes: Buffer): Promise<IncomingMessage[] | null> {
  const { headBytesMax } = proxyListenerDefaults;
  const server = createServer({ maxHeaderSize: headBytesMax, requireHostHeader: false, keepAliveTimeout: 0 });
  const seen: IncomingMessage[] = [];
  let broken = false;
  for (const event of ['request', 'checkContinue', 'checkExpectation', 'upgrade', 'connect'])
    server.on(event, (req: IncomingMessage) => {
      seen.push(req);
      req.on('error', () => {}); // its body ends early here
      req.resume();
    });
  server.on('clientError', () => {
    broken = true;
  });
  const connection = new Bytes(bytes);
  connection.on('error', () => {});
  server.emit('connection', connection);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  connection.destroy();
  return broken && seen.length === 0 ? null : seen;
}

/** Mostly sound, so that a good part of the heads is taken. */
const mostly = (sound: string[], odd: string[]) =>
  fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...sound) },
    { weight: 1, arbitrary: fc.constantFrom(...odd) },
  );

const header = mostly(
  `Content-Length: 0|content-length:5|Transfer-Encoding: chunked|Transfer-Encoding:\tCHUNKED|Connection: close
Connection: upgrade|Upgrade: websocket|Upgrade: h2c|Trailer: a|Expect: 100-continue|Expect: x|X-Empty:|X-Empty: \t
X:  padded \t|X-High: \xfc\xff|!#$%&'*+-.^_\`~: t|Cookie: a=1; b=2|X-Colon: a:b: c|X-Quote: "a\\"b"|X-List: a,, b`.split(
    /[|\n]/,
  ),
  `Host: b.test|Transfer-Encoding: x|Connection: Content-Length| folded: x|\tfolded|No colon|: no name|Bad name: x
Bad\xfc: x|X: a\x01b|X: a\x7fb|X: a\0b|Content-Length: 6`.split(/[|\n]/),
);
const ending = mostly(['\r\n', '\r\n', '\r\n'], ['\n', '\r', '\r\r\n', '\0\r\n', '\n\r\n']);
const method = mostly(
  ['GET', 'POST', 'PURGE', 'OPTIONS', 'M-SEARCH', 'QUERY'],
  ['get', 'BREW', 'G(T', 'PRI'],
);
const target = mostly(
  ['http://a.test/', 'http://a.test', 'HTTP://A.test:81/x?y#z', '/', '*', 'http://[::1]:80/', 'a.test:80'],
  ['http://a.test/\xfc', 'http://a.test/"<>{}|\\^`', 'http://u:p@a.test/', 'ftp://a/', 'http:///', 'x y'],
);
const version = mostly(
  ['HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0'],
  ['HTTP/1.2', 'HTTP/2.0', 'http/1.1', 'HTTP/01.1'],
);
const host = mostly(['Host: a.test\r\n'], ['', 'Host:\r\n', 'Host : a\r\n', 'HOST:\ta.test:80 \r\n']);
const before = mostly([''], ['\r\n', '\r\n\r\n', '\n', '\r', ' ']);

t.test('what our parser takes, node:http takes for the same, or refuses', async (t) => {
  let agreed = 0;
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(before, method, target, version, host),
      fc.array(fc.tuple(header, ending), { maxLength: 5 }),
      async ([before, method, target, version, host], headers) => {
        const rest = headers.map((parts) => parts.join('')).join('');
        const text = `${before}${method} ${target} ${version}\r\n${host}${rest}\r\n`;
        const bytes = Buffer.from(text, 'latin1');
        const ours = new HttpHeadParser(proxyListenerDefaults.headBytesMax).parse(bytes);
        if (ours === null || !ours.ok) return; // refused, or waited for: node:http never sees it
        const reads = await nodeReads(bytes);
        if (reads === null) {
          refused++;
          return;
        }
        const [req] = reads;
        if (reads.length > 1 || !req) throw new Error(`${reads.length} requests in ${JSON.stringify(text)}`);
        const { head } = ours;
        const same =
          req.method === head.method &&
          req.url === head.target &&
          req.httpVersion === `1.${head.minorVersion}` &&
          JSON.stringify(req.rawHeaders) === JSON.stringify(head.rawHeaders);
        if (!same) throw new Error(`${JSON.stringify(text)} is ${JSON.stringify([req.url, req.rawHeaders])}`);
        agreed++;
      },
    ),
    { numRuns: 3_000 },
  );
  t.ok(agreed > 300, `${agreed} heads were read alike`);
  t.comment(`${refused} were refused by node:http alone`);
});
