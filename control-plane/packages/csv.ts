/** `ok: false`: where the text stops being CSV. `line` counts from 1. */
export type CsvResult = { ok: true; rows: string[][] } | { ok: false; line: number; detail: string };

/**
 * Reads CSV as RFC 4180 has it: fields separated by commas, records by CRLF or LF, fields in double quotes may hold
 * commas, line breaks and doubled quotes. Strict: a quote inside an unquoted field, or text after a closing quote,
 * is an error. A last line break ends the last record; empty lines are skipped; a byte order mark is dropped.
 */
export function parseCsv(input: string): CsvResult {
  const text = input.startsWith('\ufeff') ? input.slice(1) : input;
  const rows: string[][] = [];
  let row: string[] = [];
  let at = 0;
  let line = 1;
  const endRow = () => {
    if (row.length > 1 || row[0] !== '') rows.push(row);
    row = [];
  };
  while (at < text.length) {
    let field = '';
    if (text[at] === '"') {
      const opened = line;
      at++;
      for (;;) {
        const quote = text.indexOf('"', at);
        if (quote === -1) return { ok: false, line: opened, detail: 'a quoted field does not end' };
        const part = text.slice(at, quote);
        field += part;
        for (const c of part) if (c === '\n') line++;
        at = quote + 1;
        if (text[at] !== '"') break;
        field += '"';
        at++;
      }
      if (at < text.length && !/[,\r\n]/.test(text[at] as string))
        return { ok: false, line, detail: 'text after a closing quote' };
    } else {
      const start = at;
      while (at < text.length && text[at] !== ',' && text[at] !== '\n' && text[at] !== '\r') {
        if (text[at] === '"') return { ok: false, line, detail: 'a quote inside an unquoted field' };
        at++;
      }
      field = text.slice(start, at);
    }
    row.push(field);
    if (text[at] === ',') {
      at++;
      // A comma at the very end opens one more, empty field.
      if (at === text.length) row.push('');
      continue;
    }
    if (text[at] === '\r') {
      if (text[at + 1] !== '\n' && at + 1 < text.length)
        return { ok: false, line, detail: 'a carriage return without a line feed' };
      at++;
    }
    if (text[at] === '\n') {
      at++;
      line++;
    }
    endRow();
  }
  if (row.length > 0) endRow();
  return { ok: true, rows };
}
