/**
 * Money as the whole system holds it: whole micro-dollars in a bigint (1 USD = 1 000 000), never a float.
 * In JSON it is a decimal string with six places.
 */

/** Micro-dollars in one dollar. */
export const MICROS_PER_USD = 1_000_000n;
/** 1 GB is 10^9 bytes (PRODUCT.md, "Words"). */
export const BYTES_PER_GB = 1_000_000_000n;
/**
 * The largest price of a GB, micro-dollars ($1 000). With byte counts below 2^53 a charge then stays below 2^53
 * too, far inside Postgres's int8.
 */
export const PRICE_MICROS_PER_GB_MAX = 1_000_000_000n;
/** The largest single amount a caller may name, micro-dollars ($10 million). Anything above is refused as a typo. */
export const AMOUNT_MICROS_MAX = 10_000_000n * MICROS_PER_USD;

/** `12345678n` → `"12.345678"`; always six places; negative amounts carry a leading minus. */
export function formatMicros(amountMicros: bigint): string {
  const sign = amountMicros < 0n ? '-' : '';
  const digits = (amountMicros < 0n ? -amountMicros : amountMicros).toString().padStart(7, '0');
  return `${sign}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}

/** What `parseMicros` takes, for JSON schemas. */
export const MONEY_PATTERN = '^-?(0|[1-9][0-9]{0,7})(\\.[0-9]{1,6})?$';
const MONEY = new RegExp(MONEY_PATTERN);

/**
 * `"12.3"` → `12300000n`. Strict: a plain decimal with at most six places, no exponent, no plus sign, no blanks, no
 * leading zeros, and an absolute value of at most AMOUNT_MICROS_MAX. Anything else: null.
 */
export function parseMicros(text: string): bigint | null {
  if (!MONEY.test(text)) return null;
  const negative = text.startsWith('-');
  const [whole = '', places = ''] = (negative ? text.slice(1) : text).split('.');
  const micros = BigInt(whole) * MICROS_PER_USD + BigInt(places.padEnd(6, '0'));
  if (micros > AMOUNT_MICROS_MAX) return null;
  return negative ? -micros : micros;
}

/**
 * What so many bytes cost at a price: floor(bytes × price / 10^9), micro-dollars. Always taken of **cumulative**
 * bytes and booked as the difference to what was booked before, so that rounding never adds up (PRODUCT.md,
 * "Money rules"). Both arguments must be ≥ 0.
 */
export function chargeMicros(bytes: bigint, microsPerGb: bigint): bigint {
  if (bytes < 0n || microsPerGb < 0n) throw new RangeError('bytes and price must not be negative');
  return (bytes * microsPerGb) / BYTES_PER_GB;
}
