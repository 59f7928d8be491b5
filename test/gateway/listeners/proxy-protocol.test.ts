import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import {
  PROXY_HEADER_BYTES_MAX,
  type ProxyHeader,
  readProxyHeader,
} from '../../../gateway/listeners/proxy-protocol.js';
import { type Log, silentLog } from '../../../gateway/runtime/logging.js';
import { stopwatch } from '../../helpers/stopwatch.js';
import {
  basic,
  certificate,
  eventually,
  SOCKS_SUCCESS,
  socksRequest,
  startEchoServer,
  startListener,
  TestClient,
} from './fake-pipeline.js';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

function v2(command: number, family: number, payload: Buffer | number[], lengthBytes?: number): Buffer {
  const rest = Buffer.from(payload);
  const length = lengthBytes ?? rest.length;
  return Buffer.concat([SIGNATURE, Buffer.from([command, family, length >> 8, length & 255]), rest]);
}

const ports = [0x30, 0x39, 0x01, 0xbb];
const inet = [192, 0, 2, 7, 198, 51, 100, 1, ...ports];
const inet6 = [...Buffer.from('20010db8000000000000000000000007', 'hex'), ...Buffer.alloc(16, 1), ...ports];
/** PP2_TYPE_AUTHORITY and a noop. */
const tlvs = [0x02, 0, 4, ...Buffer.from('host'), 0x04, 0, 3, 0, 0, 0];

/** Name, bytes, the client's address. */
const good: Array<[string, Buffer | string, string | null]> = [
  ['v1 TCP4', 'PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n', '192.0.2.7'],
  ['v1 TCP6', 'PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n', '2001:db8::7'],
  ['v1 UNKNOWN', 'PROXY UNKNOWN\r\n', null],
  [
    'v1 UNKNOWN, the longest line',
    'PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535'.padEnd(105, 'x').concat('\r\n'),
    null,
  ],
  ['v2 TCP over IPv4', v2(0x21, 0x11, inet), '192.0.2.7'],
  ['v2 TCP over IPv4 with TLVs', v2(0x21, 0x11, [...inet, ...tlvs]), '192.0.2.7'],
  ['v2 TCP over IPv6', v2(0x21, 0x21, [...inet6, ...tlvs]), '2001:db8:0:0:0:0:0:7'],
  ['v2 LOCAL, empty', v2(0x20, 0, []), null],
  ['v2 LOCAL with addresses that mean nothing', v2(0x20, 0x11, inet), null],
  ['v2 LOCAL with a family nobody knows', v2(0x20, 0xf3, [1, 2, 3]), null],
  ['v2 unspecified', v2(0x21, 0, tlvs), null],
  ['v2 Unix socket', v2(0x21, 0x31, Buffer.alloc(216, 'a')), null],
  [
    'v2, as long as is read',
    v2(0x21, 0x11, [...inet, ...Buffer.alloc(PROXY_HEADER_BYTES_MAX - 28)]),
    '192.0.2.7',
  ],
];

const bad: Array<[string, Buffer | string]> = [
  ['HTTP', 'GET / HTTP/1.1\r\n'],
  ['SOCKS5', Buffer.from([5, 1, 2])],
  ['lower case', 'proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n'],
  ['v1 other protocol', 'PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n'],
  ['v1 nothing', 'PROXY \r\n'],
  ['v1 without ports', 'PROXY TCP4 192.0.2.7 198.51.100.1\r\n'],
  ['v1 more', 'PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n'],
  ['v1 two blanks', 'PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n'],
  ['v1 IPv6 as TCP4', 'PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n'],
  ['v1 IPv4 as TCP6', 'PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n'],
  ['v1 zone', 'PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n'],
  ['v1 octal', 'PROXY TCP4 192.000.002.007 198.51.100.1 1 2\r\n'],
  ['v1 port too high', 'PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n'],
  ['v1 port with zero in front', 'PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n'],
  ['v1 line feed only', `PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n${'x'.repeat(80)}`],
  ['v1 too long', `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`],
  ['v2 version', v2(0x11, 0x11, inet)],
  ['v2 command', v2(0x22, 0x11, inet)],
  ['v2 family', v2(0x21, 0x41, inet)],
  ['v2 datagrams', v2(0x21, 0x12, inet)],
  ['v2 transport unknown', v2(0x21, 0x10, inet)],
  ['v2 shorter than its addresses', v2(0x21, 0x11, inet.slice(0, 11))],
  ['v2 too long', v2(0x21, 0x11, inet, PROXY_HEADER_BYTES_MAX - 15)],
  ['v2 signature broken at the end', Buffer.concat([SIGNATURE.subarray(0, 11), Buffer.from('x')])],
];

