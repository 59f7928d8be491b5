import { randomUUID } from 'node:crypto';
import type { Queryable } from '../db/pool.js';
import { cursorPart, cutPage, decodeCursor } from '../http/pagination.js';
import { type LedgerTransaction, post } from '../ledger/ledger.js';
import { isAddressOf, PAYOUT_NETWORKS, type PayoutNetwork } from './addresses.js';
import { announcePayout, tellProvider } from './receipts.js';

export type PayoutStatus = 'pending' | 'processing' | 'completed' | 'failed' | 'cancelled';

/** Where each state leads; the database holds every writer to it. An ended payout stays as it is. */
export const PAYOUT_MOVES: Readonly<Record<PayoutStatus, readonly PayoutStatus[]>> = {
  pending: ['processing', 'cancelled'],
  processing: ['completed', 'failed'],
  completed: [],
  failed: [],
  cancelled: [],
};

/** Business rules of withdrawals, read anew for each request. */
export interface PayoutRules {
  /** Smallest amount of one payout, micro-dollars. */
  amountMicrosMin: bigint;
  /** What one provider may withdraw in a UTC day, micro-dollars; cancelled and failed ones do not count. */
  dayMicrosMax: bigint;
  networks: readonly string[];
}

export interface PayoutRequest {
  userId: string;
  amountMicros: bigint;
  network: string;
  /** The address to pay to. */
  target: string;
  /** Asked for in the bot's chat, which has the answer: the bot says nothing more of it. */
  inChat?: boolean;
}

export interface Payout {
  id: string;
  userId: string;
  amountMicros: bigint;
  method: 'cryptomus';
  network: string;
  currency: 'USDT';
  target: string;
  status: PayoutStatus;
  txReference: string | null;
  failureReason: string | null;
  createdAt: Date;
  processingAt: Date | null;
  endedAt: Date | null;
}

interface PayoutRow {
  id: string;
  user_id: string;
  amount_micros: bigint;
  method: 'cryptomus';
  network: string;
  currency: 'USDT';
  target: string;
  status: PayoutStatus;
  tx_reference: string | null;
  failure_reason: string | null;
  created_at: Date;
  processing_at: Date | null;
  ended_at: Date | null;
}

const COLUMNS = `id, user_id, amount_micros, method, network, currency, target, status, tx_reference, failure_reason,
  created_at, processing_at, ended_at`;

const payoutOf = (row: PayoutRow): Payout => ({
  id: row.id,
  userId: row.user_id,
  amountMicros: row.amount_micros,
  method: row.method,
  network: row.network,
  currency: row.currency,
  target: row.target,
  status: row.status,
  txReference: row.tx_reference,
  failureReason: row.failure_reason,
  createdAt: row.created_at,
  processingAt: row.processing_at,
  endedAt: row.ended_at,
});

/** The provider's money goes out with `payout` and comes back with `payout_refund`; the payment id keeps each to once. */
function booking(kind: 'payout' | 'payout_refund', payout: Payout): LedgerTransaction {
  const toProvider = kind === 'payout' ? -payout.amountMicros : payout.amountMicros;
  return {
    kind,
    sourceId: payout.id,
    description: `${payout.currency} over ${payout.network}`,
    entries: [
      {
        account: { kind: 'provider_available', ownerId: payout.userId },
        entryKind: kind,
        amountMicros: toProvider,
      },
      { account: { kind: 'platform_funding', ownerId: null }, entryKind: kind, amountMicros: -toProvider },
    ],
  };
}

/** Why a payout was not made. Amounts in micro-dollars. */
export type PayoutRefusal =
  | { ok: false; code: 'below_minimum'; minimumMicros: bigint }
  | { ok: false; code: 'network_not_allowed'; networks: readonly string[] }
  | { ok: false; code: 'bad_address' }
  | { ok: false; code: 'over_available' }
  | { ok: false; code: 'over_daily_limit'; leftMicros: bigint };

/**
 * Makes a payout that waits to be released, and takes its money, both in the caller's transaction; roll that back
 * when the answer is not `ok`. Requests of one provider wait for each other at the lock on the ledger account, so
 * neither the balance nor the day's limit can be spent twice.
 */
export async function requestPayout(
  client: Queryable,
  request: PayoutRequest,
  rules: PayoutRules,
): Promise<{ ok: true; payout: Payout } | PayoutRefusal> {
  if (request.amountMicros < rules.amountMicrosMin)
    return { ok: false, code: 'below_minimum', minimumMicros: rules.amountMicrosMin };
  const network = PAYOUT_NETWORKS.find((name) => name === request.network);
  if (network === undefined || !rules.networks.includes(network))
    return { ok: false, code: 'network_not_allowed', networks: rules.networks };
  if (!isAddressOf(network, request.target)) return { ok: false, code: 'bad_address' };

  const payout = draft(request, network);
  const [posted] = await post(client, [booking('payout', payout)]);
  if (posted === undefined || !posted.ok) {
    if (posted?.code === 'below_zero') return { ok: false, code: 'over_available' };
    throw new Error(`the ledger has a payout ${payout.id} already`);
  }
  const { rows: days } = await client.query<{ micros: bigint }>(
    `SELECT coalesce(sum(amount_micros), 0)::bigint AS micros FROM payouts
      WHERE user_id = $1 AND status NOT IN ('cancelled', 'failed') AND created_at >= date_trunc('day', now())`,
    [request.userId],
  );
  const leftMicros = rules.dayMicrosMax - (days[0]?.micros ?? 0n);
  if (request.amountMicros > leftMicros)
    return { ok: false, code: 'over_daily_limit', leftMicros: leftMicros > 0n ? leftMicros : 0n };
  const { rows } = await client.query<PayoutRow>(
    `INSERT INTO payouts (id, user_id, amount_micros, method, network, currency, target)
     VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ${COLUMNS}`,
    [
      payout.id,
      payout.userId,
      payout.amountMicros.toString(),
      payout.method,
      payout.network,
      payout.currency,
      payout.target,
    ],
  );
  const made = payoutOf(rows[0] as PayoutRow);
  await tellProvider(client, made, 'requested', { inChat: request.inChat !== true });
  return { ok: true, payout: made };
}

