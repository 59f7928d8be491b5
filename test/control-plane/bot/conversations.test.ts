import t from 'tap';
import { termsPages, versionMark } from '../../../control-plane/bot/terms-pages.js';
import { orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { SHIPPED_TERMS } from '../../../control-plane/terms/shipped-terms.js';
import { LANGUAGES } from '../../../control-plane/users/users.js';
import { startDialogueWorld } from '../../helpers/bot-dialogue.js';
import { TARGET } from '../../helpers/payments-world.js';

t.setTimeout(300_000);

/** What is looked for in each language. */
const WORDS = {
  en: {
    next: 'Next ▶',
    back: '◀ Back',
    app: 'Read it in the app',
    accept: 'I accept',
    page: /Page 2 of 3 of the terms, version 2026-12\.$/,
    ask: /Do you accept the terms, version 2026-12\?$/,
    outdated: /not the terms in force/,
    about: /Write what it is about/,
    sent: /Your message is with support/,
    answer: /^Support answered: The app stops$/m,
    reply: 'Reply',
    goesTo: /now goes to: The app stops/,
    latest: /^Your latest request: The app stops\nStatus: waits for us\n\n.*added to it/,
    another: 'A new request',
    closed: /This request is closed/,
    steps: [
      /^A payout of \$6\.00 over TRON to TR7.* was requested.*\nWas it not you\?/,
      /^Your payout of \$6\.00 was released/,
      /^Your payout of \$6\.00 is on its way.*\nTransaction: chain-1$/,
      /^Paid: \$6\.00 over TRON to TR7.*\nTransaction: chain-1$/,
    ],
    titles: ['Payout requested', 'Payout released', 'Payout sent', 'Payout paid'],
  },
  ru: {
    next: 'Дальше ▶',
    back: '◀ Назад',
    app: 'Читать в приложении',
    accept: 'Принимаю',
    page: /Страница 2 из 3, условия версии 2026-12\.$/,
    ask: /Принимаете условия версии 2026-12\?$/,
    outdated: /уже не действуют/,
    about: /Напишите, в чём дело/,
    sent: /Сообщение у поддержки/,
    answer: /^Ответ поддержки: The app stops$/m,
    reply: 'Ответить',
    goesTo: /попадёт в обращение: The app stops/,
    latest: /^Последнее обращение: The app stops\nСостояние: ждёт нас\n\n.*добавится к нему/,
    another: 'Новое обращение',
    closed: /Обращение закрыто/,
    steps: [
      /^Запрошена выплата \$6\.00 по сети TRON на TR7.*\nЭто были не вы\?/,
      /^Ваша выплата \$6\.00 одобрена/,
      /^Ваша выплата \$6\.00 уже в пути.*\nТранзакция: chain-1$/,
      /^Выплачено: \$6\.00 по сети TRON на TR7.*\nТранзакция: chain-1$/,
    ],
    titles: ['Запрошена выплата', 'Выплата одобрена', 'Выплата отправлена', 'Выплата завершена'],
  },
  uz: {
    next: 'Keyingi ▶',
    back: '◀ Orqaga',
    app: 'Ilovada o‘qish',
    accept: 'Qabul qilaman',
    page: /2026-12 shartlari, 3 sahifadan 2-sahifa\.$/,
    ask: /2026-12 shartlarini qabul qilasizmi\?$/,
    outdated: /endi amalda emas/,
    about: /Nima gapligini yozing/,
    sent: /Xabaringiz yordam xizmatida/,
    answer: /^Yordam xizmati javobi: The app stops$/m,
    reply: 'Javob berish',
    goesTo: /shu murojaatga boradi: The app stops/,
    latest: /^So‘nggi murojaatingiz: The app stops\nHolati: bizni kutmoqda\n\n.*qo‘shiladi/,
    another: 'Yangi murojaat',
    closed: /murojaat yopildi/,
    steps: [
      /^TRON orqali TR7.* ga \$6\.00 to‘lov so‘raldi.*\nSiz so‘ramaganmisiz\?/,
      /^\$6\.00 to‘lovingiz tasdiqlandi/,
      /^\$6\.00 to‘lovingiz TRON orqali TR7.* yo‘lda\nTranzaksiya: chain-1$/,
      /^To‘landi: \$6\.00, TRON orqali TR7.*\nTranzaksiya: chain-1$/,
    ],
    titles: ['To‘lov so‘raldi', 'To‘lov tasdiqlandi', 'To‘lov yuborildi', 'To‘lov bajarildi'],
  },
} as const;

t.test('conversations with the bot', async (t) => {
  const world = await startDialogueWorld(t);
  const { telegram, pool, call, admin } = world;
  const asAdmin = (method: string, path: string, body?: unknown) =>
    call(method, `/api/admin/${path}`, { token: admin.token, body });

  for (const language of LANGUAGES)
    await t.test(`the shipped terms are read before they are accepted: ${language}`, async (t) => {
      const chat = world.dialogue({ language_code: language });
      await chat.say('/start');
      const { text, buttons } = chat.last();
      t.ok(text.includes(`\n\n${SHIPPED_TERMS[language].title}\n\n${SHIPPED_TERMS[language].body}\n\n`));
      t.same(
        buttons.map((button) => button.text),
        [WORDS[language].accept],
        'on one page',
      );
    });

  const words = 'Sharing is yours to stop. ';
  const text = (language: string) => ({
    title: `Terms ${language}`,
    // Two paragraphs that fit on no page together, and one that fits on none.
    body: [`First ${language}. ${words.repeat(100)}`, `Second. ${words.repeat(150)}`].join('\n\n'),
  });
  await t.test('long terms are put in force', async (t) => {
    const texts = Object.fromEntries(LANGUAGES.map((language) => [language, text(language)]));
    t.match(await asAdmin('PUT', 'terms/2026-12', { texts }), { status: 200 });
    t.match(await asAdmin('PATCH', 'settings', { terms_version: '2026-12' }), { status: 200 });
  });

  for (const language of LANGUAGES)
    await t.test(`long terms in pages, restarted between two: ${language}`, async (t) => {
      const say = WORDS[language];
      const chat = world.dialogue({ language_code: language });
      const names = () => chat.last().buttons.map((button) => button.text);
      await chat.say('/start');
      t.match(chat.last().text, new RegExp(`\n\nTerms ${language}\n\nFirst ${language}\\. `));
      t.same(names(), [say.next, say.app], 'nobody accepts what they have not been shown');
      t.match(chat.last().buttons[1], { web_app: { url: 'https://console.example/' } });
      if (language === 'en') await world.restart();
      await chat.press(say.next);
      t.match(chat.last().text, say.page);
      t.same(names(), [say.back, say.next, say.app]);
      const { update } = await telegram.press(chat.person, chat.last(), 'consent:page:2026-12:3');
      await telegram.deliver(update);
      await world.settle();
      t.match(chat.last().text, say.ask);
      t.same(names(), [say.accept, say.back, say.app]);
      const accepting = await telegram.press(chat.person, chat.last(), 'consent:yes:2026-12');
      await telegram.deliver(accepting.update);
      await world.settle();
      const { rows } = await pool.query(
        `SELECT c.terms_version, l.after FROM telegram_accounts a JOIN consents c ON c.user_id = a.user_id
           JOIN audit_log l ON l.object_id = a.user_id::text AND l.action = 'consent_given' WHERE a.telegram_id = $1`,
        [chat.person.id],
      );
      t.match(rows, [{ terms_version: '2026-12', after: { terms_version: '2026-12', language } }]);
      t.equal(rows.length, 1, 'once');
      await chat.pressOf(chat.last(), 'consent:page:2026-11:2');
      t.match(chat.last().text, say.outdated);
    });

  for (const language of LANGUAGES)
    await t.test(`support goes on in the chat, restarted in the middle: ${language}`, async (t) => {
      const say = WORDS[language];
      const user = await world.provider('10');
      const chat = await world.dialogueOf(user, language);
      const threads = async () =>
        (await call('GET', '/api/support', { token: user.token })).body.items as {
          id: string;
          subject: string;
          status: string;
          messages: number;
        }[];
      const bodies = async (id: string) =>
        (await call('GET', `/api/support/${id}`, { token: user.token })).body.items.map(
          (item: { body: string }) => item.body,
        );
      const answer = async (id: string, message: string, close = false) => {
        t.match(await asAdmin('POST', `support/${id}/reply`, { message, close }), { status: 201 });
        t.equal(await world.services.bot?.notices.runOnce(), 1);
        return chat.last();
      };
      await world.services.bot?.notices.runOnce();
      t.match(await chat.say('/support'), say.about);
      if (language === 'ru') await world.restart();
      t.match(await chat.say('The app stops'), say.sent);
      await telegram.deliver(await telegram.say(chat.person, 'Every night'));
      await world.settle();
      const [first] = await threads();
      const id = first?.id ?? '';
      t.same(await bodies(id), ['The app stops', 'Every night'], 'the same thread; a repeated update once');

      const answered = await answer(id, 'Which phone?');
      t.match(answered.text, say.answer);
      t.match(answered.text, /\n\nWhich phone\?$/);
      t.equal(answered.buttons[0]?.text, say.reply);
      // A reply goes there in the middle of something else, which goes on.
      await chat.say('/withdraw');
      if (language === 'uz') await world.restart();
      t.match(await chat.reply(answered, 'A Pixel 8'), say.sent);
      t.match(await chat.say('5'), /5\.00 USDT/);
      t.same((await bodies(id)).slice(2), ['Which phone?', 'A Pixel 8']);
      await chat.press(say.reply);
      t.match(chat.last().text, say.goesTo);
      await chat.say('Or an older one');
      t.match(await chat.say('/support'), say.latest);
      await chat.press(say.another);
      t.match(chat.last().text, say.about);
      await chat.say('Something else');
      t.match(await threads(), [
        { subject: 'Something else', messages: 1 },
        { subject: 'The app stops', status: 'open', messages: 5 },
      ]);
      await chat.say('/support');
      await chat.press('The app stops');
      t.match(chat.last().text, say.goesTo);

      const last = await answer(id, 'Fixed in 1.2.', true);
      t.match(last.text, say.closed);
      t.same(last.buttons, []);
      t.match(await chat.pressOf(answered, `support:to:${id}`), say.closed);
      t.match(await chat.reply(answered, 'It is back'), say.sent);
      t.equal((await threads()).length, 3, 'what is written to a closed one opens another');
      const stranger = await world.dialogueOf(await world.provider('1'), language);
      await stranger.pressOf(answered, `support:to:${id}`);
      t.match(await stranger.say('mine?'), /\/help/, 'threads are their owner’s');
    });

  for (const language of LANGUAGES)
    await t.test(`steps of a payout come to the chat and the inbox: ${language}`, async (t) => {
      const { steps, titles } = WORDS[language];
      const { services, cryptomus } = world;
      const user = await world.provider('20');
      const chat = await world.dialogueOf(user, language);
      const inbox = async () =>
        (await call('GET', '/api/notifications', { token: user.token })).body.items.map(
          (item: { title: string; body: string }) => [item.title, item.body],
        );
      const send = async () => t.equal(await services.bot?.notices.runOnce(), 1);
      const payment = await world.withdraw(user, '6');
      await send();
      await world.approve(payment);
      await send();
      await services.payouts.runOnce();
      for (const change of [{ status: 'check' }, { status: 'paid', is_final: true }]) {
        cryptomus.change(orderIdOf(payment), { ...change, txid: 'chain-1' });
        await world.due(payment);
        await services.payouts.runOnce();
        await send();
      }
      const texts = chat.messages().map(({ text }) => text);
      t.match(texts, steps);
      t.same(await inbox(), titles.map((title, n) => [title, texts[n]]).reverse(), 'the same words in both');
      // Asked for in the chat, where the answer says so.
      await chat.say('/withdraw');
      await chat.say('7');
      await chat.press('TRON');
      await chat.say(TARGET);
      await chat.pressOf(chat.last(), (chat.last().buttons[0] as { callback_data: string }).callback_data);
      t.equal(await services.bot?.notices.runOnce(), 0);
      t.match((await inbox())[0], [titles[0], /7\.00/]);
    });

  await t.test('an answer that is longer than a message is cut, and says where the rest is', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user);
    await chat.say('/support');
    await chat.say('Tell me everything there is, as long as it may be, and then some more of it, please!');
    const { items } = (await call('GET', '/api/support', { token: user.token })).body;
    await asAdmin('POST', `support/${items[0].id}/reply`, { message: 'x'.repeat(4_000), close: true });
    await pool.query('UPDATE users SET settings = \'{"notifications": false}\' WHERE id = $1', [user.userId]);
    t.equal(await world.services.bot?.notices.runOnce(), 1);
    t.ok(chat.last().text.length <= 4_096);
    t.match(chat.last().text, /x…\n\nThe answer goes on in the inbox of the app\.\n\nThis request is closed/);
  });
});

t.test('pages of the terms: nothing is lost, none is too long', async (t) => {
  const body = [`a ${'b'.repeat(9_000)}`, 'c', 'd '.repeat(4_000), 'e'].join('\n\n');
  const pages = termsPages({ body });
  t.ok(pages.every((page) => page.length > 0 && page.length <= 3_300));
  const letters = (text: string) => text.replace(/\s/g, '');
  t.equal(letters(pages.join('')), letters(body));
  t.equal(versionMark('2026-12'), '2026-12');
  for (const odd of ['Версия 2', 'a'.repeat(41), 'a:b']) t.match(versionMark(odd), /^[0-9a-f]{40}$/, odd);
  t.not(versionMark('Версия 2'), versionMark('Версия 3'));
});
