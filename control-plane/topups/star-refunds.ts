import type pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { type Queryable, withTransaction } from '../db/pool.js';
import { type OutboxHandler, putIntoOutbox } from '../jobs/outbox.js';
import { type Posting, post } from '../ledger/ledger.js';
import { formatMicros } from '../ledger/money.js';
import type { LiveState } from '../live-state/live-state.js';
import { readHeld } from '../wallets/held.js';
import { audit, STAR_REFUND_OUTBOX } from './stars.js';
import type { StarsApi } from './stars-api.js';

interface PaymentRow {
  charge_id: string;
  topup_id: string | null;
  telegram_id: bigint;
  state: 'credited' | 'refused' | 'refunding' | 'refunded';
  credited_micros: bigint | null;
  refunds: number;
  buyer_id: string | null;
}

async function lockPayment(
  client: Queryable,
  where: 'charge_id' | 'topup_id',
  value: string,
): Promise<PaymentRow | null> {
  const { rows } = await client.query<PaymentRow>(
    `SELECT p.charge_id, p.topup_id, p.telegram_id, p.state, p.credited_micros, p.refunds, t.buyer_id
       FROM star_payments p LEFT JOIN topups t ON t.id = p.topup_id
      WHERE p.${where} = $1 ${where === 'topup_id' ? 'AND p.credited_micros IS NOT NULL' : ''}
        FOR NO KEY UPDATE OF p`,
    [value],
  );
  return rows[0] ?? null;
}

export type RefundAsked =
  | { ok: true; chargeId: string; buyerId: string; amountMicros: bigint }
  | { ok: false; code: 'not_found' | 'not_refundable' };

/**
 * An admin gives a top-up in Stars back, in the caller's transaction: the credit leaves the balance now, the
 * Stars are given back from the outbox. The database refuses it (`held_by_traffic`) when the buyer has spent
 * it or traffic holds it.
 */
export async function askStarRefund(
  client: Queryable,
  topUpId: string,
  adminId: string,
  reason: string,
): Promise<RefundAsked> {
  const payment = await lockPayment(client, 'topup_id', topUpId);
  if (payment === null) return { ok: false, code: 'not_found' };
  if (payment.state !== 'credited' || payment.buyer_id === null || payment.credited_micros === null)
    return { ok: false, code: 'not_refundable' };
  const { charge_id: chargeId, buyer_id: buyerId, credited_micros: amountMicros } = payment;
  await takeBack(client, payment, amountMicros, reason);
  await client.query(
    `UPDATE star_payments SET state = 'refunding', refunds = refunds + 1, refund_asked_by = $2, refund_reason = $3
      WHERE charge_id = $1`,
    [chargeId, adminId, reason],
  );
  await putIntoOutbox(client, [{ kind: STAR_REFUND_OUTBOX, payload: { charge_id: chargeId } }]);
  return { ok: true, chargeId, buyerId, amountMicros };
}

/**
 * Moves a credit back: from the balance as much as `fromBuyerMicros`, the rest from the platform's revenue.
 */
async function takeBack(
  client: Queryable,
  payment: PaymentRow,
  fromBuyerMicros: bigint,
  description: string,
): Promise<void> {
  const credited = payment.credited_micros ?? 0n;
  const entries: Posting[] = [
    {
      account: { kind: 'buyer_prepaid', ownerId: payment.buyer_id },
      entryKind: 'refund',
      amountMicros: -fromBuyerMicros,
    },
    {
      account: { kind: 'platform_revenue', ownerId: null },
      entryKind: 'refund',
      amountMicros: fromBuyerMicros - credited,
    },
    { account: { kind: 'platform_funding', ownerId: null }, entryKind: 'refund', amountMicros: credited },
  ];
  const sourceId = `${payment.charge_id}:${payment.refunds + 1}`;
  const [posted] = await post(client, [{ kind: 'topup_stars_refund', sourceId, description, entries }]);
  if (!posted?.ok || !posted.fresh) throw new Error(`the ledger has the refund ${sourceId} already`);
}

/**
 * What a report of a refund came to. `unknown`: Telegram told of the refund before it told of the payment.
 */
export type RefundReported =
  | { outcome: 'booked'; buyerId: string }
  | { outcome: 'confirmed' | 'repeated' | 'unknown' };

/**
 * Telegram says that a payment was given back (`refunded_payment`), in the caller's transaction. One that we
 * asked for is confirmed. One that was made elsewhere is booked now: what the buyer has spent of it, or what
 * traffic holds, the platform pays.
 */
