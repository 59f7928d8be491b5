import type { Queryable } from '../db/pool.js';
import { hashSecret, randomBase62 } from './secrets.js';

/** What starts the bot with a buyer's link token (Telegram takes 64 of these characters). */
export const BUYER_START_PREFIX = 'buyer_';
/** How long a link waits to be opened in Telegram. */
export const BUYER_LINK_TTL_S = 900;
/** Telegram accounts of one buyer. */
export const BUYER_TELEGRAMS_MAX = 10;
/** Of 62: 190 bits. */
const TOKEN_DIGITS = 32;
/** Links one buyer may have waiting; the oldest go. */
const LINKS_MAX = 5;

/** A Telegram account that may top the buyer up from the bot. It opens nothing else. */
export interface BuyerTelegram {
  telegramId: number;
  username: string | null;
  linkedAt: Date;
}

export async function readBuyerTelegrams(db: Queryable, buyerId: string): Promise<BuyerTelegram[]> {
  const { rows } = await db.query<{ telegram_id: bigint; username: string | null; linked_at: Date }>(
    'SELECT telegram_id, username, linked_at FROM buyer_telegrams WHERE buyer_id = $1 ORDER BY linked_at, telegram_id',
    [buyerId],
  );
  return rows.map((row) => ({
    telegramId: Number(row.telegram_id),
    username: row.username,
    linkedAt: row.linked_at,
  }));
}

/** Whose this Telegram account is; null: no buyer's. */
export async function findBuyerByTelegram(
  db: Queryable,
  telegramId: number,
): Promise<{ id: string; status: 'active' | 'suspended' | 'closed' } | null> {
  const { rows } = await db.query<{ id: string; status: 'active' | 'suspended' | 'closed' }>(
    'SELECT b.id, b.status FROM buyer_telegrams t JOIN buyers b ON b.id = t.buyer_id WHERE t.telegram_id = $1',
    [telegramId],
  );
  return rows[0] ?? null;
}

/** A token for one link, shown once; kept as a hash. Call in a transaction. */
export async function createBuyerLink(client: Queryable, buyerId: string): Promise<string> {
  const token = randomBase62(TOKEN_DIGITS);
  await client.query('SELECT 1 FROM buyers WHERE id = $1 FOR NO KEY UPDATE', [buyerId]);
  await client.query(
    `DELETE FROM buyer_link_tokens WHERE buyer_id = $1 AND token_hash NOT IN
       (SELECT token_hash FROM buyer_link_tokens
         WHERE buyer_id = $1 AND used_at IS NULL AND expires_at > now()
         ORDER BY created_at DESC LIMIT ${LINKS_MAX - 1})`,
    [buyerId],
  );
  await client.query(
    `INSERT INTO buyer_link_tokens (token_hash, buyer_id, expires_at)
     VALUES ($1, $2, now() + make_interval(secs => $3))`,
    [hashSecret(token), buyerId, BUYER_LINK_TTL_S],
  );
  return token;
}

/** The name of the buyer whose link it is; null: it was used or is too old. */
export async function findBuyerLinkOwner(db: Queryable, token: string): Promise<string | null> {
  const { rows } = await db.query<{ name: string }>(
    `SELECT b.name FROM buyer_link_tokens l JOIN buyers b ON b.id = l.buyer_id
      WHERE l.token_hash = $1 AND l.used_at IS NULL AND l.expires_at > now()`,
    [hashSecret(token)],
  );
  return rows[0]?.name ?? null;
}

export type BuyerLinkResult =
  | { ok: true; buyerId: string; name: string; fresh: boolean }
  | { ok: false; code: 'link_expired' | 'telegram_taken' | 'too_many_telegrams' | 'forbidden' };

/**
 * Links the Telegram account that opened a link, in the caller's transaction; the bot knows which. The token
 * is spent by a success. An account of another buyer stays theirs.
 */
export async function confirmBuyerLink(
  client: Queryable,
  token: string,
  account: { telegramId: number; username: string | null },
): Promise<BuyerLinkResult> {
  const hash = hashSecret(token);
  const { rows } = await client.query<{ id: string; name: string; status: string }>(
    `SELECT b.id, b.name, b.status FROM buyer_link_tokens l JOIN buyers b ON b.id = l.buyer_id
      WHERE l.token_hash = $1 AND l.used_at IS NULL AND l.expires_at > now() FOR NO KEY UPDATE`,
    [hash],
  );
  const [buyer] = rows;
  if (buyer === undefined) return { ok: false, code: 'link_expired' };
  if (buyer.status !== 'active') return { ok: false, code: 'forbidden' };
  const others = await readBuyerTelegrams(client, buyer.id);
  const known = others.some((other) => other.telegramId === account.telegramId);
  if (!known && others.length >= BUYER_TELEGRAMS_MAX) return { ok: false, code: 'too_many_telegrams' };
  const { rows: linked } = await client.query<{ fresh: boolean }>(
    `INSERT INTO buyer_telegrams AS t (telegram_id, buyer_id, username) VALUES ($1, $2, $3)
     ON CONFLICT (telegram_id) DO UPDATE SET username = coalesce(EXCLUDED.username, t.username)
        WHERE t.buyer_id = EXCLUDED.buyer_id
     RETURNING xmax = 0 AS fresh`,
    [account.telegramId, buyer.id, account.username],
  );
  if (linked[0] === undefined) return { ok: false, code: 'telegram_taken' };
  await client.query('UPDATE buyer_link_tokens SET used_at = now() WHERE token_hash = $1', [hash]);
  return { ok: true, buyerId: buyer.id, name: buyer.name, fresh: linked[0].fresh };
}

/** False: it was not the buyer's. */
export async function unlinkBuyerTelegram(
  client: Queryable,
  buyerId: string,
  telegramId: number,
): Promise<boolean> {
  const { rowCount } = await client.query(
    'DELETE FROM buyer_telegrams WHERE buyer_id = $1 AND telegram_id = $2',
    [buyerId, telegramId],
  );
  return rowCount === 1;
}

/** Deletes links whose time is over; resolves to how many. A step of the job `cleanup`. */
export async function forgetOldBuyerLinks(db: Queryable): Promise<number> {
  const { rowCount } = await db.query(
    "DELETE FROM buyer_link_tokens WHERE expires_at < now() - interval '1 day'",
  );
  return rowCount ?? 0;
}
