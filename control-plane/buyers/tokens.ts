import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import {
  BUYER_TOKEN_PREFIX,
  hashSecret,
  newBuyerToken,
  newProxyPassword,
  SECRET_PREFIX_SHOWN,
} from './secrets.js';

export type TokenKind = 'token' | 'proxy_password';
export type TokenScope = 'proxy' | 'api';

export interface NewToken {
  buyerId: string;
  kind?: TokenKind;
  /** Default for a token: both; a proxy password opens the proxy alone. */
  scopes?: readonly TokenScope[];
  /** CIDRs it may be used from; empty: any address. */
  allowedIps?: readonly string[];
  description?: string | null;
  expiresAt?: Date | null;
}

export interface BuyerToken {
  id: string;
  buyerId: string;
  kind: TokenKind;
  prefix: string;
  scopes: TokenScope[];
  allowedIps: string[];
  description: string | null;
  expiresAt: Date | null;
  lastUsedAt: Date | null;
  createdAt: Date;
  revokedAt: Date | null;
}

interface TokenRow {
  id: string;
  buyer_id: string;
  kind: TokenKind;
  prefix: string;
  scopes: TokenScope[];
  allowed_ips: string[];
  description: string | null;
  expires_at: Date | null;
  last_used_at: Date | null;
  created_at: Date;
  revoked_at: Date | null;
}

const COLUMNS =
  'id, buyer_id, kind, prefix, scopes, allowed_ips::text[] AS allowed_ips, description, expires_at, last_used_at, created_at, revoked_at';

function tokenOf(row: TokenRow): BuyerToken {
  return {
    id: row.id,
    buyerId: row.buyer_id,
    kind: row.kind,
    prefix: row.prefix,
    scopes: row.scopes,
    allowedIps: row.allowed_ips,
    description: row.description,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
    createdAt: row.created_at,
    revokedAt: row.revoked_at,
  };
}

/** The gateways' snapshot of the buyer has changed; publish it after the commit. */
export async function touchBuyer(client: Queryable, buyerId: string): Promise<void> {
  await client.query('UPDATE buyers SET version = version + 1, updated_at = now() WHERE id = $1', [buyerId]);
}

/** Tokens of one buyer are made and revoked one at a time by whoever calls this first in a transaction. */
export async function lockTokens(client: Queryable, buyerId: string): Promise<void> {
  await client.query('SELECT 1 FROM buyers WHERE id = $1 FOR NO KEY UPDATE', [buyerId]);
}

/**
 * Whether the secret opens the proxy for one of these accounts, all of them the buyer's own or of a sub-user; as far as
 * the secret goes: states and addresses are the gateways' to check.
 */
export async function opensProxy(
  db: Queryable,
  buyerId: string,
  accounts: readonly string[],
  secret: string,
): Promise<boolean> {
  const { rows } = await db.query<{ fits: boolean }>(
    `SELECT coalesce(bool_or(fits), false) AS fits FROM (
       SELECT EXISTS (SELECT FROM buyer_tokens k
                       WHERE k.buyer_id = b.id AND k.token_hash = $3 AND k.revoked_at IS NULL
                         AND 'proxy' = ANY (k.scopes) AND (k.expires_at IS NULL OR k.expires_at > now())) AS fits
         FROM buyers b WHERE b.id = $1 AND b.account = ANY ($2::text[])
        UNION ALL
       SELECT s.password_hash = $3 FROM sub_users s
        WHERE s.buyer_id = $1 AND s.account = ANY ($2::text[]) AND s.status <> 'closed') found`,
    [buyerId, accounts, hashSecret(secret)],
  );
  return rows[0]?.fits ?? false;
}

/** Makes a token or proxy password. The secret is in the answer and nowhere else: only its hash is kept. */
export async function createToken(
  client: Queryable,
  token: NewToken,
): Promise<{ token: BuyerToken; secret: string }> {
  const kind = token.kind ?? 'token';
  const secret = kind === 'token' ? newBuyerToken() : newProxyPassword();
  const { rows } = await client.query<TokenRow>(
    `INSERT INTO buyer_tokens (id, buyer_id, kind, token_hash, prefix, scopes, allowed_ips, description, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7::cidr[], $8, $9) RETURNING ${COLUMNS}`,
    [
      randomUUID(),
      token.buyerId,
      kind,
      hashSecret(secret),
      // A password is all digits of chance: showing as much of it as of a token would give more away.
      kind === 'token' ? secret.slice(0, SECRET_PREFIX_SHOWN) : secret.slice(0, 3),
      token.scopes ?? (kind === 'token' ? ['proxy', 'api'] : ['proxy']),
      token.allowedIps ?? [],
      token.description ?? null,
      token.expiresAt ?? null,
    ],
  );
  await touchBuyer(client, token.buyerId);
  return { token: tokenOf(rows[0] as TokenRow), secret };
}

