import { randomUUID } from 'node:crypto';
import { recordAudit } from '../audit/audit.js';
import type { Queryable } from '../db/pool.js';
import { putIntoOutbox } from '../jobs/outbox.js';
import { post } from '../ledger/ledger.js';
import { formatMicros } from '../ledger/money.js';
import type { TopUpStatus } from './topups.js';

/** Currency of Telegram Stars in the Bot API. */
export const STARS_CURRENCY = 'XTR';
/** Kind of the outbox messages that have Stars given back (`star-refunds.ts`). */
export const STAR_REFUND_OUTBOX = 'star_refund';
/** A payment that Telegram was allowed to take is waited for so long before another one may be. */
const CHECKOUT_WAIT_S = 900;
/** Stars of one invoice: Telegram's own bound is lower and may change, so what it refuses is refused. */
const STARS_MAX = 1_000_000;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Whole Stars that are worth at least the amount. Null: Stars are not taken (price 0), or it would be too
 * many.
 */
export function starsFor(amountMicros: bigint, starPriceMicros: bigint): number | null {
  if (starPriceMicros <= 0n) return null;
  const stars = (amountMicros + starPriceMicros - 1n) / starPriceMicros;
  return stars > BigInt(STARS_MAX) ? null : Number(stars);
}

/** What an invoice of the bot says. */
export interface StarInvoice {
  topUpId: string;
  stars: number;
  /** What the balance grows by: the Stars at the price now, micro-dollars. */
  amountMicros: bigint;
}

/**
 * A top-up to be paid in Stars, in the caller's transaction; the invoice is to be sent afterwards. Its price
 * does not change any more.
 */
export async function openStarTopUp(
  client: Queryable,
  buyerId: string,
  stars: number,
  starPriceMicros: bigint,
  lifetimeS: number,
): Promise<StarInvoice> {
  const topUpId = randomUUID();
  const amountMicros = BigInt(stars) * starPriceMicros;
  await client.query(
    `INSERT INTO topups (id, buyer_id, amount_micros, method, stars, expires_at)
     VALUES ($1, $2, $3, 'telegram_stars', $4, now() + make_interval(secs => $5))`,
    [topUpId, buyerId, amountMicros.toString(), stars, lifetimeS],
  );
  return { topUpId, stars, amountMicros };
}

/** Where the invoice is to be paid. */
export async function setStarInvoiceUrl(client: Queryable, topUpId: string, url: string): Promise<void> {
  await client.query('UPDATE topups SET url = $2 WHERE id = $1', [topUpId, url]);
}

/** What Telegram says of an order or a payment. `payload` is what the invoice carried: the top-up's id. */
export interface StarOrder {
  currency: string;
  /** Whole Stars. */
  totalAmount: number;
  payload: string;
}

export interface StarPayment extends StarOrder {
  chargeId: string;
  /** Who paid. */
  telegramId: number;
}

interface StarTopUp {
  id: string;
  buyer_id: string;
  amount_micros: bigint;
  stars: number;
  status: TopUpStatus;
  expired: boolean;
  checked_out: boolean;
  buyer_active: boolean;
}

/** The order's top-up, locked; null when there is none of this id that is paid in Stars. */
async function lockOrder(client: Queryable, payload: string): Promise<StarTopUp | null> {
  if (!UUID.test(payload)) return null;
  const { rows } = await client.query<StarTopUp>(
    `SELECT t.id, t.buyer_id, t.amount_micros, t.stars, t.status, t.expires_at <= now() AS expired,
            coalesce(t.checkout_at > now() - make_interval(secs => ${CHECKOUT_WAIT_S}), false) AS checked_out,
            b.status = 'active' AS buyer_active
       FROM topups t JOIN buyers b ON b.id = t.buyer_id
      WHERE t.id = $1 AND t.method = 'telegram_stars' FOR NO KEY UPDATE OF t`,
    [payload],
  );
  return rows[0] ?? null;
}

/** Whether an invoice's payload is a top-up in Stars. */
export async function isStarOrder(db: Queryable, payload: string): Promise<boolean> {
  if (!UUID.test(payload)) return false;
  const { rowCount } = await db.query("SELECT 1 FROM topups WHERE id = $1 AND method = 'telegram_stars'", [
    payload,
  ]);
  return rowCount === 1;
}

/** Why an order must not be paid. `being_paid`: somebody is at it, links may be opened by many. */
export type CheckoutRefusal =
  | 'unknown_order'
  | 'wrong_amount'
  | 'not_open'
  | 'expired'
  | 'being_paid'
  | 'buyer_not_active';

/**
 * Whether Telegram may take the payment, in the caller's transaction. One that may is expected: the same
 * order is not approved again for a while, or two people would pay it.
 */
