import { randomUUID } from 'node:crypto';
import { recordAudit } from '../audit/audit.js';
import { isMicros, microsOfDecimal, shareOf } from '../cryptomus/amounts.js';
import { orderIdOf, type ProviderPayment } from '../cryptomus/client.js';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { post } from '../ledger/ledger.js';
import { AMOUNT_MICROS_MAX, formatMicros } from '../ledger/money.js';

/**
 * - `pending`: waits for the buyer to pay. `processing`: something was paid, the chain or the rest is waited for.
 * - `completed`: credited. `cancelled`: expired unpaid. `failed`: the invoice or the payment failed.
 * A cancelled or failed one that is paid late is credited all the same.
 */
export type TopUpStatus = 'pending' | 'processing' | 'completed' | 'failed' | 'cancelled';

export interface TopUp {
  id: string;
  buyerId: string;
  /** Of the invoice. */
  amountMicros: bigint;
  /** What was really paid; null until it is credited. */
  creditedMicros: bigint | null;
  status: TopUpStatus;
  method: 'cryptomus' | 'telegram_stars';
  /** What an invoice in Telegram Stars asks; null of others. */
  stars: number | null;
  /** Where the buyer pays; null while there is no invoice. */
  url: string | null;
  txReference: string | null;
  failureReason: string | null;
  createdAt: Date;
  expiresAt: Date | null;
  endedAt: Date | null;
  /** What was credited has been taken back, and the Stars given back. */
  refundedAt: Date | null;
}

interface TopUpRow {
  id: string;
  buyer_id: string;
  amount_micros: bigint;
  credited_micros: bigint | null;
  status: TopUpStatus;
  method: TopUp['method'];
  stars: number | null;
  url: string | null;
  tx_reference: string | null;
  failure_reason: string | null;
  created_at: Date;
  expires_at: Date | null;
  ended_at: Date | null;
  refunded_at: Date | null;
}

const COLUMNS = `id, buyer_id, amount_micros, credited_micros, status, method, stars, url, tx_reference,
  failure_reason, created_at, expires_at, ended_at, refunded_at`;

const topUpOf = (row: TopUpRow): TopUp => ({
  id: row.id,
  buyerId: row.buyer_id,
  amountMicros: row.amount_micros,
  creditedMicros: row.credited_micros,
  status: row.status,
  method: row.method,
  stars: row.stars,
  url: row.url,
  txReference: row.tx_reference,
  failureReason: row.failure_reason,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  endedAt: row.ended_at,
  refundedAt: row.refunded_at,
});

/** A top-up whose invoice is not made yet; it is looked up after `lookInS` in case nobody says what became of it. */
export async function insertTopUp(
  client: Queryable,
  buyerId: string,
  amountMicros: bigint,
  lookInS: number,
): Promise<TopUp> {
  const { rows } = await client.query<TopUpRow>(
    `INSERT INTO topups (id, buyer_id, amount_micros, next_at)
     VALUES ($1, $2, $3, now() + $4 * interval '1 second') RETURNING ${COLUMNS}`,
    [randomUUID(), buyerId, amountMicros.toString(), lookInS],
  );
  return topUpOf(rows[0] as TopUpRow);
}

export async function readTopUp(db: Queryable, id: string): Promise<TopUp | null> {
  const { rows } = await db.query<TopUpRow>(`SELECT ${COLUMNS} FROM topups WHERE id = $1`, [id]);
  return rows[0] === undefined ? null : topUpOf(rows[0]);
}

