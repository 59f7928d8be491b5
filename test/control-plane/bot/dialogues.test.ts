import t from 'tap';
import { startDialogueWorld } from '../../helpers/bot-dialogue.js';
import { withDevice } from '../../helpers/control-plane.js';
import { TARGET } from '../../helpers/payments-world.js';

t.setTimeout(300_000);

/** What is looked for in each language. */
const WORDS = {
  en: {
    welcome: /Welcome to Traffic Share.*Do you accept the terms/s,
    accept: 'I accept',
    accepted: /^Accepted: terms/,
    balance: /^Your balance: \$20\.00/,
    amount: /How much do you want to withdraw\? Available: \$20\.00, at least \$5\.00/,
    notAnAmount: /no amount/,
    tooMuch: /You have \$20\.00 available/,
    network: /12\.50 USDT over which network/,
    address: /Send me the address on TRON/,
    badAddress: /no address on TRON/,
    check: /Please check:\n12\.50 USDT over TRON\nto TR7/,
    confirm: 'Confirm',
    done: /^Done: \$12\.50 wait to be released/,
    old: /too old/,
  },
  ru: {
    welcome: /Добро пожаловать.*Принимаете условия/s,
    accept: 'Принимаю',
    accepted: /^Принято: условия/,
    balance: /^Ваш баланс: \$20\.00/,
    amount: /Сколько вывести\? Доступно: \$20\.00, не меньше \$5\.00/,
    notAnAmount: /не сумма/,
    tooMuch: /Доступно \$20\.00/,
    network: /12\.50 USDT — по какой сети/,
    address: /Пришлите адрес в сети TRON/,
    badAddress: /не адрес в сети TRON/,
    check: /Проверьте:\n12\.50 USDT по сети TRON\nна TR7/,
    confirm: 'Подтвердить',
    done: /^Готово: \$12\.50 ждут одобрения/,
    old: /устарела/,
  },
  uz: {
    welcome: /xush kelibsiz.*qabul qilasizmi/s,
    accept: 'Qabul qilaman',
    accepted: /^Qabul qilindi/,
    balance: /^Balansingiz: \$20\.00/,
    amount: /Qancha yechmoqchisiz\? Mavjud: \$20\.00, kamida \$5\.00/,
    notAnAmount: /summa emas/,
    tooMuch: /Sizda \$20\.00 mavjud/,
    network: /12\.50 USDT qaysi tarmoq/,
    address: /TRON manzilini yuboring/,
    badAddress: /TRON manzili emas/,
    check: /Tekshiring:\n12\.50 USDT, TRON tarmog‘i\nmanzil: TR7/,
    confirm: 'Tasdiqlash',
    done: /^Tayyor: \$12\.50 tasdiqni/,
    old: /eskirgan/,
  },
} as const;

