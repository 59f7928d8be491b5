import { Problem } from '../errors.js';

/**
 * Opaque cursors: where a page ended, as the sort key's values. Read with the number of parts the list sorts by;
 * anything else is `validation_failed`, never an SQL error.
 */
export function encodeCursor(parts: readonly (string | number | bigint | Date)[]): string {
  const texts = parts.map((part) => (part instanceof Date ? part.toISOString() : String(part)));
  return Buffer.from(JSON.stringify(texts)).toString('base64url');
}

/** What each part of a cursor must look like. */
export const cursorPart = {
  timestamp: /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  integer: /^\d{1,18}$/,
  /** A UTC day as `dayNumber`: every number is one, where not every date that looks like one is. */
  day: /^\d{1,6}$/,
  port: /^\d{1,5}$/,
} as const;

/** The parts of a cursor, each checked against its pattern. Throws Problem('validation_failed'). */
export function decodeCursor(cursor: string, patterns: readonly RegExp[]): string[] {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString());
  } catch {
    parts = null;
  }
  const sound =
    Array.isArray(parts) &&
    parts.length === patterns.length &&
    parts.every((part, i) => typeof part === 'string' && patterns[i]?.test(part));
  if (!sound)
    throw new Problem('validation_failed', undefined, {
      errors: [{ path: '/cursor', message: 'is not a cursor of this list' }],
    });
  return parts as string[];
}

/**
 * Cuts a page out of rows fetched with `LIMIT limit + 1`: the rows to show and the cursor of the next page, null
 * on the last one.
 */
export function cutPage<Row>(
  rows: readonly Row[],
  limit: number,
  key: (row: Row) => readonly (string | number | bigint | Date)[],
): { rows: Row[]; nextCursor: string | null } {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    rows: shown,
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(key(last)) : null,
  };
}

/** A page of a list that is short by nature and at hand as a whole, always in the same order; cursors are places in it. */
export function pageOfAll<Item>(
  all: readonly Item[],
  { limit, cursor }: { limit: number; cursor?: string | undefined },
): { items: Item[]; next_cursor: string | null } {
  const from = cursor === undefined ? 0 : Number(decodeCursor(cursor, [cursorPart.integer])[0]);
  const end = from + limit;
  return { items: all.slice(from, end), next_cursor: end < all.length ? encodeCursor([end]) : null };
}

const DAY_MS = 86_400_000;

/** A UTC day (YYYY-MM-DD) for a cursor. */
export function dayNumber(day: string): number {
  return Date.parse(day) / DAY_MS;
}

/** The day of a cursor part that was checked against `cursorPart.day`. */
export function dayOfNumber(number: string): string {
  return new Date(Number(number) * DAY_MS).toISOString().slice(0, 10);
}
