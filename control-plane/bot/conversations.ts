import type { Queryable } from '../db/pool.js';

/**
 * Where a conversation is, kept in Postgres and changed in the transaction of the update that moves it: whatever
 * crashes, the answer to a question is taken once, and any control plane goes on. One conversation a person.
 */
export interface Conversation {
  /** `withdraw`, `support`, … */
  kind: string;
  /** What was said so far. */
  state: Readonly<Record<string, unknown>>;
}

/** A conversation nobody answered for this long has ended. */
const LIFETIME_S = 3_600;

/** The person's conversation, held for the transaction; null: there is none, or it waited too long. */
export async function readConversation(db: Queryable, telegramId: number): Promise<Conversation | null> {
  const { rows } = await db.query<Conversation>(
    `SELECT kind, state FROM bot_conversations
      WHERE telegram_id = $1 AND updated_at > now() - make_interval(secs => ${LIFETIME_S}) FOR UPDATE`,
    [telegramId],
  );
  return rows[0] ?? null;
}

/** Begins a conversation or moves it on; one of another kind ends. */
export async function keepConversation(
  db: Queryable,
  telegramId: number,
  { kind, state }: Conversation,
): Promise<void> {
  await db.query(
    `INSERT INTO bot_conversations (telegram_id, kind, state) VALUES ($1, $2, $3)
     ON CONFLICT (telegram_id) DO UPDATE SET kind = excluded.kind, state = excluded.state, updated_at = now()`,
    [telegramId, kind, JSON.stringify(state)],
  );
}

/** Ends it; false: there was none. */
export async function endConversation(db: Queryable, telegramId: number): Promise<boolean> {
  const { rowCount } = await db.query('DELETE FROM bot_conversations WHERE telegram_id = $1', [telegramId]);
  return rowCount === 1;
}
