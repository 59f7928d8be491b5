import { randomUUID } from 'node:crypto';
import { byteQuotasOf, type SubUserLimits } from '../buyers/limits.js';
import { setByteQuotas } from '../buyers/quotas.js';
import { hashSecret, newProxyPassword, randomBase62 } from '../buyers/secrets.js';
import { touchBuyer } from '../buyers/tokens.js';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';

export type SubUserStatus = 'active' | 'suspended' | 'closed';

/** A proxy user of a buyer: an account, a password and limits of its own, the buyer's money. */
export interface SubUser {
  id: string;
  buyerId: string;
  /** The proxy username. */
  account: string;
  name: string;
  status: SubUserStatus;
  /** Bytes it may relay in all; null: bounded by the buyer's balance alone. May be below `bytesUsed`. */
  bytesMax: bigint | null;
  /** Booked so far. */
  bytesUsed: bigint;
  /** Client networks the account works from; empty: any. */
  allowedIps: string[];
  limits: SubUserLimits;
  createdAt: Date;
  updatedAt: Date;
}

/** What a buyer sets of a sub-user. */
export interface SubUserFields {
  name: string;
  status: Exclude<SubUserStatus, 'closed'>;
  bytesMax: bigint | null;
  allowedIps: readonly string[];
  limits: SubUserLimits;
}

interface SubUserRow {
  id: string;
  buyer_id: string;
  account: string;
  name: string;
  status: SubUserStatus;
  bytes_max: bigint | null;
  bytes_used: bigint;
  allowed_ips: string[];
  limits: SubUserLimits;
  created_at: Date;
  updated_at: Date;
}

const COLUMNS = `id, buyer_id, account, name, status, bytes_max, bytes_used, allowed_ips::text[] AS allowed_ips,
  limits, created_at, updated_at`;

const subUserOf = (row: SubUserRow): SubUser => ({
  id: row.id,
  buyerId: row.buyer_id,
  account: row.account,
  name: row.name,
  status: row.status,
  bytesMax: row.bytes_max,
  bytesUsed: row.bytes_used,
  allowedIps: row.allowed_ips,
  limits: row.limits,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
});

/** Sub-users of one buyer change one at a time: their number is counted, and the buyer's snapshot goes with them. */
async function lockBuyer(client: Queryable, buyerId: string): Promise<void> {
  await client.query('SELECT 1 FROM buyers WHERE id = $1 FOR NO KEY UPDATE', [buyerId]);
}

/** 14 characters of 36, the first a letter: read, typed and told apart from a buyer's easily; 10^21 of them. */
function drawAccount(): string {
  return `s${randomBase62(13).toLowerCase()}`;
}

/**
 * Makes a sub-user with a drawn account and a password that is in the answer and nowhere else. `too_many`: the buyer
 * has `countMax` already. Publish the buyer's accounts after the commit. Throws 22P02 when a network is not one.
 */
export async function createSubUser(
  client: Queryable,
  buyerId: string,
  fields: Omit<SubUserFields, 'status'>,
  countMax: number,
): Promise<{ ok: true; subUser: SubUser; password: string } | { ok: false; code: 'too_many' }> {
  await lockBuyer(client, buyerId);
  const { rows: counts } = await client.query<{ n: number }>(
    "SELECT count(*)::int AS n FROM sub_users WHERE buyer_id = $1 AND status <> 'closed'",
    [buyerId],
  );
  if ((counts[0]?.n ?? 0) >= countMax) return { ok: false, code: 'too_many' };
  const password = newProxyPassword();
  const { rows } = await client.query<SubUserRow>(
    `INSERT INTO sub_users (id, buyer_id, account, name, password_hash, bytes_max, allowed_ips, limits)
     VALUES ($1, $2, $3, $4, $5, $6, $7::cidr[], $8) RETURNING ${COLUMNS}`,
    [
      randomUUID(),
      buyerId,
      drawAccount(),
      fields.name,
      hashSecret(password),
      fields.bytesMax?.toString() ?? null,
      fields.allowedIps,
      JSON.stringify(fields.limits),
    ],
  );
  await setByteQuotas(client, rows[0]?.id as string, byteQuotasOf(fields.limits));
  await touchBuyer(client, buyerId);
  return { ok: true, subUser: subUserOf(rows[0] as SubUserRow), password };
}

/** The buyer's sub-user, or null; a closed one counts as gone. */
export async function readSubUser(db: Queryable, buyerId: string, id: string): Promise<SubUser | null> {
  const { rows } = await db.query<SubUserRow>(
    `SELECT ${COLUMNS} FROM sub_users WHERE id = $1 AND buyer_id = $2 AND status <> 'closed'`,
    [id, buyerId],
  );
  return rows[0] === undefined ? null : subUserOf(rows[0]);
}

/**
 * Changes the given fields; with `rotatePassword` the old password ends at once and the new one is in the answer
 * and nowhere else. Null: the buyer has no such sub-user. Publish the buyer's accounts after the commit.
 */
export async function changeSubUser(
  client: Queryable,
  buyerId: string,
  id: string,
  changes: Partial<SubUserFields>,
  rotatePassword: boolean,
): Promise<{ before: SubUser; after: SubUser; password: string | null } | null> {
  await lockBuyer(client, buyerId);
  // Settlement adds to bytes_used meanwhile; nothing here writes it.
  const before = await readSubUser(client, buyerId, id);
  if (before === null) return null;
  const next = { ...before, ...changes };
  const password = rotatePassword ? newProxyPassword() : null;
  const { rows } = await client.query<SubUserRow>(
    `UPDATE sub_users SET name = $2, status = $3, bytes_max = $4, allowed_ips = $5::cidr[],
                          password_hash = coalesce($6, password_hash), limits = $7, version = version + 1, updated_at = now()
      WHERE id = $1 RETURNING ${COLUMNS}`,
    [
      id,
      next.name,
      next.status,
      next.bytesMax?.toString() ?? null,
      next.allowedIps,
      password === null ? null : hashSecret(password),
      JSON.stringify(next.limits),
    ],
  );
  await setByteQuotas(client, id, byteQuotasOf(next.limits));
  await touchBuyer(client, buyerId);
  return { before, after: subUserOf(rows[0] as SubUserRow), password };
}

/**
 * Ends a sub-user for good: gateways do not know the account any more once the buyer's accounts are published. The
 * row stays for what was booked, and nobody gets its account again. False: the buyer has no such sub-user.
 */
export async function closeSubUser(client: Queryable, buyerId: string, id: string): Promise<boolean> {
  await lockBuyer(client, buyerId);
  const { rowCount } = await client.query(
    `UPDATE sub_users SET status = 'closed', version = version + 1, updated_at = now()
      WHERE id = $1 AND buyer_id = $2 AND status <> 'closed'`,
    [id, buyerId],
  );
  if (!rowCount) return false;
  await touchBuyer(client, buyerId);
  return true;
}

/** The buyer's sub-users, newest first, without closed ones. */
export async function listSubUsers(
  db: Queryable,
  buyerId: string,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: SubUser[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined
      ? [null, null]
      : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<SubUserRow & { created_text: string }>(
    `SELECT ${COLUMNS}, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_text
       FROM sub_users
      WHERE buyer_id = $1 AND status <> 'closed' AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $4`,
    [buyerId, after[0], after[1], page.limit + 1],
  );
  const cut = cutPage(rows, page.limit, (row) => [row.created_text, row.id]);
  return { rows: cut.rows.map(subUserOf), nextCursor: cut.nextCursor };
}
