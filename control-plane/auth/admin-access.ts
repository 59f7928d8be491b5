import { type AuditRecord, recordAudit } from '../audit/audit.js';
import type { Queryable } from '../db/pool.js';
import { findOrCreateUser } from '../users/users.js';
import { issueAccessToken } from './access-token.js';
import { insertLogin } from './logins.js';

/** What an admin's token is made of: the key that signs it, and its life in seconds. */
export interface AdminTokenSettings {
  jwtSecret: string;
  adminTokenTtlS: number;
}

/** An admin's access token as the API answers it; there is no refresh token. */
export interface AdminToken {
  user_id: string;
  access_token: string;
  /** Seconds the token lives. */
  expires_in: number;
  token_type: 'Bearer';
}

/** Who is to be an admin: the owner of a Telegram account, or, with null, somebody who has none. */
export interface NewAdmin {
  telegramId: number | null;
  /** What the admin is called in lists; one who has a name already keeps it. */
  username?: string | undefined;
}

/** Any constant: whoever makes an admin because there is none queues on it. */
const FIRST_ADMIN_LOCK = 7_140_033_921_106;

/** Whether there is no admin; until the end of the transaction nobody else is told so. */
export async function lockFirstAdmin(client: Queryable): Promise<boolean> {
  await client.query('SELECT pg_advisory_xact_lock($1)', [FIRST_ADMIN_LOCK]);
  const { rowCount } = await client.query('SELECT 1 FROM users WHERE is_admin LIMIT 1');
  return rowCount === 0;
}

/**
 * Makes somebody an admin, a new user when there is none with that Telegram account. Refused: a user who is banned or deleted, and
 * an account that is linked beside another one (`linked_telegram`), since an admin signs in with the main one alone. `already`: this
 * user was an admin before, and nothing has changed. Call it in a transaction, with what audits it.
 */
export async function makeAdmin(
  client: Queryable,
  { telegramId, username }: NewAdmin,
): Promise<
  { ok: true; userId: string; already: boolean } | { ok: false; code: 'user_not_active' | 'linked_telegram' }
> {
  const { user } = await findOrCreateUser(client, {
    telegramId,
    username: username ?? null,
    isVerified: true,
  });
  if (user.status !== 'active') return { ok: false, code: 'user_not_active' };
  if (telegramId !== null && user.telegram_id !== BigInt(telegramId))
    return { ok: false, code: 'linked_telegram' };
  const { rowCount } = await client.query(
    `UPDATE users SET is_admin = true, is_verified = true, username = coalesce(username, $2), updated_at = now()
      WHERE id = $1 AND NOT is_admin`,
    [user.id, username ?? null],
  );
  return { ok: true, userId: user.id, already: rowCount === 0 };
}

/** Where an admin signs in from, and the line of the audit log that says so. */
export interface AdminSignIn {
  userId: string;
  ip: string | null;
  /** What the login is shown as in the list of logins. */
  userAgent: string | null;
  audit: Pick<AuditRecord, 'action' | 'after' | 'requestId'> & {
    /** Left out: the admin. */
    actor?: AuditRecord['actor'];
  };
}

/** Signs an admin in: a login, which can be ended like any other, its token, and the line in the audit log. */
export async function signInAdmin(
  client: Queryable,
  settings: AdminTokenSettings,
  { userId, ip, userAgent, audit }: AdminSignIn,
  nowMs: number,
): Promise<AdminToken> {
  const loginId = await insertLogin(client, { userId, ip, userAgent });
  await recordAudit(client, {
    actor: { role: 'admin', userId, loginId },
    ...audit,
    objectType: 'user',
    objectId: userId,
    ip,
  });
  const ttlS = settings.adminTokenTtlS;
  return {
    user_id: userId,
    access_token: await issueAccessToken(settings.jwtSecret, { userId, role: 'admin', loginId, ttlS }, nowMs),
    expires_in: ttlS,
    token_type: 'Bearer',
  };
}
