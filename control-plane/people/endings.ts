import { randomBytes } from 'node:crypto';
import { revokeLogins } from '../auth/logins.js';
import type { Queryable } from '../db/pool.js';
import { stopSessions } from '../traffic/stop.js';
import { withdrawConsent } from '../users/consent.js';

/** Sessions to announce after the commit (`announceStops`). */
export type EndingResult =
  | { ok: true; changed: boolean; sessionIds: string[] }
  | { ok: false; code: 'not_found' | 'user_deleted' | 'is_admin' | 'payout_open' };

async function lockUser(client: Queryable, userId: string) {
  const { rows } = await client.query<{ status: 'active' | 'banned' | 'deleted'; is_admin: boolean }>(
    'SELECT status, is_admin FROM users WHERE id = $1 FOR UPDATE',
    [userId],
  );
  return rows[0] ?? null;
}

/**
 * Bans a user in the caller's transaction: sessions are stopped, none can be started. They may still sign in, see their
 * money and write to support. Repeating it changes the reason.
 */
export async function banUser(
  client: Queryable,
  userId: string,
  reason: string | null,
): Promise<EndingResult> {
  const user = await lockUser(client, userId);
  if (user === null) return { ok: false, code: 'not_found' };
  if (user.status === 'deleted') return { ok: false, code: 'user_deleted' };
  if (user.is_admin) return { ok: false, code: 'is_admin' };
  await client.query(
    `UPDATE users SET status = 'banned', ban_reason = $2, banned_at = coalesce(banned_at, now()), updated_at = now()
      WHERE id = $1`,
    [userId, reason],
  );
  const sessionIds = await stopSessions(client, { userId }, 'banned');
  return { ok: true, changed: user.status !== 'banned', sessionIds };
}

/** Lifts a ban. Of a user who is not banned nothing changes. */
export async function unbanUser(client: Queryable, userId: string): Promise<EndingResult> {
  const user = await lockUser(client, userId);
  if (user === null) return { ok: false, code: 'not_found' };
  if (user.status === 'deleted') return { ok: false, code: 'user_deleted' };
  if (user.status === 'banned')
    await client.query(
      `UPDATE users SET status = 'active', ban_reason = NULL, banned_at = NULL, updated_at = now() WHERE id = $1`,
      [userId],
    );
  return { ok: true, changed: user.status === 'banned', sessionIds: [] };
}

/**
 * Makes nobody of a user, in the caller's transaction. Gone: name, Telegram accounts, phone, email, settings, logins,
 * codes, device keys and models, addresses that are not needed for abuse handling, inbox, support threads. What stays
 * is money and what it is counted from (ledger, payouts, traffic sessions with their exit IPs, packages), consents
 * without their addresses, and the audit log. A payout under way is waited for (`payout_open`). Repeating it is
 * harmless.
 */
export async function anonymiseUser(client: Queryable, userId: string): Promise<EndingResult> {
  const user = await lockUser(client, userId);
  if (user === null) return { ok: false, code: 'not_found' };
  if (user.status === 'deleted') return { ok: true, changed: false, sessionIds: [] };
  if (user.is_admin) return { ok: false, code: 'is_admin' };
  const { rowCount: open } = await client.query(
    'SELECT 1 FROM payouts WHERE user_id = $1 AND ended_at IS NULL LIMIT 1',
    [userId],
  );
  if (open) return { ok: false, code: 'payout_open' };
  const sessionIds = await stopSessions(client, { userId }, 'stopped', 'user_deleted');
  await revokeLogins(client, userId, 'all');
  await withdrawConsent(client, userId);
  await client.query(
    `UPDATE users SET telegram_id = NULL, username = NULL, phone = NULL, email = NULL, settings = '{}',
       ban_reason = NULL, is_verified = false, status = 'deleted', deleted_at = now(), updated_at = now()
      WHERE id = $1`,
    [userId],
  );
  // A key that nobody has: the column must be unique and not empty.
  await client.query(
    `UPDATE devices SET key_hash = sha256(convert_to($2 || id, 'UTF8')), model = NULL, claimed_ip = NULL,
       last_ip = NULL, refused_rule = NULL, push_token = NULL, removed_at = coalesce(removed_at, now()) WHERE user_id = $1`,
    [userId, randomBytes(32).toString('hex')],
  );
  for (const statement of [
    // The bot's, while it is known whose Telegram accounts they are of.
    ...['bot_people', 'bot_counts', 'bot_conversations'].map(
      (table) =>
        `DELETE FROM ${table} WHERE telegram_id IN (SELECT telegram_id FROM telegram_accounts WHERE user_id = $1)`,
    ),
    'DELETE FROM bot_notices WHERE user_id = $1',
    'DELETE FROM bot_live_messages WHERE session_id IN (SELECT id FROM traffic_sessions WHERE user_id = $1)',
    'DELETE FROM telegram_accounts WHERE user_id = $1',
    'DELETE FROM telegram_link_tokens WHERE user_id = $1',
    'DELETE FROM login_codes WHERE user_id = $1',
    'DELETE FROM refresh_tokens WHERE login_id IN (SELECT id FROM logins WHERE user_id = $1)',
    'UPDATE logins SET ip = NULL, user_agent = NULL WHERE user_id = $1',
    'UPDATE consents SET ip = NULL WHERE user_id = $1',
    'UPDATE traffic_sessions SET local_ip = NULL, claimed_public_ip = NULL WHERE user_id = $1',
    'DELETE FROM notifications WHERE user_id = $1',
    'DELETE FROM support_threads WHERE user_id = $1',
    "DELETE FROM idempotency_keys WHERE actor = 'user:' || $1::text",
  ])
    await client.query(statement, [userId]);
  return { ok: true, changed: true, sessionIds };
}