function draft({ userId, amountMicros, target }: PayoutRequest, network: PayoutNetwork): Payout {
  return {
    id: randomUUID(),
    userId,
    amountMicros,
    network,
    target,
    method: 'cryptomus',
    currency: 'USDT',
    status: 'pending',
    txReference: null,
    failureReason: null,
    createdAt: new Date(),
    processingAt: null,
    endedAt: null,
  };
}

/**
 * Moves a payout on. `unknown`: no such payout; `illegal_move`: its state (`from`) does not lead there. Ending it as
 * failed or cancelled gives the money back in the same transaction; `reason` is kept with a failure, `txReference`
 * with a completion. The provider is told of each step, the admins get a receipt of one that was paid or has failed.
 */
export async function movePayout(
  client: Queryable,
  payoutId: string,
  to: PayoutStatus,
  note: { txReference?: string; reason?: string } = {},
): Promise<
  | { ok: true; before: PayoutStatus; payout: Payout }
  | { ok: false; code: 'unknown' }
  | { ok: false; code: 'illegal_move'; from: PayoutStatus }
> {
  const { rows: locked } = await client.query<PayoutRow>(
    `SELECT ${COLUMNS} FROM payouts WHERE id = $1 FOR NO KEY UPDATE`,
    [payoutId],
  );
  const [row] = locked;
  if (row === undefined) return { ok: false, code: 'unknown' };
  if (!PAYOUT_MOVES[row.status].includes(to)) return { ok: false, code: 'illegal_move', from: row.status };
  const { rows } = await client.query<PayoutRow>(
    `UPDATE payouts SET status = $2, tx_reference = coalesce($3, tx_reference),
                        failure_reason = coalesce($4, failure_reason),
                        processing_at = CASE WHEN $2 = 'processing' THEN now() ELSE processing_at END,
                        ended_at = CASE WHEN $5 THEN now() END
      WHERE id = $1 RETURNING ${COLUMNS}`,
    [payoutId, to, note.txReference ?? null, note.reason ?? null, PAYOUT_MOVES[to].length === 0],
  );
  const payout = payoutOf(rows[0] as PayoutRow);
  if (to === 'failed' || to === 'cancelled') {
    const [posted] = await post(client, [booking('payout_refund', payout)]);
    if (!posted?.ok || !posted.fresh) throw new Error(`the ledger gave payout ${payoutId} back before`);
  }
  if (to === 'completed' || to === 'failed') await announcePayout(client, payout, to);
  if (to !== 'pending') await tellProvider(client, payout, to);
  return { ok: true, before: row.status, payout };
}

/**
 * Cryptomus has named the transaction of a payout that is not final yet, in the caller's transaction: its provider is told,
 * once.
 */
export async function noteTransaction(
  client: Queryable,
  payoutId: string,
  txReference: string,
): Promise<void> {
  const { rows } = await client.query<PayoutRow>(
    `UPDATE payouts SET tx_reference = $2
      WHERE id = $1 AND status = 'processing' AND tx_reference IS NULL RETURNING ${COLUMNS}`,
    [payoutId, txReference],
  );
  if (rows[0] !== undefined) await tellProvider(client, payoutOf(rows[0]), 'sent');
}

/** The payout, or null. */
export async function readPayout(db: Queryable, payoutId: string): Promise<Payout | null> {
  const { rows } = await db.query<PayoutRow>(`SELECT ${COLUMNS} FROM payouts WHERE id = $1`, [payoutId]);
  return rows[0] === undefined ? null : payoutOf(rows[0]);
}

/** Payouts, latest first; of everyone without a `userId`. */
export async function listPayouts(
  db: Queryable,
  filter: { userId?: string | undefined; status?: PayoutStatus | undefined },
  page: { limit: number; cursor?: string | undefined },
): Promise<{ rows: Payout[]; nextCursor: string | null }> {
  const after =
    page.cursor === undefined
      ? [null, null]
      : decodeCursor(page.cursor, [cursorPart.timestamp, cursorPart.uuid]);
  const { rows } = await db.query<PayoutRow & { created_text: string }>(
    `SELECT ${COLUMNS}, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_text FROM payouts
      WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR status = $2)
        AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
      ORDER BY created_at DESC, id DESC LIMIT $5`,
    [filter.userId ?? null, filter.status ?? null, after[0], after[1], page.limit + 1],
  );
  const cut = cutPage(rows, page.limit, (row) => [row.created_text, row.id]);
  return { rows: cut.rows.map(payoutOf), nextCursor: cut.nextCursor };
}
