/** What people read and type, without a browser. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as amounts from '../../control-plane/console/web/parts/amounts.js';
import { quoted } from '../../control-plane/console/web/parts/csv-text.js';
import { parseBlockList, parseGigabytes } from '../../control-plane/console/web/provider/limit-texts.js';
import { shareOf } from '../../control-plane/console/web/provider/share.js';
import { csvLine } from '../../control-plane/http/csv.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

t.test('what scrolls is reachable by keyboard, by construction', async (t) => {
  const web = projectPath('control-plane/console/web');
  const files = readdirSync(web, { recursive: true, encoding: 'utf8' });
  const sources = (ending: string) =>
    files
      .filter((name) => name.endsWith(ending))
      .map((name) => [name, readFileSync(join(web, name), 'utf8')] as const);
  // The blocks of the style sheets that let something scroll, by the last class of their selector.
  const scrolling = sources('.css').flatMap(([, text]) =>
    [...text.matchAll(/\.([a-z-]+)[^{}.]* \{[^{}]*overflow(?:-[xy])?: (?:auto|scroll)/g)].map(
      ([, name]) => name,
    ),
  );
  // These hold what has the focus of its own: buttons, links, fields.
  const reachable = ['dialog', 'tab-list', 'side'];
  t.same([...new Set(scrolling)].sort(), [...reachable, 'json', 'table-scroll'].sort());
  const users = sources('.tsx').flatMap(([name, text]) =>
    /class="[^"]*(json|table-scroll)/.test(text.replaceAll(/<Scroll [^>]*>/g, '')) ? [name] : [],
  );
  t.same(users, [], 'only Scroll, which takes the focus, has one of these');
});

t.test('money: rounded to cents half up, exact when it is less or asked for', async (t) => {
  for (const [amount, shown, exact] of [
    ['0.000000', '$0.00', '$0.00'],
    ['12.345678', '$12.35', '$12.345678'],
    ['12.344999', '$12.34', '$12.344999'],
    ['0.999999', '$1.00', '$0.999999'],
    ['0.004200', '$0.0042', '$0.0042'],
    ['0.000001', '$0.000001', '$0.000001'],
    ['-3.500000', '−$3.50', '−$3.50'],
    ['1234567.000000', '$1,234,567.00', '$1,234,567.00'],
    ['5', '$5.00', '$5.00'],
    ['9007199254740993.010000', '$9,007,199,254,740,993.01', '$9,007,199,254,740,993.01'],
    ['nonsense', 'nonsense', 'nonsense'],
  ] as const) {
    t.equal(amounts.moneyText(amount), shown);
    t.equal(amounts.moneyText(amount, { exact: true }), exact);
  }
});

t.test('bytes, rates, times', async (t) => {
  t.equal(amounts.bytesText(0), '0 B');
  t.equal(amounts.bytesText(999), '999 B');
  t.equal(amounts.bytesText(1_500), '1.50 kB');
  t.equal(amounts.bytesText(999_499), '999 kB');
  t.equal(amounts.bytesText(999_999), '1.00 MB', 'rounded up into the next unit');
  t.equal(amounts.rateText(124_999), '1.0 Mbit/s');
  t.equal(amounts.bytesText('12345678901234567890'), '12346 PB');
  t.equal(amounts.bytesSum(1, '9007199254740993'), 9_007_199_254_740_994n);
  t.equal(amounts.rateText(125_000), '1.0 Mbit/s');
  t.equal(amounts.rateText(0), '0 bit/s');
  const nowMs = Date.parse('2026-11-27T12:00:00Z');
  t.equal(amounts.relativeText(nowMs - 3_000, nowMs), 'just now');
  t.equal(amounts.relativeText(nowMs - 180_000, nowMs), '3 minutes ago');
  t.equal(amounts.relativeText(nowMs + 2 * 86_400_000, nowMs), 'in 2 days');
  t.equal(amounts.durationText(3_900_000), '1 h 05 min');
});

t.test('fields of CSV: quoted as RFC 4180 says; no formulas', async (t) => {
  t.equal(quoted('plain'), 'plain');
  t.equal(quoted('a,"b"'), '"a,""b"""');
  t.equal(quoted('=HYPERLINK("x")'), '"\'=HYPERLINK(""x"")"');
  t.equal(quoted('@cmd'), "'@cmd");
  t.equal(quoted('-3.500000'), '-3.500000', 'an amount is no formula');
  t.equal(quoted(-7), '-7');
  for (const text of [
    '=1+1',
    ' =1+1',
    '\u00a0+1',
    '\n=cmd',
    '\tplain',
    '\0=1',
    '|calc',
    '%0A=1',
    '－2+3',
    '＝HYPERLINK("x")',
    '--1',
    '-1.5',
    '-1.5.2',
    'a=b',
    '',
  ])
    t.equal(`${quoted(text)}\r\n`, csvLine([text]), `${JSON.stringify(text)}: as the server writes it`);
});

t.test('caps and block lists as people type them', async (t) => {
  t.equal(parseGigabytes('2.5'), 2_500_000_000);
  t.equal(parseGigabytes(' 0,5 '), 500_000_000);
  t.equal(parseGigabytes(''), null);
  for (const bad of ['a lot', '-1', '1e9', '1.2.3', '9999999']) t.equal(parseGigabytes(bad), undefined, bad);
  t.same(parseBlockList('https://Example.com:8443/x?y\n ads.example/path, ads.example;;\n10.0.0.1'), [
    'example.com',
    'ads.example',
    '10.0.0.1',
  ]);
});

t.test('pay shared out by bytes never adds up to more than there was', async (t) => {
  t.equal(shareOf('0.000010', 1, 3), '0.000003');
  t.equal(shareOf('12.345678', 5, 5), '12.345678');
  t.equal(shareOf('1.000000', 0, 0), '0.000000');
});
