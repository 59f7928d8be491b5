import type { Log } from '../../gateway/runtime/logging.js';
import type { TelegramQueue } from './telegram-queue.js';

/** Brings a login code to its owner. Returns at once; what becomes of the message is in the log. */
export interface LoginCodeSender {
  send(message: { telegramId: number; code: string; language: string; ttlS: number }): void;
}

const texts: Record<string, (code: string, minutes: number) => string> = {
  en: (code, minutes) =>
    `Your Traffic Share code: ${code}\nIt is good for ${minutes} minutes. Never give it to anyone.`,
  ru: (code, minutes) =>
    `Ваш код Traffic Share: ${code}\nОн действует ${minutes} мин. Никому его не сообщайте.`,
  uz: (code, minutes) =>
    `Traffic Share kodingiz: ${code}\nU ${minutes} daqiqa amal qiladi. Uni hech kimga bermang.`,
};

/** Through the Telegram bot. */
export function telegramCodeSender(queue: TelegramQueue): LoginCodeSender {
  return {
    send({ telegramId, code, language, ttlS }) {
      const text = (texts[language] ?? texts.en)?.(code, Math.max(1, Math.floor(ttlS / 60))) ?? code;
      // A code that waited longer than it lives is of no use.
      queue.push({ chatId: telegramId, text, kind: 'login_code', dropAfterMs: ttlS * 1000 });
    },
  };
}

/** For development without a bot: the code is in the log. `app.ts` never uses it in production. */
export function loggedCodeSender(log: Log): LoginCodeSender {
  return {
    send({ telegramId, code }) {
      log.warn({ telegram_id: telegramId, login_code_for_development: code }, 'login_code');
    },
  };
}
