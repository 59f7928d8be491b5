import { type Api, GrammyError } from 'grammy';
import type { LabeledPrice, StarTransaction } from 'grammy/types';
import { formatMicros } from '../ledger/money.js';
import { STARS_CURRENCY, type StarInvoice } from '../topups/stars.js';
import type { StarsApi, StarsCall, StarTransfer } from '../topups/stars-api.js';

/** What an invoice says: title (32 characters at most), description, payload, currency, the one price. */
export function invoiceWords(
  invoice: StarInvoice,
): [title: string, description: string, payload: string, currency: string, prices: LabeledPrice[]] {
  const dollars = formatMicros(invoice.amountMicros).replace(/0{1,4}$/, '');
  return [
    'Traffic Share balance',
    `Adds $${dollars} to the balance of your Traffic Share buyer account.`,
    invoice.topUpId,
    STARS_CURRENCY,
    [{ label: `$${dollars}`, amount: invoice.stars }],
  ];
}

/** Telegram's word for a payment that was given back before. */
const REFUNDED_BEFORE = /CHARGE_ALREADY_REFUNDED/;

/** Invoices and refunds through the Bot API. */
export function createStarsApi(api: Api): StarsApi {
  return {
    createInvoiceLink(invoice) {
      const [title, description, payload, currency, prices] = invoiceWords(invoice);
      return call(() => api.createInvoiceLink(title, description, payload, '', currency, prices));
    },
    async refund(telegramId, chargeId) {
      const refunded = await call(() => api.refundStarPayment(telegramId, chargeId));
      return refunded.outcome === 'refused' && REFUNDED_BEFORE.test(refunded.message)
        ? { outcome: 'done', result: true }
        : refunded;
    },
    async transfers(skip, limit) {
      const read = await call(() => api.getStarTransactions({ offset: skip, limit }));
      return read.outcome === 'done'
        ? { outcome: 'done', result: read.result.transactions.map(transferOf) }
        : read;
    },
  };
}

function transferOf({ id, amount, source, receiver }: StarTransaction): StarTransfer {
  const partner = source ?? receiver;
  const person = partner?.type === 'user' ? partner : null; // others are Telegram's own, and of no payment here
  return {
    chargeId: id,
    incoming: source !== undefined,
    telegramId: person?.user.id ?? 0,
    stars: amount,
    payload: person?.invoice_payload ?? null,
  };
}

async function call<T>(make: () => Promise<T>): Promise<StarsCall<T>> {
  try {
    return { outcome: 'done', result: await make() };
  } catch (error) {
    if (!(error instanceof GrammyError)) return { outcome: 'unknown', message: 'no answer from Telegram' };
    const message = `${error.error_code} ${error.description}`.slice(0, 300);
    // 401 and 404 are of a wrong token or address: nothing was done, and nothing is wrong with the order.
    const sure = error.error_code === 400 || error.error_code === 403;
    return { outcome: sure ? 'refused' : 'unknown', message };
  }
}
