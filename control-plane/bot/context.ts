import type { Api, Composer, Context } from 'grammy';
import type { Queryable } from '../db/pool.js';
import type { Keyboard } from '../telegram/telegram-queue.js';
import type { Say } from '../texts/fluent.js';
import type { Language, UserRow } from '../users/users.js';

/** What a text comes with. */
export interface SayOptions {
  keyboard?: Keyboard | undefined;
  /** PNG above the text, which then has 1024 characters at most. */
  photo?: Uint8Array | undefined;
}

/**
 * What a handler works with beside grammY's own. A handler runs inside one database transaction, which is
 * committed together with the note that the update is handled: whatever it writes through `db` happens once,
 * however often Telegram delivers the update and whatever crashes. What leaves the house therefore waits for
 * the commit: `say`, `edit`, `answer` and `after`. A handler may run again (its transaction lost against
 * another), so it keeps nothing elsewhere.
 */
export interface BotScope {
  db: Queryable;
  /** Whose Telegram account wrote or pressed; null: nobody's of ours. A deleted user is nobody. */
  user: UserRow | null;
  /** The person's language: what they chose, else the user's own, else the app's, else English. */
  language: Language;
  /** A message in that language. */
  t: Say;
  /** Sends a text to the chat after the commit, through the queue that keeps Telegram's limits. */
  say(text: string, options?: SayOptions): void;
  /** Changes the message whose button was pressed; without one it is said. Its buttons go unless others are given. */
  edit(text: string, options?: SayOptions): void;
  /** Tells the one who pressed a button, once; `alert` has to be closed by hand. Without it the button just ends waiting. */
  answer(text: string, alert?: boolean): void;
  /**
   * Runs after the commit, once at most: a crash in between loses it. For calls to the Bot API and to
   * gateways.
   */
  after(work: (api: Api) => Promise<unknown>): void;
}

export type BotContext = Context & BotScope;

/** A part of the bot: handlers of one concern. `bot.ts` puts them in a row. */
export type BotPart = Composer<BotContext>;
