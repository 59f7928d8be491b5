import { signatureOf } from './signature.js';

export interface CryptomusSettings {
  /** Root of the API, without a slash at the end. */
  url: string;
  merchantId: string;
  /** Signs invoices and their webhooks. */
  paymentKey: string;
  /** Signs payouts and their webhooks. */
  payoutKey: string;
  /** Time one call may take, ms; above it its outcome is unknown. */
  timeoutMs: number;
}

/**
 * What became of a call.
 * - `done`: Cryptomus answered with a result.
 * - `refused`: it answered that it will not do it (`state: 1`, or a validation error): nothing was made by this call.
 * - `absent`: only of lookups: there is no such order.
 * - `unknown`: no answer, a server error, or one that can not be read. It may have been done.
 */
export type Outcome<T> =
  | { outcome: 'done'; result: T }
  | { outcome: 'refused'; message: string }
  | { outcome: 'unknown'; message: string };
export type Lookup<T> = Exclude<Outcome<T>, { outcome: 'refused' }> | { outcome: 'absent' };

/** A payout as Cryptomus has it. Amounts are decimal strings of `currency`. */
export interface ProviderPayout {
  uuid: string;
  /** Null where the answer does not name it. */
  orderId: string | null;
  status: string;
  /** Nothing changes any more. */
  isFinal: boolean;
  amount: string;
  currency: string;
  network: string | null;
  address: string | null;
  /** Transaction on the chain. */
  txid: string | null;
}

/** An invoice as Cryptomus has it. */
export interface ProviderPayment {
  uuid: string;
  orderId: string;
  status: string;
  isFinal: boolean;
  /** Of the invoice, in `currency`. */
  amount: string;
  currency: string;
  /** What has to be paid and what was paid, both in the payer's currency; null while it is not chosen or not paid. */
  payerAmount: string | null;
  paymentAmount: string | null;
  /** What was paid, in US dollars. */
  paymentAmountUsd: string | null;
  url: string | null;
  expiresAt: Date | null;
  txid: string | null;
}

/** One way to pay or be paid. Amounts are decimal strings of `currency`. */
export interface ProviderService {
  network: string;
  currency: string;
  isAvailable: boolean;
  minAmount: string;
  maxAmount: string;
  feeAmount: string;
  feePercent: string;
}

export interface NewPayout {
  orderId: string;
  /** Decimal string. */
  amount: string;
  currency: string;
  network: string;
  address: string;
  /** Where webhooks go; null: nowhere. */
  callbackUrl: string | null;
}

export interface NewInvoice {
  orderId: string;
  /** Decimal string, US dollars. */
  amount: string;
  /** How long it can be paid, seconds, 300 to 43200. */
  lifetimeS: number;
  callbackUrl: string | null;
}

type Json = Record<string, unknown>;
/** An answer that is not what the documents say. */
class Unreadable extends Error {}

/** Ids of ours as order ids: 32 characters, which is what every call of Cryptomus takes. */
export const orderIdOf = (id: string): string => id.replaceAll('-', '');

/** The id an order id stands for, or null when it is none of ours. */
export function idOfOrder(orderId: unknown): string | null {
  if (typeof orderId !== 'string' || !/^[0-9a-f]{32}$/.test(orderId)) return null;
  return orderId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Calls Cryptomus's merchant API. Never throws for what happens on the way: see `Outcome`. */
export class CryptomusClient {
  constructor(private readonly settings: CryptomusSettings) {}

  /** The fee is taken from our balance: who is paid gets the whole amount. The same order id never pays twice. */
  createPayout(payout: NewPayout): Promise<Outcome<ProviderPayout>> {
    const body = {
      amount: payout.amount,
      currency: payout.currency,
      network: payout.network,
      order_id: payout.orderId,
      address: payout.address,
      is_subtract: true,
      ...(payout.callbackUrl !== null && { url_callback: payout.callbackUrl }),
    };
    return this.#call('/v1/payout', body, this.settings.payoutKey, payoutOf);
  }

  payoutInfo(orderId: string): Promise<Lookup<ProviderPayout>> {
    return this.#lookup('/v1/payout/info', orderId, this.settings.payoutKey, payoutOf);
  }

  payoutServices(): Promise<Outcome<ProviderService[]>> {
    return this.#call('/v1/payout/services', {}, this.settings.payoutKey, servicesOf);
  }

  /** The same order id gives the same invoice. */
  createInvoice(invoice: NewInvoice): Promise<Outcome<ProviderPayment>> {
    const body = {
      amount: invoice.amount,
      currency: 'USD',
      order_id: invoice.orderId,
      lifetime: invoice.lifetimeS,
      ...(invoice.callbackUrl !== null && { url_callback: invoice.callbackUrl }),
    };
    return this.#call('/v1/payment', body, this.settings.paymentKey, paymentOf);
  }

  paymentInfo(orderId: string): Promise<Lookup<ProviderPayment>> {
    return this.#lookup('/v1/payment/info', orderId, this.settings.paymentKey, paymentOf);
  }

  paymentServices(): Promise<Outcome<ProviderService[]>> {
    return this.#call('/v1/payment/services', {}, this.settings.paymentKey, servicesOf);
  }

  async #lookup<T>(
    path: string,
    orderId: string,
    key: string,
    read: (result: unknown) => T,
  ): Promise<Lookup<T>> {
    const answer = await this.#call(path, { order_id: orderId }, key, read);
    if (answer.outcome !== 'refused') return answer;
    // Any other refusal (a wrong key, say) tells nothing about the order.
    return /not found|not exist/i.test(answer.message)
      ? { outcome: 'absent' }
      : { outcome: 'unknown', message: answer.message };
  }

  async #call<T>(
    path: string,
    content: Json,
    key: string,
    read: (result: unknown) => T,
  ): Promise<Outcome<T>> {
    const body = JSON.stringify(content);
    let status: number;
    let text: string;
    try {
      const response = await fetch(this.settings.url + path, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          merchant: this.settings.merchantId,
          sign: signatureOf(body, key),
        },
        body,
        redirect: 'error',
        signal: AbortSignal.timeout(this.settings.timeoutMs),
      });
      status = response.status;
      text = await response.text();
    } catch (error) {
      const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).name;
      return { outcome: 'unknown', message: `no answer: ${cause}` };
    }
    if (status >= 500) return { outcome: 'unknown', message: `HTTP ${status}` };
    try {
      const answer = objectOf(JSON.parse(text));
      if (answer.state === 1 || (status >= 400 && status !== 408 && status !== 429))
        return { outcome: 'refused', message: refusalOf(answer, status) };
      if (answer.state !== 0 || status >= 300) throw new Unreadable(`state ${String(answer.state)}`);
      return { outcome: 'done', result: read(answer.result) };
    } catch (error) {
      const why = error instanceof Unreadable ? error.message : 'no JSON';
      return { outcome: 'unknown', message: `HTTP ${status}, ${why}` };
    }
  }
}