/** The buyer's tokens and passwords, newest first, revoked ones too. */
export async function listTokens(db: Queryable, buyerId: string): Promise<BuyerToken[]> {
  const { rows } = await db.query<TokenRow>(
    `SELECT ${COLUMNS} FROM buyer_tokens WHERE buyer_id = $1 ORDER BY created_at DESC, id`,
    [buyerId],
  );
  return rows.map(tokenOf);
}

/** Tokens and passwords of the buyer that work now. */
export async function countLiveTokens(db: Queryable, buyerId: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM buyer_tokens
      WHERE buyer_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`,
    [buyerId],
  );
  return rows[0]?.n ?? 0;
}

/** Revokes it for good; repeating it is harmless. Null: no such token. */
export async function revokeToken(client: Queryable, tokenId: string): Promise<BuyerToken | null> {
  const { rows } = await client.query<TokenRow>(
    `UPDATE buyer_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING ${COLUMNS}`,
    [tokenId],
  );
  const [row] = rows;
  if (row === undefined) return null;
  await touchBuyer(client, row.buyer_id);
  return tokenOf(row);
}

/**
 * A new secret with the old one's scopes, addresses, description and end. The old one ends after `graceMs` (0: at
 * once). `revoked`: there is nothing to rotate.
 */
export async function rotateToken(
  client: Queryable,
  tokenId: string,
  graceMs: number,
): Promise<
  | { ok: true; token: BuyerToken; secret: string; before: BuyerToken }
  | { ok: false; code: 'unknown' | 'revoked' }
> {
  const { rows } = await client.query<TokenRow>(
    `SELECT ${COLUMNS} FROM buyer_tokens WHERE id = $1 FOR UPDATE`,
    [tokenId],
  );
  const [row] = rows;
  if (row === undefined) return { ok: false, code: 'unknown' };
  const before = tokenOf(row);
  if (before.revokedAt !== null) return { ok: false, code: 'revoked' };
  if (graceMs === 0) await revokeToken(client, tokenId);
  else
    await client.query(
      `UPDATE buyer_tokens SET expires_at = least(expires_at, now() + make_interval(secs => $2)) WHERE id = $1`,
      [tokenId, graceMs / 1_000],
    );
  await client.query('UPDATE buyer_tokens SET replaced_at = now() WHERE id = $1', [tokenId]);
  return { ok: true, before, ...(await createToken(client, before)) };
}

/** How exactly `last_used_at` is kept: one write a token and minute, not one a request. */
const LAST_USED_STEP_S = 60;
const TOKEN = new RegExp(`^${BUYER_TOKEN_PREFIX}[0-9A-Za-z]{1,100}$`);

/**
 * Who a buyer token belongs to, for calls of the API from `ip`. `invalid_token`: unknown, revoked, expired, without
 * the scope `api`, or of a closed account; `ip_not_allowed`: not from this address. A suspended buyer may still look.
 */
export async function verifyBuyerToken(
  pool: pg.Pool,
  token: string,
  ip: string,
): Promise<
  | { ok: true; buyerId: string; tokenId: string; scopes: string[] }
  | { ok: false; code: 'invalid_token' | 'ip_not_allowed' }
> {
  if (!TOKEN.test(token)) return { ok: false, code: 'invalid_token' };
  const { rows } = await pool.query<{
    id: string;
    buyer_id: string;
    scopes: string[];
    ip_allowed: boolean;
    stale: boolean;
  }>({
    name: 'buyer-token',
    text: `SELECT k.id, k.buyer_id, k.scopes, k.allowed_ips = '{}' OR $2::inet <<= ANY (k.allowed_ips) AS ip_allowed,
            k.last_used_at IS NULL OR k.last_used_at < now() - make_interval(secs => ${LAST_USED_STEP_S}) AS stale
       FROM buyer_tokens k JOIN buyers b ON b.id = k.buyer_id
      WHERE k.token_hash = $1 AND k.kind = 'token' AND k.revoked_at IS NULL
        AND (k.expires_at IS NULL OR k.expires_at > now()) AND 'api' = ANY (k.scopes) AND b.status <> 'closed'`,
    values: [hashSecret(token), ip],
  });
  const [row] = rows;
  if (row === undefined) return { ok: false, code: 'invalid_token' };
  if (!row.ip_allowed) return { ok: false, code: 'ip_not_allowed' };
  if (row.stale)
    await pool.query(
      `UPDATE buyer_tokens SET last_used_at = now()
        WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - make_interval(secs => ${LAST_USED_STEP_S}))`,
      [row.id],
    );
  return { ok: true, buyerId: row.buyer_id, tokenId: row.id, scopes: row.scopes };
}