/** Reads a header that comes in these pieces; what it is and how many bytes it took. */
function readInPieces(pieces: readonly Buffer[]): { value: ProxyHeader; bytes: number } | null {
  let unread = Buffer.alloc(0);
  for (const piece of pieces) {
    unread = Buffer.concat([unread, piece]);
    const reading = unread.length > 0 ? readProxyHeader(unread) : null;
    if (reading) return reading;
  }
  return null;
}

t.test('good headers, at once, cut anywhere and byte by byte, with bytes behind them', async (t) => {
  for (const [name, text, clientAddress] of good) {
    const header = Buffer.from(text);
    const expected = { value: { ok: true, clientAddress }, bytes: header.length };
    const all = Buffer.concat([header, Buffer.from('PROXY more')]);
    t.same(readProxyHeader(all), expected, name);
    const failed: number[] = [];
    for (let cut = 1; cut < header.length; cut++) {
      const early = readProxyHeader(all.subarray(0, cut));
      if (early !== null || readInPieces([all.subarray(0, cut), all.subarray(cut)])?.bytes !== header.length)
        failed.push(cut);
    }
    t.same(failed, [], `${name}: every cut`);
    t.same(readInPieces([...all].map((byte) => Buffer.from([byte]))), expected, `${name}: byte by byte`);
  }
});

t.test('property: any pieces give what the whole gives', async (t) => {
  const anyHeader = fc.constantFrom(...good, ...bad).map(([, text]) => Buffer.from(text));
  const anyBytes = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(anyHeader, anyBytes, fc.array(fc.nat(5_000), { maxLength: 8 }), (header, after, cuts) => {
      const all = Buffer.concat([header, after]);
      const at = [0, ...cuts.map((cut) => cut % all.length).sort((a, b) => a - b), all.length];
      const pieces = at.slice(1).map((end, i) => all.subarray(at[i], end));
      const whole = readProxyHeader(all);
      const cut = readInPieces(pieces);
      // What is refused may be refused before all of it came.
      return whole?.value.ok === false || cut?.value.ok === false
        ? JSON.stringify(whole?.value) === JSON.stringify(cut?.value)
        : JSON.stringify(whole) === JSON.stringify(cut);
    }),
    { numRuns: 3_000 },
  );
  t.pass('3 000 histories');
});

t.test('bad headers are bad, and no byte later than it can be known', async (t) => {
  for (const [name, text] of bad) {
    const reading = readProxyHeader(Buffer.from(text));
    t.equal(reading?.value.ok, false, name);
  }
  t.equal(readProxyHeader(Buffer.from('G'))?.value.ok, false, 'the first byte');
  t.equal(readProxyHeader(SIGNATURE), null);
  t.equal(readProxyHeader(v2(0x31, 0, []).subarray(0, 13))?.value.ok, false, 'the version');
  t.equal(readProxyHeader(v2(0x21, 0x11, [], 60_000))?.value.ok, false, 'the length, before its bytes come');
});

const balanced = { settings: { proxyProtocolFrom: ['127.0.0.2', '::1/128'] } };
const HEADER = 'PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n';
const CONNECT = (port: number) =>
  `CONNECT a.test:${port} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: ${basic()}\r\n\r\n`;

/** A client that comes from another address of this machine. */
function from(t: Test, port: number, localAddress: string): Promise<TestClient> {
  return TestClient.connect(t, port, localAddress);
}

