import type { Log } from '../../gateway/runtime/logging.js';
import type { TelegramMessage } from './telegram-queue.js';

/** Takes messages for Telegram and returns at once; the queue, or what stands in for it. */
export interface MessageSender {
  push(message: TelegramMessage): void;
  /** Takes a message back that still waits; false: it is being sent, or was. */
  withdraw(message: TelegramMessage): boolean;
}

/** Pushes a message; false when the queue took none, because it is full or the process ends. */
export function tryPush(sender: MessageSender, message: TelegramMessage): boolean {
  let taken = true;
  sender.push({
    ...message,
    onDelivery(delivery, messageId) {
      if (delivery === 'queue_full' || delivery === 'stopped') taken = false;
      message.onDelivery?.(delivery, messageId);
    },
  });
  return taken;
}

/**
 * For development without a bot: messages are in the log, and count as sent. `collaborators.ts` never uses it
 * in production.
 */
export function loggedMessageSender(log: Log): MessageSender {
  return {
    withdraw: () => false,
    push(message) {
      const { chatId, text, kind } = message;
      const send = async () => {
        const begun = await (message.onBegin?.() ?? true);
        if (begun) log.warn({ telegram_id: chatId, kind, text_for_development: text }, 'telegram_message');
        message.onDelivery?.(begun ? 'sent' : 'stopped');
      };
      send().catch(() => message.onDelivery?.('stopped'));
    },
  };
}
