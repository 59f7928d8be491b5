import type { Api, Composer, Context } from 'grammy';
import type { Queryable } from '../db/pool.js';
import type { Language } from '../users/users.js';

/**
 * What a handler works with beside grammY's own. A handler runs inside one database transaction, which is
 * committed together with the note that the update is handled: whatever it writes through `db` happens once,
 * however often Telegram delivers the update and whatever crashes. What leaves the house therefore waits for
 * the commit: `say` and `after`. A handler may run again (its transaction lost against another), so it keeps
 * nothing elsewhere.
 */
export interface BotScope {
  db: Queryable;
  /** The person's language: the user's own, else the app's, else English. */
  language: Language;
  /** Sends a text to the person after the commit, through the queue that keeps Telegram's limits. */
  say(text: string): void;
  /**
   * Runs after the commit, once at most: a crash in between loses it. For calls to the Bot API and to
   * gateways.
   */
  after(work: (api: Api) => Promise<unknown>): void;
}

export type BotContext = Context & BotScope;

/** A part of the bot: handlers of one concern. `bot.ts` puts them in a row. */
export type BotPart = Composer<BotContext>;
