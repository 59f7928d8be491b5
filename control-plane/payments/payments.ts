import type { Queryable } from '../db/pool.js';
import { type ListOrder, listOrder, type SortedRow, type SortOf } from '../http/list-order.js';
import type { PayoutStatus } from '../payouts/payouts.js';
import type { SendState } from '../payouts/sends.js';

export type PaymentKind = 'payout' | 'topup';
/** Payouts and top-ups share their words. */
export type PaymentStatus = PayoutStatus;

/** A payout or a top-up as an admin sees it. */
export interface Payment {
  id: string;
  kind: PaymentKind;
  /** Of a payout: the provider. */
  userId: string | null;
  /** Of a top-up. */
  buyerId: string | null;
  amountMicros: bigint;
  /** What was really paid; of a completed top-up. */
  creditedMicros: bigint | null;
  currency: string;
  /** How it is paid. */
  method: 'cryptomus' | 'telegram_stars';
  network: string | null;
  target: string | null;
  status: PaymentStatus;
  txReference: string | null;
  failureReason: string | null;
  createdAt: Date;
  endedAt: Date | null;
  /** Of a top-up in Telegram Stars that was given back. */
  refundedAt: Date | null;
  approvals: { adminId: string; approvedAt: Date }[];
  /** How sending a payout stands; null before it is released, and of top-ups. */
  sendState: SendState | null;
  /** Times it was sent. */
  calls: number;
  providerUuid: string | null;
  providerStatus: string | null;
  lastError: string | null;
}

interface PaymentRow {
  kind: PaymentKind;
  id: string;
  user_id: string | null;
  buyer_id: string | null;
  amount_micros: bigint;
  credited_micros: bigint | null;
  currency: string;
  method: Payment['method'];
  network: string | null;
  target: string | null;
  status: PaymentStatus;
  tx_reference: string | null;
  failure_reason: string | null;
  created_at: Date;
  ended_at: Date | null;
  refunded_at: Date | null;
  approvals: { admin_id: string; approved_at: string }[];
  send_state: SendState | null;
  calls: number;
  provider_uuid: string | null;
  provider_status: string | null;
  last_error: string | null;
}

const paymentOf = (row: PaymentRow): Payment => ({
  id: row.id,
  kind: row.kind,
  userId: row.user_id,
  buyerId: row.buyer_id,
  amountMicros: row.amount_micros,
  creditedMicros: row.credited_micros,
  currency: row.currency,
  method: row.method,
  network: row.network,
  target: row.target,
  status: row.status,
  txReference: row.tx_reference,
  failureReason: row.failure_reason,
  createdAt: row.created_at,
  endedAt: row.ended_at,
  refundedAt: row.refunded_at,
  approvals: row.approvals.map((a) => ({ adminId: a.admin_id, approvedAt: new Date(a.approved_at) })),
  sendState: row.send_state,
  calls: row.calls,
  providerUuid: row.provider_uuid,
  providerStatus: row.provider_status,
  lastError: row.last_error,
});

const SOURCES: Record<PaymentKind, string> = {
  payout: `SELECT 'payout' AS kind, id, user_id, NULL::uuid AS buyer_id, amount_micros, NULL::bigint AS credited_micros,
                  currency, 'cryptomus' AS method, network, target, status, tx_reference, failure_reason, created_at, ended_at,
                  NULL::timestamptz AS refunded_at, NULL AS invoice_uuid, NULL AS invoice_status FROM payouts`,
  topup: `SELECT 'topup' AS kind, id, NULL::uuid AS user_id, buyer_id, amount_micros, credited_micros, 'USD' AS currency,
                 method, NULL AS network, NULL AS target, status, tx_reference, failure_reason, created_at, ended_at,
                 refunded_at,
                 provider_uuid AS invoice_uuid, provider_status AS invoice_status FROM topups`,
};

/** What the list of payments can be sorted by. */
export const PAYMENT_SORTS = {
  created_at: { expression: 'created_at', kind: 'timestamptz' },
  amount: { expression: 'amount_micros', kind: 'bigint' },
} as const;

/** `sources` with what is known of the sending; each row has what it is sorted by. */
const DETAILS = (sources: string, { selected, orderBy }: Pick<ListOrder, 'selected' | 'orderBy'>) => `
  SELECT p.*, ${selected},
         s.state AS send_state, coalesce(s.calls, 0) AS calls, s.last_error,
         coalesce(s.provider_uuid, p.invoice_uuid) AS provider_uuid,
         coalesce(s.provider_status, p.invoice_status) AS provider_status,
         (SELECT coalesce(json_agg(json_build_object('admin_id', a.admin_id, 'approved_at', a.approved_at)
                                   ORDER BY a.approved_at), '[]')
            FROM payout_approvals a WHERE a.payout_id = p.id) AS approvals
    FROM (${sources}) p LEFT JOIN payout_sends s ON s.payout_id = p.id
   ORDER BY ${orderBy}`;