export async function reportStarRefund(client: Queryable, chargeId: string): Promise<RefundReported> {
  const payment = await lockPayment(client, 'charge_id', chargeId);
  if (payment === null) return { outcome: 'unknown' };
  if (payment.state === 'refunded') return { outcome: 'repeated' };
  let buyerId: string | null = null;
  if (payment.state === 'credited' && payment.buyer_id !== null && payment.credited_micros !== null) {
    buyerId = payment.buyer_id;
    const shortMicros = payment.credited_micros - (await freeMicros(client, buyerId));
    const fromBuyer = shortMicros > 0n ? payment.credited_micros - shortMicros : payment.credited_micros;
    await takeBack(client, payment, fromBuyer, 'given back at Telegram');
    await audit(client, 'star_refund_reported', payment.topup_id, {
      charge_id: chargeId,
      from_buyer: formatMicros(fromBuyer),
      from_platform: formatMicros(payment.credited_micros - fromBuyer),
    });
  }
  await markRefunded(client, payment, buyerId === null ? 0 : 1);
  return buyerId === null ? { outcome: 'confirmed' } : { outcome: 'booked', buyerId };
}

/**
 * What may leave the balance now: it stays locked until the transaction ends, so that no grant comes in
 * between.
 */
async function freeMicros(client: Queryable, buyerId: string): Promise<bigint> {
  const { rows } = await client.query<{ balance_micros: bigint }>(
    "SELECT balance_micros FROM ledger_accounts WHERE kind = 'buyer_prepaid' AND owner_id = $1 FOR NO KEY UPDATE",
    [buyerId],
  );
  const held = (await readHeld(client, 'buyer', [buyerId])).get(buyerId) ?? 0n;
  const free = (rows[0]?.balance_micros ?? 0n) - held;
  return free > 0n ? free : 0n;
}

async function markRefunded(client: Queryable, payment: PaymentRow, refunds: 0 | 1): Promise<void> {
  await client.query(
    `UPDATE star_payments SET state = 'refunded', refunded_at = now(), last_error = NULL, refunds = refunds + $2
      WHERE charge_id = $1`,
    [payment.charge_id, refunds],
  );
  if (payment.topup_id !== null && payment.credited_micros !== null)
    await client.query('UPDATE topups SET refunded_at = now() WHERE id = $1', [payment.topup_id]);
}

/**
 * Has Telegram give Stars back (outbox kind `star_refund`). Repeating the call is harmless: of a payment that
 * was given back Telegram says so. Where Telegram refuses for good, the buyer has the credit again.
 */
export function starRefundHandler(deps: {
  pool: pg.Pool;
  log: Log;
  stars: StarsApi;
  live: Pick<LiveState, 'accountsChanged'>;
}): OutboxHandler {
  const { pool, log, stars, live } = deps;
  return async ({ payload }) => {
    const { charge_id: chargeId } = payload as { charge_id: string };
    const { rows } = await pool.query<{ telegram_id: bigint; state: PaymentRow['state'] }>(
      'SELECT telegram_id, state FROM star_payments WHERE charge_id = $1',
      [chargeId],
    );
    const [payment] = rows;
    if (payment === undefined || payment.state === 'refunded' || payment.state === 'credited') return;
    const refunded = await stars.refund(Number(payment.telegram_id), chargeId);
    if (refunded.outcome === 'unknown') throw new Error(`refund of Stars: ${refunded.message}`);
    const buyerId = await withTransaction(pool, async (client) => {
      const locked = await lockPayment(client, 'charge_id', chargeId);
      if (locked === null || locked.state === 'refunded' || locked.state === 'credited') return null;
      const about = { charge_id: chargeId };
      if (refunded.outcome === 'done') {
        await markRefunded(client, locked, 0);
        await audit(client, 'star_payment_refunded', locked.topup_id, about);
        return null;
      }
      log.error({ ...about, topup_id: locked.topup_id, message: refunded.message }, 'star_refund_refused');
      await client.query('UPDATE star_payments SET last_error = $2 WHERE charge_id = $1', [
        chargeId,
        refunded.message,
      ]);
      await audit(client, 'star_refund_refused', locked.topup_id, { ...about, message: refunded.message });
      if (locked.state !== 'refunding') return null;
      await giveBack(client, locked);
      return locked.buyer_id;
    });
    if (buyerId !== null) await live.accountsChanged([buyerId]);
  };
}

async function giveBack(client: Queryable, payment: PaymentRow): Promise<void> {
  const amountMicros = payment.credited_micros ?? 0n;
  await post(client, [
    {
      kind: 'topup_stars_refund_failed',
      sourceId: `${payment.charge_id}:${payment.refunds}`,
      entries: [
        { account: { kind: 'buyer_prepaid', ownerId: payment.buyer_id }, entryKind: 'refund', amountMicros },
        {
          account: { kind: 'platform_funding', ownerId: null },
          entryKind: 'refund',
          amountMicros: -amountMicros,
        },
      ],
    },
  ]);
  await client.query("UPDATE star_payments SET state = 'credited' WHERE charge_id = $1", [payment.charge_id]);
}
