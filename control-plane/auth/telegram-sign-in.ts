import type pg from 'pg';
import type { Clock } from '../../gateway/runtime/clock.js';
import { Problem } from '../errors.js';
import { findOrCreateUser, findReferrer, type UserRow } from '../users/users.js';
import {
  type LoginWidgetData,
  type TelegramDataResult,
  verifyInitData,
  verifyLoginWidget,
} from './telegram-data.js';

export interface SignedIn {
  user: UserRow;
  created: boolean;
}

/** Turns data that Telegram signed into a user, made on first sight. Throws Problem('invalid_telegram_data'). */
export interface TelegramSignIn {
  withInitData(initData: string): Promise<SignedIn>;
  withLoginWidget(data: LoginWidgetData): Promise<SignedIn>;
  /** The Telegram id the widget's data proves; makes nobody. */
  identify(data: LoginWidgetData): number;
}

/** `botToken` null: no bot is set up, so no data can be genuine. */
export function createTelegramSignIn(deps: {
  pool: pg.Pool;
  clock: Clock;
  botToken: string | null;
}): TelegramSignIn {
  const { pool, clock, botToken } = deps;

  function genuine(check: (token: string, nowMs: number) => TelegramDataResult) {
    if (botToken === null)
      throw new Problem('invalid_telegram_data', 'This server has no Telegram bot set up (TS_BOT_TOKEN).');
    const result = check(botToken, clock.nowMs());
    if (!result.ok)
      throw new Problem(
        'invalid_telegram_data',
        result.reason === 'too_old'
          ? 'The data is older than 24 hours.'
          : 'The data is not signed for this bot.',
      );
    return result;
  }

  async function signIn(identity: Extract<TelegramDataResult, { ok: true }>): Promise<SignedIn> {
    const referredBy = identity.startParam === null ? null : await findReferrer(pool, identity.startParam);
    const signedIn = await findOrCreateUser(pool, {
      telegramId: identity.telegramId,
      username: identity.username,
      language: identity.languageCode,
      isVerified: true,
      referredBy,
    });
    const { user } = signedIn;
    const isMain = user.telegram_id === BigInt(identity.telegramId);
    const username = (isMain ? identity.username : null) ?? user.username;
    if (!user.is_verified || username !== user.username) {
      // Telegram is the authority on both.
      user.is_verified = true;
      user.username = username;
      await pool.query(
        `WITH account AS (UPDATE telegram_accounts SET username = $3 WHERE telegram_id = $2)
         UPDATE users SET is_verified = true, username = $4, updated_at = now() WHERE id = $1`,
        [user.id, identity.telegramId, identity.username, username],
      );
    }
    return signedIn;
  }

  return {
    withInitData: async (initData) => signIn(genuine((token, now) => verifyInitData(initData, token, now))),
    withLoginWidget: async (data) => signIn(genuine((token, now) => verifyLoginWidget(data, token, now))),
    identify: (data) => genuine((token, now) => verifyLoginWidget(data, token, now)).telegramId,
  };
}
