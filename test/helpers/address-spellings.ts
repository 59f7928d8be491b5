/**
 * How people try to reach what they must not: the spellings that some resolver, URL parser or C library takes for an
 * address, and text that two readers could understand differently.
 */

type Quad = readonly [number, number, number, number];

/** Addresses of a home and of a data centre's inside. */
const INSIDE: readonly Quad[] = [
  [127, 0, 0, 1],
  [127, 255, 255, 254],
  [0, 0, 0, 0],
  [10, 0, 0, 1],
  [100, 64, 0, 1],
  [169, 254, 169, 254],
  [172, 16, 0, 1],
  [192, 168, 1, 1],
  [224, 0, 0, 251],
  [255, 255, 255, 255],
];

const number = ([a, b, c, d]: Quad) => ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
const hexWord = (high: number, low: number) => ((high << 8) | low).toString(16);
const fullWidth = (text: string) =>
  text.replace(/[0-9]/g, (digit) => String.fromCharCode(0xff10 + Number(digit)));
const circled = (text: string) =>
  text.replace(/[1-9]/g, (digit) => String.fromCharCode(0x2460 + Number(digit) - 1));

/** Every spelling of one IPv4 address by itself. */
export function ipv4Spellings(quad: Quad): string[] {
  const [a, b, c, d] = quad;
  const all = number(quad);
  const dotted = quad.join('.');
  const octal = (part: number) => `0${part.toString(8)}`;
  const hex = (part: number) => `0x${part.toString(16)}`;
  return [
    dotted,
    `${dotted}.`,
    `${all}`,
    `${all}.`,
    `0x${all.toString(16)}`,
    `0X${all.toString(16).toUpperCase()}`,
    `0x${all.toString(16).padStart(20, '0')}`,
    `0${all.toString(8)}`,
    `000000${all.toString(8)}`,
    quad.map(octal).join('.'),
    quad.map((part) => `000${octal(part)}`).join('.'),
    quad.map(hex).join('.'),
    quad.map((part) => `0x0000${part.toString(16)}`).join('.'),
    `${hex(a)}.${b}.${octal(c)}.${d}`,
    `${a}.${octal(b)}.${hex(c)}.${d}`,
    `${a}.${(b << 16) | (c << 8) | d}`,
    `${hex(a)}.${hex((b << 16) | (c << 8) | d)}`,
    `${a}.${b}.${(c << 8) | d}`,
    fullWidth(dotted),
    fullWidth(`${all}`),
    fullWidth(dotted).replaceAll('.', '．'),
    dotted.replaceAll('.', '。'),
    dotted.replaceAll('.', '｡'),
    circled(dotted),
    `${dotted.slice(0, 1)}\u00ad${dotted.slice(1)}`,
    `${a}\u200b.${b}.${c}.${d}`,
  ];
}

/** IPv6 text that a host, a translator or a relay turns into the IPv4 address. */
export function embeddedSpellings(quad: Quad): { mapped: string[]; other: string[] } {
  const [a, b, c, d] = quad;
  const words = `${hexWord(a, b)}:${hexWord(c, d)}`;
  const inverted = `${hexWord(a ^ 255, b ^ 255)}:${hexWord(c ^ 255, d ^ 255)}`;
  const dotted = quad.join('.');
  return {
    mapped: [
      `::ffff:${dotted}`,
      `::FFFF:${dotted}`,
      `::ffff:${words}`,
      `0:0:0:0:0:ffff:${words}`,
      `0000:0000:0000:0000:0000:FFFF:${words.toUpperCase()}`,
      `0:0:0:0:0:ffff:${dotted}`,
      `64:ff9b::${dotted}`,
      `64:ff9b::${words}`,
      `0064:FF9B:0:0:0:0:${words}`,
    ],
    other: [
      `::${dotted}`, // compatible
      `::${words}`,
      `::ffff:0:${dotted}`, // translated, RFC 2765
      `64:ff9b:1::${dotted}`, // a translator of somebody's own
      `2002:${words}::`, // 6to4
      `2002:${words}::1`,
      `2001:0:${words}:0:0:0:0`, // Teredo, by its server
      `2001:0:4136:e378:8000:63bf:${inverted}`, // Teredo, the client's own
      `fe80::5efe:${dotted}`, // ISATAP
    ],
  };
}

