import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Log } from '../../../gateway/runtime/logging.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { type AsnTable, loadAsnCsv } from '../../../gateway/runtime/origin/asn-table.js';
import { readLocation } from '../../../gateway/runtime/origin/countries-mmdb.js';
import { findAsnRule, parseAddressRules, parseAsnRules } from '../../../gateway/runtime/origin/deny-lists.js';
import { OriginCheck, type OriginCheckOptions } from '../../../gateway/runtime/origin/origin-check.js';
import { OriginPolicy } from '../../../gateway/runtime/origin/origin-policy.js';
import { placeWords } from '../../../gateway/runtime/origin/place-words.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { mmdb } from '../../helpers/mmdb.js';

const csv = (file: string) => projectPath(`node_modules/@ip-location-db/asn/${file}`);

async function folder(test: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'ts-origin-'));
  test.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function openCheck(test: Test, options: Partial<OriginCheckOptions> = {}): Promise<OriginCheck> {
  const check = await OriginCheck.open({ log: silentLog, ...options });
  test.teardown(() => check.close());
  return check;
}

t.test('the shipped tables know well-known addresses', async (t) => {
  const table: AsnTable = await loadAsnCsv(csv('asn-ipv4-num.csv'), csv('asn-ipv6-num.csv'));
  for (const [address, asn, organisation] of [
    ['8.8.8.8', 15169, /google/i],
    ['1.1.1.1', 13335, /cloudflare/i],
    ['2001:4860:4860::8888', 15169, /google/i],
    ['2606:4700:4700::1111', 13335, /cloudflare/i],
    ['73.0.0.1', 7922, /comcast/i],
  ] as const) {
    const system = table.find(address);
    t.equal(system?.asn, asn, address);
    t.match(system?.organisation, organisation, address);
  }
  for (const nobody of ['10.0.0.1', '0.0.0.0', '255.255.255.255', '::1', 'ffff::', 'not an address'])
    t.equal(table.find(nobody), null, nobody);
});

t.test('ranges are found at their very edges, quoted names are read', async (t) => {
  const dir = await folder(t);
  const v4 = join(dir, 'v4.csv');
  const v6 = join(dir, 'v6.csv');
  await writeFile(
    v4,
    '16777216,16777471,13335,"Cloud ""flare"", Inc."\n16777600,16777600,7,One\n4294967295,4294967295,9,Last',
  );
  const start = (0x2001n << 112n) | 5n;
  await writeFile(v6, `${start},${start + 1n},42,Sixth\n`);
  const table = await loadAsnCsv(v4, v6);
  const find = (address: string) => table.find(address)?.asn ?? null;
  t.equal(find('0.255.255.255'), null);
  t.same(table.find('1.0.0.0'), { asn: 13335, organisation: 'Cloud "flare", Inc.' });
  t.equal(find('1.0.0.255'), 13335);
  t.equal(find('1.0.1.0'), null);
  t.equal(find('1.0.1.128'), 7);
  t.equal(find('1.0.1.129'), null);
  t.equal(find('255.255.255.255'), 9);
  t.equal(find('2001::4'), null);
  t.equal(find('2001::5'), 42);
  t.equal(find('2001::6'), 42);
  t.equal(find('2001::7'), null);

  await writeFile(v6, `${start},${start + 1n},42,Sixth\nbroken\n`);
  await t.rejects(loadAsnCsv(v4, v6), /v6\.csv:2 /, 'a broken table is refused, not half used');
});

