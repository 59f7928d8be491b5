/**
 * What spreadsheets take for the beginning of a formula, also behind blanks and in full width; and numbers, which may
 * begin with a minus. As in the server's own exports: a test holds the two together.
 */
const FORMULA = /^[\s\0]*[=+\-@|%＝＋－＠]|^[\t\r\n]/;
const NUMBER = /^-?\d+(\.\d+)?$/;

/** A field of RFC 4180; what a spreadsheet would take for a formula gets an apostrophe before it. */
export function quoted(value: string | number): string {
  const given = String(value);
  const text = FORMULA.test(given) && !NUMBER.test(given) ? `'${given}` : given;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
