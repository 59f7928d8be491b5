/** Values whose text needs no quoting inside a Postgres array: no comma, brace, quote, backslash or blank. */
export type PlainValue = bigint | number | boolean | string | null;

/**
 * A Postgres array as text, for parameters of thousands of ids and numbers: the driver would look at each element
 * and quote it. **Only** for numbers, booleans, UUIDs, hex and fixed words of ours; never for text that comes from
 * outside. Text that is not as plain as it must be throws.
 */
export function plainArray(values: readonly PlainValue[]): string {
  let text = '{';
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (i > 0) text += ',';
    if (typeof value === 'string' && !PLAIN.test(value)) throw new TypeError('not a plain array element');
    text += value === null || value === undefined ? 'NULL' : String(value);
  }
  return `${text}}`;
}

/** `null` as a word would be read as NULL; it is none of our words. */
const PLAIN = /^(?!null$)[A-Za-z0-9:._-]+$/i;
