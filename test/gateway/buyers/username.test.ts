import fc from 'fast-check';
import t from 'tap';
import { parseUsername, type RouteParams } from '../../../gateway/buyers/username.js';

const open: RouteParams = {
  account: 'acme1',
  country: null,
  state: null,
  city: null,
  asn: null,
  isp: null,
  session: null,
  ttlMinutes: 10,
  strict: false,
  fallback: 'none',
  net: 'any',
  packageId: null,
  tag: null,
};

t.test('what a username asks for', async (t) => {
  const uuid = '0b25ac4e-7c5d-4a1e-9f63-1f8d0c3f7a55';
  const cases: Array<[string, Partial<RouteParams>]> = [
    ['acme1', {}],
    ['user-acme1', {}],
    ['customer-acme1-country-us', { country: 'US' }],
    ['acme1-country-De', { country: 'DE' }],
    ['acme1-cc-uk', { country: 'GB' }],
    ['acme1-cr-UK', { country: 'GB' }],
    ['acme1-country-eu', { country: 'EU' }],
    ['acme1-country-any', { country: null }],
    ['acme1-country-us-state-new_york', { country: 'US', state: 'new york' }],
    ['acme1-st-Texas-cc-us', { country: 'US', state: 'Texas' }],
    ['acme1-country-us-region-ca', { country: 'US', state: 'ca' }],
    ['acme1-country-us-city-Los_Angeles', { country: 'US', city: 'Los Angeles' }],
    ['acme1-asn-7922', { asn: 7922 }],
    ['acme1-asn-AS7922', { asn: 7922 }],
    ['acme1-isp-Deutsche_Telekom', { isp: 'Deutsche Telekom' }],
    ['acme1-session-aB3', { session: 'aB3' }],
    ['acme1-sessid-1', { session: '1' }],
    ['acme1-sid-x', { session: 'x' }],
    [`acme1-sessionid-${'s'.repeat(32)}`, { session: 's'.repeat(32) }],
    ['acme1-session-x-ttl-1', { session: 'x', ttlMinutes: 1 }],
    ['acme1-ttl-1440', { ttlMinutes: 1440 }],
    ['acme1-sesstime-30', { ttlMinutes: 30 }],
    ['acme1-sessionduration-30', { ttlMinutes: 30 }],
    ['acme1-lifetime-30', { ttlMinutes: 30 }],
    ['acme1-sessttl-30', { ttlMinutes: 30 }],
    ['acme1-sessionlength-600', { ttlMinutes: 10 }],
    ['acme1-sessionlength-61', { ttlMinutes: 2 }],
    ['acme1-sessionlength-86400', { ttlMinutes: 1440 }],
    ['acme1-strict-1', { strict: true }],
    ['acme1-oneip-1', { strict: true }],
    ['acme1-hardsession-1', { strict: true }],
    ['acme1-strict-0', { strict: false }],
    ['acme1-fallback-country', { fallback: 'country' }],
    ['acme1-fallback-any', { fallback: 'any' }],
    ['acme1-net-mobile', { net: 'mobile' }],
    ['acme1-net-wifi', { net: 'wifi' }],
    [`acme1-package-${uuid.replaceAll('-', '')}`, { packageId: uuid }],
    [`acme1-pkg-${uuid.replaceAll('-', '').toUpperCase()}`, { packageId: uuid }],
    ['acme1-tag-Team_A.1', { tag: 'Team_A.1' }],
    ['acme1-rotate-1', {}],
    // Accounts that look like the vendors' prefixes, and the prefixes before them.
    ['user', { account: 'user' }],
    ['customer', { account: 'customer' }],
    ['user-country-us', { account: 'user', country: 'US' }],
    ['user-user', { account: 'user' }],
    ['user-user-country-us', { account: 'user', country: 'US' }],
    ['customer-user-cc-us-ttl-5', { account: 'user', country: 'US', ttlMinutes: 5 }],
    ['user-session', { account: 'session' }],
  ];
  for (const [username, params] of cases)
    t.same(parseUsername(username), { ok: true, params: { ...open, ...params } }, username);
});

