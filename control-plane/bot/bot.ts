import { type Api, Composer, Context } from 'grammy';
import type { Update, UserFromGetMe } from 'grammy/types';
import type { Queryable } from '../db/pool.js';
import type { MessageSender } from '../telegram/message-sender.js';
import { findUserByTelegramId, type Language, languageOf } from '../users/users.js';
import type { BotContext, BotPart, BotScope } from './context.js';
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
/** Longest text Telegram takes. */
const TEXT_MAX = 4_096;

/** Handles one update within the transaction of `db`; resolves to what is to be done after its commit. */
export type HandleUpdate = (update: Update, db: Queryable) => Promise<AfterCommit[]>;

/** The bot: its parts in a row, each update offered to one after the other until one takes it. */
export function createBot(deps: BotDeps, parts: readonly BotPart[]): HandleUpdate {
  const { api, telegram } = deps;
  const me = botInfo(deps);
  const handlers = new Composer<BotContext>(...parts).middleware();
  return async (update, db) => {
    const after: AfterCommit[] = [];
    const context = new Context(update, api, me);
    const scope: BotScope = {
      db,
      language: await speaks(db, context),
      say: (text) =>
        after.push(async () => {
          const chatId = context.chat?.id ?? context.from?.id;
          if (chatId !== undefined)
            telegram.push({
              chatId,
              text: text.slice(0, TEXT_MAX),
              kind: 'bot',
              dropAfterMs: SAY_DROP_AFTER_MS,
            });
        }),
      after: (work) => after.push(work),
    };
    await handlers(Object.assign(context, scope), async () => {});
    return after;
  };
}

async function speaks(db: Queryable, context: Context): Promise<Language> {
  const { from } = context;
  const user = from === undefined ? null : await findUserByTelegramId(db, from.id);
  return user?.language ?? languageOf(from?.language_code);
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
