import fc from 'fast-check';
import t from 'tap';
import { encodeDatagram } from '../../../agent-protocol/datagram.js';
import { readUdpMessage, UDP_PREFIX_BYTES, udpMessage } from '../../../gateway/listeners/udp-header.js';
import { udpReply, udpRequest } from '../../helpers/socks-udp-client.js';

t.test('what a client writes by the RFC is read; what it is sent reads the same', async (t) => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);
  const name = fc.array(label, { minLength: 2, maxLength: 5 }).map((labels) => `${labels.join('.')}.example`);
  const port = fc.integer({ min: 1, max: 65_535 });
  const data = fc.uint8Array({ maxLength: 1_500 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), name), port, data, (host, port, data) => {
      t.same(readUdpMessage(udpRequest(host, port, data)), { host, port, bytes: data });
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), port, data, (host, port, data) => {
      const normal = readUdpMessage(udpRequest(host, port, data));
      if (typeof normal === 'string') return false;
      const answer = udpReply(udpMessage(encodeDatagram({ host: normal.host, port, bytes: data })));
      const again = readUdpMessage(udpRequest(answer.host, answer.port, answer.data));
      return typeof again !== 'string' && again.host === normal.host && answer.data.equals(data);
    }),
  );
});

t.test('any bytes: never a throw, and nothing of another kind', async (t) => {
  const any = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  /** Bytes that get further than most: right prefix and a known type of address. */
  const close = fc
    .tuple(fc.constantFrom(1, 3, 4), any)
    .map(([type, rest]) => Buffer.concat([Buffer.of(0, 0, 0, type), rest]));
  fc.assert(
    fc.property(fc.oneof(any, close), (message) => {
      const before = Buffer.from(message);
      const read = readUdpMessage(message);
      if (!message.equals(before)) return false;
      if (read === 'malformed') return true;
      if (read === 'fragment') return message[0] === 0 && message[1] === 0 && message[2] !== 0;
      if (message.subarray(0, UDP_PREFIX_BYTES).some((byte) => byte !== 0)) return false;
      if (read.port < 1 || read.port > 65_535 || read.host.length < 1 || read.host.length > 255) return false;
      return message.subarray(message.length - read.bytes.length).equals(read.bytes);
    }),
    { numRuns: 50_000 },
  );
  t.pass();
});

t.test('samples', async (t) => {
  const table: Array<[hex: string, expected: ReturnType<typeof readUdpMessage>]> = [
    ['', 'malformed'],
    ['000000', 'malformed'],
    ['0000000108080808003568', { host: '8.8.8.8', port: 53, bytes: Buffer.from('h') }],
    ['00000001080808080035', { host: '8.8.8.8', port: 53, bytes: Buffer.alloc(0) }],
    ['0000000108080808000068', 'malformed'],
    ['0000010108080808003568', 'fragment'],
    ['0001000108080808003568', 'malformed'],
    ['0000000208080808003568', 'malformed'],
    ['000000030141003568', { host: 'A', port: 53, bytes: Buffer.from('h') }],
    ['00000003056120622e63003568', 'malformed'],
    ['0000000302fffe003568', 'malformed'],
    [
      '0000000420010db8000000000000000000000001003568',
      { host: '2001:db8::1', port: 53, bytes: Buffer.from('h') },
    ],
    [
      '0000000420010db80000000000000000000000010035',
      { host: '2001:db8::1', port: 53, bytes: Buffer.alloc(0) },
    ],
    ['0000000420010db800000000000000000000000100', 'malformed'],
  ];
  for (const [hex, expected] of table) t.same(readUdpMessage(Buffer.from(hex, 'hex')), expected, hex);
});
