import t from 'tap';
import { AlertWatch } from '../../../control-plane/alerts/watch.js';
import { createBroadcast, settleUnknown } from '../../../control-plane/broadcasts/broadcasts.js';
import { orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { withTransaction } from '../../../control-plane/db/pool.js';
import { dailyReportJob } from '../../../control-plane/figures/daily-report.js';
import { appUpdatesJob } from '../../../control-plane/notices/app-updates.js';
import { putNotices } from '../../../control-plane/notices/notices.js';
import { MoneyWatch } from '../../../control-plane/reconciliation/figures.js';
import { writeGatewayPresence } from '../../../gateway/live/presence.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startDialogueWorld } from '../../helpers/bot-dialogue.js';
import { type TestUser, withDevice } from '../../helpers/control-plane.js';

const CHANNEL = -1001234567890;
const { signal } = new AbortController();

t.test('what the bot says by itself', async (t) => {
  const world = await startDialogueWorld(t, { TS_ADMIN_CHAT_ID: String(CHANNEL) });
  const { telegram, pool, services, cryptomus, redis } = world;
  const { bot } = services;
  if (bot === null) throw new Error('there is no bot');
  const send = () => bot.notices.runOnce();
  const channel = world.dialogue({}, CHANNEL);
  const startSession = async (user: TestUser) => {
    const { deviceId } = await withDevice(world, user);
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO traffic_sessions (id, user_id, device_id, status, exit_ip, country, network_type, client_version)
       VALUES (gen_random_uuid(), $1, $2, 'active', '192.0.2.9', 'DE', 'wifi', '1.0.0') RETURNING id`,
      [user.userId, deviceId],
    );
    return { sessionId: rows[0]?.id as string, deviceId };
  };

  await t.test('each step of a payout, once, in the person’s language', async (t) => {
    const user = await world.provider('40');
    const chat = await world.dialogueOf(user, 'ru');
    const [paid, lost] = [await world.withdraw(user, '12.5'), await world.withdraw(user, '6')];
    t.equal(await send(), 2);
    t.match(
      chat.messages().map(({ text }) => text),
      [/^Запрошена выплата \$12\.50 .* на TR7.*\nЭто были не вы\?/, /^Запрошена выплата \$6\.00/],
    );
    await world.approve(paid);
    await world.approve(lost);
    t.equal(await send(), 2);
    const since = (count: number) =>
      chat
        .messages()
        .slice(count)
        .map(({ text }) => text);
    t.match(since(2), [/^Ваша выплата \$12\.50 одобрена/, /^Ваша выплата \$6\.00 одобрена/]);
    const changeAndLook = async (payments: string[]) => {
      for (const payment of payments) await world.due(payment);
      await services.payouts.runOnce();
      return send();
    };
    await services.payouts.runOnce();
    cryptomus.change(orderIdOf(paid), { status: 'check', txid: 'chain-7' });
    t.same([await changeAndLook([paid]), await changeAndLook([paid])], [1, 0], 'sent, once');
    t.match(since(4), [/^Ваша выплата \$12\.50 уже в пути .*\nТранзакция: chain-7$/]);
    t.match(await world.payment(paid), { status: 'processing', tx_reference: 'chain-7' });
    cryptomus.change(orderIdOf(paid), { status: 'paid', is_final: true, txid: 'chain-7' });
    cryptomus.change(orderIdOf(lost), { status: 'fail', is_final: true });
    t.equal(await changeAndLook([paid, lost]), 2);
    const texts = since(5);
    t.ok(texts.some((text) => /^Выплачено: \$12\.50 по сети TRON на TR7.*\nТранзакция: chain-7/.test(text)));
    t.ok(texts.some((text) => /^Выплата \$6\.00 по сети TRON не удалась/.test(text)));
    t.equal(await send(), 0);
    const inbox = (await world.call('GET', '/api/notifications', { token: user.token })).body.items;
    t.same(
      inbox.map((item: { kind: string; title: string }) => `${item.kind}: ${item.title}`).sort(),
      [
        'payout: Выплата завершена',
        'payout: Выплата не удалась',
        'payout: Выплата одобрена',
        'payout: Выплата одобрена',
        'payout: Выплата отправлена',
        'payout: Запрошена выплата',
        'payout: Запрошена выплата',
      ],
      'each step is in the inbox as well',
    );
    const failed = inbox.find((item: { title: string }) => item.title === 'Выплата не удалась');
    t.match(failed.body, /Деньги снова на вашем балансе\.\nCryptomus: fail$/);
  });

  await t.test(
    'a sender that dies: the notice goes again when its claim runs out; blocked and muted',
    async (t) => {
      const [user, muted, gone] = await Promise.all([
        world.provider('1'),
        world.provider('1'),
        world.provider('1'),
      ]);
      const chat = await world.dialogueOf(user);
      await pool.query(`UPDATE users SET settings = '{"notifications": false}' WHERE id = $1`, [
        muted.userId,
      ]);
      telegram.chats.blockedBy.add(gone.telegramId);
      const notice = (who: TestUser) => ({
        userId: who.userId,
        key: who.userId,
        content: { kind: 'session_completed' as const, bytes: '3500000', earnedMicros: '700' },
      });
      await putNotices(pool, [user, muted, gone].map(notice));
      await putNotices(pool, [notice(user)]);
      await pool.query("UPDATE bot_notices SET due_at = now() + interval '2 minutes' WHERE user_id = $1", [
        user.userId,
      ]);
      t.equal(await send(), 2, 'what another process has claimed is its');
      t.same(chat.messages(), []);
      await pool.query("UPDATE bot_notices SET due_at = now() WHERE state = 'waiting'");
      t.equal(await send(), 1);
      t.match(chat.last().text, /^Session completed: 3\.50 MB, \$0\.0007/);
      const { rows } = await pool.query(
        "SELECT user_id, state FROM bot_notices WHERE kind = 'session_completed' ORDER BY state, id",
      );
      t.match(rows, [
        { user_id: muted.userId, state: 'dropped' },
        { user_id: gone.userId, state: 'dropped' },
        { user_id: user.userId, state: 'sent' },
      ]);
    },
  );

  await t.test('a newer version is told once', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user, 'ru');
    await withDevice(world, user);
    await withDevice(world, user);
    await pool.query(
      "UPDATE devices SET last_seen_at = now(), client_version = '1.9.0-beta' WHERE user_id = $1",
      [user.userId],
    );
    const job = (appLatest: string) => appUpdatesJob(pool, async () => ({ appLatest })).run({ signal });
    t.match(await job('1.9.0'), { users: 0 });
    t.match(await job('1.10.0'), { users: 1 });
    t.match(await job('1.10.0'), { users: 0 });
    t.equal(await send(), 1);
    t.match(chat.last().text, /версия приложения: 1\.10\.0\. Обновите 2 устройства\.$/);
  });

  await t.test('a running session has one message, changed every five seconds at most', async (t) => {
    const user = await world.provider('1');
    const chat = await world.dialogueOf(user);
    const { sessionId, deviceId } = await startSession(user);
    const look = async () => {
      const calls = await bot.liveStatus.runOnce();
      await world.sent();
      return calls;
    };
    const due = () => pool.query('UPDATE bot_live_messages SET due_at = now() WHERE ended_at IS NULL');
    const carried = (bytes: number) =>
      pool.query(
        'UPDATE traffic_sessions SET bytes_down = $2::bigint, earned_micros = $2::bigint / 5000 WHERE id = $1',
        [sessionId, bytes],
      );
    t.equal(await look(), 1);
    const message = chat.last();
    t.match(message, { silent: true });
    t.match(
      message.text,
      new RegExp(`Sharing: ${deviceId}\\n0\\.00 MB, \\$0\\.00, 0\\.0 Mbit/s\\nThe device is not connected`),
    );
    await carried(5_000_000);
    t.equal(await look(), 0, 'not before its time');
    const { rows } = await pool.query(
      'SELECT extract(epoch FROM due_at - looked_at)::float8 AS s FROM bot_live_messages WHERE session_id = $1',
      [sessionId],
    );
    t.equal(rows[0].s, 5);
    await due();
    await pool.query("UPDATE bot_live_messages SET looked_at = now() - interval '10 seconds'");
    t.equal(await look(), 1);
    t.match(message.text, /5\.00 MB, \$0\.001, [34]\.\d Mbit\/s/);
    await due();
    await look(); // nothing went through: the speed is 0 again
    t.match(message.text, /5\.00 MB, \$0\.001, 0\.0 Mbit\/s/);
    await due();
    t.equal(await look(), 0, 'nothing new: no call');

    await world.restart();
    await carried(9_000_000);
    await due();
    await look();
    t.match(message.text, /9\.00 MB/);
    t.equal(chat.messages().length, 1, 'a restart goes on with the same message');
    await pool.query(
      "UPDATE traffic_sessions SET status = 'stopping', stopped_at = now() - interval '1 hour' WHERE id = $1",
      [sessionId],
    );
    await due();
    t.equal(await look(), 0, 'its last bytes are being settled');
    await services.settlement.settleNow();
    await due();
    t.equal(await look(), 1);
    t.match(message.text, /Sharing has ended: .*\n9\.00 MB, \$0\.0018$/);
    await due();
    t.equal(await look(), 0);
    t.equal(await send(), 1, 'who settled it left a notice');
    t.match(chat.last().text, /^Session completed: 9\.00 MB, \$0\.0018/);
  });

  await t.test('live messages: muted, deleted by the person, left by a process that died', async (t) => {
    const [muted, deleted, left] = await Promise.all([
      world.provider('1'),
      world.provider('1'),
      world.provider('1'),
    ]);
    await pool.query(`UPDATE users SET settings = '{"notifications": false}' WHERE id = $1`, [muted.userId]);
    const [, second, third] = [
      await startSession(muted),
      await startSession(deleted),
      await startSession(left),
    ];
    await pool.query("INSERT INTO bot_live_messages (session_id, chat_id, text) VALUES ($1, $2, '')", [
      third?.sessionId,
      left.telegramId,
    ]);
    t.equal(await bot.liveStatus.runOnce(), 1);
    await pool.query(
      'UPDATE bot_live_messages SET message_id = 999999, due_at = now() WHERE session_id = $1',
      [second?.sessionId],
    );
    await pool.query('UPDATE traffic_sessions SET bytes_up = 20000 WHERE id = $1', [second?.sessionId]);
    t.equal(await bot.liveStatus.runOnce(), 1);
    const { rows } = await pool.query(
      'SELECT session_id FROM bot_live_messages WHERE session_id = ANY ($1) AND ended_at IS NOT NULL',
      [[second?.sessionId, third?.sessionId]],
    );
    t.equal(rows.length, 2, 'neither is tried for ever');
    t.same(telegram.chats.of(muted.telegramId), []);
    await pool.query("UPDATE traffic_sessions SET status = 'failed' WHERE status = 'active'");
  });

  await t.test('alerts: raised once, however many look, and over once', async (t) => {
    const clock = { nowMs: () => systemClock.nowMs(), monotonicMs: () => monotonicMs };
    let monotonicMs = 1_000_000;
    const watch = () =>
      new AlertWatch({
        pool,
        redis,
        clock: { ...systemClock, ...clock },
        log: silentLog,
        money: new MoneyWatch({ pool, clock: systemClock, log: silentLog, maxAgeMs: 0 }),
        onChange: (stopped) => services.outbox.deliverDue(stopped),
      });
    const [one, other] = [watch(), watch()];
    const told = () =>
      channel
        .messages()
        .map(({ text }) => text)
        .filter((text) => /^(🔴|🟢)/u.test(text));
    t.equal(await one.runOnce(), 0, 'nothing is wrong');
    const presence = (gatewayId: string, draining: boolean) => ({
      gatewayId,
      epoch: '0123456789abcdef0123456789abcdef',
      version: '1.0.0',
      startedAtMs: Date.now(),
      tunnels: 1,
      streams: 2,
      draining,
    });
    await writeGatewayPresence(redis, presence('gw-1', false));
    await writeGatewayPresence(redis, presence('gw-2', true));
    t.equal(await one.runOnce(), 0);
    t.equal(await other.runOnce(), 0);
    await redis.flushall();
    t.equal(await one.runOnce(), 0, 'not at once');
    await other.runOnce();
    monotonicMs += 30_001;
    t.same([await one.runOnce(), await other.runOnce(), await one.runOnce()], [1, 0, 0]);
    t.match(told(), [/^🔴 Gateway gw-1 is gone/], 'the one that drained has ended as it should');
    await pool.query(
      `INSERT INTO reconciliation_flags (session_id, kind, metered_bytes, difference_bytes, difference_micros, detail)
       SELECT id, 'books', 1, 1, 1, 'test' FROM traffic_sessions LIMIT 1`,
    );
    t.equal(await other.runOnce(), 1);
    t.match(told()[1], /^🔴 Reconciliation found/);
    t.match(
      await (await world.dialogueOf(world.admin)).say('/system'),
      /⚠️ Gateway gw-1.*\n⚠️ Reconciliation/s,
    );
    await pool.query('UPDATE reconciliation_flags SET resolved_at = now()');
    await writeGatewayPresence(redis, presence('gw-1', false));
    t.equal(await one.runOnce(), 2);
    t.match(told().slice(2).sort(), [/^🟢 Over: Gateway gw-1/, /^🟢 Over: Reconciliation/]);
    const { id } = await createBroadcast(pool, { target: 'all', message: 'm', adminId: world.admin.userId });
    await pool.query(
      "INSERT INTO broadcast_recipients (broadcast_id, user_id, state, ended_at) VALUES ($1, $2, 'unknown', now())",
      [id, world.admin.userId],
    );
    t.same([await one.runOnce(), await other.runOnce()], [1, 0]);
    t.match(told().at(-1), new RegExp(`^🔴 Broadcast ${id}: of some recipients nobody knows`));
    await withTransaction(pool, (client) => settleUnknown(client, id, 'leave'));
    t.equal(await one.runOnce(), 1);
    t.match(told().at(-1), /^🟢 Over: Broadcast/);
  });

  await t.test('the daily report has a chart', async (t) => {
    const before = channel.messages().length;
    await dailyReportJob(pool).run({ signal });
    t.match(await services.outbox.deliverDue(signal), { delivered: 1 });
    await world.sent();
    const [report, chart] = channel.messages().slice(before);
    t.match(report?.text, /^Daily report/);
    t.match(chart?.text, /^Gigabytes a day, \d+ days/);
    t.ok((chart?.photo?.length ?? 0) > 1_000);
  });

  await t.test('commands and the menu button are told at the start, in each language', async (t) => {
    telegram.calls.length = 0;
    await bot.profile?.tell();
    const lists = telegram.calls.filter(({ method }) => method === 'setMyCommands').map(({ body }) => body);
    t.same(
      lists.map((body) => body.language_code ?? null),
      ['en', 'ru', 'uz', null],
    );
    t.match(telegram.calls.at(-1), {
      method: 'setChatMenuButton',
      body: { menu_button: { type: 'web_app', web_app: { url: 'https://console.example/' } } },
    });
  });
});
