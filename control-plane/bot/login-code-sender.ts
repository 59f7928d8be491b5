import type { LoginCodeSender } from '../telegram/login-code-sender.js';
import type { MessageSender } from '../telegram/message-sender.js';
import { textIn } from '../texts/fluent.js';
import { LANGUAGES, type Language } from '../users/users.js';

/** Through the Telegram bot. */
export function telegramCodeSender(queue: MessageSender): LoginCodeSender {
  return {
    send({ telegramId, code, language, ttlS }) {
      const spoken: Language = LANGUAGES.find((one) => one === language) ?? 'en';
      const text = textIn(spoken, 'login-code', { code, minutes: Math.max(1, Math.floor(ttlS / 60)) });
      // A code that waited longer than it lives is of no use.
      queue.push({ chatId: telegramId, text, kind: 'login_code', dropAfterMs: ttlS * 1000 });
    },
  };
}
