import type { Random } from '../sim/random.js';

/** Texts that have broken servers before. */
const TEXTS: readonly string[] = [
  '',
  ' ',
  '\0',
  'a\0b',
  '\ud800',
  'x\udfff',
  '\u202e\ufeff\u2028',
  'İıßﬀ',
  '👨‍👩‍👧‍👦',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  "' OR '1'='1",
  "'; DROP TABLE users; --",
  '1; SELECT pg_sleep(10)',
  '$1',
  '%',
  '_%\\',
  '\\',
  '{{7*7}}',
  `\${7*7}`,
  '#{7*7}',
  '<%= 7*7 %>',
  '<script>alert(1)</script>',
  '../../../../etc/passwd',
  '..',
  '%00',
  '%2e%2e%2f',
  'file:///etc/passwd',
  '=cmd|" /C calc"!A0',
  'null',
  'undefined',
  'NaN',
  'Infinity',
  '-0',
  '1e309',
  '0x10',
  '00',
  '9007199254740993',
  '170141183460469231731687303715884105728',
  '-1',
  '1.0000000000000001',
  '0000-00-00',
  '2026-02-30',
  '9999-12-31T23:59:60Z',
  '0000-01-01T00:00:00Z',
  '-271821-04-20T00:00:00.000Z',
  '2026-01-01T00:00:00+99:99',
  'Thu, 01 Jan 1970',
  'EU',
  'ZZ',
  'all',
  '::ffff:127.0.0.1',
  '0.0.0.0/0',
  '::/129',
  '1.2.3.4/33',
  '256.1.1.1',
  '00000000-0000-0000-0000-000000000000',
  'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF',
];

/** Values that are no texts. */
const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  -0,
  2 ** 31,
  2 ** 53,
  Number.MAX_SAFE_INTEGER,
  -Number.MAX_SAFE_INTEGER,
  1e300,
  5e-324,
  [],
  {},
  [[]],
  [null],
  { length: 1e9 },
  { toString: null },
  { $gt: '' },
];

/** How deep, how long: within what a body may be, so that the parser and not the limit meets it. */
const DEPTHS = [50, 2_000, 60_000] as const;
const LENGTHS = [255, 256, 4_097, 65_537] as const;

/** A text nobody asked for. */
export function hostileText(random: Random): string {
  if (random.chance(0.08)) return random.pick(TEXTS.slice(4)).repeat(random.pick(LENGTHS)).slice(0, 70_000);
  return random.pick(TEXTS);
}

/** JSON, as text, of a value nobody asked for. Texts of it may hold NUL and half characters. */
export function hostileJson(random: Random): string {
  const kind = random.below(20);
  if (kind === 0) return deep(random);
  if (kind === 1) return random.pick(['{"__proto__":{"a":1}}', '{"constructor":{"prototype":{"a":1}}}']);
  if (kind === 2) return random.pick(['1e999', '-1e999', '1E400', `1${'0'.repeat(400)}`, '0.1e-400']);
  if (kind === 3) return `[${'0,'.repeat(random.pick(LENGTHS))}0]`;
  if (kind < 10) return JSON.stringify(random.pick(VALUES));
  return JSON.stringify(hostileText(random));
}

function deep(random: Random): string {
  const depth = random.pick(DEPTHS);
  return random.chance(0.5)
    ? '['.repeat(depth) + ']'.repeat(depth)
    : `${'{"a":'.repeat(depth / 5)}1${'}'.repeat(depth / 5)}`;
}

/** Bodies that are no JSON. */
export function brokenJson(random: Random, sound: string): string {
  switch (random.below(6)) {
    case 0:
      return sound.slice(0, random.below(sound.length + 1));
    case 1:
      return `\ufeff${sound}`;
    case 2:
      return `${sound}${sound}`;
    case 3:
      return sound.replaceAll('"', "'");
    case 4:
      return sound.replace('}', ',}');
    default:
      return random.pick(['', '{', 'nul', '"\\ud800', '{"a":1,"a":2}', 'a=1&b=2', '\0', '[1,]', '{"a":NaN}']);
  }
}

/** Parts of an address that are no UTF-8, no path or no single value. */
export const BAD_ESCAPES: readonly string[] = [
  '%',
  '%zz',
  '%ff',
  '%ed%a0%80',
  '%00',
  '%c0%ae',
  '%2f',
  '%252e',
];
