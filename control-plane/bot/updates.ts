import type { Update } from 'grammy/types';
import type pg from 'pg';
import type { Queryable } from '../db/pool.js';

/** Kinds of updates the bot asks Telegram for. */
export const ALLOWED_UPDATES = ['message', 'callback_query', 'pre_checkout_query', 'my_chat_member'] as const;

/** Telegram delivers an update again for up to a day; a repeated one is known for longer. */
const UPDATES_KEPT_DAYS = 7;

/**
 * The chat whose updates are handled in order; null for what must not wait for it (Telegram gives a checkout
 * 10 s).
 */
function chatOf(update: Update): number | null {
  return (
    update.message?.chat.id ??
    update.callback_query?.message?.chat.id ??
    update.my_chat_member?.chat.id ??
    null
  );
}

/**
 * Writes updates down that are not known yet; resolves to how many. Once this is committed Telegram may be
 * answered.
 */
export async function takeInUpdates(db: Queryable, updates: readonly Update[]): Promise<number> {
  if (updates.length === 0) return 0;
  const { rowCount } = await db.query(
    `INSERT INTO telegram_updates (update_id, chat_id, payload)
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) ON CONFLICT DO NOTHING`,
    [updates.map((u) => u.update_id), updates.map(chatOf), updates.map((u) => JSON.stringify(u))],
  );
  return rowCount ?? 0;
}

/** Deletes what was handled long ago; resolves to how many. A step of the job `cleanup`. */
export async function forgetOldUpdates(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query(
    `DELETE FROM telegram_updates WHERE ended_at < now() - interval '${UPDATES_KEPT_DAYS} days'`,
  );
  return rowCount ?? 0;
}
