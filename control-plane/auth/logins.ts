import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { type Queryable, withTransaction } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { issueAccessToken } from './access-token.js';
import { randomSecret, sha256 } from './secrets.js';

export interface TokenSettings {
  jwtSecret: string;
  accessTokenTtlS: number;
  refreshTokenTtlS: number;
}

export interface TokenPair {
  access_token: string;
  refresh_token: string;
  /** Seconds the access token lives. */
  expires_in: number;
  token_type: 'Bearer';
}

/** Starts a login (a family of refresh tokens). Returns its id. */
export async function insertLogin(
  client: Queryable,
  login: { userId: string; ip: string | null; userAgent: string | null },
): Promise<string> {
  const id = randomUUID();
  await client.query('INSERT INTO logins (id, user_id, ip, user_agent) VALUES ($1, $2, $3, $4)', [
    id,
    login.userId,
    login.ip,
    login.userAgent?.slice(0, 300) ?? null,
  ]);
  return id;
}

/** A new token pair of a login; the refresh token is stored as a hash only. */
export async function issuePair(
  client: Queryable,
  settings: TokenSettings,
  login: { userId: string; loginId: string },
  nowMs: number,
): Promise<TokenPair> {
  const refreshToken = randomSecret('tsr_');
  await client.query(
    'INSERT INTO refresh_tokens (token_hash, login_id, created_at, expires_at) VALUES ($1, $2, $3, $4)',
    [
      sha256(refreshToken),
      login.loginId,
      new Date(nowMs),
      new Date(nowMs + settings.refreshTokenTtlS * 1000),
    ],
  );
  return {
    access_token: await issueAccessToken(
      settings.jwtSecret,
      { ...login, role: 'user', ttlS: settings.accessTokenTtlS },
      nowMs,
    ),
    refresh_token: refreshToken,
    expires_in: settings.accessTokenTtlS,
    token_type: 'Bearer',
  };
}

export type RefreshResult =
  | { ok: true; pair: TokenPair; userId: string; loginId: string }
  | { ok: false; code: 'invalid_refresh_token' }
  /** A token that was used before came again: someone else has a copy. The whole login is revoked now. */
  | { ok: false; code: 'refresh_token_reused'; userId: string; loginId: string };

/** Trades a refresh token for a new pair, once. */
export async function refresh(
  pool: pg.Pool,
  settings: TokenSettings,
  refreshToken: string,
  nowMs: number,
): Promise<RefreshResult> {
  const now = new Date(nowMs);
  return withTransaction(pool, async (client) => {
    const { rows } = await client.query<{
      login_id: string;
      user_id: string;
      used: boolean;
      expired: boolean;
      ended: boolean;
    }>(
      `SELECT t.login_id, l.user_id, t.used_at IS NOT NULL AS used, t.expires_at <= $2 AS expired,
              l.revoked_at IS NOT NULL OR u.status = 'deleted' AS ended
       FROM refresh_tokens t JOIN logins l ON l.id = t.login_id JOIN users u ON u.id = l.user_id
       WHERE t.token_hash = $1 FOR UPDATE OF t, l`,
      [sha256(refreshToken), now],
    );
    const row = rows[0];
    if (row === undefined || row.ended) return { ok: false, code: 'invalid_refresh_token' };
    const login = { userId: row.user_id, loginId: row.login_id };
    if (row.used) {
      await client.query('UPDATE logins SET revoked_at = $2 WHERE id = $1', [row.login_id, now]);
      return { ok: false, code: 'refresh_token_reused', ...login };
    }
    if (row.expired) return { ok: false, code: 'invalid_refresh_token' };
    await client.query('UPDATE refresh_tokens SET used_at = $2 WHERE token_hash = $1', [
      sha256(refreshToken),
      now,
    ]);
    await client.query('UPDATE logins SET last_used_at = $2 WHERE id = $1', [row.login_id, now]);
    return { ok: true, pair: await issuePair(client, settings, login, nowMs), ...login };
  });
}

/** A login that is not revoked. */
export interface OpenLogin {
  id: string;
  ip: string | null;
  user_agent: string | null;
  created_at: Date;
  last_used_at: Date;
}

/** Where a user is signed in, latest first. */
export async function listLogins(
  db: Queryable,
  userId: string,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: OpenLogin[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined ? [] : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<OpenLogin & { at: string }>(
    `SELECT id, ip, user_agent, created_at, last_used_at,
            to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at FROM logins
      WHERE user_id = $1 AND revoked_at IS NULL AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $4`,
    [userId, after[0] ?? null, after[1] ?? null, page.limit + 1],
  );
  return cutPage(rows, page.limit, (row) => [row.at, row.id]);
}

/** Ends logins of a user: the given one, or all. Their access and refresh tokens are dead at once. Returns how many. */
export async function revokeLogins(
  client: Queryable,
  userId: string,
  loginId: string | 'all',
): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE logins SET revoked_at = now()
     WHERE user_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR id = $2)`,
    [userId, loginId === 'all' ? null : loginId],
  );
  return rowCount ?? 0;
}