t.test("from a balancer: the announced address is the client's, in the clear and ahead of TLS", async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t, { ...balanced, certificate: () => certificate });
  for (const [name, text, clientAddress] of good) {
    const client = await from(t, port, '127.0.0.2');
    client.send(Buffer.concat([Buffer.from(text), socksRequest('a.test', destinationPort)]));
    t.same(await client.bytes(SOCKS_SUCCESS.length), SOCKS_SUCCESS, name);
    const seen = clientAddress === '2001:db8:0:0:0:0:0:7' ? '2001:db8::7' : (clientAddress ?? '127.0.0.2');
    t.equal(pipeline.logins.at(-1)?.clientAddress, seen, name);
  }
  const tcp = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
  t.teardown(() => tcp.destroy());
  await once(tcp, 'connect');
  tcp.write(HEADER);
  const inside = await TestClient.connectTls(t, port, { socket: tcp, servername: 'localhost' });
  inside.send(CONNECT(destinationPort));
  t.match(await inside.match(/\r\n\r\n/), /^HTTP\/1\.1 200 /);
  t.equal(pipeline.logins.at(-1)?.clientAddress, '192.0.2.7');

  const bytewise = await from(t, port, '127.0.0.2');
  for (const byte of Buffer.from(HEADER + CONNECT(destinationPort), 'latin1')) {
    bytewise.send(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.match(await bytewise.match(/\r\n\r\n/), /^HTTP\/1\.1 200 /);
});

t.test('a balancer that sends none, or a bad one, is closed without an answer', async (t) => {
  const warnings: object[] = [];
  const log: Log = { ...silentLog, warn: (fields, event) => warnings.push({ ...fields, event }) };
  const { port, listener, pipeline } = await startListener(t, { ...balanced, log });
  for (const [name, bytes] of bad) {
    const client = await from(t, port, '127.0.0.2');
    client.send(Buffer.from(bytes));
    t.equal((await client.end()).length, 0, name);
  }
  t.equal(listener.counts.proxyHeaderFailures, bad.length);
  t.match(warnings[0], { event: 'proxy_header_refused', balancer: '127.0.0.2', problem: 'no PROXY header' });
  t.equal(pipeline.logins.length, 0);
  await eventually(() => listener.connectionCount === 0);
});

t.test('from anybody else such bytes are never believed', async (t) => {
  const { port, pipeline } = await startListener(t, balanced);
  const lying = await from(t, port, '127.0.0.3');
  lying.send(HEADER + CONNECT(443));
  t.match(await lying.match(/\}\n$/), /^HTTP\/1\.1 400 BAD_PARAM /);
  const binary = await from(t, port, '127.0.0.3');
  binary.send(v2(0x21, 0x11, inet));
  t.match(await binary.match(/\}\n$/), /^HTTP\/1\.1 400 BAD_PARAM /);
  t.equal(pipeline.logins.length, 0);
});

t.test('the header comes within the deadline of the request, which is one for both', async (t) => {
  const { port, listener } = await startListener(t, {
    settings: { ...balanced.settings, handshakeTimeoutMs: 300 },
  });
  const tookMs = stopwatch();
  const silent = await from(t, port, '127.0.0.2');
  const half = await from(t, port, '127.0.0.2');
  half.send('PROXY TCP4 192.0');
  const late = await from(t, port, '127.0.0.2');
  await new Promise((resolve) => setTimeout(resolve, 200));
  late.send(`${HEADER}CONNECT a`);
  await Promise.all([silent.end(), half.end(), late.end()]);
  t.ok(tookMs() < 300 + 190, 'what the header took is not given back');
  t.equal(listener.counts.deadlines, 3);
});

t.test('limits by address are those of the announced one; the balancer has none', async (t) => {
  const { port, listener } = await startListener(t, {
    settings: { ...balanced.settings, strangersSoftMax: 2, strangersHardMax: 2 },
  });
  const announce = async (address: string) => {
    const client = await from(t, port, '127.0.0.2');
    client.send(`PROXY TCP4 ${address} 198.51.100.1 1 2\r\nCONNECT a`);
    return client;
  };
  for (let i = 0; i < 5; i++) await announce(`192.0.2.${i}`);
  await announce('192.0.2.4');
  await eventually(() => listener.strangerCount === 6);
  const third = await announce('192.0.2.4');
  t.equal((await third.end()).length, 0);
  t.equal(listener.counts.droppedEarly, 1);
});
