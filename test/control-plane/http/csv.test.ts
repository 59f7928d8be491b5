import fc from 'fast-check';
import t from 'tap';
import { writeCsv } from '../../../control-plane/http/csv.js';
import { parseCsv } from '../../../control-plane/packages/csv.js';

t.test('fields come back as they were', (t) => {
  const at = new Date('2026-11-26T10:00:00Z');
  const csv = writeCsv(
    ['a', 'b', 'c'],
    [
      ['plain', 'com,ma "and" quotes', 'two\nlines'],
      [1.5, 12n ** 20n, at],
      [null, undefined, true],
    ],
  );
  t.same(parseCsv(csv), {
    ok: true,
    rows: [
      ['a', 'b', 'c'],
      ['plain', 'com,ma "and" quotes', 'two\nlines'],
      ['1.5', String(12n ** 20n), at.toISOString()],
      ['', '', 'true'],
    ],
  });
  t.throws(() => writeCsv(['a'], [['x', 'y']]));
  t.end();
});

t.test('no field is run as a formula', (t) => {
  const fieldOf = (text: string) => {
    const parsed = parseCsv(writeCsv(['name'], [[`x${text}`], [text]]));
    return parsed.ok ? parsed.rows[2]?.[0] : parsed.detail;
  };
  for (const text of [
    '=1+1',
    '+1-1',
    '@SUM(A1)',
    "-2+3+cmd|' /C calc'!A0",
    ' =1+1',
    '\t=1',
    '\r\n=1',
    '\u00a0=1',
    '\uff1d1+1'.normalize('NFKC'),
    '|calc',
    '%0A=1',
  ])
    t.equal(fieldOf(text), `'${text}`, JSON.stringify(text));
  for (const text of ['-12.345678', '12', '-1']) t.equal(fieldOf(text), text, 'numbers stay numbers');
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), (text) => {
      const field = fieldOf(text) ?? '';
      return (
        !/^[=+@]/.test(field.trimStart()) && (field === text || field === `'${text}` || /^\s*$/.test(text))
      );
    }),
  );
  t.end();
});
