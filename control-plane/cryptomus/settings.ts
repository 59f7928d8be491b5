import { integer, secret, text } from '../../gateway/runtime/environment.js';

/** Part of the control plane's settings: paying out and being paid through Cryptomus. */
export const cryptomusSettings = {
  cryptomusMerchantId: text(
    'TS_CRYPTOMUS_MERCHANT_ID',
    'merchant UUID at Cryptomus; unset: payouts are not sent, top-ups answer 503',
    null,
  ),
  cryptomusPaymentKey: secret('TS_CRYPTOMUS_PAYMENT_KEY', 'API key for invoices and their webhooks', null),
  cryptomusPayoutKey: secret('TS_CRYPTOMUS_PAYOUT_KEY', 'API key for payouts and their webhooks', null),
  cryptomusUrl: text('TS_CRYPTOMUS_URL', "root of Cryptomus's API", 'https://api.cryptomus.com'),
  cryptomusTimeoutMs: integer(
    'TS_CRYPTOMUS_TIMEOUT_MS',
    'time one call to Cryptomus may take; above it it is asked later what became of the call',
    { default: 15_000, min: 100, max: 120_000 },
  ),
  cryptomusIntervalMs: integer(
    'TS_CRYPTOMUS_INTERVAL_MS',
    'how often it is looked for payouts to send and payments to look up',
    { default: 2_000, min: 20, max: 600_000 },
  ),
  publicApiUrl: text(
    'TS_PUBLIC_API_URL',
    'where the API is reached from outside, https://…, for webhooks; unset: payments are looked up only',
    null,
  ),
  invoiceLifetimeS: integer('TS_INVOICE_LIFETIME_S', 'time a top-up can be paid, seconds', {
    default: 3_600,
    min: 300,
    max: 43_200,
  }),
};

/** Told where something needs Cryptomus and it is not configured. */
export const CRYPTOMUS_NOT_CONFIGURED =
  'Cryptomus is not configured. Set TS_CRYPTOMUS_MERCHANT_ID, TS_CRYPTOMUS_PAYMENT_KEY and TS_CRYPTOMUS_PAYOUT_KEY (from the ' +
  'merchant’s settings at Cryptomus) in the environment of every control plane, and restart it.';
