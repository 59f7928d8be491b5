import type { Queryable } from '../db/pool.js';
import { type MessageSender, tryPush } from './message-sender.js';

/** Time a notice may wait for Telegram. */
const DROP_AFTER_MS = 3_600_000;
/** Longest text Telegram takes. */
const TEXT_MAX = 4_096;

/** Tells the admins: in their channel when one is configured, else each of them. */
export class AdminChannel {
  constructor(private readonly deps: { pool: Queryable; telegram: MessageSender; chatId: string | null }) {}

  /** Queues the notice and resolves to how many messages that is; 0: nobody to tell, or the queue is full. */
  async notify(text: string, kind = 'admin_notice'): Promise<number> {
    const { telegram } = this.deps;
    let queued = 0;
    for (const chatId of await this.#chats())
      if (tryPush(telegram, { chatId, text: text.slice(0, TEXT_MAX), kind, dropAfterMs: DROP_AFTER_MS }))
        queued++;
    return queued;
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
