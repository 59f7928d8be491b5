import type { MessageSender } from './message-sender.js';
import type { Delivery, TelegramMessage } from './telegram-queue.js';

/** What became of a message, and its id in the chat when it was sent. */
export interface Delivered {
  delivery: Delivery;
  messageId: number | null;
}

/** Sends messages for somebody who waits for what becomes of them, and who must be able to stop at any time. */
export class Deliveries {
  readonly #telegram: MessageSender;
  readonly #open = new Set<TelegramMessage>();
  #stopping = false;

  constructor(telegram: MessageSender) {
    this.#telegram = telegram;
  }

  async send(message: TelegramMessage): Promise<Delivered> {
    if (this.#stopping) return { delivery: 'stopped', messageId: null };
    let sent = message;
    try {
      return await new Promise<Delivered>((resolve) => {
        sent = {
          ...message,
          onDelivery: (delivery, messageId) => resolve({ delivery, messageId: messageId ?? null }),
        };
        this.#open.add(sent);
        this.#telegram.push(sent);
      });
    } finally {
      this.#open.delete(sent);
    }
  }

  /** Takes back what waits (it ends as `stopped`); a call in progress ends by itself. Nothing is sent after this. */
  stop(): void {
    this.#stopping = true;
    for (const message of this.#open) this.#telegram.withdraw(message);
  }
}
