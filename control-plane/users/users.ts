import { randomInt, randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';

/** Languages the product speaks. */
export const LANGUAGES = ['en', 'ru', 'uz'] as const;
export type Language = (typeof LANGUAGES)[number];

/** The product's language nearest to an IETF tag such as `ru-RU`; English when there is none. */
export function languageOf(tag: string | null | undefined): Language {
  return LANGUAGES.find((language) => tag?.toLowerCase().startsWith(language)) ?? 'en';
}

export interface UserRow {
  id: string;
  /** The main one, which messages go to. */
  telegram_id: bigint | null;
  username: string | null;
  phone: string | null;
  email: string | null;
  language: Language;
  is_verified: boolean;
  is_admin: boolean;
  status: 'active' | 'banned' | 'deleted';
  referral_code: string;
  settings: Record<string, unknown>;
  created_at: Date;
}

const COLUMNS =
  'id, telegram_id, username, phone, email, language, is_verified, is_admin, status, referral_code, settings, created_at';

/** The user, or null. A deleted one is still found (money records stay). */
export async function findUser(client: Queryable, id: string): Promise<UserRow | null> {
  const { rows } = await client.query<UserRow>(`SELECT ${COLUMNS} FROM users WHERE id = $1`, [id]);
  return rows[0] ?? null;
}

/** The user to whom this Telegram account belongs, be it the main one or a linked one; or null. */
export async function findUserByTelegramId(client: Queryable, telegramId: number): Promise<UserRow | null> {
  const { rows } = await client.query<UserRow>(
    `SELECT ${COLUMNS} FROM users WHERE id = (SELECT user_id FROM telegram_accounts WHERE telegram_id = $1)`,
    [telegramId],
  );
  return rows[0] ?? null;
}

/** Whose referral code this is; null when nobody's. */
export async function findReferrer(client: Queryable, referralCode: string): Promise<string | null> {
  const { rows } = await client.query<{ id: string }>(
    "SELECT id FROM users WHERE referral_code = $1 AND status = 'active'",
    [referralCode],
  );
  return rows[0]?.id ?? null;
}

/** Without letters and digits that look alike (Crockford's base 32): people read these codes to each other. */
const CODE_ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const CODE_LENGTH = 8;

function drawReferralCode(): string {
  let code = '';
  for (let i = 0; i < CODE_LENGTH; i++) code += CODE_ALPHABET[randomInt(CODE_ALPHABET.length)];
  return code;
}

/** What users change about themselves; what is left out stays, null clears. */
export interface ProfileChange {
  phone?: string | null | undefined;
  email?: string | null | undefined;
  language?: Language | undefined;
  /** Members that are left out stay as they are. */
  settings?: Readonly<Record<string, unknown>> | undefined;
}

export async function changeProfile(client: Queryable, id: string, change: ProfileChange): Promise<void> {
  const { phone, email, language, settings } = change;
  await client.query(
    `UPDATE users SET
       phone = CASE WHEN $2 THEN $3 ELSE phone END,
       email = CASE WHEN $4 THEN $5 ELSE email END,
       language = coalesce($6, language),
       settings = settings || $7::jsonb,
       updated_at = now()
     WHERE id = $1`,
    [
      id,
      phone !== undefined,
      phone ?? null,
      email !== undefined,
      email ?? null,
      language ?? null,
      JSON.stringify(settings ?? {}),
    ],
  );
}

export interface NewUser {
  /** null: somebody without Telegram, always new. */
  telegramId: number | null;
  username?: string | null;
  phone?: string | null;
  language?: string | null;
  isVerified?: boolean;
  referredBy?: string | null;
}

/** The user with this Telegram id, made now when there is none. `created` says which. Existing ones are not changed. */
export async function findOrCreateUser(
  client: Queryable,
  user: NewUser,
): Promise<{ user: UserRow; created: boolean }> {
  const find = () => (user.telegramId === null ? null : findUserByTelegramId(client, user.telegramId));
  const existing = await find();
  if (existing !== null) return { user: existing, created: false };
  const language = languageOf(user.language);
  for (let tries = 0; tries < 3; tries++) {
    const { rows } = await client.query<UserRow>(
      `INSERT INTO users (id, telegram_id, username, phone, language, is_verified, referral_code, referred_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
       ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
      [
        randomUUID(),
        user.telegramId,
        user.username ?? null,
        user.phone ?? null,
        language,
        user.isVerified ?? false,
        drawReferralCode(),
        user.referredBy ?? null,
      ],
    );
    const made = rows[0];
    if (made !== undefined) return { user: made, created: true };
    // Someone else made the same user just now, or the referral code was drawn before: then draw again.
    const raced = await find();
    if (raced !== null) return { user: raced, created: false };
  }
  throw new Error('no free referral code after three draws');
}
