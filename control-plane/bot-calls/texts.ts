import type { Language } from '../users/users.js';

/** What the bot says of a balance; amounts as decimal strings. */
export const BALANCE_TEXTS: Record<Language, (available: string, pending: string) => string> = {
  en: (available, pending) => `Your balance: $${available}\nOn hold: $${pending}`,
  ru: (available, pending) => `Ваш баланс: $${available}\nНа удержании: $${pending}`,
  uz: (available, pending) => `Balansingiz: $${available}\nUshlab turilgan: $${pending}`,
};

/** What the bot says of running traffic; megabytes (10^6 bytes) and dollars as text. */
export const TRAFFIC_TEXTS: Record<Language, (megabytes: string, earned: string, state: string) => string> = {
  en: (megabytes, earned, state) => `Live: ${megabytes} MB, $${earned}\n${state}`,
  ru: (megabytes, earned, state) => `Сейчас: ${megabytes} МБ, $${earned}\n${state}`,
  uz: (megabytes, earned, state) => `Hozir: ${megabytes} MB, $${earned}\n${state}`,
};
