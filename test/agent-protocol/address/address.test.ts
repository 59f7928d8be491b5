import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import t from 'tap';
import {
  type AddressClass,
  classifyAddress,
  type InvalidHost,
  isGlobalUnicast,
  parseHost,
} from '../../../agent-protocol/address.js';

/** First and last address of each block, and the neighbours just outside where those are ordinary. */
const CLASSES: readonly (readonly [AddressClass, readonly string[]])[] = [
  ['unspecified', ['0.0.0.0', '::', '0:0:0:0:0:0:0:0', '::ffff:0.0.0.0']],
  ['this_network', ['0.0.0.1', '0.255.255.255']],
  ['loopback', ['127.0.0.0', '127.0.0.1', '127.255.255.255', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1']],
  ['loopback', ['64:ff9b::127.0.0.1', '64:ff9b::7f00:1']],
  [
    'private',
    ['10.0.0.0', '10.255.255.255', '172.16.0.0', '172.31.255.255', '192.168.0.0', '192.168.255.255'],
  ],
  ['private', ['::ffff:10.1.2.3', '::FFFF:192.168.1.1', '64:ff9b::10.0.0.1', '0:0:0:0:0:ffff:c0a8:101']],
  ['cgnat', ['100.64.0.0', '100.127.255.255', '::ffff:100.64.0.1']],
  ['link_local', ['169.254.0.0', '169.254.255.255', 'fe80::', 'fe80::1', 'febf:ffff::1']],
  ['metadata', ['169.254.169.254', '168.63.129.16', '100.100.100.200', '192.0.0.192', 'fd00:ec2::254']],
  ['metadata', ['::ffff:169.254.169.254', '::ffff:a9fe:a9fe', '64:ff9b::168.63.129.16']],
  ['ietf_protocol', ['192.0.0.0', '192.0.0.9', '192.0.0.170', '192.0.0.255', '2001:1::1', '2001:20::1']],
  ['ietf_protocol', ['2001:1ff:ffff::']],
  ['documentation', ['192.0.2.0', '192.0.2.255', '198.51.100.7', '203.0.113.255', '2001:db8::1']],
  ['documentation', ['2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', '3fff::', '3fff:fff:ffff::1']],
  ['6to4', ['192.88.99.0', '192.88.99.255', '2002::', '2002:7f00:1::', '2002:808:808::1']],
  ['benchmarking', ['198.18.0.0', '198.19.255.255', '2001:2::', '2001:2:0:ffff::']],
  ['multicast', ['224.0.0.0', '239.255.255.255', 'ff00::', 'ff02::1', 'ff0e::1']],
  [
    'reserved',
    ['240.0.0.0', '255.255.255.254', '::ffff:0:8.8.8.8', '64:ff9b:2::1', '200::1', '4000::1', '1fff::1'],
  ],
  ['broadcast', ['255.255.255.255', '::ffff:255.255.255.255']],
  ['unique_local', ['fc00::', 'fdff:ffff::1', 'fd12:3456::1']],
  ['site_local', ['fec0::', 'feff::1']],
  ['ipv4_compatible', ['::2', '::127.0.0.1', '::8.8.8.8', '::ffff:ffff']],
  ['nat64_local', ['64:ff9b:1::', '64:ff9b:1::8.8.8.8', '64:ff9b:1:ffff:ffff:ffff:ffff:ffff']],
  ['teredo', ['2001::', '2001:0:4136:e378:8000:63bf:3fff:fdd2']],
  ['discard', ['100::', '100::ffff:ffff:ffff:ffff']],
  ['segment_routing', ['5f00::', '5f00:ffff::1']],
  ['global', ['1.0.0.0', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0']],
  [
    'global',
    ['126.255.255.255', '128.0.0.0', '169.253.255.255', '169.255.0.0', '172.15.255.255', '172.32.0.0'],
  ],
  [
    'global',
    ['168.63.129.15', '168.63.129.17', '191.255.255.255', '192.0.1.0', '192.0.3.0', '192.88.98.255'],
  ],
  ['global', ['192.167.255.255', '192.169.0.0', '198.17.255.255', '198.20.0.0', '223.255.255.255']],
  ['global', ['2000::', '2001:200::1', '2001:4860:4860::8888', '2003::1', '2606:4700::1111', '3fff:1000::1']],
  [
    'global',
    ['3ffe:ffff::1', '2a00:1450:4001::1', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8', '2001:db7::1', '2001:db9::1'],
  ],
  [
    'invalid',
    ['', 'localhost', '1', '127.1', '0x7f.1', '01.2.3.4', '1.2.3.4.', ' 1.2.3.4', '1.2.3.256', '[::1]'],
  ],
  ['invalid', ['fe80::1%eth0', '::1%1', '1::2::3', '12345::', ':::', '1:2:3:4:5:6:7', '２.2.2.2']],
];

t.test('classes', async (t) => {
  for (const [expected, addresses] of CLASSES)
    for (const address of addresses) {
      t.equal(classifyAddress(address), expected, `${address} is ${expected}`);
      t.equal(isGlobalUnicast(address), expected === 'global');
    }
});

/** The independent judge: bit strings, not tables of numbers. What starts with one of these is never global. */
const NEVER_V4 = [
  '00000000',
  '00001010',
  '0110010001',
  '01111111',
  '1010100111111110',
  '101011000001',
  '110000000000000000000000',
  '110000000000000000000010',
  '110000000101100001100011',
  '1100000010101000',
  '110001100001001',
  '110001100011001101100100',
  '110010110000000001110001',
  '111', // multicast and reserved, broadcast with them
  '10101000001111111000000100010000', // 168.63.129.16
];
const hexBits = (hex: string) =>
  [...hex].map((c) => Number.parseInt(c, 16).toString(2).padStart(4, '0')).join('');
const NEVER_V6 = ['20010db8', '2002', '20010000', '3fff0'].map(hexBits);

function bits(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
}
function mayBeGlobalV4(b: string): boolean {
  return !NEVER_V4.some((prefix) => b.startsWith(prefix));
}
function mayBeGlobalV6(b: string): boolean {
  const inner = [`${'0'.repeat(80)}${'1'.repeat(16)}`, `${hexBits('0064ff9b')}${'0'.repeat(64)}`];
  if (inner.some((prefix) => b.startsWith(prefix))) return mayBeGlobalV4(b.slice(96));
  return b.startsWith('001') && !NEVER_V6.some((prefix) => b.startsWith(prefix));
}
const v6Text = (bytes: readonly number[]) =>
  Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] as number) << 8) | (bytes[2 * i + 1] as number)).toString(16),
  ).join(':');

