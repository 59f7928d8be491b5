import type { Keyboard } from '../telegram/telegram-queue.js';
import { textIn } from '../texts/fluent.js';
import type { Language } from '../users/users.js';

/** What the button below an answer of support carries; a reply to the answer is known by it, too. */
export const SUPPORT_BUTTON = /^support:to:([0-9a-f-]{36})$/;

export const supportKeyboard = (language: Language, threadId: string): Keyboard => [
  [{ text: textIn(language, 'support-reply'), callback_data: `support:to:${threadId}` }],
];