t.test('decisions with the shipped tables and lists', async (t) => {
  const check = await openCheck(t);
  for (const [ip, expected] of [
    ['73.0.0.1', { ok: true, country: 'US', asn: 7922 }],
    ['::ffff:73.0.0.1', { ok: true, country: 'US', asn: 7922 }],
    ['::ffff:4900:1', { ok: true, country: 'US', asn: 7922 }],
    ['84.128.0.1', { ok: true, country: 'DE', asn: 3320 }],
    ['2003:c0::1', { ok: true, country: 'DE', asn: 3320 }],
    ['8.8.8.8', { ok: false, code: 'vpn_detected', rule: /^AS15169 \(asn-hosting\.txt:\d+\)$/ }],
    ['2001:4860:4860::8888', { ok: false, code: 'vpn_detected' }],
    ['77.88.8.8', { ok: false, code: 'region_not_allowed', rule: 'country RU' }],
    ['127.0.0.1', { ok: false, code: 'region_not_allowed', rule: 'address is not public' }],
    ['10.1.2.3', { ok: false, code: 'region_not_allowed', rule: 'address is not public' }],
    ['100.64.0.1', { ok: false, code: 'region_not_allowed', rule: 'address is not public' }],
    ['192.168.1.1', { ok: false, code: 'region_not_allowed', rule: 'address is not public' }],
    ['::1', { ok: false, code: 'region_not_allowed', rule: 'address is not public' }],
    ['fe80::1%eth0', { ok: false, code: 'region_not_allowed', rule: 'address is not public' }],
    ['', { ok: false, code: 'region_not_allowed' }],
    ['8.8.8', { ok: false, code: 'region_not_allowed' }],
    ['0x08080808', { ok: false, code: 'region_not_allowed' }],
    ['example.com', { ok: false, code: 'region_not_allowed' }],
  ] as const)
    t.match(check.check(ip), expected, ip || '(empty)');
});

t.test('countries are the operator’s choice; development takes private addresses', async (t) => {
  const onlyRussia = await openCheck(t, { allowedCountries: ['ru'], devLoopbackCountry: 'us' });
  t.match(onlyRussia.check('73.0.0.1'), { ok: false, rule: 'country US' });
  t.match(onlyRussia.check('77.88.8.8'), { ok: true, country: 'RU' });
  t.match(onlyRussia.check('127.0.0.1'), { ok: true, country: 'US', asn: null });
  t.match(onlyRussia.check('192.168.1.7'), { ok: true, country: 'US' });
  t.match(onlyRussia.check('rubbish'), { ok: false }, 'what is no address is refused even so');
});

t.test('lists: each kind of rule, broken lines by number', async (t) => {
  const asns = parseAsnRules('a.txt')('# head\nAS15169 # Google\n\nas42\norg *Hosting* \norg Exact (Name)\n');
  if (!asns.ok) return t.fail('should parse');
  const rule = (asn: number, organisation: string | null) => findAsnRule(asns.value, { asn, organisation });
  t.equal(rule(15169, null), 'AS15169 (a.txt:2)');
  t.equal(rule(42, null), 'as42 (a.txt:4)');
  t.equal(rule(1, 'Best HOSTING ever'), 'org *Hosting* (a.txt:5)');
  t.equal(rule(1, 'exact (name)'), 'org Exact (Name) (a.txt:6)');
  t.equal(rule(1, 'exact name'), null);
  t.equal(rule(1, null), null);
  t.same(parseAsnRules('a.txt')('AS1\nhello\nASxyz\nAS0\nAS99999999999\norg *\n'), {
    ok: false,
    problems: [
      'a.txt:2: expected AS<number> or org <pattern>: hello',
      'a.txt:3: expected AS<number> or org <pattern>: ASxyz',
      'a.txt:4: expected AS<number> or org <pattern>: AS0',
      'a.txt:5: expected AS<number> or org <pattern>: AS99999999999',
      'a.txt:6: expected AS<number> or org <pattern>: org *',
    ],
  });
  const addresses = parseAddressRules('i.txt')('1.2.3.4\r\n2001:db8::/32 # docs\n10.9.8.7/8\n');
  if (!addresses.ok) return t.fail('should parse');
  t.equal(addresses.value.find('1.2.3.4'), '1.2.3.4 (i.txt:1)');
  t.equal(addresses.value.find('2001:db8:1::1'), '2001:db8::/32 (i.txt:2)');
  t.equal(addresses.value.find('10.255.0.1'), '10.9.8.7/8 (i.txt:3)');
  t.equal(addresses.value.find('1.2.3.5'), undefined);
  t.same(parseAddressRules('i.txt')('1.2.3.4/33\n1.2.3/24\n::/129\n'), {
    ok: false,
    problems: [
      'i.txt:1: expected an address or CIDR: 1.2.3.4/33',
      'i.txt:2: expected an address or CIDR: 1.2.3/24',
      'i.txt:3: expected an address or CIDR: ::/129',
    ],
  });
});

