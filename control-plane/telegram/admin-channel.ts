import type { Queryable } from '../db/pool.js';
import { type MessageSender, tryPush } from './message-sender.js';
import type { Delivery, Keyboard } from './telegram-queue.js';

/** Time a notice may wait for Telegram. */
const DROP_AFTER_MS = 3_600_000;
/** Time a message may wait whose sender waits for it, too: an outbox message has 60 s. */
const DELIVER_WITHIN_MS = 30_000;
/** Longest text Telegram takes. */
const TEXT_MAX = 4_096;

/** What a message to the admins comes with. */
export interface AdminMessageExtras {
  keyboard?: Keyboard;
  /** PNG above the text. */
  photo?: Uint8Array;
}

/** Tells the admins: in their channel when one is configured, else each of them. */
export class AdminChannel {
  constructor(private readonly deps: { pool: Queryable; telegram: MessageSender; chatId: string | null }) {}

  /** Queues the notice and resolves to how many messages that is; 0: nobody to tell, or the queue is full. */
  async notify(text: string, kind = 'admin_notice', extras: AdminMessageExtras = {}): Promise<number> {
    const { telegram } = this.deps;
    let queued = 0;
    for (const chatId of await this.#chats())
      if (
        tryPush(telegram, {
          chatId,
          text: text.slice(0, TEXT_MAX),
          kind,
          dropAfterMs: DROP_AFTER_MS,
          ...extras,
        })
      )
        queued++;
    return queued;
  }

  /**
   * Sends the message and waits until it was: resolves when one of the chats has it (`unknown` counts: it may
   * have), rejects when none has, to be tried again later.
   */
  async deliver(text: string, kind: string, extras: AdminMessageExtras = {}): Promise<void> {
    const { telegram } = this.deps;
    const deliveries = await Promise.all(
      (await this.#chats()).map(
        (chatId) =>
          new Promise<Delivery>((onDelivery) => {
            const message = { chatId, text: text.slice(0, TEXT_MAX), kind, dropAfterMs: DELIVER_WITHIN_MS };
            telegram.push({
              ...message,
              ...extras,
              once: true,
              onDelivery: (delivery) => onDelivery(delivery),
            });
          }),
      ),
    );
    if (deliveries.some((delivery) => delivery === 'sent' || delivery === 'unknown')) return;
    throw new Error(
      deliveries.length === 0 ? 'there is no admin to tell' : `no admin was reached: ${deliveries}`,
    );
  }

  async #chats(): Promise<number[]> {
    const { pool, chatId } = this.deps;
    if (chatId !== null) return [Number(chatId)];
    const { rows } = await pool.query<{ telegram_id: bigint }>(
      "SELECT telegram_id FROM users WHERE is_admin AND status = 'active' AND telegram_id IS NOT NULL ORDER BY created_at",
    );
    return rows.map((row) => Number(row.telegram_id));
  }
}
