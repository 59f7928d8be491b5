import fc from 'fast-check';
import t from 'tap';
import {
  AMOUNT_MICROS_MAX,
  chargeMicros,
  formatMicros,
  PRICE_MICROS_PER_GB_MAX,
  parseMicros,
} from '../../../control-plane/ledger/money.js';

t.test('amounts as text', async (t) => {
  t.equal(formatMicros(12_345_678n), '12.345678');
  t.equal(formatMicros(0n), '0.000000');
  t.equal(formatMicros(-1n), '-0.000001');
  t.equal(formatMicros(-12_000_000n), '-12.000000');
  t.equal(parseMicros('12.3'), 12_300_000n);
  t.equal(parseMicros('-0.000001'), -1n);
  t.equal(parseMicros('10000000'), AMOUNT_MICROS_MAX);
  for (const bad of [
    '',
    ' 1',
    '1 ',
    '+1',
    '01',
    '.5',
    '1.',
    '1.0000001',
    '1e3',
    '1,5',
    '0x10',
    'NaN',
    'Infinity',
    '--1',
    '10000000.000001',
    '99999999999999999999',
    '1\n',
    '١',
  ])
    t.equal(parseMicros(bad), null, JSON.stringify(bad));
  fc.assert(
    fc.property(
      fc.bigInt({ min: -AMOUNT_MICROS_MAX, max: AMOUNT_MICROS_MAX }),
      (micros) => parseMicros(formatMicros(micros)) === micros,
    ),
  );
});

t.test('a charge is the floor of the exact product, and differences of it never drift', async (t) => {
  t.equal(chargeMicros(999_999_999n, 1n), 0n);
  t.equal(chargeMicros(1_000_000_000n, 1n), 1n);
  t.equal(chargeMicros(1_500_000_000n, 2_000_000n), 3_000_000n);
  t.throws(() => chargeMicros(-1n, 1n), RangeError);
  const price = fc.bigInt({ min: 0n, max: PRICE_MICROS_PER_GB_MAX });
  fc.assert(
    fc.property(fc.array(fc.bigInt({ min: 0n, max: 1n << 40n })), price, (steps, p) => {
      let bytes = 0n;
      let booked = 0n;
      for (const step of steps) {
        const difference = chargeMicros(bytes + step, p) - chargeMicros(bytes, p);
        if (difference < 0n) return false;
        bytes += step;
        booked += difference;
      }
      // Exact to less than one micro-dollar whatever the number of steps.
      return booked * 1_000_000_000n <= bytes * p && (booked + 1n) * 1_000_000_000n > bytes * p;
    }),
  );
});