const REFUSAL_CHARS_MAX = 500;

/** `{state: 1, message}`, or `{state: 1, errors: {field: [why]}}` of a validation. */
function refusalOf(answer: Json, status: number): string {
  const { message, errors } = answer;
  const texts = typeof message === 'string' && message !== '' ? [message] : [];
  if (typeof errors === 'object' && errors !== null)
    for (const [field, why] of Object.entries(errors)) texts.push(`${field}: ${[why].flat().join(', ')}`);
  return (texts.join('; ') || `HTTP ${status}`).slice(0, REFUSAL_CHARS_MAX);
}

function objectOf(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Unreadable('no object');
  return value as Json;
}

function textOf(json: Json, name: string): string {
  const value = json[name];
  if (typeof value === 'string' && value !== '') return value;
  if (typeof value === 'number' && name.includes('amount')) return String(value);
  throw new Unreadable(`no ${name}`);
}

function optionalText(json: Json, name: string): string | null {
  return json[name] === null || json[name] === undefined || json[name] === '' ? null : textOf(json, name);
}

function isFinalOf(json: Json): boolean {
  if (typeof json.is_final !== 'boolean') throw new Unreadable('no is_final');
  return json.is_final;
}

function payoutOf(result: unknown): ProviderPayout {
  const json = objectOf(result);
  return {
    uuid: textOf(json, 'uuid'),
    orderId: optionalText(json, 'order_id'),
    status: textOf(json, 'status'),
    isFinal: isFinalOf(json),
    amount: textOf(json, 'amount'),
    currency: textOf(json, 'currency'),
    network: optionalText(json, 'network'),
    address: optionalText(json, 'address'),
    txid: optionalText(json, 'txid'),
  };
}

function paymentOf(result: unknown): ProviderPayment {
  const json = objectOf(result);
  const expiredAt = json.expired_at;
  return {
    uuid: textOf(json, 'uuid'),
    orderId: textOf(json, 'order_id'),
    status: optionalText(json, 'payment_status') ?? textOf(json, 'status'),
    isFinal: isFinalOf(json),
    amount: textOf(json, 'amount'),
    currency: textOf(json, 'currency'),
    payerAmount: optionalText(json, 'payer_amount'),
    paymentAmount: optionalText(json, 'payment_amount'),
    paymentAmountUsd: optionalText(json, 'payment_amount_usd'),
    url: optionalText(json, 'url'),
    expiresAt: typeof expiredAt === 'number' ? new Date(expiredAt * 1000) : null,
    txid: optionalText(json, 'txid'),
  };
}

function servicesOf(result: unknown): ProviderService[] {
  if (!Array.isArray(result)) throw new Unreadable('no list');
  return result.map((item) => {
    const json = objectOf(item);
    const [limit, commission] = [objectOf(json.limit), objectOf(json.commission)];
    return {
      network: textOf(json, 'network'),
      currency: textOf(json, 'currency'),
      isAvailable: json.is_available === true,
      minAmount: textOf(limit, 'min_amount'),
      maxAmount: textOf(limit, 'max_amount'),
      feeAmount: textOf(commission, 'fee_amount'),
      feePercent: textOf(commission, 'percent'),
    };
  });
}
