import type { ApiClient } from '../../../client/client.js';
import { apiOf } from '../api/client.js';
import { asApiError } from '../api/problem.js';
import type { Role } from '../session/session.js';
import { toast } from '../shell/toasts.js';
import { quoted } from './csv-text.js';
import type { Column, ListPage, ListQuery } from './table.js';

/** Rows asked for at once: as many as a list gives. */
const PAGE = 200;

/** Reads a list to its end, page by page, and saves it as a file. Tells what goes wrong; rejects never. */
export async function exportCsv<Row>(options: {
  role: Role;
  name: string;
  columns: readonly Column<Row>[];
  load: (api: ApiClient, query: ListQuery, signal: AbortSignal) => Promise<ListPage<Row>>;
  signal: AbortSignal;
  onProgress: (done: number, total: number | null) => void;
}): Promise<void> {
  const columns = options.columns.filter(({ csv }) => csv !== undefined);
  const parts = [`${columns.map(({ title }) => quoted(title)).join(',')}\r\n`];
  let cursor: string | null = null;
  let done = 0;
  try {
    do {
      const query: ListQuery = { limit: PAGE, ...(cursor === null ? {} : { cursor }) };
      const page: ListPage<Row> = await options.load(apiOf(options.role), query, options.signal);
      for (const row of page.items)
        parts.push(`${columns.map(({ csv }) => quoted(csv?.(row) ?? '')).join(',')}\r\n`);
      done += page.items.length;
      options.onProgress(done, page.total ?? null);
      cursor = page.next_cursor;
    } while (cursor !== null && !options.signal.aborted);
    if (!options.signal.aborted) saveFile(`${options.name}.csv`, 'text/csv', parts);
  } catch (error) {
    if (!options.signal.aborted) toast(asApiError(error).message, 'bad');
  }
}

/** Hands a file to the browser to save. */
export function saveFile(name: string, type: string, parts: BlobPart[]): void {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
