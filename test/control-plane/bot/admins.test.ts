import t from 'tap';
import { PayoutRequests } from '../../../control-plane/bot/payout-requests.js';
import { AdminChannel } from '../../../control-plane/telegram/admin-channel.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startDialogueWorld } from '../../helpers/bot-dialogue.js';

const CHANNEL = -1001234567890;

t.test('admins and the bot', async (t) => {
  const world = await startDialogueWorld(t, {
    TS_ADMIN_CHAT_ID: String(CHANNEL),
    TS_PAYOUT_TWO_ADMIN_MICROS_MIN: '50000000',
  });
  const { telegram, pool, services } = world;
  await pool.query("UPDATE users SET username = 'boss' WHERE id = $1", [world.admin.userId]);
  const boss = await world.dialogueOf(world.admin);
  const inChannel = (telegramId: number) => world.dialogue({ id: telegramId }, CHANNEL);
  const channel = inChannel(world.admin.telegramId);
  const audits = async (objectId: string) =>
    (
      await pool.query(
        'SELECT actor_role, actor_id, action FROM audit_log WHERE object_id = $1 ORDER BY id',
        [objectId],
      )
    ).rows;
  const admins = new AdminChannel({
    pool,
    telegram: world.collaborators.telegram,
    chatId: String(CHANNEL),
  });
  const requests = new PayoutRequests({ pool, log: silentLog, admins, language: 'en', askAfterS: 0 });
  const ask = async () => {
    const asked = await requests.runOnce();
    await world.sent();
    return asked;
  };

  t.beforeEach(() => pool.query('DELETE FROM bot_counts'));

  await t.test('/admin, /users, /system; nobody else is let in', async (t) => {
    t.match(await boss.say('/admin'), /Users: \d+ \(0 banned\), devices: 0\n.*\nToday: 0\.00 GB/s);
    const own = telegram.calls.find(
      ({ method, body }) =>
        method === 'setMyCommands' && (body.scope as { chat_id?: number }).chat_id === boss.person.id,
    );
    const commands = (own?.body.commands ?? []) as { command: string }[];
    t.match(commands.map(({ command }) => command).slice(-5), [
      'admin',
      'users',
      'payouts',
      'system',
      'broadcast',
    ]);
    t.match(await boss.say('/users'), /Whom\?/);
    t.match(await boss.say('/users @boss'), new RegExp(`@boss · active, admin · en\\n${world.admin.userId}`));
    t.match(await boss.say('/users nobody-of-this-name'), /Nobody found/);
    t.match(await boss.say('/system'), /^Version \d.*\nNo gateway is there\.\nNothing is wrong\./s);
    t.match(await boss.say('/help'), /For admins:\n\/admin/);
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user, 'ru');
    for (const command of ['/admin', '/users @boss', '/system', '/payouts', '/broadcast'])
      t.match(await chat.say(command), /^Это могут только администраторы/, command);
    // A second account of an admin is not the admin's, as in the console.
    const second = world.dialogue();
    await pool.query('INSERT INTO telegram_accounts (telegram_id, user_id, position) VALUES ($1, $2, 7)', [
      second.person.id,
      world.admin.userId,
    ]);
    t.match(await second.say('/admin'), /Only admins/);
  });

  await t.test(
    'a payout that waits is asked about once, in the channel, and approved by button',
    async (t) => {
      const user = await world.provider('40');
      const id = await world.withdraw(user, '12.5');
      t.equal(
        await services.bot?.payoutRequests.runOnce(),
        0,
        'small ones have time to be released by themselves',
      );
      t.equal(await ask(), 1);
      t.equal(await ask(), 0);
      const request = channel.last();
      t.match(request.text, new RegExp(`Payout of \\$12\\.50 over TRON\\nto TR7.*\\nPayment ${id}`, 's'));

      const stranger = inChannel(user.telegramId);
      t.match(await stranger.press('Approve'), /Only admins/);
      await pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [world.admin2.userId]);
      t.match(await inChannel(world.admin2.telegramId).press('Refuse'), /Only admins/, 'a banned one');
      await pool.query("UPDATE users SET status = 'active' WHERE id = $1", [world.admin2.userId]);
      t.equal((await world.payment(id)).status, 'pending');

      const data = request.buttons as { callback_data: string }[];
      t.equal(await channel.press('Approve'), '');
      t.match(request.text, /✅ Approved by @boss/);
      t.same(request.buttons, []);
      t.match(await channel.pressOf(request, data[0]?.callback_data ?? ''), /is released by now/, 'twice');
      t.match(
        await channel.pressOf(request, data[1]?.callback_data ?? ''),
        '',
        'one on its way can be looked at',
      );
      t.match(await audits(id), [
        { action: 'payout_requested' },
        { actor_role: 'admin', actor_id: world.admin.userId, action: 'payout_approved' },
      ]);
      t.equal((await world.payment(id)).status, 'processing');
      t.match(
        await channel.pressOf(request, 'payout:yes:00000000-0000-4000-8000-000000000000'),
        /no such payout/,
      );
    },
  );

  await t.test('a large one takes two; nobody approves their own', async (t) => {
    const user = await world.provider('70');
    const id = await world.withdraw(user, '60');
    await ask();
    const request = channel.last();
    t.match(await channel.press('Approve'), /1 of 2/);
    t.match(request.text, /☑️ Approved by @boss: 1 of 2/);
    t.match(await channel.press('Approve'), /1 of 2/, 'the same admin twice is one');
    await inChannel(world.admin2.telegramId).press('Approve');
    t.match(request.text, /✅ Approved by/);
    t.equal((await world.payment(id)).status, 'processing');

    await world.call('POST', '/api/admin/credits', {
      token: world.admin2.token,
      body: { user_id: world.admin.userId, amount: '6', reason: 'test' },
    });
    const own = await boss.say('/withdraw').then(async () => {
      await boss.say('6');
      await boss.press('TRON');
      await boss.say('TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t');
      await boss.press('Confirm');
      return boss.last().text;
    });
    t.match(own, /^Done: \$6\.00/);
    t.match(await boss.say('/payouts'), /Payout of \$6\.00/);
    t.match(await boss.press('Approve'), /Nobody approves a payout to themselves/);
  });

  await t.test('refused with a reason, which its provider reads in their language', async (t) => {
    const user = await world.provider('10');
    const chat = await world.dialogueOf(user, 'ru');
    await ask(); // what was left to ask about: several at once come in any order
    const id = await world.withdraw(user, '7');
    t.equal(await ask(), 1);
    const request = channel.last();
    await channel.press('Refuse');
    t.match(
      request.buttons.map((button) => button.text),
      ['Address not acceptable', 'Looks like fraud', 'Not at the moment', 'Back'],
    );
    await channel.press('Back');
    await channel.press('Refuse');
    await channel.press('Not at the moment');
    t.match(request.text, /❌ Refused by @boss: Not at the moment/);
    t.match(await world.payment(id), { status: 'cancelled', failure_reason: 'Not at the moment' });
    t.equal(await world.available(user), '10.000000');
    await services.bot?.notices.runOnce();
    t.match(chat.last().text, /Выплата \$7\.00 по сети TRON отменена.*\nНе сейчас$/s);
  });

  await t.test('a broadcast: written, looked at, sent once', async (t) => {
    const reader = await world.dialogueOf(await world.provider('1'), 'uz');
    await boss.say('/broadcast');
    await boss.press('Language: uz');
    t.match(boss.last().text, /Send me the message/);
    t.match(await boss.say('Yangilik bor'), /To: Language: uz\n\nYangilik bor/);
    const question = boss.last();
    const [go] = question.buttons as { callback_data: string }[];
    const outsider = world.dialogue({ id: (await world.provider('1')).telegramId });
    t.match(await outsider.pressOf(question, go?.callback_data ?? ''), /Only admins/);
    await boss.press('Send');
    t.match(question.text, /It is being sent to 1 person\./);
    t.match(await boss.pressOf(question, go?.callback_data ?? ''), /too old/, 'twice');
    await services.broadcasts.runOnce();
    t.equal(reader.last().text, 'Yangilik bor');
    t.equal(reader.messages().length, 1);
    await boss.say('/broadcast');
    await boss.press('Everybody');
    await boss.say('No, wait');
    await boss.press('Cancel');
    t.match(boss.last().text, /^Cancelled/);
    t.equal(await services.broadcasts.runOnce(), 0);
  });

  await t.test('nobody is there to ask: asked again later', async (t) => {
    const user = await world.provider('10');
    const id = await world.withdraw(user, '8');
    const inUzbek = new PayoutRequests({ pool, log: silentLog, admins, language: 'uz', askAfterS: 0 });
    telegram.chats.blockedBy.add(CHANNEL);
    t.equal(await inUzbek.runOnce(), 0);
    telegram.chats.blockedBy.delete(CHANNEL);
    t.equal(await inUzbek.runOnce(), 0, 'not at once');
    await pool.query('UPDATE bot_payout_requests SET due_at = now()');
    t.equal(await inUzbek.runOnce(), 1);
    t.match(channel.last().text, new RegExp(`TRON orqali \\$8\\.00 to‘lov.*${id}`, 's'));
  });
});
