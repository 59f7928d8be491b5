import { Composer } from 'grammy';
import type { Keyboard } from '../../telegram/telegram-queue.js';
import { textIn } from '../../texts/fluent.js';
import { LANGUAGES, type Language, type UserRow } from '../../users/users.js';
import type { BotContext, BotPart } from '../context.js';
import { chooseLanguage } from '../guests.js';

/** Each in its own words. */
const NAMES: Readonly<Record<Language, string>> = { en: 'English', ru: 'Русский', uz: 'O‘zbekcha' };

/** `/language`, for everybody. `onSeen`: the person's list of commands is to be in the new one. */
export function languagePart(deps: {
  onSeen: (ctx: BotContext, user: UserRow | null) => Promise<void>;
}): BotPart {
  const part = new Composer<BotContext>();
  const chat = part.chatType('private');
  const keyboard: Keyboard = [
    LANGUAGES.map((language) => ({ text: NAMES[language], callback_data: `language:${language}` })),
  ];
  chat.command('language', (ctx) => ctx.say(ctx.t('language-ask'), { keyboard }));
  chat.callbackQuery(/^language:(en|ru|uz)$/, async (ctx) => {
    const language = ctx.match[1] as Language;
    await chooseLanguage(ctx.db, { telegramId: ctx.from.id, userId: ctx.user?.id ?? null }, language);
    ctx.language = language;
    await deps.onSeen(ctx, ctx.user === null ? null : { ...ctx.user, language });
    ctx.edit(textIn(language, 'language-set'));
  });
  return part;
}
