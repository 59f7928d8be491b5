import type { StarInvoice } from './stars.js';

/** What a call to Telegram came to. `refused`: for sure not done; `unknown`: nobody knows, ask again. */
export type StarsCall<T> =
  | { outcome: 'done'; result: T }
  | { outcome: 'refused' | 'unknown'; message: string };

/** Stars that came from a person, or went back to one. */
export interface StarTransfer {
  /** The same of a payment and of its refund. */
  chargeId: string;
  /** False: it went back. */
  incoming: boolean;
  telegramId: number;
  stars: number;
  /** Of the invoice; null where Telegram does not say it. */
  payload: string | null;
}

/** What top-ups in Stars need of Telegram. `bot/stars-client.ts` is the real one. */
export interface StarsApi {
  /** An address where anybody with Telegram can pay the invoice. */
  createInvoiceLink(invoice: StarInvoice): Promise<StarsCall<string>>;
  /** Gives the Stars of a payment back; `done` also when they were given back before. */
  refund(telegramId: number, chargeId: string): Promise<StarsCall<true>>;
  /** All there ever were, oldest first, without the first `skip`; others than of invoices have no payload. */
  transfers(skip: number, limit: number): Promise<StarsCall<StarTransfer[]>>;
}