/** Names of the machine itself or of the network around it. */
const LOCAL_NAMES = [
  'localhost',
  'LOCALHOST',
  'localhost.',
  'a.b.localhost',
  'localhost.localdomain',
  'localhost4.localdomain4',
  'localhost6.localdomain6',
  'ip6-localhost',
  'ip6-loopback',
  'broadcasthost',
  'ｌｏｃａｌｈｏｓｔ',
  'ⓛocalhost',
  'loc\u00adalhost',
  'router',
  'instance-data',
  'metadata',
  'metadata.google.internal',
  'host.docker.internal',
  'gateway.docker.internal',
  'echo2.traffic-share.internal',
  'printer.local',
  'nas.lan',
  'router.home',
  'db.corp',
  'x.intranet',
  'x.private',
  'nas.home.arpa',
  'facebookcorewwwi.onion',
];

/** IPv6 of its own kind. */
const INSIDE_IPV6 = [
  '::',
  '::1',
  '0:0:0:0:0:0:0:1',
  '0000:0000:0000:0000:0000:0000:0000:0001',
  'fe80::1',
  'febf::1',
  'fc00::1',
  'fd00:ec2::254',
  'fec0::1',
  'ff02::1',
  '100::1',
  '2001:db8::1',
  '2001:10::1',
  '3fff::1',
  '5f00::1',
  '4000::1',
];

/** What leads inside, in every spelling: never dialled, wherever it is refused. */
export const PROHIBITED_HOSTS: readonly string[] = [
  ...INSIDE.flatMap((quad) => {
    const { mapped, other } = embeddedSpellings(quad);
    return [...ipv4Spellings(quad), ...mapped, ...other];
  }),
  ...LOCAL_NAMES,
  ...INSIDE_IPV6,
];

/** No host at all, or one to some readers only: nothing a resolver should see. */
export const UNREADABLE_HOSTS: readonly string[] = [
  '.',
  '..',
  '127.0.0.1..',
  '.127.0.0.1',
  '127..0.1',
  '127.0.0.1.1',
  '127.0.0.256',
  '127.0.65536',
  '127.16777216',
  '4294967296',
  '6425673729', // 127.0.0.1 for whoever reads 32 bits of it
  '0x17f000001',
  '040000000000',
  '256.0.0.1',
  '383.0.0.1', // 127 + 256
  '-127.0.0.1',
  '+127.0.0.1',
  '127.0.0.-1',
  '0127.0.0.09',
  '08.8.8.8',
  '0x7g.0.0.1',
  '1.2.3.4.example.0x7f',
  '127.0.0.1%00.example.org',
  '127.0.0.1%2e',
  '%31%32%37.0.0.1',
  '%6c%6f%63alhost',
  '127.0.0.1,example.org',
  '127.0.0.1;example.org',
  '(127.0.0.1)',
  '*.example.org',
  '$HOME',
  '[127.0.0.1]',
  '[::1',
  '::1]',
  '[[::1]]',
  ':::1',
  '::1::',
  '1::2::3',
  '::fffff',
  '::ffff:127.1',
  '::ffff:0x7f000001',
  '::ffff:127.0.0.1.',
  '::ffff:999.0.0.1',
  '::1%lo',
  '::1%25lo',
  'fe80::1%eth0',
  '::ffff:127.0.0.1%1',
  'v1.fe80::a',
  'example..org',
  '-example.org',
  'example-.org',
  'exam\u2024ple\u2025.org',
  'example.org／x',
  'example.org＃x',
  `${'a'.repeat(64)}.example.org`,
];
