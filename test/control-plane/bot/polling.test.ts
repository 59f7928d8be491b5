import { Api } from 'grammy';
import t from 'tap';
import { UpdateSource } from '../../../control-plane/bot/update-source.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { refusal } from '../../helpers/bot-api.js';
import { startBotWorld } from '../../helpers/bot-world.js';
import { BOT_TOKEN } from '../../helpers/control-plane.js';

t.test(
  'updates by polling: one control plane asks, a second takes over, nothing is lost or doubled',
  async (t) => {
    const world = await startBotWorld(t, { TS_BOT_UPDATES: 'polling' });
    const { telegram, api, pool } = world;
    telegram.webhookTarget = null; // one is set at Telegram from earlier
    let heard = 0;
    let wake = () => {};
    const source = () => {
      const made = new UpdateSource({
        pool,
        log: silentLog,
        api: new Api(BOT_TOKEN, { apiRoot: api.url }),
        mode: 'polling',
        webhook: null,
        pollTimeoutS: 5,
        onUpdate: () => {
          heard++;
          wake();
        },
      });
      t.teardown(() => made.stop());
      made.start();
      return made;
    };
    const until = async (good: () => boolean) => {
      while (!good())
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    };
    const polls = () => telegram.calls.filter((call) => call.method === 'getUpdates');

    const first = source();
    const person = world.person();
    telegram.webhook = null;
    await telegram.say(person, '/start');
    await until(() => heard === 1);
    const second = source();
    await telegram.say(person, '/start');
    await until(() => heard === 2);
    t.equal(telegram.calls[0]?.method, 'deleteWebhook', 'else Telegram refuses to be asked');
    t.match(polls()[0]?.body, {
      allowed_updates: ['message', 'callback_query', 'pre_checkout_query', 'my_chat_member'],
    });

    // Not confirmed to Telegram yet: whoever asks next is given it again.
    api.failing = (method) => (method === 'getUpdates' ? refusal(502, 'Bad Gateway') : null);
    await first.stop();
    api.failing = () => null;
    await telegram.say(person, '/start');
    await until(() => heard === 3);
    await second.stop();
    await world.settle();
    t.equal(world.textsTo(person).length, 3);
    const { rows } = await pool.query('SELECT count(*)::int AS n FROM telegram_updates');
    t.equal(rows[0].n, 3);
  },
);

t.test('webhook mode tells Telegram where; a broken line is tried again', async (t) => {
  const world = await startBotWorld(t);
  const { telegram, api } = world;
  telegram.webhook = null;
  let failures = 0;
  api.failing = (method) => (method === 'setWebhook' && failures++ === 0 ? 'cut' : null);
  const source = world.services.bot?.source;
  source?.start();
  while (telegram.webhook === null) await new Promise((resolve) => setTimeout(resolve, 20));
  await source?.stop();
  t.same(
    telegram.calls.map((call) => call.method),
    ['setWebhook'],
  );
  t.match(telegram.calls[0]?.body, {
    url: 'https://api.example/api/webhook/telegram',
    secret_token: 'test-webhook-secret-0123',
    allowed_updates: Array,
  });
});