/** For one, or none. */
const UNSORTED = { selected: "'' AS sort_text", orderBy: 'id' };

/** One payment of either kind, or null. */
export async function readPayment(db: Queryable, id: string): Promise<Payment | null> {
  const { rows } = await db.query<PaymentRow>(
    DETAILS(`${SOURCES.payout} WHERE id = $1 UNION ALL ${SOURCES.topup} WHERE id = $1`, UNSORTED),
    [id],
  );
  return rows[0] === undefined ? null : paymentOf(rows[0]);
}

export interface PaymentFilter {
  kind?: PaymentKind | undefined;
  status?: PaymentStatus | undefined;
  /** A provider: payouts alone. */
  userId?: string | undefined;
  /** A buyer: top-ups alone. */
  buyerId?: string | undefined;
}

export interface PaymentPage {
  limit: number;
  cursor?: string | undefined;
  sort: SortOf<keyof typeof PAYMENT_SORTS>;
}

/** The list's statement with its values and order; exported for the test that looks at its plan. */
export function paymentsQuery(
  filter: PaymentFilter,
  page: PaymentPage,
): { text: string; values: unknown[]; order: ListOrder } {
  const values: unknown[] = [];
  const value = (v: unknown) => `$${values.push(v)}`;
  const order = listOrder(PAYMENT_SORTS, { sort: page.sort, cursor: page.cursor, id: 'id', value });
  const common = order.condition === null ? [] : [order.condition];
  if (filter.status !== undefined) common.push(`status = ${value(filter.status)}`);
  const owner: Record<PaymentKind, string | undefined> = { payout: filter.userId, topup: filter.buyerId };
  const kinds = (['payout', 'topup'] as const).filter(
    (kind) =>
      (filter.kind === undefined || filter.kind === kind) &&
      (owner[kind] !== undefined || (filter.userId ?? filter.buyerId) === undefined),
  );
  // A provider's top-ups, a buyer's payouts: there are none, whatever else is asked.
  if (kinds.length === 0)
    return { text: DETAILS(`${SOURCES.payout} WHERE false`, UNSORTED), values: [], order };
  const limit = value(page.limit + 1);
  const branches = kinds.map((kind) => {
    const where = [...common];
    if (owner[kind] !== undefined)
      where.push(`${kind === 'payout' ? 'user_id' : 'buyer_id'} = ${value(owner[kind])}`);
    const condition = where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`;
    return `(${SOURCES[kind]}${condition} ORDER BY ${order.orderBy} LIMIT ${limit})`;
  });
  const sources = `SELECT * FROM (${branches.join(' UNION ALL ')}) x ORDER BY ${order.orderBy} LIMIT ${limit}`;
  return { text: DETAILS(sources, order), values, order };
}

/** Payouts and top-ups together, in the order asked for. */
export async function listPayments(
  db: Queryable,
  filter: PaymentFilter,
  page: PaymentPage,
): Promise<{ rows: Payment[]; nextCursor: string | null }> {
  const { text, values, order } = paymentsQuery(filter, page);
  const { rows } = await db.query<PaymentRow & SortedRow>(text, values);
  const cut = order.cut(rows, page.limit);
  return { rows: cut.rows.map(paymentOf), nextCursor: cut.nextCursor };
}

/** What was paid in one UTC day. */
export interface PaymentDay {
  /** YYYY-MM-DD */
  day: string;
  payouts: number;
  payoutMicros: bigint;
  topups: number;
  topupMicros: bigint;
}

/** What was completed on each of the last `days` UTC days, today included, oldest first; days without are there, too. */
export async function paymentDays(db: Queryable, days: number): Promise<PaymentDay[]> {
  const { rows } = await db.query<{
    day: string;
    payouts: number;
    payout_micros: bigint;
    topups: number;
    topup_micros: bigint;
  }>(
    `WITH days AS (SELECT d::date AS day FROM generate_series(current_date - ($1::int - 1), current_date, '1 day') d),
          p AS (SELECT ended_at::date AS day, count(*)::int AS n, sum(amount_micros)::bigint AS micros FROM payouts
                 WHERE status = 'completed' AND ended_at >= current_date - ($1::int - 1) GROUP BY 1),
          t AS (SELECT ended_at::date AS day, count(*)::int AS n, sum(credited_micros)::bigint AS micros FROM topups
                 WHERE status = 'completed' AND ended_at >= current_date - ($1::int - 1) GROUP BY 1)
     SELECT day, coalesce(p.n, 0) AS payouts, coalesce(p.micros, 0) AS payout_micros,
            coalesce(t.n, 0) AS topups, coalesce(t.micros, 0) AS topup_micros
       FROM days LEFT JOIN p USING (day) LEFT JOIN t USING (day) ORDER BY day`,
    [days],
  );
  return rows.map((row) => ({
    day: row.day,
    payouts: row.payouts,
    payoutMicros: row.payout_micros,
    topups: row.topups,
    topupMicros: row.topup_micros,
  }));
}
