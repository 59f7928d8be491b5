import type { Static } from 'typebox';
import type { Queryable } from '../db/pool.js';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, dayNumber, dayOfNumber, decodeCursor } from '../http/pagination.js';
import { type GroupKey, readUsageGroups, readUsageTops, type UsageGroup } from './groups.js';
import { buyerUsageJson, groupJson, shownFrom, type UsageQuery, usageDays } from './schemas.js';
import { readBuyerUsage } from './usage.js';

/** What a usage call tells, for its description. */
export const USAGE_DESCRIPTION =
  'In all, by UTC day and by country of the exit: booked bytes and money, exact. By tag, session name, sub-user and ' +
  'destination: bytes, streams and times, seconds behind and kept for `destination_retention_days`, the 100 largest ' +
  'of each; `group_by` lists all, in the order of their names, without the lists of the largest. `null` is what had no tag, no session name, or came ' +
  'from the main account.';

const STATEMENT_CANCELLED = '57014';

/** A reading that takes longer than a statement may is the caller's to narrow. */
export async function notTooMuch<T>(reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if ((error as { code?: unknown }).code === STATEMENT_CANCELLED)
      throw new Problem('too_much_at_once', 'Ask for fewer days.', {}, { cause: error });
    throw error;
  }
}

const text = /^[\x21-\x7e]{1,255}$/;
/** What a cursor carries of the last group shown. */
const CURSORS: Record<UsageGroup, { parts: readonly (keyof GroupKey)[]; patterns: readonly RegExp[] }> = {
  day: { parts: ['day'], patterns: [cursorPart.day] },
  country: { parts: ['country'], patterns: [text] },
  tag: { parts: ['tag'], patterns: [text] },
  session: { parts: ['session_name'], patterns: [text] },
  sub_user: { parts: ['sub_user_id'], patterns: [cursorPart.uuid] },
  host: { parts: ['host', 'port'], patterns: [text, cursorPart.port] },
};

/** A buyer's usage as the API tells it, to the buyer and to admins. `keptDays`: of usage by destination. */
export async function answerBuyerUsage(
  db: Queryable,
  buyerId: string,
  query: Static<typeof UsageQuery>,
  nowMs: number,
  keptDays: number,
) {
  const { group_by: groupBy, limit, cursor } = query;
  if (groupBy === undefined && cursor !== undefined)
    throw new Problem('validation_failed', undefined, {
      errors: [{ path: '/querystring/cursor', message: 'goes with the group_by it came from' }],
    });
  const days = usageDays(query, nowMs);
  const range = { buyerId, from: shownFrom(days.from, keptDays, nowMs), to: days.to };
  const usage = await readBuyerUsage(db, buyerId, days.from, days.to);
  if (groupBy === undefined) return buyerUsageJson(days, usage, await readUsageTops(db, range));
  const answer = buyerUsageJson(days, usage, null);
  const { parts, patterns } = CURSORS[groupBy];
  const last = cursor === undefined ? null : decodeCursor(cursor, patterns);
  const after = groupBy === 'day' ? (last?.map(dayOfNumber) ?? null) : last;
  const groups = await notTooMuch(readUsageGroups(db, range, groupBy, after, limit + 1));
  // The group without a name comes last: no cursor ever names it.
  const page = cutPage(groups, limit, ({ key }) =>
    groupBy === 'day' ? [dayNumber(key.day ?? '')] : parts.map((part) => key[part] ?? ''),
  );
  return { ...answer, group_by: groupBy, items: page.rows.map(groupJson), next_cursor: page.nextCursor };
}
