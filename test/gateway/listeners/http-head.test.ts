import fc from 'fast-check';
import t from 'tap';
import { readBasicCredentials } from '../../../gateway/listeners/credentials.js';
import { readAbsoluteTarget, readAuthority, readHost } from '../../../gateway/listeners/destination.js';
import { HttpHeadParser } from '../../../gateway/listeners/http-head.js';
import { headersForClient, headersForOrigin } from '../../../gateway/listeners/http-headers.js';

const parse = (text: string, bytesMax = 16_384) =>
  new HttpHeadParser(bytesMax).parse(Buffer.from(text, 'latin1'));

t.test('a head is read alike however it is cut', async (t) => {
  const text =
    '\r\nCONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nX-Mixed-Case:  a  b \t\r\nEmpty:\r\n\r\nTLS';
  const expected = {
    ok: true,
    bytes: text.length - 3,
    head: {
      method: 'CONNECT',
      target: 'example.com:443',
      minorVersion: 1,
      rawHeaders: ['Host', 'example.com:443', 'X-Mixed-Case', 'a  b', 'Empty', ''],
    },
  };
  const bytes = Buffer.from(text);
  for (let cut = 1; cut < bytes.length; cut++) {
    const parser = new HttpHeadParser(16_384);
    const first = parser.parse(bytes.subarray(0, cut));
    t.same(first ?? parser.parse(bytes), expected, `cut at ${cut}`);
  }
  const parser = new HttpHeadParser(16_384);
  let outcome = null;
  for (let length = 1; outcome === null; length++) outcome = parser.parse(bytes.subarray(0, length));
  t.same(outcome, expected, 'byte by byte');
});