/** A buyer's top-ups, latest first. */
export async function listTopUps(
  db: Queryable,
  buyerId: string,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: TopUp[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined
      ? [null, null]
      : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<TopUpRow & { created_text: string }>(
    `SELECT ${COLUMNS}, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_text FROM topups
      WHERE buyer_id = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $4`,
    [buyerId, after[0], after[1], page.limit + 1],
  );
  const cut = cutPage(rows, page.limit, (row) => [row.created_text, row.id]);
  return { rows: cut.rows.map(topUpOf), nextCursor: cut.nextCursor };
}

/** Statuses of Cryptomus that say money has arrived, once they are final. */
const PAID = new Set(['paid', 'paid_over', 'wrong_amount']);
/** Money is on its way: not confirmed yet, or less than was asked while the rest may follow. */
const ARRIVING = new Set(['process', 'confirm_check', 'wrong_amount_waiting']);
/** No money will come of it. */
const LOST: Readonly<Record<string, TopUpStatus>> = {
  cancel: 'cancelled',
  fail: 'failed',
  system_fail: 'failed',
};

/**
 * What a paid invoice is worth, micro-dollars: the part of it that was paid, at the invoice's own rate, rounded down;
 * where the answer does not say that, what was paid in dollars. Null when neither can be read.
 */
export function paidMicros(info: ProviderPayment, amountMicros: bigint): bigint | null {
  const { paymentAmount, payerAmount, paymentAmountUsd } = info;
  if (paymentAmount !== null && payerAmount !== null) {
    const share = shareOf(amountMicros, paymentAmount, payerAmount);
    if (share !== null) return share;
  }
  return paymentAmountUsd === null ? null : microsOfDecimal(paymentAmountUsd);
}

/** What a look at an invoice came to. `credited`: by this call. `differs`: nothing was booked, somebody has to look. */
export type Applied =
  | { outcome: 'credited' | 'moved' | 'unchanged'; topUp: TopUp }
  | { outcome: 'differs'; topUp: TopUp; difference: string };

/**
 * Brings a top-up to what Cryptomus says of its invoice, in the caller's transaction. Money is credited once, whoever
 * calls how often: under the row's lock, by the ledger's unique (`topup`, id), and the database lets nobody undo it.
 */
export async function applyPayment(client: Queryable, id: string, info: ProviderPayment): Promise<Applied> {
  const { rows } = await client.query<TopUpRow>(
    `SELECT ${COLUMNS} FROM topups WHERE id = $1 FOR NO KEY UPDATE`,
    [id],
  );
  if (rows[0] === undefined) throw new Error(`no top-up ${id}`);
  const topUp = topUpOf(rows[0]);
  if (topUp.status === 'completed') return { outcome: 'unchanged', topUp };
  const difference = differenceOf(topUp, info);
  if (difference !== null) return { outcome: 'differs', topUp, difference };
  if (info.isFinal && PAID.has(info.status)) return credit(client, topUp, info);

  const status = ARRIVING.has(info.status)
    ? 'processing'
    : info.isFinal
      ? (LOST[info.status] ?? topUp.status)
      : topUp.status;
  const changed = await update(client, topUp, info, status, null);
  if (status === topUp.status) return { outcome: 'unchanged', topUp: changed };
  await audit(client, `topup_${status}`, topUp, { status, provider_status: info.status });
  return { outcome: 'moved', topUp: changed };
}

async function credit(client: Queryable, topUp: TopUp, info: ProviderPayment): Promise<Applied> {
  const credited = paidMicros(info, topUp.amountMicros);
  if (credited === null || credited <= 0n || credited > AMOUNT_MICROS_MAX)
    return {
      outcome: 'differs',
      topUp,
      difference: `paid ${info.paymentAmount} of ${info.payerAmount}, ${info.paymentAmountUsd} USD`,
    };
  const [posted] = await post(client, [
    {
      kind: 'topup',
      sourceId: topUp.id,
      description: 'Cryptomus',
      entries: [
        {
          account: { kind: 'buyer_prepaid', ownerId: topUp.buyerId },
          entryKind: 'topup',
          amountMicros: credited,
        },
        { account: { kind: 'platform_funding', ownerId: null }, entryKind: 'topup', amountMicros: -credited },
      ],
    },
  ]);
  if (!posted?.ok || !posted.fresh) throw new Error(`the ledger has top-up ${topUp.id} already`);
  const changed = await update(client, topUp, info, 'completed', credited);
  await audit(client, 'topup_credited', topUp, {
    status: 'completed',
    provider_status: info.status,
    amount: formatMicros(topUp.amountMicros),
    credited: formatMicros(credited),
    transaction_id: posted.id,
  });
  return { outcome: 'credited', topUp: changed };
}

async function update(
  client: Queryable,
  topUp: TopUp,
  info: ProviderPayment,
  status: TopUpStatus,
  creditedMicros: bigint | null,
): Promise<TopUp> {
  const ended = status === 'completed' || status === 'failed' || status === 'cancelled';
  const { rows } = await client.query<TopUpRow>(
    `UPDATE topups SET status = $2, credited_micros = $3, url = coalesce($4, url),
                       expires_at = coalesce($5, expires_at), tx_reference = coalesce($6, tx_reference),
                       provider_uuid = $7, provider_status = $8,
                       failure_reason = CASE WHEN $9 THEN 'Cryptomus: ' || $8 END,
                       ended_at = CASE WHEN $10 THEN coalesce(CASE WHEN status = $2 THEN ended_at END, now()) END
      WHERE id = $1 RETURNING ${COLUMNS}`,
    [
      topUp.id,
      status,
      creditedMicros?.toString() ?? null,
      info.url,
      info.expiresAt,
      info.txid,
      info.uuid,
      info.status,
      ended && status !== 'completed',
      ended,
    ],
  );
  return topUpOf(rows[0] as TopUpRow);
}

/** There is no invoice and will be none; a pending top-up has failed. */
export async function failTopUp(client: Queryable, id: string, reason: string): Promise<TopUp | null> {
  const { rows } = await client.query<TopUpRow>(
    `UPDATE topups SET status = 'failed', failure_reason = $2, ended_at = now(), next_at = NULL
      WHERE id = $1 AND status = 'pending' RETURNING ${COLUMNS}`,
    [id, reason],
  );
  if (rows[0] === undefined) return null;
  const topUp = topUpOf(rows[0]);
  await audit(client, 'topup_failed', topUp, { status: 'failed', reason });
  return topUp;
}

/** What Cryptomus has otherwise than we asked for, in words; null when nothing. */
function differenceOf(topUp: TopUp, info: ProviderPayment): string | null {
  if (info.orderId !== orderIdOf(topUp.id)) return `order ${info.orderId}`;
  if (info.currency !== 'USD') return `currency ${info.currency}`;
  if (!isMicros(info.amount, topUp.amountMicros)) return `amount ${info.amount}`;
  return null;
}

function audit(client: Queryable, action: string, topUp: TopUp, after: object): Promise<void> {
  return recordAudit(client, {
    actor: { role: 'system' },
    action,
    objectType: 'topup',
    objectId: topUp.id,
    before: { status: topUp.status },
    after,
  });
}