t.test('what is not understood is refused by its key', async (t) => {
  const cases: Array<[string, string]> = [
    ['', 'account'],
    ['abc', 'account'],
    ['Acme1', 'account'],
    ['acme_1', 'account'],
    ['a'.repeat(33), 'account'],
    ['-country-us', 'account'],
    ['user-abc', 'account'],
    ['user--country-us', 'account'],
    ['acme1-', ''],
    ['acme1-country', 'country'],
    ['acme1-country-', 'country'],
    ['acme1-country-usa', 'country'],
    ['acme1-country-xx', 'country'],
    ['acme1-country-us,de', 'country'],
    ['acme1-country-u%73', 'country'],
    ['acme1-cuontry-us', 'cuontry'],
    ['acme1-Country-us', 'Country'],
    ['acme1-constructor-x', 'constructor'],
    ['acme1-__proto__-x', '__proto__'],
    ['acme1-country-us-country-us', 'country'],
    ['acme1-country-us-cc-us', 'cc'],
    ['acme1-country-any-cc-us', 'cc'],
    ['acme1-ttl-5-sessionlength-300', 'sessionlength'],
    ['acme1-rotate-1-rotate-1', 'rotate'],
    ['acme1-state-texas', 'state'],
    ['acme1-country-any-city-paris', 'city'],
    ['acme1-country-eu-city-paris', 'city'],
    ['acme1-asn-0', 'asn'],
    ['acme1-asn-4294967296', 'asn'],
    ['acme1-asn-x1', 'asn'],
    ['acme1-session-a_b', 'session'],
    [`acme1-session-${'s'.repeat(33)}`, 'session'],
    ['acme1-ttl-0', 'ttl'],
    ['acme1-ttl-1441', 'ttl'],
    ['acme1-ttl-1.5', 'ttl'],
    ['acme1-sessionlength-0', 'sessionlength'],
    ['acme1-sessionlength-86401', 'sessionlength'],
    ['acme1-strict-yes', 'strict'],
    ['acme1-fallback-city', 'fallback'],
    ['acme1-net-5g', 'net'],
    ['acme1-package-123', 'package'],
    ['acme1-package-0b25ac4e-7c5d-4a1e-9f63-1f8d0c3f7a55', 'package'],
    [`acme1-tag-${'t'.repeat(65)}`, 'tag'],
    ['user-acme1-country', 'country'],
    ['user-country-us-cc', 'us'], // reads as the account `country` behind a prefix
    [`acme1-tag-${'t'.repeat(250)}`, 'username'],
    [`acme1-tag-${'ü'.repeat(125)}`, 'username'],
  ];
  for (const [username, detail] of cases)
    t.same(parseUsername(username), { ok: false, code: 'BAD_PARAM', detail }, username);
});

const from = (alphabet: string, max: number, min = 1) =>
  fc.string({ unit: fc.constantFrom(...alphabet), minLength: min, maxLength: max });
const lower = 'abcdefghijklmnopqrstuvwxyz0123456789';
const words = `${lower}ABCXYZ_.`;
const anyOf = (...names: string[]) => fc.constantFrom(...names);

/** Key, value as written, the field it sets and what to. */
type Pair = [string, string, Partial<RouteParams>];
const pair = <T>(
  names: string[],
  value: fc.Arbitrary<T>,
  write: (v: T) => string,
  set: (v: T) => Partial<RouteParams>,
) => fc.tuple(anyOf(...names), value).map(([name, v]): Pair => [name, write(v), set(v)]);
const text = (v: string) => v;
const spaced = (v: string) => v.replaceAll('_', ' ');