t.test('dialogues with the bot', async (t) => {
  const world = await startDialogueWorld(t);
  const { telegram, pool, call, admin } = world;
  const one = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows[0];
  const credit = (userId: string, amount: string) =>
    call('POST', '/api/admin/credits', {
      token: admin.token,
      body: { user_id: userId, amount, reason: 'test' },
    });
  const payouts = async (userId: string) =>
    (await pool.query('SELECT * FROM payouts WHERE user_id = $1', [userId])).rows;

  for (const language of ['en', 'ru', 'uz'] as const)
    await t.test(`start, consent and a withdrawal, restarted in the middle: ${language}`, async (t) => {
      const words = WORDS[language];
      const chat = world.dialogue({ language_code: language });
      const userId = async () =>
        (await one('SELECT user_id FROM telegram_accounts WHERE telegram_id = $1', chat.person.id)).user_id;
      t.match(await chat.say('/start'), words.welcome);
      const welcome = chat.last();
      const accept = welcome.buttons[0] as { callback_data: string };
      await chat.press(words.accept);
      t.match(chat.last().text, words.accepted);
      t.same(chat.last().buttons, [], 'the button is gone');
      await chat.pressOf(welcome, accept.callback_data);
      const { rows: consents } = await pool.query('SELECT * FROM consents WHERE user_id = $1', [
        await userId(),
      ]);
      t.match(consents, [{ terms_version: world.config.termsVersion, withdrawn_at: null }], 'once');
      await credit(await userId(), '20');

      t.match(await chat.say('/balance'), words.balance);
      t.match(await chat.say('/withdraw'), words.amount);
      t.match(await chat.say('much'), words.notAnAmount);
      t.match(await chat.say('20.01'), words.tooMuch);
      t.match(await chat.say('12,50'), words.network);
      await world.restart();
      await chat.press('TRON');
      t.match(chat.last().text, words.address);
      t.match(await chat.say(`${TARGET.slice(0, -1)}x`), words.badAddress);
      await world.restart();
      t.match(await chat.say(TARGET), words.check);
      const question = chat.last();
      const [yes] = question.buttons as { callback_data: string }[];
      // Written to while it waits for the button: asked again, and the earlier button is dead.
      t.match(await chat.say('hello?'), words.check);
      t.match(await chat.pressOf(question, yes?.callback_data ?? ''), words.old);
      t.same(await payouts(await userId()), []);
      const confirmed = chat.last();
      const [again] = confirmed.buttons as { callback_data: string }[];
      await chat.press(words.confirm);
      t.match(chat.last().text, words.done);
      t.match(await chat.pressOf(confirmed, again?.callback_data ?? ''), words.old, 'pressed twice');
      const made = await payouts(await userId());
      t.equal(made.length, 1);
      t.match(made[0], { amount_micros: 12_500_000n, network: 'TRON', target: TARGET, status: 'pending' });
      t.match(chat.last().text, new RegExp(made[0].id));
      t.match(await one('SELECT * FROM audit_log WHERE object_id = $1', made[0].id), {
        actor_role: 'user',
        action: 'payout_requested',
      });
    });

  await t.test('the same update twice, two presses at once on two control planes: paid once', async (t) => {
    const user = await world.provider('30');
    const chat = await world.dialogueOf(user);
    await chat.say('/withdraw');
    await chat.press(/^All: \$30\.00/);
    t.match(chat.last().text, /30\.00 USDT/);
    await chat.press('TRON');
    await chat.say(TARGET);
    const [yes] = chat.last().buttons as { callback_data: string }[];
    const presses = await Promise.all(
      [1, 2, 3].map(() => telegram.press(chat.person, chat.last(), yes?.callback_data ?? '')),
    );
    for (const { update } of presses) await telegram.deliver(update);
    await Promise.all([world.services.bot?.worker.idle(), world.settle()]);
    await world.settle();
    const made = await payouts(user.userId);
    t.equal(made.length, 1);
    t.equal(await world.available(user), '0.000000');
  });

  await t.test('what changed meanwhile is found when it is confirmed; cancelling; leaving', async (t) => {
    const user = await world.provider('10');
    const chat = await world.dialogueOf(user);
    const upToConfirm = async () => {
      await chat.say('/withdraw');
      await chat.say('10');
      await chat.press('TRON');
      await chat.say(TARGET);
    };
    await upToConfirm();
    await world.withdraw(user, '6'); // by the app
    await chat.press('Confirm');
    t.match(chat.last().text, /not available any more/);
    t.equal((await payouts(user.userId)).length, 1, 'and the update was handled all the same');
    t.match(await chat.say('/withdraw'), /from \$5\.00 on\. Available: \$4\.00/);
    await credit(user.userId, '10');
    await upToConfirm();
    await chat.press('Cancel');
    t.match(chat.last().text, /^Cancelled/);
    t.match(await chat.press('Confirm').catch(() => 'no such button'), 'no such button');
    await chat.say('/withdraw');
    t.match(await chat.say('/balance'), /^Your balance/);
    t.match(await chat.say('7'), /did not understand/, 'a command ends the conversation');
    t.match(await chat.say('/cancel'), /nothing to cancel/);
    await chat.say('/withdraw');
    t.match(await chat.say('/cancel'), /^Cancelled/);
    await chat.say('/withdraw');
    await pool.query("UPDATE bot_conversations SET updated_at = now() - interval '61 minutes'");
    t.match(await chat.press(/^All/), /too old/);
    t.equal((await payouts(user.userId)).length, 1);
  });

  await t.test('what a provider has: devices, sessions, stats with a chart, referrals', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user);
    t.match(await chat.say('/devices'), /no device yet/);
    t.match(await chat.say('/sessions'), /not shared yet/);
    const { deviceId } = await withDevice(world, user);
    await pool.query(
      `INSERT INTO traffic_sessions (id, user_id, device_id, status, exit_ip, country, network_type, client_version,
                                     bytes_up, bytes_down, earned_micros, stopped_at, completed_at, started_at)
       VALUES (gen_random_uuid(), $1, $2, 'completed', '192.0.2.1', 'DE', 'wifi', '1.0.0', 1000000, 2500000, 700, now(), now(),
               '2026-11-01T10:00:00Z')`,
      [user.userId, deviceId],
    );
    await pool.query(
      `INSERT INTO usage_daily_provider (user_id, day, bytes_up, bytes_down, earned_micros)
       SELECT $1, utc_day() - n, 1000000000, 500000000::bigint * n, 1000000 FROM generate_series(0, 9) n`,
      [user.userId],
    );
    t.match(await chat.say('/devices'), /You have 1 device, 0 of them earns:\n\n⚪ .*linux, 1\.0\.0/);
    t.match(chat.last().text, /not connected\. Open the app/);
    t.match(await chat.say('/sessions'), /2026-11-01 10:00: 3\.50 MB, \$0\.0007, completed/);
    t.match(await chat.say('/stats'), /^7 days: 17\.50 GB, \$7\.00\n0 sessions\./);
    const chart = chat.last();
    const week = chart.photo;
    t.ok(week && week.length > 1_000, 'a picture');
    await chat.press('30 days');
    t.match(chart.text, /^30 days: 32\.50 GB, \$10\.00/);
    t.ok(Buffer.compare(chart.photo ?? Buffer.alloc(0), week ?? Buffer.alloc(0)) !== 0, 'another picture');
    await chat.press('Today');
    t.match(chart.text, /^Today: 1\.00 GB, \$1\.00/);
    t.equal(chart.timesMs.length, 3, 'the same message');
    const { referral_code: code } = await one('SELECT referral_code FROM users WHERE id = $1', user.userId);
    const friend = world.dialogue({ language_code: 'ru' });
    await friend.say(`/start ${code}`);
    t.match(
      await chat.say('/referral'),
      new RegExp(`1 person came.*https://t\\.me/sharebot\\?start=${code}`, 's'),
    );
  });

  await t.test('consent withdrawn: sessions stop', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user, 'ru');
    const { deviceId } = await withDevice(world, user);
    await pool.query(
      `INSERT INTO traffic_sessions (id, user_id, device_id, status, exit_ip, country, network_type, client_version)
       VALUES (gen_random_uuid(), $1, $2, 'active', '192.0.2.2', 'DE', 'wifi', '1.0.0')`,
      [user.userId, deviceId],
    );
    t.match(await chat.say('/consent'), /^Вы приняли условия/);
    await chat.press('Отозвать согласие');
    t.match(chat.last().text, /сразу перестанут/);
    await chat.press('Отозвать согласие');
    t.match(chat.last().text, /Остановлена 1 сессия/);
    t.match(await one('SELECT * FROM traffic_sessions WHERE user_id = $1', user.userId), {
      status: 'stopping',
      stop_reason: 'consent_withdrawn',
    });
    t.match(await chat.say('/consent'), /Принимаете условия/);
    const question = chat.last();
    await chat.pressOf(question, 'consent:yes:0.0.1');
    t.match(question.text, /уже не действуют/);
    t.equal(
      (
        await one(
          'SELECT count(*)::int AS n FROM consents WHERE user_id = $1 AND withdrawn_at IS NULL',
          user.userId,
        )
      ).n,
      0,
    );
  });

  await t.test('promo codes, support, a login code', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user);
    await call('POST', '/api/admin/promo_codes', {
      token: admin.token,
      body: { code: 'HELLO', bonus: '2.5', uses_max: 10 },
    });
    t.match(await chat.say('/promo'), /Send me the promo code/);
    t.match(await chat.say('nonsense'), /no such code/);
    t.match(await chat.say('hello'), /^\$2\.50 were added/);
    t.match(await chat.say('/promo HELLO'), /used this code already/);
    t.equal(await world.available(user), '3.500000', 'the refused one left nothing');
    await pool.query("UPDATE bot_counts SET n = 30 WHERE what = 'promo' AND telegram_id = $1", [
      user.telegramId,
    ]);
    t.match(await chat.say('/promo HELLO'), /Too many tries/);

    t.match(await chat.say('/support'), /Write what it is about/);
    t.match(await chat.say('Where is my money?'), /Your message is with support/);
    const threads = await call('GET', '/api/admin/support?status=open', { token: admin.token });
    t.match(threads.body.items, [{ user_id: user.userId, last_message: 'Where is my money?' }]);
    await call('POST', `/api/admin/support/${threads.body.items[0].id}/reply`, {
      token: admin.token,
      body: { message: 'On its way.' },
    });
    await world.services.bot?.notices.runOnce();
    t.match(chat.last().text, /^Support answered.*On its way\./s);
    t.match(await chat.say('/support'), /Your latest request: Where is my money\?\nStatus: answered/);

    await chat.say('/login');
    t.match(world.codesSent(), [{ telegramId: user.telegramId, code: /^\d{6}$/ }]);
  });

  await t.test('the language is kept: of a user, and of somebody who is none', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user, 'en');
    await chat.say('/language');
    await chat.press('Русский');
    t.match(chat.last().text, /по-русски/);
    t.equal((await one('SELECT language FROM users WHERE id = $1', user.userId)).language, 'ru');
    t.match(await chat.say('/help'), /^Что я умею:\n\/balance · Сколько я заработал\n/);
    t.notMatch(chat.last().text, /\/broadcast/);
    const [commands] = telegram.calls.filter(
      ({ method, body }) =>
        method === 'setMyCommands' && (body.scope as { chat_id?: number }).chat_id === user.telegramId,
    );
    t.match(commands?.body.commands, [{ command: 'balance', description: 'Сколько я заработал' }]);
    const guest = world.dialogue({ language_code: 'de' });
    t.match(await guest.say('/balance'), /Press \/start first/);
    await guest.say('/language');
    await guest.press('O‘zbekcha');
    t.match(await guest.say('/balance'), /Avval \/start/);
    t.match(await guest.say('/start'), /xush kelibsiz/);
  });

  await t.test('who writes too much is told once, and heard again later', async (t) => {
    const chat = await world.dialogueOf(await world.provider('1'));
    await chat.say('/help');
    await pool.query("UPDATE bot_counts SET n = 60 WHERE what = 'update' AND telegram_id = $1", [
      chat.person.id,
    ]);
    t.match(await chat.say('/balance'), /Please wait a minute/);
    t.equal(await chat.say('/balance'), '');
    await pool.query("UPDATE bot_counts SET since = now() - interval '61 seconds' WHERE telegram_id = $1", [
      chat.person.id,
    ]);
    t.match(await chat.say('/balance'), /^Your balance/);
  });

  await t.test('who blocks the bot, and comes back; a button of long ago; a banned user', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user);
    const blockedAt = async () =>
      (await one('SELECT telegram_blocked_at AS at FROM users WHERE id = $1', user.userId)).at;
    await chat.say('/language');
    const question = chat.last();
    await telegram.block(chat.person);
    await world.settle();
    t.ok(await blockedAt());
    await telegram.block(chat.person, false);
    await world.settle();
    t.equal(await blockedAt(), null);
    t.match(await chat.pressOf(question, 'nobody:knows:this'), /too old/);
    await pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [user.userId]);
    t.match(await chat.say('/start'), /banned.*\/support/);
    await call('POST', '/api/admin/promo_codes', {
      token: admin.token,
      body: { code: 'BANNED', bonus: '1', uses_max: 10 },
    });
    t.match(await chat.say('/promo BANNED'), /banned/);
    t.match(await chat.say('/balance'), /Your balance: \$1\.00/, 'their money is theirs');
  });
});
