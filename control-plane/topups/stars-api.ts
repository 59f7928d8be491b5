import type { StarInvoice } from './stars.js';

/** What a call to Telegram came to. `refused`: for sure not done; `unknown`: nobody knows, ask again. */
export type StarsCall<T> =
  | { outcome: 'done'; result: T }
  | { outcome: 'refused' | 'unknown'; message: string };

/** What top-ups in Stars need of Telegram. `bot/stars-client.ts` is the real one. */
export interface StarsApi {
  /** An address where anybody with Telegram can pay the invoice. */
  createInvoiceLink(invoice: StarInvoice): Promise<StarsCall<string>>;
  /** Gives the Stars of a payment back; `done` also when they were given back before. */
  refund(telegramId: number, chargeId: string): Promise<StarsCall<true>>;
}