export async function checkOut(
  client: Queryable,
  order: StarOrder,
): Promise<{ ok: true } | { ok: false; code: CheckoutRefusal }> {
  const topUp = await lockOrder(client, order.payload);
  if (topUp === null) return { ok: false, code: 'unknown_order' };
  if (order.currency !== STARS_CURRENCY || order.totalAmount !== topUp.stars)
    return { ok: false, code: 'wrong_amount' };
  if (topUp.status !== 'pending' && topUp.status !== 'processing') return { ok: false, code: 'not_open' };
  if (topUp.checked_out) return { ok: false, code: 'being_paid' };
  if (topUp.expired) return { ok: false, code: 'expired' };
  if (!topUp.buyer_active) return { ok: false, code: 'buyer_not_active' };
  await client.query("UPDATE topups SET status = 'processing', checkout_at = now() WHERE id = $1", [
    topUp.id,
  ]);
  return { ok: true };
}

/**
 * What became of a payment. `refused`: it fits no order that is open, nothing was credited, the Stars go
 * back.
 */
export type StarCredit =
  | { outcome: 'credited'; buyerId: string; amountMicros: bigint }
  | { outcome: 'repeated' }
  | { outcome: 'refused'; reason: 'unknown_order' | 'wrong_amount' | 'paid_before' };

/**
 * Books a payment that Telegram has taken, in the caller's transaction: once for each `chargeId`, whoever
 * calls how often. A top-up that was cancelled meanwhile is credited all the same, one that is paid already
 * is not.
 */
export async function creditStars(client: Queryable, payment: StarPayment): Promise<StarCredit> {
  const { chargeId, telegramId, totalAmount: stars } = payment;
  const topUp = await lockOrder(client, payment.payload);
  const reason =
    topUp === null
      ? 'unknown_order'
      : payment.currency !== STARS_CURRENCY || stars !== topUp.stars
        ? 'wrong_amount'
        : topUp.status === 'completed'
          ? 'paid_before'
          : null;
  const { rowCount } = await client.query(
    `INSERT INTO star_payments (charge_id, topup_id, telegram_id, stars, state, credited_micros)
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (charge_id) DO NOTHING`,
    [
      chargeId,
      topUp?.id ?? null,
      telegramId,
      stars,
      reason === null ? 'credited' : 'refused',
      reason === null ? (topUp as StarTopUp).amount_micros.toString() : null,
    ],
  );
  if (rowCount === 0) return { outcome: 'repeated' };
  const about = { charge_id: chargeId, telegram_id: telegramId, stars };
  if (reason !== null || topUp === null) {
    await putIntoOutbox(client, [{ kind: STAR_REFUND_OUTBOX, payload: { charge_id: chargeId } }]);
    await audit(client, 'star_payment_refused', topUp?.id ?? null, { ...about, reason });
    return { outcome: 'refused', reason: reason ?? 'unknown_order' };
  }
  const [posted] = await post(client, [
    {
      kind: 'topup_stars',
      sourceId: chargeId,
      description: `${stars} Telegram Stars`,
      entries: [
        {
          account: { kind: 'buyer_prepaid', ownerId: topUp.buyer_id },
          entryKind: 'topup',
          amountMicros: topUp.amount_micros,
        },
        {
          account: { kind: 'platform_funding', ownerId: null },
          entryKind: 'topup',
          amountMicros: -topUp.amount_micros,
        },
      ],
    },
  ]);
  if (!posted?.ok || !posted.fresh) throw new Error(`the ledger has the charge ${chargeId} already`);
  await client.query(
    `UPDATE topups SET status = 'completed', credited_micros = amount_micros, tx_reference = $2, ended_at = now(),
                       failure_reason = NULL
      WHERE id = $1`,
    [topUp.id, chargeId],
  );
  await audit(client, 'topup_credited', topUp.id, {
    ...about,
    credited: formatMicros(topUp.amount_micros),
    transaction_id: posted.id,
  });
  return { outcome: 'credited', buyerId: topUp.buyer_id, amountMicros: topUp.amount_micros };
}

/** Ends top-ups in Stars that nobody paid in time; resolves to how many. A step of the job `cleanup`. */
export async function cancelUnpaidStarTopUps(client: Queryable): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE topups SET status = 'cancelled', ended_at = now(), failure_reason = 'not paid in time'
      WHERE method = 'telegram_stars' AND status IN ('pending', 'processing') AND expires_at <= now()
        AND (checkout_at IS NULL OR checkout_at <= now() - make_interval(secs => ${CHECKOUT_WAIT_S}))`,
  );
  return rowCount ?? 0;
}

/** A line of the audit log about a top-up in Stars, of which nobody but Telegram asked. */
export function audit(
  client: Queryable,
  action: string,
  topUpId: string | null,
  after: object,
): Promise<void> {
  return recordAudit(client, {
    actor: { role: 'system' },
    action,
    objectType: 'topup',
    objectId: topUpId,
    after,
  });
}
