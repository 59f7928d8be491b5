/** What buyers are told of findings: in the API and by the bot, in their language. */
import t from 'tap';
import { detect } from '../../../control-plane/abuse/detection.js';
import { forgetOldAbuse } from '../../../control-plane/abuse/forget.js';
import { detectionSettingsOf } from '../../../control-plane/abuse/settings.js';
import { startDialogueWorld } from '../../helpers/bot-dialogue.js';

const CONTACT = 'abuse-desk@example.com';

t.test('who is throttled, warned, suspended or let go is told', async (t) => {
  const world = await startDialogueWorld(t, {
    TS_ABUSE_CONTACT: CONTACT,
    TS_ABUSE_BLOCKED_ATTEMPTS_MIN: '20',
    TS_ABUSE_THROTTLE_RULES: 'blocked_targets',
    TS_ABUSE_QUIET_HOURS: '0',
  });
  const { telegram, pool, services, config } = world;
  const { bot } = services;
  if (bot === null) throw new Error('there is no bot');
  const [buyer, other] = [await world.buyer(), await world.buyer()];
  const { rows } = await pool.query<{ account: string }>('SELECT account FROM buyers WHERE id = $1', [
    buyer.id,
  ]);
  const account = rows[0]?.account as string;
  const chats = [world.dialogue(), world.dialogue(), world.dialogue()] as const;
  const [english, uzbek, others] = chats;
  for (const [chat, { token }] of [
    [english, buyer],
    [uzbek, buyer],
    [others, other],
  ] as const) {
    const { body } = await world.call('POST', '/api/buyer/telegrams/link', { token });
    await chat.say(`/start ${body.start}`);
    await chat.press('Link');
  }
  await pool.query(
    `INSERT INTO bot_people (telegram_id, language) VALUES ($1, 'uz')
     ON CONFLICT (telegram_id) DO UPDATE SET language = 'uz'`,
    [uzbek.person.id],
  );
  const before = chats.map((chat) => chat.messages().length);
  const told = (nth: 0 | 1 | 2) =>
    chats[nth]
      .messages()
      .slice(before[nth])
      .map(({ text }) => text);
  const warnings = async (language?: string) => {
    const path = `/api/buyer/me/warnings${language === undefined ? '' : `?language=${language}`}`;
    const answer = await world.call('GET', path, { token: buyer.token });
    t.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body.items as { kind: string; text: string; message: string | null }[];
  };
  const scan = () =>
    pool.query(
      `INSERT INTO buyer_refusals (buyer_id, hour, code, refusals, last_at)
       VALUES ($1, date_trunc('hour', now()), 'PORT_BLOCKED', 37, now())
       ON CONFLICT DO NOTHING`,
      [buyer.id],
    );
  const look = () => detect({ pool, live: services.live, settings: detectionSettingsOf(config) });
  const settle = async (decision: 'warn' | 'suspend', message: string | null) => {
    const { rows: open } = await pool.query<{ id: string }>(
      "SELECT id FROM abuse_findings WHERE buyer_id = $1 AND state = 'open'",
      [buyer.id],
    );
    const { status, body } = await world.call('POST', `/api/admin/abuse/findings/${open[0]?.id}/decide`, {
      token: world.admin.token,
      body: { decision, reason: 'test', ...(message !== null && { message }) },
    });
    t.equal(status, 200, JSON.stringify(body));
  };

  await scan();
  t.match(await look(), { opened: 1, throttled: 1 });
  t.match(await look(), { opened: 0 }, 'told once while it goes on');
  t.equal(await bot.notices.runOnce(), 2, 'each account that the buyer has linked');
  t.match(told(0), [new RegExp(`^About the buyer account ${account} `)]);
  t.match(told(0)[0], /not allowed\.\nNew connections are limited .*\nWhat to do: .*abuse-desk@example\.com/);
  t.notMatch(told(0)[0], /37|20/, 'neither how much it was nor how much is too much');
  t.match(told(1), [new RegExp(`${account} xaridor hisobi haqida\n.*\nYangi ulanishlar .* cheklangan`)]);
  t.match(await warnings(), [{ kind: 'throttled', message: null, text: told(0)[0] }]);
  t.match(await warnings('uz'), [{ text: told(1)[0] }]);
  t.match((await warnings('ru'))[0]?.text, /^Об аккаунте покупателя .*\nЧто замечено: много попыток/);

  await settle('warn', 'No mail ports, please.');
  t.equal(await bot.notices.runOnce(), 4, 'the warning, and that nothing is limited any more');
  t.match(told(0).slice(1), [/This is a warning.*\nMessage: No mail ports, please\.\n/, /is so no more\.$/]);

  await look();
  await settle('suspend', null);
  await bot.notices.runOnce();
  t.match(told(0).at(-1), /The account is suspended/);
  t.match(
    (await warnings()).map(({ kind }) => kind),
    ['suspended', 'throttled', /warned|lifted/],
  );
  t.same(told(2), [], 'nobody else');
  telegram.chats.blockedBy.add(uzbek.person.id);

  await pool.query("UPDATE abuse_findings SET decided_at = decided_at - interval '3 days'");
  t.equal(await forgetOldAbuse(pool, 2), 2);
  t.same(await warnings(), [], 'forgotten with the findings');
});