t.test('names with stars, in time that does not explode', async (t) => {
  const fits = (pattern: string, organisation: string) => {
    const read = parseAsnRules('a.txt')(`org ${pattern}`);
    return read.ok && findAsnRule(read.value, { asn: 1, organisation }) !== null;
  };
  for (const [pattern, name, expected] of [
    ['a*b', 'ab', true],
    ['a*b', 'a-b', true],
    ['a*b', 'a-b-c', false],
    ['ab*ba', 'aba', false],
    ['*a*b*', 'xaxbx', true],
    ['*a*b*', 'xbxax', false],
    ['*aa', 'aaa', true],
    ['a**b', 'ab', true],
    ['(a.c)*', '(A.C) Ltd', true],
    ['(a.c)*', '(abc) Ltd', false],
  ] as const)
    t.equal(fits(pattern, name), expected, `${pattern} ${name}`);
  const startMs = performance.now();
  t.notOk(fits(`${'*a'.repeat(60)}b`, 'a'.repeat(5_000)));
  t.ok(performance.now() - startMs < 100, 'a regular expression would take for ever');
});

t.test('what admins set comes beside the lists, and allows networks that rules refuse', async (t) => {
  const check = await openCheck(t);
  const policy = new OriginPolicy({
    asnRules: [
      { match: 'AS7922', name: 'Cable company' },
      { match: 'org *telekom*', name: null },
    ],
    deniedIps: ['80.128.0.0/11', '8.8.4.0/24'],
    allowedAsns: [15169],
  });
  for (const [ip, expected] of [
    ['73.0.0.1', { ok: false, code: 'vpn_detected', rule: 'Cable company (AS7922)' }],
    ['84.128.0.1', { ok: false, code: 'vpn_detected', rule: 'org *telekom*' }],
    ['8.8.8.8', { ok: true, asn: 15169 }],
    ['8.8.4.4', { ok: false, code: 'denylisted', rule: '8.8.4.0/24' }],
    ['18.184.0.1', { ok: false, code: 'vpn_detected', rule: /^AS16509 \(asn-hosting/ }],
    ['77.88.8.8', { ok: false, code: 'region_not_allowed' }],
  ] as const) {
    t.match(check.check(ip, policy), expected, ip);
    t.match(check.check(ip, policy), expected, `${ip} again`);
  }
  t.match(check.check('73.0.0.1'), { ok: true });
});

t.test('lists are reloaded while running; a broken version changes nothing', async (t) => {
  const dir = await folder(t);
  const asnPath = join(dir, 'asns.txt');
  const ipPath = join(dir, 'ips.txt');
  await writeFile(asnPath, '');
  await writeFile(ipPath, '');
  // A list that is watched may be read at any moment: it must never be there in part.
  const replace = async (path: string, text: string) => {
    await writeFile(join(dir, 'new'), text);
    await rename(join(dir, 'new'), path);
  };
  const broken: Array<{ problems?: string[] }> = [];
  let reloaded = () => {};
  const log: Log = {
    ...silentLog,
    info: (_fields, event) => void (event === 'file_reloaded' && reloaded()),
    error: (fields, event) => {
      if (event === 'file_broken_last_good_kept') broken.push(fields);
    },
  };
  const check = await openCheck(t, { log, asnRulePaths: [asnPath], addressRulePaths: [ipPath] });
  t.match(check.check('8.8.8.8'), { ok: true, asn: 15169 });

  const seen = new Promise<void>((resolve) => {
    reloaded = resolve;
  });
  await replace(asnPath, 'AS15169\n');
  await seen; // noticed by itself
  t.match(check.check('8.8.8.8'), { ok: false, code: 'vpn_detected', rule: 'AS15169 (asns.txt:1)' });

  await replace(ipPath, '73.0.0.0/8\n');
  await check.reload();
  t.match(check.check('73.0.0.1'), { ok: false, code: 'denylisted', rule: '73.0.0.0/8 (ips.txt:1)' });

  await replace(ipPath, '# empty now\n\nnonsense\n');
  await check.reload();
  t.same(broken.at(-1)?.problems, ['ips.txt:3: expected an address or CIDR: nonsense']);
  t.match(check.check('73.0.0.1'), { ok: false, code: 'denylisted' }, 'the last good version is in force');

  await rm(ipPath);
  await check.reload();
  t.match(check.check('73.0.0.1'), { ok: false, code: 'denylisted' }, 'also when the file is gone');
  await replace(ipPath, '# nothing\n');
  await check.reload();
  t.match(check.check('73.0.0.1'), { ok: true });
});

t.test('a missing or broken list at the start is refused', async (t) => {
  const dir = await folder(t);
  await t.rejects(openCheck(t, { asnRulePaths: [join(dir, 'missing.txt')] }), { code: 'ENOENT' });
  await writeFile(join(dir, 'bad.txt'), 'rubbish\n');
  await t.rejects(openCheck(t, { addressRulePaths: [join(dir, 'bad.txt')] }), /bad\.txt:1: expected/);
});

t.test('records of every kind of GeoIP database', async (t) => {
  const unknown = { city: null, state: null, stateCode: null };
  for (const [record, expected] of [
    [{ country_code: 'DE' }, { ...unknown, country: 'DE' }],
    [
      { country_code: 'de', city: 'Berlin', state1: 'Land Berlin', state2: 'x' },
      { country: 'DE', city: 'Berlin', state: 'Land Berlin', stateCode: null },
    ],
    [
      { country_code: 'de', city: '', state1: '' },
      { ...unknown, country: 'DE' },
    ],
    [{ country: { iso_code: 'US', names: {} } }, { ...unknown, country: 'US' }],
    [
      {
        country: { iso_code: 'US' },
        city: { names: { en: 'Boston' } },
        subdivisions: [{ iso_code: 'MA', names: { en: 'Massachusetts' } }, { iso_code: 'X' }],
      },
      { country: 'US', city: 'Boston', state: 'Massachusetts', stateCode: 'MA' },
    ],
    [
      { country: { iso_code: 'US' }, city: { geoname_id: 1 }, subdivisions: [] },
      { ...unknown, country: 'US' },
    ],
    [
      { country: { iso_code: 'US' }, subdivisions: 'none' },
      { ...unknown, country: 'US' },
    ],
    [{ registered_country: { iso_code: 'US' } }, null],
    [{ country_code: 'none' }, null],
    [null, null],
  ] as const)
    t.same(readLocation(record), expected, JSON.stringify(record));
});

t.test('an operator’s own city database', async (t) => {
  const path = join(await folder(t), 'city.mmdb');
  const california = { iso_code: 'CA', names: { en: 'California' } };
  const record = {
    country: { iso_code: 'US' },
    city: { names: { en: 'Los Angeles', de: 'Los Angeles' } },
    subdivisions: [california],
  };
  await writeFile(path, mmdb({ '73.0.0.0/24': record, '84.128.0.0/10': { country_code: 'DE' } }));
  const check = await openCheck(t, { countryPath: path });
  t.match(check.check('73.0.0.77'), {
    ok: true,
    country: 'US',
    city: 'Los Angeles',
    state: 'California',
    stateCode: 'CA',
    asn: 7922,
    asOrganisation: 'Comcast Cable Communications, LLC',
  });
  t.match(check.check('84.129.3.2'), { ok: true, country: 'DE', city: null, state: null, asn: 3320 });
  t.match(check.check('73.0.1.1'), { ok: false, rule: 'country unknown' });
});

t.test('one form for what GeoIP says and what a username can say', async (t) => {
  for (const [text, words] of [
    ['São Paulo', 'sao paulo'],
    ['Saint-Denis', 'saint denis'],
    ['Comcast Cable Communications, LLC', 'comcast cable communications llc'],
    ['T-Mobile USA, Inc.', 't mobile usa inc'],
    ['  AT&T  ', 'at t'],
    ['ＦＵＬＬ width', 'full width'],
    ['Москва', 'москва'],
    ['...', ''],
  ] as const)
    t.equal(placeWords(text), words, text);
});
