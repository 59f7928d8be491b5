/** What a CSV field may be made of. */
export type CsvValue = string | number | bigint | boolean | Date | null | undefined;

/**
 * What spreadsheets take for the beginning of a formula, also behind blanks and in full width. A line feed or tab in
 * front hides it from eyes, not from the program.
 */
const FORMULA = /^[\s\0]*[=+\-@|%＝＋－＠]|^[\t\r\n]/;
/** Numbers may begin with a minus: they are no formulas. */
const NUMBER = /^-?\d+(\.\d+)?$/;

/**
 * CSV (RFC 4180, CRLF, with a header) of which no field is ever run as a formula: text that a spreadsheet would take
 * for one gets an apostrophe in front. With `csvLine` the one writer for all exports.
 */
export function writeCsv(columns: readonly string[], rows: Iterable<readonly CsvValue[]>): string {
  let text = csvLine(columns);
  for (const row of rows) {
    if (row.length !== columns.length) throw new Error('a CSV row must have a field for each column');
    text += csvLine(row);
  }
  return text;
}

/** One line of `writeCsv`, for exports that are written while they are read. */
export function csvLine(row: readonly CsvValue[]): string {
  return `${row.map(field).join(',')}\r\n`;
}

function field(value: CsvValue): string {
  if (value === null || value === undefined) return '';
  const text = value instanceof Date ? value.toISOString() : String(value);
  const safe = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
