import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { listOrder, SORTED_TEXT_MAX, type SortedRow, type SortOf } from '../http/list-order.js';
import { type BuyerLimits, byteQuotasOf } from './limits.js';
import { setByteQuotas } from './quotas.js';
import { randomBase62 } from './secrets.js';
import { createToken, touchBuyer } from './tokens.js';

export interface Buyer {
  id: string;
  account: string;
  name: string;
  contact: string | null;
  region: string | null;
  status: 'active' | 'suspended' | 'closed';
  kycStatus: 'pending' | 'approved' | 'rejected';
  aupAcceptedAt: Date | null;
  /** null: the default of the settings. */
  priceMicrosPerGb: bigint | null;
  limits: BuyerLimits;
  balanceMicros: bigint;
  /** Set aside for running traffic, of the balance; what is left is free. */
  heldMicros: bigint;
  /** Everything ever relayed and charged, as booked. */
  bytes: bigint;
  /** In this UTC day and month, as `bytes_per_day_max` and `bytes_per_month_max` count them. */
  bytesToday: bigint;
  bytesThisMonth: bigint;
  chargedMicros: bigint;
  /** Packages in the buyer's hands now. */
  liveAllocations: number;
  createdAt: Date;
  updatedAt: Date;
}

/** What an admin sets of a buyer. */
export interface BuyerFields {
  name: string;
  contact: string | null;
  region: string | null;
  status: Buyer['status'];
  kycStatus: Buyer['kycStatus'];
  priceMicrosPerGb: bigint | null;
  limits: BuyerLimits;
}

interface BuyerRow {
  id: string;
  account: string;
  name: string;
  contact: string | null;
  region: string | null;
  status: Buyer['status'];
  kyc_status: Buyer['kycStatus'];
  aup_accepted_at: Date | null;
  price_micros_per_gb: bigint | null;
  limits: BuyerLimits;
  balance_micros: bigint;
  held_micros: bigint;
  bytes: bigint;
  bytes_today: bigint;
  bytes_month: bigint;
  charged_micros: bigint;
  live_allocations: bigint;
  created_at: Date;
  updated_at: Date;
}

const COLUMNS = `
         b.id, b.account, b.name, b.contact, b.region, b.status, b.kyc_status, b.aup_accepted_at,
         b.price_micros_per_gb, b.limits, b.created_at, b.updated_at,
         coalesce((SELECT balance_micros FROM ledger_accounts
                    WHERE kind = 'buyer_prepaid' AND owner_id = b.id), 0) AS balance_micros,
         wallet_held('buyer', b.id)::bigint AS held_micros, -- in the same snapshot as the balance
         u.bytes, u.charged_micros,
         -- What its limits count; who never had one is counted by its usage, with which the limit would begin.
         CASE WHEN q.owner_id IS NULL THEN u.bytes_today WHEN q.day >= t.day THEN q.day_bytes ELSE 0 END AS bytes_today,
         CASE WHEN q.owner_id IS NULL THEN u.bytes_month WHEN q.month >= t.month THEN q.month_bytes ELSE 0 END
           AS bytes_month,
         (SELECT count(*) FROM allocations a
           WHERE a.buyer_id = b.id AND a.status IN ('allocated', 'in_progress')) AS live_allocations`;
const FROM = `
    FROM buyers b
    CROSS JOIN (SELECT utc_day() AS day, utc_month() AS month) t
    LEFT JOIN byte_quotas q ON q.owner_id = b.id
    CROSS JOIN LATERAL (SELECT coalesce(sum(bytes_up + bytes_down), 0)::bigint AS bytes,
                               coalesce(sum(bytes_up + bytes_down) FILTER (WHERE day = t.day), 0)::bigint
                                 AS bytes_today,
                               coalesce(sum(bytes_up + bytes_down) FILTER (WHERE day >= t.month), 0)::bigint
                                 AS bytes_month,
                               coalesce(sum(charged_micros), 0)::bigint AS charged_micros
                          FROM usage_daily_buyer WHERE buyer_id = b.id) u`;

function buyerOf(r: BuyerRow): Buyer {
  return {
    id: r.id,
    account: r.account,
    name: r.name,
    contact: r.contact,
    region: r.region,
    status: r.status,
    kycStatus: r.kyc_status,
    aupAcceptedAt: r.aup_accepted_at,
    priceMicrosPerGb: r.price_micros_per_gb,
    limits: r.limits,
    balanceMicros: r.balance_micros,
    heldMicros: r.held_micros,
    bytes: r.bytes,
    bytesToday: r.bytes_today,
    bytesThisMonth: r.bytes_month,
    chargedMicros: r.charged_micros,
    liveAllocations: Number(r.live_allocations),
    createdAt: r.created_at,
    updatedAt: r.updated_at,
  };
}

/**
 * Makes a buyer with a proxy password, which is in the answer and nowhere else. `account` is the proxy username;
 * without one it is drawn. `account_taken`: somebody has it.
 */
export async function createBuyer(
  client: Queryable,
  fields: Omit<BuyerFields, 'status'> & { account?: string },
): Promise<
  { ok: true; buyerId: string; account: string; password: string } | { ok: false; code: 'account_taken' }