const optional = fc.tuple(
  ...[
    pair(['asn'], fc.integer({ min: 1, max: 0xffff_ffff }), String, (asn) => ({ asn })),
    pair(['isp'], from(words, 20), text, (isp) => ({ isp: spaced(isp) })),
    pair(['session', 'sessid', 'sid', 'sessionid'], from(`${lower}ABC`, 32), text, (session) => ({
      session,
    })),
    pair(
      ['ttl', 'sesstime', 'sessionduration', 'lifetime', 'sessttl'],
      fc.integer({ min: 1, max: 1440 }),
      String,
      (ttlMinutes) => ({ ttlMinutes }),
    ),
    pair(
      ['strict', 'oneip', 'hardsession'],
      fc.boolean(),
      (v) => (v ? '1' : '0'),
      (strict) => ({ strict }),
    ),
    pair(['fallback'], fc.constantFrom('none', 'country', 'any'), text, (fallback) => ({ fallback })),
    pair(['net'], fc.constantFrom('wifi', 'mobile', 'any'), text, (net) => ({ net })),
    pair(
      ['package', 'pkg'],
      fc.uuid(),
      (v) => v.replaceAll('-', ''),
      (packageId) => ({ packageId }),
    ),
    pair(['tag'], from(words, 20), text, (tag) => ({ tag })),
    pair(['rotate'], from(words, 3), text, () => ({})),
  ].map((one) => fc.option(one)),
);
const place = fc.option(
  fc.tuple(
    pair(['country', 'cc', 'cr'], fc.constantFrom('us', 'DE', 'Fr', 'gb'), text, (v) => ({
      country: v.toUpperCase(),
    })),
    fc.option(pair(['state', 'st', 'region'], from(words, 20), text, (v) => ({ state: spaced(v) }))),
    fc.option(pair(['city'], from(words, 20), text, (v) => ({ city: spaced(v) }))),
  ),
);

t.test('any username of the grammar is read back, in any order of keys', async (t) => {
  const username = fc
    .tuple(anyOf('', 'user-', 'customer-'), from(lower, 32, 4), place, optional, fc.infiniteStream(fc.nat()))
    .map(([prefix, account, where, rest, order]) => {
      const pairs = [...(where ?? []), ...rest].filter((one) => one !== null);
      const shuffled = pairs
        .map((one) => ({ one, at: order.next().value as number }))
        .sort((a, b) => a.at - b.at)
        .map(({ one }) => one);
      const written = prefix + account + shuffled.map(([name, value]) => `-${name}-${value}`).join('');
      return {
        written,
        params: Object.assign({ ...open, account }, ...shuffled.map((one) => one[2])) as RouteParams,
      };
    });
  fc.assert(
    fc.property(username, ({ written, params }) => {
      const parsed = parseUsername(written);
      if (written.length > 255) t.match(parsed, { ok: false, detail: 'username' });
      else if (!parsed.ok || JSON.stringify(parsed.params) !== JSON.stringify(params))
        throw new Error(`${written}: ${JSON.stringify(parsed)} instead of ${JSON.stringify(params)}`);
    }),
    { numRuns: 2_000 },
  );
  t.pass('2000 usernames');
});

t.test('garbage never throws, and what is accepted keeps the limits', async (t) => {
  const pieces = fc.constantFrom(
    ...[
      '-',
      '--',
      'user',
      'acme1',
      'country',
      'us',
      'ttl',
      'session',
      'city',
      '__proto__',
      'ü',
      '\0',
      ':',
      '@',
      '1',
      ' ',
    ],
  );
  const garbage = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.array(pieces, { maxLength: 12 }).map((list) => list.join('')),
    fc.array(pieces, { maxLength: 12 }).map((list) => list.join('-')),
  );
  fc.assert(
    fc.property(garbage, (username) => {
      const parsed = parseUsername(username);
      if (!parsed.ok) return parsed.code === 'BAD_PARAM' && typeof parsed.detail === 'string';
      const { params } = parsed;
      return (
        /^[a-z0-9]{4,32}$/.test(params.account) &&
        params.ttlMinutes >= 1 &&
        params.ttlMinutes <= 1440 &&
        (params.country === null || /^[A-Z]{2}$/.test(params.country)) &&
        (params.country !== null || (params.state === null && params.city === null))
      );
    }),
    { numRuns: 5_000 },
  );
  t.pass('5000 strings');
});