const byte = fc.oneof(
  fc.integer({ min: 0, max: 255 }),
  fc.constantFrom(0, 1, 10, 63, 64, 100, 127, 128, 168, 169, 172, 192, 198, 203, 224, 240, 254, 255),
);
const v4Bytes = fc.array(byte, { minLength: 4, maxLength: 4 });
const v6Start = fc.constantFrom(
  [],
  [0x20],
  [0x20, 0x01],
  [0x20, 0x01, 0, 0],
  [0x20, 0x01, 0x0d, 0xb8],
  [0x20, 0x02],
  [0x3f, 0xff],
  [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
  [0, 0x64, 0xff, 0x9b, 0, 1],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [0xfd],
  [0xfe],
  [0xff],
);
const v6Bytes = fc
  .tuple(v6Start, fc.array(byte, { minLength: 16, maxLength: 16 }))
  .map(([start, rest]) => [...start, ...rest].slice(0, 16));

t.test('never calls a non-global address global, and every ordinary one is', async (t) => {
  fc.assert(
    fc.property(v4Bytes, (bytes) => {
      const global = isGlobalUnicast(bytes.join('.'));
      // 100.100.100.200 and 192.0.0.192 lie in refused blocks anyway: in IPv4 the judge is exact
      return global === mayBeGlobalV4(bits(bytes));
    }),
    { numRuns: 4000 },
  );
  fc.assert(
    fc.property(v6Bytes, (bytes) => {
      const judged = mayBeGlobalV6(bits(bytes));
      const global = isGlobalUnicast(v6Text(bytes));
      const ietf = bits(bytes).startsWith('00100000000000010000000'); // 2001::/23 is refused whole
      return global === (judged && !ietf);
    }),
    { numRuns: 4000 },
  );
  t.pass('8000 addresses');
});

t.test('parseHost: spellings of an address', async (t) => {
  const same: readonly (readonly [string, string])[] = [
    ['127.0.0.1', '127.0.0.1'],
    ['2130706433', '127.0.0.1'],
    ['0177.0.0.1', '127.0.0.1'],
    ['0x7f.0.0.1', '127.0.0.1'],
    ['0x7f.1', '127.0.0.1'],
    ['0X7F000001', '127.0.0.1'],
    ['017700000001', '127.0.0.1'],
    ['127.1', '127.0.0.1'],
    ['127.0.1', '127.0.0.1'],
    ['127.0.0.1.', '127.0.0.1'],
    ['１２７.０.０.１', '127.0.0.1'],
    ['127。0。0。1', '127.0.0.1'],
    ['①②⑦.0.0.1', '127.0.0.1'],
    ['0', '0.0.0.0'],
    ['0x', '0.0.0.0'],
    ['4294967295', '255.255.255.255'],
    ['0xa9fea9fe', '169.254.169.254'],
    ['10.0x10', '10.0.0.16'],
    ['134744072', '8.8.8.8'],
    ['::1', '::1'],
    ['[::1]', '::1'],
    ['[::FFFF:7F00:1]', '::ffff:7f00:1'],
    ['::ffff:127.0.0.1', '::ffff:7f00:1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2606:4700:0:1:2:3:4:5', '2606:4700:0:1:2:3:4:5'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['1:0:0:0:0:0:0:0', '1::'],
  ];
  for (const [text, address] of same) {
    const parsed = parseHost(text);
    t.match(parsed, { address, class: classifyAddress(address) }, `${text} is ${address}`);
    t.equal(parsed.kind, address.includes(':') ? 'ipv6' : 'ipv4');
  }
});

t.test('parseHost: what is no host', async (t) => {
  const wrong: readonly (readonly [string, InvalidHost])[] = [
    ['', 'empty'],
    ['.', 'empty'],
    ['1.2.3.4.5', 'bad_ipv4'],
    ['256.1.1.1', 'bad_ipv4'],
    ['1.2.3.256', 'bad_ipv4'],
    ['4294967296', 'bad_ipv4'],
    ['127.16777216', 'bad_ipv4'],
    ['08.8.8.8', 'bad_ipv4'],
    ['099', 'bad_ipv4'],
    ['example.1', 'bad_ipv4'],
    ['example.0x7f', 'bad_ipv4'],
    ['1..2', 'bad_ipv4'],
    ['fe80::1%eth0', 'zone_id'],
    ['[fe80::1%25eth0]', 'zone_id'],
    ['[::1', 'bad_ipv6'],
    ['::1]', 'bad_ipv6'],
    ['[127.0.0.1]', 'bad_ipv6'],
    ['1::2::3', 'bad_ipv6'],
    ['example.com:80', 'bad_ipv6'],
    ['127.0.0.1%2e', 'percent_encoding'],
    ['%31%32%37.0.0.1', 'percent_encoding'],
    ['exa mple.com', 'bad_character'],
    ['example.com\n', 'bad_character'],
    ['a\u0000.com', 'bad_character'],
    ['user@example.com', 'bad_character'],
    ['example.com/x', 'bad_character'],
    ['bücher.de/x', 'bad_character'],
    ['bücher.de:80', 'bad_ipv6'],
    ['bücher.de\\x', 'bad_character'],
    ['bücher.de?x', 'bad_character'],
    ['bücher.de#x', 'bad_character'],
    ['bücher.de／x', 'bad_character'],
    ['bücher.de＃x', 'bad_character'],
    ['127.0.0.1／x', 'bad_character'],
    ['bücher.de\ud800', 'bad_character'],
    ['*.example.com', 'bad_character'],
    ['example..com', 'bad_label'],
    ['.example.com', 'bad_label'],
    ['example.com..', 'bad_label'],
    ['-a.example.com', 'bad_label'],
    ['a-.example.com', 'bad_label'],
    [`${'a'.repeat(64)}.com`, 'bad_label'],
    [`${'a.'.repeat(127)}com`, 'too_long'],
    ['a'.repeat(1000), 'too_long'],
  ];
  for (const [text, why] of wrong)
    t.same(parseHost(text), { kind: 'invalid', why }, `${JSON.stringify(text)}`);
});

t.test('parseHost: names', async (t) => {
  const names: readonly (readonly [string, string])[] = [
    ['Example.COM', 'example.com'],
    ['example.com.', 'example.com'],
    ['_dmarc.example.com', '_dmarc.example.com'],
    ['1.2.3.4.example', '1.2.3.4.example'],
    ['bücher.de', 'xn--bcher-kva.de'],
    ['xn--bcher-kva.de', 'xn--bcher-kva.de'],
    ['ｅxample.com', 'example.com'],
    ['0x7f.1.nip.io', '0x7f.1.nip.io'],
    ['notlocalhost.com', 'notlocalhost.com'],
    ['mylocal.net', 'mylocal.net'],
    [`${'a'.repeat(63)}.com`, `${'a'.repeat(63)}.com`],
    [`${'a.'.repeat(125)}com`, `${'a.'.repeat(125)}com`],
  ];
  for (const [text, name] of names) t.same(parseHost(text), { kind: 'name', name }, text);
  const local = [
    'localhost',
    'LocalHost.',
    'a.localhost',
    'loc\u00adalhost',
    'printer.local',
    'metadata.google.internal',
    'nas.home.arpa',
    'router',
    'x.onion',
    'ｌocalhost',
    'db.corp',
    'fritz.lan',
  ];
  for (const text of local) t.equal(parseHost(text).kind, 'local_name', text);
});

t.test('parseHost never throws, agrees with the URL parser on addresses, and is stable', async (t) => {
  const piece = fc.oneof(
    fc.constantFrom(
      '0x7f',
      '0177',
      '1',
      '0',
      '255',
      '256',
      '08',
      '０',
      '。',
      '%31',
      'a',
      '-',
      '_',
      '[',
      ']',
      ':',
      '::',
    ),
    fc.constantFrom('ffff', '0xff', '65535', '4294967295', 'localhost', 'ü', '\u00ad', '.', '.', '.', '.'),
    fc.string({ maxLength: 3 }),
  );
  let addresses = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const text = pieces.join('');
      const parsed = parseHost(text);
      if (parsed.kind === 'ipv4' || parsed.kind === 'ipv6') {
        addresses++;
        const again = parseHost(parsed.address);
        if (again.kind !== parsed.kind || again.address !== parsed.address) return false;
        return parsed.class === classifyAddress(parsed.address);
      }
      // A name must not be an address to anybody who reads URLs
      if (parsed.kind === 'name' || parsed.kind === 'local_name') {
        const url = URL.canParse(`http://${parsed.name}/`)
          ? new URL(`http://${parsed.name}/`).hostname
          : null;
        return url === null || url === parsed.name;
      }
      return true;
    }),
    { numRuns: 6000 },
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(8, 10, 16), (number, radix) => {
      const text = `${radix === 16 ? '0x' : radix === 8 && number > 0 ? '0' : ''}${number.toString(radix)}`;
      const parsed = parseHost(text);
      return parsed.kind === 'ipv4' && parsed.address === new URL(`http://${text}/`).hostname;
    }),
  );
  t.ok(addresses > 50, `${addresses} of the texts were addresses`);
});

t.test('hosts are remembered, not the texts that they were part of', async (t) => {
  const pieces = 300;
  const pieceBytes = 100_000;
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < pieces; i++) {
    const head = Buffer.alloc(pieceBytes, `host-number-${i}.example `).toString('latin1');
    const host = head.slice(0, head.indexOf(' '));
    t.match(parseHost(host), { kind: 'name', name: host });
  }
  collect();
  const grownBytes = process.memoryUsage().heapUsed - before;
  t.ok(grownBytes < (pieces * pieceBytes) / 4, `${grownBytes} bytes`);
});
