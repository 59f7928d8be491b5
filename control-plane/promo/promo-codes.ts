import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { post } from '../ledger/ledger.js';

export interface PromoCode {
  id: string;
  code: string;
  bonus_micros: bigint;
  uses_max: number;
  per_user_max: number;
  uses: number;
  status: 'active' | 'disabled' | 'deleted';
  description: string | null;
  expires_at: Date | null;
  created_at: Date;
  updated_at: Date;
  at: string;
}

const COLUMNS = `id, code, bonus_micros, uses_max, per_user_max, uses, status, description, expires_at, created_at,
  updated_at, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`;

/** As codes are kept and compared: people type them in any case. */
const normal = (code: string) => code.trim().toUpperCase();

/** Promo codes that are not deleted, newest first. */
export async function listPromoCodes(
  db: Queryable,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: PromoCode[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined ? [] : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<PromoCode>(
    `SELECT ${COLUMNS} FROM promo_codes
      WHERE status <> 'deleted' AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $3`,
    [after[0] ?? null, after[1] ?? null, page.limit + 1],
  );
  return cutPage(rows, page.limit, (row) => [row.at, row.id]);
}

export async function findPromoCode(db: Queryable, id: string, lock = false): Promise<PromoCode | null> {
  const { rows } = await db.query<PromoCode>(
    `SELECT ${COLUMNS} FROM promo_codes WHERE id = $1 AND status <> 'deleted' ${lock ? 'FOR UPDATE' : ''}`,
    [id],
  );
  return rows[0] ?? null;
}

export interface NewPromoCode {
  code: string;
  bonusMicros: bigint;
  usesMax: number;
  perUserMax: number;
  description: string | null;
  /** ISO 8601; null: never. */
  expiresAt: string | null;
}

/** Null when the code exists, or existed: a code never comes back with another meaning. */
export async function createPromoCode(
  client: Queryable,
  promo: NewPromoCode,
  adminId: string,
): Promise<PromoCode | null> {
  const { rows } = await client.query<PromoCode>(
    `INSERT INTO promo_codes (id, code, bonus_micros, uses_max, per_user_max, description, expires_at, created_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (code) DO NOTHING RETURNING ${COLUMNS}`,
    [
      randomUUID(),
      normal(promo.code),
      promo.bonusMicros.toString(),
      promo.usesMax,
      promo.perUserMax,
      promo.description,
      promo.expiresAt,
      adminId,
    ],
  );
  return rows[0] ?? null;
}

export interface PromoChanges {
  usesMax?: number;
  perUserMax?: number;
  status?: PromoCode['status'];
  description?: string | null;
  expiresAt?: string | null;
}

/** Code and bonus never change: those who have it were promised that much. */
export async function changePromoCode(
  client: Queryable,
  id: string,
  changes: PromoChanges,
): Promise<PromoCode | null> {
  const { rows } = await client.query<PromoCode>(
    `UPDATE promo_codes SET uses_max = coalesce($2, uses_max), per_user_max = coalesce($3, per_user_max),
       status = coalesce($4, status), description = CASE WHEN $5 THEN $6 ELSE description END,
       expires_at = CASE WHEN $7 THEN $8::timestamptz ELSE expires_at END, updated_at = now()
      WHERE id = $1 AND status <> 'deleted' RETURNING ${COLUMNS}`,
    [
      id,
      changes.usesMax ?? null,
      changes.perUserMax ?? null,
      changes.status ?? null,
      changes.description !== undefined,
      changes.description ?? null,
      changes.expiresAt !== undefined,
      changes.expiresAt ?? null,
    ],
  );
  return rows[0] ?? null;
}

export type RedeemResult =
  | { ok: true; promo: PromoCode; transactionId: string }
  | {
      ok: false;
      code: 'unknown_promo_code' | 'promo_expired' | 'promo_used_up' | 'promo_redeemed' | 'banned';
    };

/**
 * Gives a provider the code's bonus, in the caller's transaction; roll that back when the answer is not `ok`. Redeemers
 * of one code wait for each other at its row, so neither limit can be passed.
 */
export async function redeemPromoCode(
  client: Queryable,
  code: string,
  userId: string,
): Promise<RedeemResult> {
  const { rows: users } = await client.query<{ status: string }>(
    'SELECT status FROM users WHERE id = $1 FOR SHARE',
    [userId],
  );
  if (users[0]?.status !== 'active') return { ok: false, code: 'banned' };
  const { rows } = await client.query<PromoCode & { expired: boolean }>(
    `SELECT ${COLUMNS}, coalesce(expires_at <= now(), false) AS expired FROM promo_codes WHERE code = $1 FOR UPDATE`,
    [normal(code)],
  );
  const promo = rows[0];
  if (promo === undefined || promo.status !== 'active') return { ok: false, code: 'unknown_promo_code' };
  if (promo.expired) return { ok: false, code: 'promo_expired' };
  const { rows: mine } = await client.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM promo_redemptions WHERE promo_id = $1 AND user_id = $2',
    [promo.id, userId],
  );
  const nth = (mine[0]?.n ?? 0) + 1;
  if (nth > promo.per_user_max) return { ok: false, code: 'promo_redeemed' };
  if (promo.uses >= promo.uses_max) return { ok: false, code: 'promo_used_up' };
  await client.query('UPDATE promo_codes SET uses = uses + 1 WHERE id = $1', [promo.id]);
  const [posted] = await post(client, [
    {
      kind: 'promo_bonus',
      sourceId: `${promo.id}:${userId}:${nth}`,
      description: promo.code,
      entries: [
        {
          account: { kind: 'provider_available', ownerId: userId },
          entryKind: 'promo_bonus',
          amountMicros: promo.bonus_micros,
        },
        {
          account: { kind: 'platform_funding', ownerId: null },
          entryKind: 'promo_bonus',
          amountMicros: -promo.bonus_micros,
        },
      ],
    },
  ]);
  if (!posted?.ok || !posted.fresh || posted.id === null)
    throw new Error(`the ledger has redemption ${nth} of promo code ${promo.id} already`);
  await client.query(
    'INSERT INTO promo_redemptions (promo_id, user_id, nth, transaction_id) VALUES ($1, $2, $3, $4)',
    [promo.id, userId, nth, posted.id],
  );
  return { ok: true, promo, transactionId: posted.id };
}
