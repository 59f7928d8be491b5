import { randomBytes, randomInt, randomUUID, timingSafeEqual } from 'node:crypto';
import type pg from 'pg';
import { type Queryable, withTransaction } from '../db/pool.js';
import { derivedKey, hmac } from './secrets.js';

/** Wrong tries a code survives; the next one finds it dead. */
export const CODE_TRIES_MAX = 5;

/**
 * A code has 10^6 values, so a salted hash alone falls to whoever gets the table: the hash is keyed with the
 * server's secret as well.
 */
function codeHash(secret: string, salt: Buffer, code: string): Buffer {
  return hmac(derivedKey(secret, 'login-code'), salt, code);
}

/**
 * Draws a code for the user and stores its hash; earlier codes of the user are dead from now on. Returns the six
 * digits to send, or null when the user has had `perHourMax` codes in the last hour (the caller must not say so:
 * it would tell that the user exists).
 */
export async function issueCode(
  pool: pg.Pool,
  settings: { jwtSecret: string; loginCodeTtlS: number; codesPerIdPerHour: number },
  userId: string,
  nowMs: number,
): Promise<string | null> {
  const code = randomInt(1_000_000).toString().padStart(6, '0');
  const salt = randomBytes(16);
  const now = new Date(nowMs);
  return withTransaction(pool, async (client) => {
    // Two at once must not both leave a live code.
    await client.query('SELECT 1 FROM users WHERE id = $1 FOR UPDATE', [userId]);
    const { rows } = await client.query<{ recent: number }>(
      'SELECT count(*)::int AS recent FROM login_codes WHERE user_id = $1 AND created_at > $2',
      [userId, new Date(nowMs - 3_600_000)],
    );
    if ((rows[0]?.recent ?? 0) >= settings.codesPerIdPerHour) return null;
    await client.query('UPDATE login_codes SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL', [
      userId,
      now,
    ]);
    await client.query(
      `INSERT INTO login_codes (id, user_id, code_hash, salt, created_at, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [
        randomUUID(),
        userId,
        codeHash(settings.jwtSecret, salt, code),
        salt,
        now,
        new Date(nowMs + settings.loginCodeTtlS * 1000),
      ],
    );
    return code;
  });
}

/**
 * Whether the code is the user's live one; it is spent by a hit, and each call costs one of its tries, hit or not.
 * `userId` null (nobody has that Telegram id) takes the same work and is never right.
 */
export async function tryCode(
  client: Queryable,
  jwtSecret: string,
  userId: string | null,
  code: string,
  nowMs: number,
): Promise<boolean> {
  const now = new Date(nowMs);
  // The try is taken before the comparison, so that parallel guesses cannot share one.
  const { rows } = await client.query<{ id: string; code_hash: Buffer; salt: Buffer }>(
    `UPDATE login_codes SET tries = tries + 1
     WHERE user_id = $1 AND used_at IS NULL AND expires_at > $2 AND tries < $3
     RETURNING id, code_hash, salt`,
    [userId, now, CODE_TRIES_MAX],
  );
  const live = rows[0];
  const right = timingSafeEqual(
    codeHash(jwtSecret, live?.salt ?? Buffer.alloc(16), code),
    live?.code_hash ?? Buffer.alloc(32),
  );
  if (live === undefined || !right) return false;
  const { rowCount } = await client.query(
    'UPDATE login_codes SET used_at = $2 WHERE id = $1 AND used_at IS NULL',
    [live.id, now],
  );
  return rowCount === 1;
}