> {
  const id = randomUUID();
  const account = fields.account ?? `b${randomBase62(9).toLowerCase()}`;
  const { rowCount } = await client.query(
    `INSERT INTO buyers (id, account, name, contact, region, kyc_status, price_micros_per_gb, limits)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account) DO NOTHING`,
    [
      id,
      account,
      fields.name,
      fields.contact,
      fields.region,
      fields.kycStatus,
      fields.priceMicrosPerGb?.toString() ?? null,
      JSON.stringify(fields.limits),
    ],
  );
  if (rowCount === 0) {
    // A drawn name that is taken is drawn again; chance makes a second collision a matter of aeons.
    if (fields.account === undefined) return createBuyer(client, fields);
    return { ok: false, code: 'account_taken' };
  }
  await setByteQuotas(client, id, byteQuotasOf(fields.limits));
  const { secret } = await createToken(client, {
    buyerId: id,
    kind: 'proxy_password',
    description: 'proxy password',
  });
  return { ok: true, buyerId: id, account, password: secret };
}

export async function readBuyer(db: Queryable, buyerId: string): Promise<Buyer | null> {
  const { rows } = await db.query<BuyerRow>(`SELECT ${COLUMNS} ${FROM} WHERE b.id = $1`, [buyerId]);
  return rows[0] === undefined ? null : buyerOf(rows[0]);
}

/** Changes the given fields; null when there is no such buyer. Publish the snapshot after the commit. */
export async function updateBuyer(
  client: Queryable,
  buyerId: string,
  changes: Partial<BuyerFields>,
): Promise<{ before: Buyer; after: Buyer } | null> {
  await client.query('SELECT 1 FROM buyers WHERE id = $1 FOR UPDATE', [buyerId]);
  const before = await readBuyer(client, buyerId);
  if (before === null) return null;
  const next = { ...before, ...changes };
  await client.query(
    `UPDATE buyers SET name = $2, contact = $3, region = $4, status = $5, kyc_status = $6,
                       price_micros_per_gb = $7, limits = $8 WHERE id = $1`,
    [
      buyerId,
      next.name,
      next.contact,
      next.region,
      next.status,
      next.kycStatus,
      next.priceMicrosPerGb?.toString() ?? null,
      JSON.stringify(next.limits),
    ],
  );
  await setByteQuotas(client, buyerId, byteQuotasOf(next.limits));
  await touchBuyer(client, buyerId);
  return { before, after: (await readBuyer(client, buyerId)) as Buyer };
}

/** The buyer accepts the acceptable-use policy; the first time counts. */
export async function acceptPolicy(client: Queryable, buyerId: string): Promise<Date> {
  const { rows } = await client.query<{ aup_accepted_at: Date }>(
    'UPDATE buyers SET aup_accepted_at = coalesce(aup_accepted_at, now()) WHERE id = $1 RETURNING aup_accepted_at',
    [buyerId],
  );
  await touchBuyer(client, buyerId);
  return rows[0]?.aup_accepted_at as Date;
}

export interface BuyerFilter {
  query?: string | undefined;
  status?: string | undefined;
  kycStatus?: string | undefined;
  region?: string | undefined;
}

/** What the list of buyers can be sorted by. */
export const BUYER_SORTS = {
  created_at: { expression: 'b.created_at', kind: 'timestamptz' },
  name: { expression: `left(lower(b.name), ${SORTED_TEXT_MAX})`, kind: 'text' },
} as const;

/** Buyers, in the order asked for. `query` finds parts of name, account and contact. */
export async function listBuyers(
  db: Queryable,
  filter: BuyerFilter,
  page: { limit: number; cursor?: string | undefined; sort: SortOf<keyof typeof BUYER_SORTS> },
): Promise<{ rows: Buyer[]; nextCursor: string | null }> {
  const values: unknown[] = [];
  const value = (given: unknown) => `$${values.push(given)}`;
  const order = listOrder(BUYER_SORTS, { sort: page.sort, cursor: page.cursor, id: 'b.id', value });
  const conditions = order.condition === null ? [] : [order.condition];
  if (filter.query !== undefined)
    conditions.push(
      `position(lower(${value(filter.query)}) IN lower(concat_ws(' ', b.name, b.account, b.contact))) > 0`,
    );
  if (filter.status !== undefined) conditions.push(`b.status = ${value(filter.status)}`);
  if (filter.kycStatus !== undefined) conditions.push(`b.kyc_status = ${value(filter.kycStatus)}`);
  if (filter.region !== undefined) conditions.push(`b.region = ${value(filter.region)}`);
  const { rows } = await db.query<BuyerRow & SortedRow>(
    `SELECT ${COLUMNS}, ${order.selected} ${FROM}
      WHERE ${conditions.length === 0 ? 'true' : conditions.join(' AND ')}
      ORDER BY ${order.orderBy} LIMIT ${page.limit + 1}`,
    values,
  );
  const cut = order.cut(rows, page.limit);
  return { rows: cut.rows.map(buyerOf), nextCursor: cut.nextCursor };
}
