import fc from 'fast-check';
import t from 'tap';
import { parseCsv } from '../../../control-plane/packages/csv.js';

t.test('RFC 4180 and nothing else', async (t) => {
  const rows = (text: string) => {
    const result = parseCsv(text);
    return result.ok ? result.rows : `line ${result.line}`;
  };
  t.same(rows('a,b\r\n1,2\r\n'), [
    ['a', 'b'],
    ['1', '2'],
  ]);
  t.same(rows('\ufeffa,b\n1,'), [
    ['a', 'b'],
    ['1', ''],
  ]);
  t.same(rows('"a ""quoted"", one","two\r\nlines"'), [['a "quoted", one', 'two\r\nlines']]);
  t.same(rows('\n\na\n\n'), [['a']], 'empty lines are skipped');
  t.same(rows(''), []);
  t.same(rows(',\n'), [['', '']]);
  t.equal(rows('a\n"b'), 'line 2', 'a quote that does not end');
  t.equal(rows('a\nb"c'), 'line 2', 'a quote in the middle');
  t.equal(rows('"a"b'), 'line 1', 'text after a quote');
  t.equal(rows('a\rb'), 'line 1', 'a carriage return alone');
});

t.test('whatever is written is read back', async () => {
  const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', ' ', 'é') });
  const quote = (f: string) => (/[",\r\n]/.test(f) ? `"${f.replaceAll('"', '""')}"` : f);
  fc.assert(
    fc.property(fc.array(fc.array(field, { minLength: 2, maxLength: 4 }), { minLength: 1 }), (rows) => {
      const read = parseCsv(rows.map((row) => row.map(quote).join(',')).join('\r\n'));
      return read.ok && JSON.stringify(read.rows) === JSON.stringify(rows);
    }),
  );
});
