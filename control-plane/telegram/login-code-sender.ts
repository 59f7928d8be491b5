import type { Log } from '../../gateway/runtime/logging.js';

/** Brings a login code to its owner. Returns at once; what becomes of the message is in the log. */
export interface LoginCodeSender {
  send(message: { telegramId: number; code: string; language: string; ttlS: number }): void;
}

/** For development without a bot: the code is in the log. `app.ts` never uses it in production. */
export function loggedCodeSender(log: Log): LoginCodeSender {
  return {
    send({ telegramId, code }) {
      log.warn({ telegram_id: telegramId, login_code_for_development: code }, 'login_code');
    },
  };
}