t.test('what two readers could understand differently is refused', async (t) => {
  const get = 'GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n';
  const cases: Array<[string, string, string]> = [
    ['bare LF', 'GET http://a.test/ HTTP/1.1\nHost: a.test\n\n', 'head'],
    ['bare LF in a header', `${get}A: b\nC: d\r\n\r\n`, 'head'],
    ['bare CR', `${get}A: b\rC: d\r\n\r\n`, 'head'],
    ['NUL', `${get}A: b\0c\r\n\r\n`, 'head'],
    ['control character in a value', `${get}A: b\x01c\r\n\r\n`, 'A'],
    ['blank before the colon', `${get}A : b\r\n\r\n`, 'header'],
    ['no colon', `${get}AB\r\n\r\n`, 'header'],
    ['empty name', `${get}: b\r\n\r\n`, 'header'],
    ['folded line', `${get}A: b\r\n c\r\n\r\n`, 'header'],
    ['fold right after the request line', 'GET http://a.test/ HTTP/1.1\r\n Host: a\r\n\r\n', 'header'],
    ['no Host', 'GET http://a.test/ HTTP/1.1\r\n\r\n', 'host'],
    ['two Hosts', `${get}host: b.test\r\n\r\n`, 'host'],
    ['odd Host', 'GET http://a.test/ HTTP/1.1\r\nHost: a.test/x\r\n\r\n', 'host'],
    [
      'length and chunks',
      `${get}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`,
      'transfer-encoding',
    ],
    ['two lengths', `${get}Content-Length: 5\r\nContent-Length: 5\r\n\r\n`, 'content-length'],
    ['list of lengths', `${get}Content-Length: 5, 5\r\n\r\n`, 'content-length'],
    ['signed length', `${get}Content-Length: +5\r\n\r\n`, 'content-length'],
    ['hex length', `${get}Content-Length: 0x5\r\n\r\n`, 'content-length'],
    ['huge length', `${get}Content-Length: 9999999999999999\r\n\r\n`, 'content-length'],
    ['unknown coding', `${get}Transfer-Encoding: xchunked\r\n\r\n`, 'transfer-encoding'],
    ['list of codings', `${get}Transfer-Encoding: gzip, chunked\r\n\r\n`, 'transfer-encoding'],
    ['two codings', `${get}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n`, 'transfer-encoding'],
    ['vertical tab', `${get}Transfer-Encoding: \x0bchunked\r\n\r\n`, 'Transfer-Encoding'],
    [
      'chunks in HTTP/1.0',
      'POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n',
      'transfer-encoding',
    ],
    ['length nominated away', `${get}Content-Length: 5\r\nConnection: content-length\r\n\r\n`, 'connection'],
    ['Host nominated away', `${get}Connection: close, Host\r\n\r\n`, 'connection'],
    ['two logins', `${get}Proxy-Authorization: a\r\nProxy-Authorization: b\r\n\r\n`, 'proxy-authorization'],
    ['two blanks', 'GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n', 'target'],
    ['tab in the request line', 'GET\thttp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n', 'method'],
    ['more in the request line', 'GET http://a.test/ HTTP/1.1 x\r\nHost: a.test\r\n\r\n', 'version'],
    ['HTTP/0.9', 'GET http://a.test/\r\n\r\n', 'version'],
    ['HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'version'],
    ['HTTP/1.2', 'GET http://a.test/ HTTP/1.2\r\nHost: a.test\r\n\r\n', 'version'],
    ['8-bit target', 'GET http://a.test/\xfc HTTP/1.1\r\nHost: a.test\r\n\r\n', 'target'],
    ['CONNECT with a body', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n', 'content-length'],
    [
      'CONNECT with chunks',
      'CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
      'transfer-encoding',
    ],
  ];
  for (const [what, text, detail] of cases)
    t.same(parse(text), { ok: false, code: 'BAD_PARAM', detail }, what);
});

t.test('a head that is too long is refused before it ends', async (t) => {
  const start = 'GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nA: ';
  t.equal(parse(start, 100), null);
  t.match(parse(start + 'x'.repeat(100), 100), { ok: false, detail: 'head' });
  const fits = `${start}\r\n\r\n`;
  t.match(parse(`${fits}body`, fits.length), { ok: true, bytes: fits.length });
  t.match(parse(fits, fits.length - 1), { ok: false, detail: 'head' });
});

t.test('garbage never throws and never waits past the limit', async (t) => {
  const piece = fc.constantFrom(
    'GET',
    ' ',
    'http://a/',
    'HTTP/1.1',
    '\r\n',
    '\r',
    '\n',
    '\0',
    'Host: a',
    ':',
    'x',
  );
  const garbage = fc.oneof(
    fc.array(piece, { maxLength: 30 }).map((list) => Buffer.from(list.join(''))),
    fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
  );
  fc.assert(
    fc.property(garbage, (bytes) => {
      const outcome = new HttpHeadParser(300).parse(bytes);
      if (outcome === null) return bytes.length < 300;
      return (
        !outcome.ok ||
        (outcome.bytes <= 300 && bytes.subarray(0, outcome.bytes).toString().endsWith('\r\n\r\n'))
      );
    }),
    { numRuns: 3_000 },
  );
  t.pass('3000 inputs');
});

t.test('destinations', async (t) => {
  t.same(readAuthority('example.com:443', null), { host: 'example.com', port: 443 });
  t.same(readAuthority('[2001:DB8:0:0::1]:443', null), { host: '2001:db8::1', port: 443 });
  t.same(readAuthority('1.2.3.4:0', null), { host: '1.2.3.4', port: 0 });
  t.same(readAuthority('example.com', 80), { host: 'example.com', port: 80 });
  t.same(readAuthority('example.com:', 80), { host: 'example.com', port: 80 });
  for (const bad of [
    'example.com',
    'example.com:',
    ':443',
    'a:65536',
    'a:1x',
    'a:-1',
    'a b:1',
    'user@a:1',
    '::1:443',
    '[::1:443',
    '[fe80::1%25eth0]:443',
    '[1.2.3.4]:443',
    '[]:1',
    'a%2eb:1',
    'a/b:1',
  ])
    t.equal(readAuthority(bad, null), null, bad);
  t.equal(readHost('bücher.example'), 'xn--bcher-kva.example');
  t.equal(readHost('a\0b'), null);
  t.equal(readHost('ü b'), null);
  for (const sign of ['＇', '＊', '！', '（', '＄', '；', '＝'])
    t.equal(readHost(`a${sign}.example`), null, `full-width ${sign}`);
  t.equal(readHost(''), null);

  const target = (text: string, method = 'GET') => {
    const read = readAbsoluteTarget(text, method);
    return read && [read.destination.host, read.destination.port, read.authority, read.path];
  };
  t.same(target('http://a.test/x?y=%20#no'), null);
  t.same(target('http://a.test/x//../y?z=%41'), ['a.test', 80, 'a.test', '/x//../y?z=%41']);
  t.same(target('HTTP://A.test:8080'), ['A.test', 8080, 'A.test:8080', '/']);
  t.same(target('http://a.test?q'), ['a.test', 80, 'a.test', '/?q']);
  t.same(target('http://a.test', 'OPTIONS'), ['a.test', 80, 'a.test', '*']);
  t.same(target('http://[::1]:81/'), ['::1', 81, '[::1]:81', '/']);
  for (const bad of [
    'https://a.test/',
    '/x',
    'http:///x',
    'http://u:p@a.test/',
    'ftp://a.test/',
    '*',
    'a.test:80',
  ])
    t.equal(target(bad), null, bad);
});

t.test('logins', async (t) => {
  const encode = (text: string) => Buffer.from(text).toString('base64');
  t.same(readBasicCredentials(`Basic ${encode('a:b:c')}`), { username: 'a', password: 'b:c' });
  t.same(readBasicCredentials(`bAsIc   ${encode('ü:')}`), { username: 'ü', password: null });
  t.same(readBasicCredentials(`Basic ${encode(':x')}`), { username: '', password: 'x' });
  for (const bad of [
    '',
    'Basic',
    `Bearer ${encode('a:b')}`,
    `Basic ${encode('ab')}`,
    'Basic *',
    'Basic /w==',
  ])
    t.equal(readBasicCredentials(bad), null, bad);
});

t.test('headers keep their case and order, hop by hop ones stay behind', async (t) => {
  const raw = [
    ['HOST', 'other.test'],
    ['accept-Language', 'de'],
    ['Proxy-Connection', 'keep-alive, X-Secret'],
    ['X-Secret', '1'],
    ['Proxy-Authorization', 'Basic x'],
    ['TE', 'trailers'],
    ['Keep-Alive', '300'],
    ['Upgrade', 'websocket'],
    ['X-Dup', '1'],
    ['x-dup', '2'],
    ['Trailer', 'X-Sum'],
  ].flat();
  t.same(headersForOrigin(raw, 'a.test:81', { upgrade: false, chunked: false }), [
    'HOST',
    'a.test:81',
    'accept-Language',
    'de',
    'Connection',
    'keep-alive',
    'X-Dup',
    '1',
    'x-dup',
    '2',
  ]);
  t.same(headersForOrigin(['Accept', '*/*'], 'a.test', { upgrade: false, chunked: false }), [
    'Host',
    'a.test',
    'Accept',
    '*/*',
  ]);
  t.same(
    headersForOrigin(['Connection', 'keep-alive, Upgrade', 'Upgrade', 'websocket'], 'a', {
      upgrade: true,
      chunked: false,
    }),
    ['Host', 'a', 'Connection', 'keep-alive, Upgrade', 'Upgrade', 'websocket'],
  );
  t.same(
    headersForClient(
      ['Connection', 'close, X-Hop', 'X-Hop', '1', 'x-ts-error', 'x', 'Set-Cookie', 'a', 'set-cookie', 'b'],
      { upgrade: false, chunked: false },
    ),
    ['Set-Cookie', 'a', 'set-cookie', 'b'],
  );
});
