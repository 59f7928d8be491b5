import type { Api } from 'grammy';
import type { BotCommand } from 'grammy/types';
import type { Log } from '../../gateway/runtime/logging.js';
import { pause } from '../telegram/pause.js';
import { textIn } from '../texts/fluent.js';
import { LANGUAGES, type Language, languageOf, type UserRow } from '../users/users.js';
import { ADMIN_COMMANDS, COMMANDS } from './commands.js';
import type { BotContext } from './context.js';
import { isAdmin } from './handlers/who.js';

export interface BotProfileDeps {
  api: Api;
  log: Log;
  /** Opened by the button beside the text field, https only; null: there is none. */
  consoleUrl: string | null;
}

/** Pauses after a failure: doubling. */
const PAUSE_MS = { first: 2_000, longest: 600_000 };

function commandList(language: Language, admin: boolean): BotCommand[] {
  const names: readonly string[] = admin ? [...COMMANDS, ...ADMIN_COMMANDS] : COMMANDS;
  return names.map((command) => ({ command, description: textIn(language, `cmd-${command}`) }));
}

/** Tells Telegram, at each start, which commands there are in each language, and what the menu button opens. */
export class BotProfile {
  readonly #deps: BotProfileDeps;
  readonly #stop = new AbortController();
  #telling: Promise<void> | null = null;

  constructor(deps: BotProfileDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#telling ??= this.#keepOn();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#telling;
  }

  async #keepOn(): Promise<void> {
    const { signal } = this.#stop;
    for (let pauseMs = PAUSE_MS.first; !signal.aborted; pauseMs = Math.min(PAUSE_MS.longest, pauseMs * 2)) {
      try {
        return await this.tell();
      } catch (error) {
        if (signal.aborted) return;
        // Only method and code: an error of grammY carries the token in its address.
        const { method, error_code } = error as { method?: string; error_code?: number };
        this.#deps.log.warn({ method, error_code }, 'telegram_profile_not_set');
        await pause(pauseMs, signal);
      }
    }
  }

  /** Repeating it is harmless. */
  async tell(): Promise<void> {
    const { api, consoleUrl } = this.#deps;
    const signal = this.#stop.signal as never; // grammY's own type is a shim's
    const scope = { type: 'all_private_chats' as const };
    for (const language of LANGUAGES)
      await api.setMyCommands(commandList(language, false), { scope, language_code: language }, signal);
    await api.setMyCommands(commandList('en', false), { scope }, signal);
    if (consoleUrl?.startsWith('https://'))
      await api.setChatMenuButton(
        { menu_button: { type: 'web_app', text: textIn('en', 'menu-open'), web_app: { url: consoleUrl } } },
        signal,
      );
  }
}

/**
 * Sets the commands of one chat when they are to be other ones than everybody's: of admins, and of who chose another
 * language than their app's. Which were set last is kept, so Telegram is asked only when something changed.
 */
export async function keepChatCommands(
  ctx: BotContext,
  user: UserRow | null,
  consoleUrl: string | null,
): Promise<void> {
  const { from } = ctx;
  if (from === undefined) return;
  const language = user?.language ?? ctx.language;
  const admin = isAdmin(user, from.id);
  const wanted = `${language}:${admin ? 'admin' : 'user'}`;
  const { rows } = await ctx.db.query<{ commands: string | null }>(
    'SELECT commands FROM bot_people WHERE telegram_id = $1',
    [from.id],
  );
  const set = rows[0]?.commands ?? `${languageOf(from.language_code)}:user`;
  if (set === wanted) return;
  await ctx.db.query(
    `INSERT INTO bot_people (telegram_id, commands) VALUES ($1, $2)
     ON CONFLICT (telegram_id) DO UPDATE SET commands = excluded.commands`,
    [from.id, wanted],
  );
  ctx.after(async (api) => {
    await api.setMyCommands(commandList(language, admin), { scope: { type: 'chat', chat_id: from.id } });
    if (consoleUrl?.startsWith('https://'))
      await api.setChatMenuButton({
        chat_id: from.id,
        menu_button: { type: 'web_app', text: textIn(language, 'menu-open'), web_app: { url: consoleUrl } },
      });
  });
}
