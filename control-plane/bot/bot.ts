import { type Api, Composer, Context } from 'grammy';
import type { Update, UserFromGetMe } from 'grammy/types';
import type { Queryable } from '../db/pool.js';
import type { MessageSender } from '../telegram/message-sender.js';
import { textIn } from '../texts/fluent.js';
import { findUserByTelegramId, type Language, languageOf, type UserRow } from '../users/users.js';
import type { BotContext, BotPart, BotScope, SayOptions } from './context.js';
import { chosenLanguage } from './guests.js';
import type { AfterCommit } from './update-worker.js';

export interface BotDeps {
  api: Api;
  /** Texts go out through it. */
  telegram: MessageSender;
  botToken: string;
  /** Name without @: commands in groups carry it. */
  botUsername: string | null;
}

/** Time a text may wait for Telegram. */
const SAY_DROP_AFTER_MS = 600_000;
/** Longest text Telegram takes, alone and below a picture. */
const TEXT_MAX = 4_096;
const CAPTION_MAX = 1_024;
/** Longest answer to a button. */
const ANSWER_MAX = 200;

/** Handles one update within the transaction of `db`; resolves to what is to be done after its commit. */
export type HandleUpdate = (update: Update, db: Queryable) => Promise<AfterCommit[]>;

/** The bot: its parts in a row, each update offered to one after the other until one takes it. */
export function createBot(deps: BotDeps, parts: readonly BotPart[]): HandleUpdate {
  const { api } = deps;
  const me = botInfo(deps);
  const handlers = new Composer<BotContext>(...parts).middleware();
  return async (update, db) => {
    const after: AfterCommit[] = [];
    const context = new Context(update, api, me);
    const user = await whoIs(db, context);
    const language = await speaks(db, context, user);
    await handlers(
      Object.assign(context, scopeOf(deps, { context, db, user, language, after })),
      async () => {},
    );
    return after;
  };
}

interface Handled {
  context: Context;
  db: Queryable;
  user: UserRow | null;
  language: Language;
  after: AfterCommit[];
}

function scopeOf({ telegram }: BotDeps, { context, db, user, language, after }: Handled): BotScope {
  const { callbackQuery } = context;
  const send = (text: string, { keyboard, photo }: SayOptions, editId?: number) =>
    after.push(async () => {
      const chatId = context.chat?.id ?? context.from?.id;
      if (chatId === undefined) return;
      const textMax = photo === undefined ? TEXT_MAX : CAPTION_MAX;
      const message = { chatId, text: text.slice(0, textMax), kind: 'bot', dropAfterMs: SAY_DROP_AFTER_MS };
      telegram.push({
        ...message,
        ...(keyboard && { keyboard }),
        ...(photo && { photo }),
        ...(editId !== undefined && { editId }),
      });
    });
  let answer: { text?: string; show_alert?: boolean } = {};
  if (callbackQuery !== undefined) after.push((api) => api.answerCallbackQuery(callbackQuery.id, answer));
  return {
    db,
    user,
    language,
    t: (id, args) => textIn(language, id, args),
    say: (text, options = {}) => send(text, options),
    edit: (text, options = {}) => send(text, options, callbackQuery?.message?.message_id),
    answer: (text, alert = false) => {
      answer = { text: text.slice(0, ANSWER_MAX), show_alert: alert };
    },
    after: (work) => after.push(work),
  };
}

async function whoIs(db: Queryable, { from }: Context): Promise<UserRow | null> {
  const user = from === undefined ? null : await findUserByTelegramId(db, from.id);
  return user?.status === 'deleted' ? null : user;
}

async function speaks(db: Queryable, { from }: Context, user: UserRow | null): Promise<Language> {
  if (user !== null) return user.language;
  const chosen = from === undefined ? null : await chosenLanguage(db, from.id);
  return chosen ?? languageOf(from?.language_code);
}

/** What `getMe` would say of it, as far as handlers look: asking would make the start wait for Telegram. */
function botInfo({ botToken, botUsername }: BotDeps): UserFromGetMe {
  return {
    id: Number(botToken.split(':')[0]),
    is_bot: true,
    first_name: 'Traffic Share',
    username: botUsername ?? 'bot',
    can_join_groups: false,
    can_read_all_group_messages: false,
    supports_inline_queries: false,
    can_connect_to_business: false,
    has_main_web_app: false,
  } as UserFromGetMe;
}
