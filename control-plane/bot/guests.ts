import type { Queryable } from '../db/pool.js';
import type { Language } from '../users/users.js';

/** The language a person chose who is no user of ours (a buyer's Telegram account, say); null: none. */
export async function chosenLanguage(db: Queryable, telegramId: number): Promise<Language | null> {
  const { rows } = await db.query<{ language: Language | null }>(
    'SELECT language FROM bot_people WHERE telegram_id = $1',
    [telegramId],
  );
  return rows[0]?.language ?? null;
}

/** Keeps the choice: with the user when there is one, else by the Telegram account. */
export async function chooseLanguage(
  db: Queryable,
  who: { telegramId: number; userId: string | null },
  language: Language,
): Promise<void> {
  await db.query(
    `INSERT INTO bot_people (telegram_id, language) VALUES ($1, $2)
     ON CONFLICT (telegram_id) DO UPDATE SET language = excluded.language`,
    [who.telegramId, language],
  );
  if (who.userId !== null)
    await db.query('UPDATE users SET language = $2, updated_at = now() WHERE id = $1', [
      who.userId,
      language,
    ]);
}

/** Notes that a person blocked the bot, or has come back; users are passed over by broadcasts meanwhile. */
export async function noteBlocked(db: Queryable, telegramId: number, blocked: boolean): Promise<void> {
  await db.query(
    `UPDATE users SET telegram_blocked_at = CASE WHEN $2 THEN now() END
      WHERE telegram_id = $1 AND (telegram_blocked_at IS NULL) = $2`,
    [telegramId, blocked],
  );
}

/** Things that are counted for each person, and how many there may be in a time; above it they are refused. */
const LIMITS = {
  /** Messages and buttons. */
  update: { max: 60, windowS: 60 },
  /** Guesses at promo codes, as over the API. */
  promo: { max: 30, windowS: 3_600 },
  /** Messages to support, as over the API. */
  support: { max: 60, windowS: 3_600 },
  /** Pictures drawn. */
  chart: { max: 10, windowS: 60 },
} as const;

/**
 * Counts one more; `over` when it is above the limit, `first` at the first one above it in this time. In the update's
 * transaction, so an update that is handled again counts once.
 */
export async function countOne(
  db: Queryable,
  telegramId: number,
  what: keyof typeof LIMITS,
): Promise<{ over: boolean; first: boolean }> {
  const { max, windowS } = LIMITS[what];
  const { rows } = await db.query<{ n: number }>(
    `INSERT INTO bot_counts (telegram_id, what, since, n) VALUES ($1, $2, now(), 1)
     ON CONFLICT (telegram_id, what) DO UPDATE
       SET n = CASE WHEN bot_counts.since < now() - make_interval(secs => $3) THEN 1 ELSE bot_counts.n + 1 END,
           since = CASE WHEN bot_counts.since < now() - make_interval(secs => $3) THEN now() ELSE bot_counts.since END
     RETURNING n`,
    [telegramId, what, windowS],
  );
  const n = rows[0]?.n ?? 0;
  return { over: n > max, first: n === max + 1 };
}

/** Deletes counts that are over and conversations nobody went on with; resolves to how many. A step of `cleanup`. */
export async function forgetOldBotState(db: Queryable): Promise<number> {
  const counts = await db.query("DELETE FROM bot_counts WHERE since < now() - interval '1 day'");
  const talks = await db.query("DELETE FROM bot_conversations WHERE updated_at < now() - interval '7 days'");
  const notices = await db.query("DELETE FROM bot_notices WHERE ended_at < now() - interval '30 days'");
  const live = await db.query("DELETE FROM bot_live_messages WHERE ended_at < now() - interval '7 days'");
  return [counts, talks, notices, live].reduce((sum, { rowCount }) => sum + (rowCount ?? 0), 0);
}
