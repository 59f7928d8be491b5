import { TelegramQueue } from '../../control-plane/telegram/telegram-queue.js';
import { systemClock } from '../../gateway/runtime/clock.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { startBotApi } from './bot-api.js';
import { WEBHOOK_SECRET } from './bot-world.js';
import {
  BOT_TOKEN,
  newTelegramId,
  type SentCode,
  startWorld,
  type TestUser,
  type WorldOptions,
} from './control-plane.js';
import { type PaymentsWorld, startPaymentsWorld } from './payments-world.js';
import type { ChatMessage } from './telegram-chats.js';
import type { Person, TelegramModel } from './telegram-model.js';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

/** The bot and one person (or the admins' channel), as they see each other. */
export interface Dialogue {
  readonly person: Person;
  /** Writes; resolves to what the bot says to it. */
  say(text: string): Promise<string>;
  /** Answers a message; resolves to what the bot says to it. */
  reply(to: ChatMessage, text: string): Promise<string>;
  /** Presses the button of this text in the newest message that has one; resolves to the answer shown, '' for none. */
  press(button: string | RegExp): Promise<string>;
  /** Presses a button of that message, be it gone meanwhile. */
  pressOf(message: ChatMessage, data: string): Promise<string>;
  /** Messages in the chat, oldest first. */
  messages(): ChatMessage[];
  /** The newest. */
  last(): ChatMessage;
}

export interface DialogueWorld extends PaymentsWorld {
  telegram: TelegramModel;
  /** Handles everything that was taken in, and waits until what follows is sent. */
  settle(): Promise<void>;
  /** Waits until Telegram has everything that was pushed. */
  sent(): Promise<void>;
  dialogue(person?: Partial<Person>, chatId?: number): Dialogue;
  /** Of somebody who is a user already, in their language. */
  dialogueOf(user: TestUser, language?: 'en' | 'ru' | 'uz'): Promise<Dialogue>;
  /** Login codes that were sent since the last restart. */
  codesSent(): SentCode[];
  /** From now on another control plane on the same record answers: the old one's memory is gone. */
  restart(): Promise<void>;
}

/**
 * A control plane whose bot talks with a Telegram of the test's own, both ways: webhook in, the queue out (without
 * Telegram's limits, which the queue's own tests are about).
 */
export async function startDialogueWorld(
  t: Teardown,
  env: Record<string, string> = {},
  options: WorldOptions = {},
): Promise<DialogueWorld> {
  const api = await startBotApi(t);
  const { telegram } = api;
  const queue = new TelegramQueue(
    {
      botToken: BOT_TOKEN,
      apiUrl: api.url,
      queueMax: 1_000,
      messagesPerSecondMax: 10_000,
      chatBurstMax: 10_000,
    },
    { clock: systemClock, log: silentLog },
  );
  const worldOptions: WorldOptions = {
    ...options,
    telegram: queue,
    botApiUrl: api.url,
    env: {
      TS_BOT_USERNAME: 'sharebot',
      TS_BOT_UPDATES: 'webhook',
      TS_BOT_WEBHOOK_SECRET: WEBHOOK_SECRET,
      TS_CONSOLE_URL: 'https://console.example/',
      ...env,
    },
  };
  const world = await startPaymentsWorld(t, worldOptions);
  t.teardown(() => queue.stop());
  telegram.webhookTarget = `${world.url}/api/webhook/telegram`;
  telegram.webhook = { url: '', secret: WEBHOOK_SECRET };
  let worker = world.services.bot?.worker;
  let codes = world.codes;
  t.teardown(() => worker?.stop());

  const sent = async () => {
    while (queue.length > 0) await new Promise((resolve) => setTimeout(resolve, 2));
  };
  const settle = async () => {
    await worker?.idle();
    await sent();
  };
  const dialogue = (who: Partial<Person> = {}, chat?: number): Dialogue => {
    const person: Person = { id: newTelegramId(), language_code: 'en', username: 'ann', ...who };
    const chatId = chat ?? person.id;
    const messages = () => telegram.chats.of(chatId);
    const hear = async (act: () => Promise<unknown>) => {
      const before = messages().length;
      await act();
      await settle();
      return messages()
        .slice(before)
        .map((message) => message.text)
        .join('\n---\n');
    };
    const pressOf = async (message: ChatMessage, data: string) => {
      const { queryId } = await telegram.press(person, message, data);
      await settle();
      return telegram.answers.find((answer) => answer.queryId === queryId)?.text ?? '(no answer)';
    };
    return {
      person,
      messages,
      pressOf,
      last: () => {
        const message = messages().at(-1);
        if (message === undefined) throw new Error('nothing was said');
        return message;
      },
      say: (text) => hear(() => telegram.say(person, text)),
      reply: (to, text) => hear(() => telegram.reply(person, to, text)),
      async press(button) {
        const fits = (text: string) => (typeof button === 'string' ? text === button : button.test(text));
        for (const message of messages().toReversed())
          for (const one of message.buttons)
            if (fits(one.text) && 'callback_data' in one) return pressOf(message, one.callback_data);
        throw new Error(`no button ${button} among ${JSON.stringify(messages().at(-1)?.buttons)}`);
      },
    };
  };
  return {
    ...world,
    telegram,
    settle,
    sent,
    dialogue,
    codesSent: () => codes,
    async dialogueOf(user, language = 'en') {
      await world.pool.query('UPDATE users SET language = $2 WHERE id = $1', [user.userId, language]);
      return dialogue({ id: user.telegramId, language_code: language });
    },
    async restart() {
      await worker?.stop();
      const share = { databaseUrl: world.databaseUrl, redisUrl: world.redisUrl };
      const given = {
        TS_PUBLIC_API_URL: 'https://api.example/',
        ...world.cryptomus.env,
        ...worldOptions.env,
      };
      const next = await startWorld(t, { ...worldOptions, env: given, share });
      worker = next.services.bot?.worker;
      codes = next.codes;
      telegram.webhookTarget = `${next.url}/api/webhook/telegram`;
    },
  };
}
