import { randomSecret, sha256 } from '../auth/secrets.js';
import type { Queryable } from '../db/pool.js';
import { findUser } from '../users/users.js';

/** What starts the bot with a link token (Telegram takes 64 of these characters). */
export const START_PREFIX = 'link_';
/** How long a link waits to be opened in Telegram. */
export const LINK_TTL_S = 900;
/** Telegram accounts of one user. */
export const TELEGRAMS_MAX = 5;
/** Links one user may have waiting; the oldest go. */
const LINKS_MAX = 5;

export interface TelegramAccount {
  index: number;
  telegramId: number;
  username: string | null;
  /** Messages go to this one. */
  main: boolean;
  linkedAt: Date;
}

/** Telegram accounts of a user, in the order they were linked. */
export async function readTelegrams(client: Queryable, userId: string): Promise<TelegramAccount[]> {
  return (await readTelegramsOf(client, [userId])).get(userId) ?? [];
}

/** The same of many users. */
export async function readTelegramsOf(
  client: Queryable,
  userIds: readonly string[],
): Promise<Map<string, TelegramAccount[]>> {
  const { rows } = await client.query<{
    user_id: string;
    telegram_id: bigint;
    position: number;
    username: string | null;
    main: boolean;
    linked_at: Date;
  }>(
    `SELECT a.user_id, a.telegram_id, a.position, a.username, a.linked_at, a.telegram_id = u.telegram_id AS main
       FROM telegram_accounts a JOIN users u ON u.id = a.user_id
      WHERE a.user_id = ANY ($1::uuid[]) ORDER BY a.user_id, a.position`,
    [userIds],
  );
  const accounts = new Map<string, TelegramAccount[]>(userIds.map((id) => [id, []]));
  for (const row of rows)
    accounts.get(row.user_id)?.push({
      index: row.position,
      telegramId: Number(row.telegram_id),
      username: row.username,
      main: row.main,
      linkedAt: row.linked_at,
    });
  return accounts;
}

/** A token for one link, shown once; kept as a hash. Call in a transaction. */
export async function createLinkToken(client: Queryable, userId: string): Promise<string> {
  const token = randomSecret();
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
  await client.query(
    `DELETE FROM telegram_link_tokens WHERE user_id = $1 AND token_hash NOT IN
       (SELECT token_hash FROM telegram_link_tokens
         WHERE user_id = $1 AND used_at IS NULL AND expires_at > now()
         ORDER BY created_at DESC LIMIT ${LINKS_MAX - 1})`,
    [userId],
  );
  await client.query(
    `INSERT INTO telegram_link_tokens (token_hash, user_id, expires_at)
     VALUES ($1, $2, now() + make_interval(secs => $3))`,
    [sha256(token), userId, LINK_TTL_S],
  );
  return token;
}

/**
 * Whose link it is, as they are known on Telegram: `@name`, else the id of their main account; null: it was used or is
 * too old. For whoever opened it to know whom they would join.
 */
export async function findLinkOwner(db: Queryable, token: string): Promise<string | null> {
  const { rows } = await db.query<{ name: string | null }>(
    `SELECT coalesce('@' || u.username, u.telegram_id::text) AS name
       FROM telegram_link_tokens l JOIN users u ON u.id = l.user_id
      WHERE l.token_hash = $1 AND l.used_at IS NULL AND l.expires_at > now()`,
    [sha256(token)],
  );
  return rows[0]?.name ?? null;
}

export type LinkResult =
  | { ok: true; userId: string; index: number; fresh: boolean }
  | { ok: false; code: 'link_expired' | 'telegram_taken' | 'too_many_telegrams' | 'forbidden' };

/**
 * Links the Telegram account that opened a link, in the caller's transaction; the bot knows which. The token
 * is spent by a success. An account of another user stays theirs, and users are not merged. Admins have one
 * account: a second one must not be a way to it.
 */
export async function confirmLink(
  client: Queryable,
  token: string,
  account: { telegramId: number; username: string | null },
): Promise<LinkResult> {
  const { rows } = await client.query<{ user_id: string }>(
    `SELECT user_id FROM telegram_link_tokens
      WHERE token_hash = $1 AND used_at IS NULL AND expires_at > now() FOR UPDATE`,
    [sha256(token)],
  );
  const userId = rows[0]?.user_id;
  if (userId === undefined) return { ok: false, code: 'link_expired' };
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
  const user = await findUser(client, userId);
  if (user === null || user.status !== 'active' || user.is_admin) return { ok: false, code: 'forbidden' };
  // As the insert of a user does: nobody is made for this account meanwhile.
  await client.query('SELECT telegram_lock($1)', [account.telegramId]);
  const { rows: known } = await client.query<{ user_id: string; position: number }>(
    'SELECT user_id, position FROM telegram_accounts WHERE telegram_id = $1',
    [account.telegramId],
  );
  const spend = () =>
    client.query('UPDATE telegram_link_tokens SET used_at = now() WHERE token_hash = $1', [sha256(token)]);
  if (known[0] !== undefined) {
    if (known[0].user_id !== userId) return { ok: false, code: 'telegram_taken' };
    await spend();
    return { ok: true, userId, index: known[0].position, fresh: false };
  }
  const accounts = await readTelegrams(client, userId);
  if (accounts.length >= TELEGRAMS_MAX) return { ok: false, code: 'too_many_telegrams' };
  const index = 1 + Math.max(-1, ...accounts.map((a) => a.index));
  await client.query(
    'INSERT INTO telegram_accounts (telegram_id, user_id, position, username) VALUES ($1, $2, $3, $4)',
    [account.telegramId, userId, index, account.username],
  );
  await spend();
  await keepMain(client, userId);
  return { ok: true, userId, index, fresh: true };
}

export type UnlinkResult =
  | { ok: true; removed: TelegramAccount[] }
  | { ok: false; code: 'not_found' | 'last_telegram' | 'is_admin' };

/**
 * Unlinks one account by its index, or all but the one linked last, in the caller's transaction. The last one
 * stays: without it nobody could sign in. Who signed in with an account stays signed in: revoke logins for
 * that.
 */
export async function unlinkTelegrams(
  client: Queryable,
  userId: string,
  which: number | 'all_but_last',
): Promise<UnlinkResult> {
  await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
  const user = await findUser(client, userId);
  if (user === null) return { ok: false, code: 'not_found' };
  const accounts = await readTelegrams(client, userId);
  const removed =
    which === 'all_but_last' ? accounts.slice(0, -1) : accounts.filter((account) => account.index === which);
  if (removed.length === 0)
    return which === 'all_but_last' ? { ok: true, removed } : { ok: false, code: 'not_found' };
  if (removed.length === accounts.length) return { ok: false, code: 'last_telegram' };
  if (user.is_admin && removed.some((account) => account.main)) return { ok: false, code: 'is_admin' };
  await client.query('DELETE FROM telegram_accounts WHERE telegram_id = ANY ($1::bigint[])', [
    removed.map((account) => account.telegramId),
  ]);
  await keepMain(client, userId);
  return { ok: true, removed };
}

/** When the main account is gone, the first of those that are left is it. */
async function keepMain(client: Queryable, userId: string): Promise<void> {
  await client.query(
    `UPDATE users u SET telegram_id = a.telegram_id, username = a.username, updated_at = now()
       FROM (SELECT telegram_id, username FROM telegram_accounts WHERE user_id = $1 ORDER BY position LIMIT 1) a
      WHERE u.id = $1 AND NOT EXISTS (SELECT 1 FROM telegram_accounts t
                                       WHERE t.user_id = u.id AND t.telegram_id = u.telegram_id)`,
    [userId],
  );
}
