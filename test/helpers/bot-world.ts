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
  return {
    ...world,
    api,
    telegram: api.telegram,
    textsTo: ({ id }) =>
      world.messages.filter((message) => message.chatId === id).map((message) => message.text),
    settle: async () => void (await worker?.idle()),
    person: (language = 'en') => ({ id: newTelegramId(), language_code: language, username: 'ann' }),
  };
}

export { signedIn, TEST_ENV, type TestUser, type TestWorld };
