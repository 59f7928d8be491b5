import { Composer } from 'grammy';
import { recordAudit } from '../../audit/audit.js';
import { findBuyerByTelegram } from '../../buyers/telegrams.js';
import { formatMicros, parseMicros } from '../../ledger/money.js';
import type { LiveState } from '../../live-state/live-state.js';
import { amountIn, dollars } from '../../texts/words.js';
import { reportStarRefund } from '../../topups/star-refunds.js';
import { type CheckoutRefusal, checkOut, creditStars, openStarTopUp, starsFor } from '../../topups/stars.js';
import type { BotContext, BotPart } from '../context.js';
import { invoiceWords } from '../stars-client.js';

export interface StarsPartDeps {
  /** A credited buyer is told to the gateways. */
  live: Pick<LiveState, 'accountsChanged'>;
  /** In force now: micro-dollars a Star is worth (0: none are taken), and the bounds of a top-up. */
  rules: () => Promise<{ starPriceMicros: bigint; topupMicrosMin: bigint; topupMicrosMax: bigint }>;
  /** How long an invoice can be paid, seconds. */
  invoiceLifetimeS: number;
}

/** Shown by Telegram in the payment dialogue. */
const CHECKOUT_REFUSED: Readonly<Record<CheckoutRefusal, string>> = {
  unknown_order: 'checkout-unknown-order',
  wrong_amount: 'checkout-wrong-amount',
  not_open: 'checkout-not-open',
  expired: 'checkout-expired',
  being_paid: 'checkout-being-paid',
  buyer_not_active: 'checkout-not-active',
};

/**
 * Top-ups of buyers in Telegram Stars: `/topup 25`, and what Telegram says of checkouts, payments and
 * refunds.
 */
export function starsPart(deps: StarsPartDeps): BotPart {
  const { live, rules, invoiceLifetimeS } = deps;
  const part = new Composer<BotContext>();

  part.chatType('private').command('topup', async (ctx) => {
    const buyer = await findBuyerByTelegram(ctx.db, ctx.from.id);
    if (buyer === null) return ctx.say(ctx.t('not-a-buyer'));
    if (buyer.status !== 'active') return ctx.say(ctx.t('checkout-not-active'));
    const { starPriceMicros, topupMicrosMin, topupMicrosMax } = await rules();
    const amountMicros = parseMicros(amountIn(ctx.match) ?? '');
    if (amountMicros === null || amountMicros < topupMicrosMin || amountMicros > topupMicrosMax)
      return ctx.say(ctx.t('topup-usage', { min: dollars(topupMicrosMin), max: dollars(topupMicrosMax) }));
    const stars = starsFor(amountMicros, starPriceMicros);
    if (stars === null) return ctx.say(ctx.t('topup-no-stars'));
    const invoice = await openStarTopUp(ctx.db, buyer.id, stars, starPriceMicros, invoiceLifetimeS);
    await recordAudit(ctx.db, {
      actor: { role: 'bot' },
      action: 'topup_opened',
      objectType: 'topup',
      objectId: invoice.topUpId,
      after: { amount: formatMicros(invoice.amountMicros), stars, telegram_id: ctx.from.id },
    });
    ctx.after((api) => api.sendInvoice(ctx.chat.id, ...invoiceWords(invoice)));
  });

  part.on('pre_checkout_query', async (ctx) => {
    const { id, currency, total_amount: totalAmount, invoice_payload: payload } = ctx.preCheckoutQuery;
    const checked = await checkOut(ctx.db, { currency, totalAmount, payload });
    // Within ten seconds, else Telegram cancels the payment by itself.
    ctx.after((api) =>
      checked.ok
        ? api.answerPreCheckoutQuery(id, true)
        : api.answerPreCheckoutQuery(id, false, {
            error_message: ctx.t(CHECKOUT_REFUSED[checked.code]),
          }),
    );
  });

  part.on('message:successful_payment', async (ctx) => {
    const paid = ctx.message.successful_payment;
    const credited = await creditStars(ctx.db, {
      currency: paid.currency,
      totalAmount: paid.total_amount,
      payload: paid.invoice_payload,
      chargeId: paid.telegram_payment_charge_id,
      telegramId: ctx.from.id,
    });
    if (credited.outcome === 'refused') return ctx.say(ctx.t('topup-returned'));
    if (credited.outcome === 'repeated') return;
    const { buyerId, amountMicros } = credited;
    ctx.after(() => live.accountsChanged([buyerId]));
    ctx.say(ctx.t('topup-credited', { amount: dollars(amountMicros) }));
  });

  part.on('message:refunded_payment', async (ctx) => {
    const chargeId = ctx.message.refunded_payment.telegram_payment_charge_id;
    const reported = await reportStarRefund(ctx.db, chargeId);
    // The payment is still on its way here: tried again, and after some minutes somebody has to look.
    if (reported.outcome === 'unknown') throw new Error('a refund of a payment that is not known');
    if (reported.outcome !== 'booked') return;
    const { buyerId } = reported;
    ctx.after(() => live.accountsChanged([buyerId]));
  });

  // Telegram asks every bot that takes Stars for this command.
  part.command('paysupport', (ctx) => ctx.say(ctx.t('pay-support')));
  return part;
}
