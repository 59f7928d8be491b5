import t from 'tap';
import {
  checkDestination,
  compileDestinationPolicy,
  compileDestinationRules,
  type DestinationBuyer,
  parseDevAllow,
} from '../../../gateway/buyers/destination-policy.js';
import type { Restrictions } from '../../../gateway/live/records.js';
import { NEVER_ALLOWED_PORTS } from '../../../gateway/runtime/ports.js';
import { accountSnapshot } from '../live/servers.js';

const none = parseDevAllow([]);
const open = compileDestinationPolicy(null, none);
const buyer = (extraPorts: number[] = [], grantedPorts: number[] = []): DestinationBuyer => ({
  limits: { ...accountSnapshot().limits, extraPorts, grantedPorts },
  rules: [],
});
const outcome = (host: string, port: number, who = buyer(), policy = open) => {
  const decision = checkDestination(host, port, who, policy);
  return decision.ok ? decision.host : decision.code;
};

t.test('hosts in every spelling', async (t) => {
  const table: Array<[host: string, expected: string]> = [
    // fine, in one normal form
    ['example.com', 'example.com'],
    ['EXAMPLE.com.', 'example.com'],
    ['_dmarc.example.com', '_dmarc.example.com'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['8.8.8.8', '8.8.8.8'],
    ['134744072', '8.8.8.8'],
    ['0x8.0x8.2056', '8.8.8.8'],
    ['2001:4860:4860::8888', '2001:4860:4860::8888'],
    ['[2001:4860:4860:0:0:0:0:8888]', '2001:4860:4860::8888'],
    // the provider's own network, and what only means something inside one
    ...(
      [
        '127.0.0.1',
        '127.1',
        '2130706433',
        '0x7f000001',
        '0x7f.1',
        '0177.0.0.1',
        '017700000001',
        '127.0.0.1.',
        '１２７.0.0.1',
        '127。0。0。1',
        '0',
        '0.0.0.0',
        '10.0.0.1',
        '172.16.0.1',
        '172.31.255.255',
        '192.168.1.1',
        '3232235777',
        '100.64.0.1',
        '169.254.169.254',
        '0xa9fea9fe',
        '168.63.129.16',
        '100.100.100.200',
        '192.0.2.1',
        '198.18.0.1',
        '224.0.0.1',
        '255.255.255.255',
        '240.0.0.1',
        '::',
        '::1',
        '[::1]',
        '[0:0:0:0:0:0:0:1]',
        '::ffff:127.0.0.1',
        '::ffff:7f00:1',
        '::ffff:10.0.0.1',
        '::127.0.0.1',
        '::ffff:0:127.0.0.1',
        '64:ff9b::127.0.0.1',
        '64:ff9b::7f00:1',
        '64:ff9b:1::8.8.8.8',
        '2002:7f00:1::',
        '2001:0:4136:e378:8000:63bf:3fff:fdd2',
        'fe80::1',
        'fc00::1',
        'fd00:ec2::254',
        'fec0::1',
        'ff02::1',
        'localhost',
        'LOCALHOST.',
        'foo.localhost',
        'router',
        'nas.local',
        'host.docker.internal',
        'metadata.google.internal',
        'printer.lan',
        'router.home.arpa',
        'hidden.onion',
      ] as const
    ).map((host): [string, string] => [host, 'IP_PROHIBITED']),
    // no host at all
    ...(
      [
        '',
        '.',
        '..',
        'a..b',
        '-a.example',
        'a-.example',
        'exa mple.com',
        'exa\nmple.com',
        'exa\0mple.com',
        'user@example.com',
        'example.com/path',
        'example.com#x',
        'example.com?x',
        'example.com\\x',
        'example.com:80',
        'http://example.com',
        '%31%32%37.0.0.1',
        'fe80::1%eth0',
        '[::1',
        '::1]',
        '256.1.1.1',
        '1.2.3.4.5',
        '08.8.8.8',
        `${'a'.repeat(64)}.example`,
        `${'a.'.repeat(130)}com`,
      ] as const
    ).map((host): [string, string] => [host, 'TARGET_BLOCKED']),
  ];
  for (const [host, expected] of table) t.equal(outcome(host, 443), expected, JSON.stringify(host));
});

t.test('ports', async (t) => {
  for (const port of [80, 443]) t.equal(outcome('example.com', port), 'example.com', `${port}`);
  for (const port of [0, 1, 22, 25, 81, 8080, 8443, 65_535, 65_536, -1, 1.5, Number.NaN])
    t.equal(outcome('example.com', port), 'PORT_BLOCKED', `${port}`);
  t.equal(outcome('example.com', 8443, buyer([8443])), 'example.com');
  t.equal(outcome('8.8.8.8', 8443, buyer([8443])), '8.8.8.8');
  t.equal(outcome('example.com', 8444, buyer([8443])), 'PORT_BLOCKED');
  for (const port of [23, 25, 135, 136, 137, 138, 139, 445, 465, 587, 3389]) {
    t.ok(NEVER_ALLOWED_PORTS.has(port), `${port} is on the list`);
    t.equal(
      outcome('example.com', port, buyer([port])),
      'PORT_BLOCKED',
      `${port} is not the buyer's to open`,
    );
    t.equal(outcome('example.com', port, buyer([], [port])), 'example.com', `${port} granted by an admin`);
  }
  t.equal(outcome('127.0.0.1', 25, buyer([], [25])), 'IP_PROHIBITED', 'a grant opens no private address');
  t.equal(outcome('example.com', 0, buyer([0], [0])), 'PORT_BLOCKED');
});

t.test('ports by UDP', async (t) => {
  const byUdp = (port: number, who = buyer(), policy = open, host = 'example.com') => {
    const decision = checkDestination(host, port, who, policy, 'udp');
    return decision.ok ? decision.host : decision.code;
  };
  for (const port of [53, 443]) t.equal(byUdp(port), 'example.com', `${port}`);
  for (const port of [0, 19, 80, 123, 161, 389, 1900, 3478, 5353, 11211, 65_536])
    t.equal(byUdp(port), 'PORT_BLOCKED', `${port}`);
  t.equal(outcome('example.com', 53), 'PORT_BLOCKED', 'what is open by UDP is not by TCP');
  t.equal(byUdp(3478, buyer([3478])), 'example.com');
  t.equal(byUdp(1900, buyer([1900])), 'PORT_BLOCKED');
  t.equal(byUdp(123, buyer([], [123])), 'example.com');
  t.equal(byUdp(53, buyer(), open, '10.0.0.1'), 'IP_PROHIBITED');
  const denied = compileDestinationPolicy({ deniedDomains: ['.example.com'], deniedIps: ['9.9.9.9'] }, none);
  t.equal(byUdp(53, buyer(), denied), 'TARGET_BLOCKED');
  t.equal(byUdp(53, buyer(), denied, '9.9.9.9'), 'TARGET_BLOCKED');
});

t.test('ports as admins set them', async (t) => {
  const ports = { openTcp: [80, 8443], openUdp: [443, 3478], neverAllowed: [9999, 80] };
  const policy = compileDestinationPolicy({ deniedDomains: [], deniedIps: [], ports }, none);
  const by = (network: 'tcp' | 'udp', port: number, who = buyer()) => {
    const decision = checkDestination('example.com', port, who, policy, network);
    return decision.ok ? 'open' : decision.code;
  };
  t.equal(by('tcp', 8443), 'open');
  t.equal(by('tcp', 443), 'PORT_BLOCKED', 'open by default, and not any more');
  t.equal(by('tcp', 80), 'PORT_BLOCKED', 'what takes a grant is not open');
  t.equal(by('udp', 443), 'open');
  t.equal(by('udp', 3478), 'open');
  t.equal(by('udp', 53), 'PORT_BLOCKED');
  t.equal(by('tcp', 9999, buyer([9999])), 'PORT_BLOCKED', "not the buyer's to open");
  t.equal(by('tcp', 9999, buyer([], [9999])), 'open', 'but granted');
  t.equal(by('tcp', 443, buyer([443])), 'open', 'closed to everybody, and allowed to this buyer');
  t.equal(by('tcp', 25, buyer([25])), 'PORT_BLOCKED', 'what is built in stays');
});

t.test('deny lists', async (t) => {
  const policy = compileDestinationPolicy(
    {
      deniedDomains: [
        'bad.example',
        '.evil.example',
        '*.worse.example',
        'BÜCHER.example',
        '203.0.114.9',
        'no host!',
      ],
      deniedIps: ['9.9.9.0/24', '2620:fe::/48', 'rubbish'],
    },
    none,
  );
  const denied = (host: string) => outcome(host, 443, buyer(), policy);
  for (const host of [
    'bad.example',
    'BAD.example.',
    'evil.example',
    'a.evil.example',
    'a.b.evil.example',
    'worse.example',
    'x.worse.example',
    'xn--bcher-kva.example',
    '9.9.9.9',
    '151587081',
    '64:ff9b::9.9.9.9',
    '::ffff:9.9.9.9',
    '[2620:fe::9]',
    '203.0.114.9',
  ])
    t.equal(denied(host), 'TARGET_BLOCKED', host);
  for (const host of ['a.bad.example', 'notevil.example', 'evil.example.org', '9.9.8.9', '2620:ff::9'])
    t.not(denied(host), 'TARGET_BLOCKED', host);
});

t.test('development exemptions', async (t) => {
  const policy = compileDestinationPolicy(
    { deniedDomains: [], deniedIps: [] },
    parseDevAllow(['127.0.0.1:3000', 'LocalHost:25', '[::1]:8080']),
  );
  const allowed = (host: string, port: number) => outcome(host, port, buyer(), policy);
  t.equal(allowed('127.0.0.1', 3000), '127.0.0.1');
  t.equal(allowed('127.1', 3000), '127.0.0.1', 'in any spelling');
  t.equal(allowed('localhost', 25), 'localhost');
  t.equal(allowed('[0:0::1]', 8080), '::1');
  t.same(checkDestination('127.0.0.1', 3000, buyer(), policy), { ok: true, host: '127.0.0.1', exempt: true });
  for (const [host, port] of [
    ['127.0.0.1', 3001],
    ['127.0.0.2', 3000],
    ['localhost', 3000],
    ['::1', 80],
  ] as const)
    t.equal(allowed(host, port), 'IP_PROHIBITED', `${host} ${port}`);
  for (const bad of ['127.0.0.1', ':80', '127.0.0.1:0', '127.0.0.1:65536', 'a b:80', '::1:80', ''])
    t.throws(() => parseDevAllow([bad]), bad);
});

t.test('a buyer’s own rules and a sub-user’s: both must allow', async (t) => {
  const restricted = (...restrictions: Restrictions[]) => ({
    ...buyer([8080], [25]),
    rules: restrictions.flatMap((each) => compileDestinationRules(each) ?? []),
  });
  t.same(restricted({}, { ports: [], allowedDomains: [], deniedDomains: [] }).rules, [], 'nothing to ask');
  const table: Array<[what: string, rules: Restrictions[], host: string, port: number, expected: string]> = [
    ['allowed', [{ allowedDomains: ['.example.com'] }], 'a.EXAMPLE.com.', 443, 'a.example.com'],
    ['the suffix itself', [{ allowedDomains: ['.example.com'] }], 'example.com', 443, 'example.com'],
    ['not its look-alike', [{ allowedDomains: ['.example.com'] }], 'badexample.com', 443, 'TARGET_BLOCKED'],
    [
      'a name, not what is below',
      [{ allowedDomains: ['example.com'] }],
      'a.example.com',
      443,
      'TARGET_BLOCKED',
    ],
    [
      'punycode for Unicode',
      [{ allowedDomains: ['BÜCHER.example'] }],
      'xn--bcher-kva.example',
      443,
      'xn--bcher-kva.example',
    ],
    [
      'Unicode for punycode',
      [{ allowedDomains: ['xn--bcher-kva.example'] }],
      'bücher.example',
      443,
      'xn--bcher-kva.example',
    ],
    ['an address beside names', [{ allowedDomains: ['example.com'] }], '8.8.8.8', 443, 'TARGET_BLOCKED'],
    ['in a network', [{ allowedDomains: ['8.8.0.0/16'] }], '0x8.8.2056', 443, '8.8.8.8'],
    ['mapped, in a network', [{ deniedDomains: ['8.8.0.0/16'] }], '::ffff:8.8.8.8', 443, 'TARGET_BLOCKED'],
    [
      'IPv6 network',
      [{ allowedDomains: ['2001:4860::/32'] }],
      '[2001:4860:4860::8888]',
      443,
      '2001:4860:4860::8888',
    ],
    [
      'denied within allowed',
      [{ allowedDomains: ['.example.com'], deniedDomains: ['x.example.com'] }],
      'x.example.com',
      443,
      'TARGET_BLOCKED',
    ],
    ['denied to the sub-user', [{}, { deniedDomains: ['.com'] }], 'example.com', 443, 'TARGET_BLOCKED'],
    [
      'denied to the buyer',
      [{ deniedDomains: ['.com'] }, { allowedDomains: ['example.com'] }],
      'example.com',
      443,
      'TARGET_BLOCKED',
    ],
    [
      'allowed by one list only',
      [{ allowedDomains: ['.com'] }, { allowedDomains: ['.org'] }],
      'example.com',
      443,
      'TARGET_BLOCKED',
    ],
    [
      'allowed by both',
      [{ allowedDomains: ['.com'] }, { allowedDomains: ['example.com'] }],
      'example.com',
      443,
      'example.com',
    ],
    ['a port of the list', [{ ports: [443, 8080] }], 'example.com', 8080, 'example.com'],
    ['a port that is not on it', [{ ports: [443, 8080] }], 'example.com', 80, 'PORT_BLOCKED'],
    ['granted, but not on it', [{ ports: [443] }], 'example.com', 25, 'PORT_BLOCKED'],
    ['on it, but not open', [{ ports: [8443] }], 'example.com', 8443, 'PORT_BLOCKED'],
    ['ports of both', [{ ports: [80, 443] }, { ports: [443] }], 'example.com', 80, 'PORT_BLOCKED'],
    ['private all the same', [{ allowedDomains: ['10.0.0.0/8'] }], '10.0.0.1', 443, 'IP_PROHIBITED'],
  ];
  for (const [what, rules, host, port, expected] of table)
    t.equal(outcome(host, port, restricted(...rules)), expected, what);
  const exempting = compileDestinationPolicy(null, parseDevAllow(['127.0.0.1:3000']));
  t.equal(outcome('127.0.0.1', 3000, restricted({ ports: [80] }), exempting), 'PORT_BLOCKED');
  t.equal(outcome('127.0.0.1', 3000, restricted({ allowedDomains: ['127.0.0.1'] }), exempting), '127.0.0.1');
});
