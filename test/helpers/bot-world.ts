import type { Update } from 'grammy/types';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { startBotApi } from './bot-api.js';
import { newTelegramId, signedIn, TEST_ENV, type TestUser, type TestWorld } from './control-plane.js';
import { type PaymentsWorld, startPaymentsWorld } from './payments-world.js';
import type { Person, TelegramModel } from './telegram-model.js';

interface Teardown {
  teardown(fn: () => unknown): unknown;
}

export const WEBHOOK_SECRET = 'test-webhook-secret-0123';

export interface BotWorld extends PaymentsWorld {
  api: Awaited<ReturnType<typeof startBotApi>>;
  telegram: TelegramModel;
  /** Texts the bot would have sent to somebody, oldest first. */
  textsTo(person: Person): string[];
  /** Handles everything that was taken in, with what follows. */
  settle(): Promise<void>;
  person(language?: string): Person;
  /** Opens a link of the bot and presses the button that confirms it, if there is one; gives the update of that. */
  openLink(person: Person, start: string): Promise<Update | null>;
}

/**
 * A control plane whose bot runs by webhook, on a Telegram of the test's own. Updates are handled by
 * `settle`.
 */
export async function startBotWorld(t: Teardown, env: Record<string, string> = {}): Promise<BotWorld> {
  const api = await startBotApi(t);
  const world = await startPaymentsWorld(t, {
    botApiUrl: api.url,
    env: {
      TS_BOT_USERNAME: 'sharebot',
      TS_BOT_UPDATES: 'webhook',
      TS_BOT_WEBHOOK_SECRET: WEBHOOK_SECRET,
      ...env,
    },
  });
  await migrateJobQueue(world.databaseUrl);
  api.telegram.webhookTarget = `${world.url}/api/webhook/telegram`;
  api.telegram.webhook = { url: '', secret: WEBHOOK_SECRET };
  const worker = world.services.bot?.worker;
  t.teardown(() => worker?.stop());
  const { telegram } = api;
  const settle = async () => void (await worker?.idle());
  return {
    ...world,
    api,
    telegram,
    textsTo: ({ id }) =>
      world.messages.filter((message) => message.chatId === id).map((message) => message.text),
    settle,
    person: (language = 'en') => ({ id: newTelegramId(), language_code: language, username: 'ann' }),
    openLink: async (person, start) => {
      await telegram.say(person, `/start ${start}`);
      await settle();
      const asked = world.messages.filter(({ chatId }) => chatId === person.id).at(-1);
      const yes = asked?.keyboard?.[0]?.[0];
      if (asked === undefined || yes === undefined || !('callback_data' in yes)) return null;
      const message = { id: 1, buttons: [], photo: null, silent: false, timesMs: [], ...asked };
      const { update } = await telegram.press(person, message, yes.callback_data);
      await settle();
      return update;
    },
  };
}

export { signedIn, TEST_ENV, type TestUser, type TestWorld };
