import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { type TObject, type TProperties, Type } from 'typebox';
import { type CsvValue, csvLine } from './csv.js';
import { problemResponses } from './schemas.js';

/** Rows read from Postgres at a time; what was read is sent before more is. */
const PAGE_ROWS = 1_000;

/** The `response` of a route that answers with `sendCsv`. */
export const csvResponse = {
  200: {
    description: 'CSV (RFC 4180), one line a row under a header; no field is run as a formula',
    content: { 'text/csv': { schema: Type.String() } },
  },
  ...problemResponses(401, 403),
};

/** The fields of a list's items as columns of its export, without those that are more than a value. */
export function columnsOf<Properties extends TProperties, Left extends keyof Properties = never>(
  schema: TObject<Properties>,
  ...left: Left[]
): Exclude<keyof Properties & string, Left>[] {
  const names = Object.keys(schema.properties) as (keyof Properties & string)[];
  return names.filter((name) => !left.includes(name as Left)) as Exclude<keyof Properties & string, Left>[];
}

/** The file's name, the columns, and what reads a page of items that have them. */
export type ListExport<Name extends string> = [
  name: string,
  columns: readonly Name[],
  page: (page: { limit: number; cursor: string | undefined }) => Promise<{
    items: ReadonlyArray<Readonly<Record<Name, CsvValue>>>;
    next_cursor: string | null;
  }>,
];

/**
 * Answers with a whole list as CSV, as large as it may be: pages are read as fast as the client takes them. `columns`
 * are names of the items' fields. What fails in the middle ends the connection, so that a torn file is not taken for
 * a whole one.
 */
export function sendCsv<Name extends string>(
  reply: FastifyReply,
  ...[name, columns, page]: ListExport<Name>
): string {
  async function* lines() {
    yield csvLine(columns);
    let cursor: string | undefined;
    do {
      const { items, next_cursor } = await page({ limit: PAGE_ROWS, cursor });
      yield items.map((item) => csvLine(columns.map((column) => item[column]))).join('');
      cursor = next_cursor ?? undefined;
    } while (cursor !== undefined);
  }
  // HEAD would read all of it and throw it away
  const text = reply.request.method === 'HEAD' ? [] : lines();
  reply.type('text/csv; charset=utf-8').header('content-disposition', `attachment; filename="${name}.csv"`);
  // To the route's types it is what the document says; Fastify sends a stream as it comes.
  return Readable.from(text) as unknown as string;
}
