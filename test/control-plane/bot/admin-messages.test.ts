import t from 'tap';
import { orderIdOf } from '../../../control-plane/cryptomus/client.js';
import { dailyReportJob } from '../../../control-plane/figures/daily-report.js';
import { TelegramQueue } from '../../../control-plane/telegram/telegram-queue.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { refusal, startBotApi } from '../../helpers/bot-api.js';
import { startPaymentsWorld } from '../../helpers/payments-world.js';

const CHANNEL = -1001234567890;
const { signal } = new AbortController();

t.test('what the admin channel is told', async (t) => {
  let refuse: string | null = null;
  const api = await startBotApi(t, () => (refuse === null ? undefined : refusal(400, refuse)));
  const telegram = new TelegramQueue(
    { botToken: '1:t', apiUrl: api.url, queueMax: 100 },
    { clock: systemClock, log: silentLog },
  );
  t.teardown(() => telegram.stop());
  const world = await startPaymentsWorld(t, { telegram, env: { TS_ADMIN_CHAT_ID: String(CHANNEL) } });
  const { pool, services, cryptomus } = world;
  const deliver = () => services.outbox.deliverDue(signal);
  const told = () => api.sent.filter((message) => message.chatId === CHANNEL).map((message) => message.text);

  await t.test('a daily report with its figures, once a day', async (t) => {
    const buyer = await world.buyer();
    await pool.query(
      "UPDATE buyers SET account = $2, created_at = utc_day() - 1 + interval '1 hour' WHERE id = $1",
      [buyer.id, 'acme1'],
    );
    const job = dailyReportJob(pool);
    const { day } = (await job.run({ signal })) as { day: string };
    await job.run({ signal });
    t.match(await deliver(), { delivered: 1, failed: 0 });
    const [text, ...more] = told();
    t.same(more, []);
    t.equal(
      text,
      [
        `Daily report ${day} (UTC)`,
        '',
        'Traffic: 0.00 GB (up 0.00 GB, down 0.00 GB)',
        'Charged $0.00, earned $0.00, referrals $0.00, revenue $0.00',
        'Top-ups: $0.00',
        'Payouts: 0, $0.00',
        'Active: 0 providers, 0 buyers; 0 sessions completed',
        'New: 0 users, 1 buyers',
      ].join('\n'),
    );
  });

  await t.test('one that can not be delivered is tried again', async (t) => {
    await pool.query("UPDATE outbox SET state = 'waiting', ended_at = NULL WHERE kind = 'daily_report'");
    refuse = 'Bad Request: chat not found';
    t.match(await deliver(), { delivered: 0, failed: 1 });
    refuse = null;
    t.match(await deliver(), { delivered: 0, failed: 0 }, 'not at once');
    await pool.query("UPDATE outbox SET due_at = now() WHERE state = 'waiting'");
    t.match(await deliver(), { delivered: 1, failed: 0 });
  });

  await t.test('a receipt of each payout that ends', async (t) => {
    const user = await world.provider('100');
    const id = await world.withdraw(user, '12.5');
    const rejected = await world.withdraw(user, '6');
    const lost = await world.withdraw(user, '7');
    t.equal((await world.approve(id)).status, 200);
    t.equal((await world.approve(lost)).status, 200);
    t.equal((await world.reject(rejected)).status, 200);
    await services.payouts.runOnce();
    cryptomus.change(orderIdOf(id), { status: 'paid', is_final: true, txid: 'chain-1' });
    cryptomus.change(orderIdOf(lost), { status: 'fail', is_final: true });
    for (const payment of [id, lost]) await world.due(payment);
    await services.payouts.runOnce();
    t.match([(await world.payment(id)).status, (await world.payment(lost)).status], ['completed', 'failed']);
    const before = told().length;
    t.match(await deliver(), { delivered: 2, failed: 0 });
    await services.payouts.runOnce();
    t.match(await deliver(), { delivered: 0 });
    const texts = told().slice(before);
    const paid = texts.find((text) => text.includes(id));
    t.match(
      paid,
      /^Payout paid: \$12\.50 in USDT over TRON\nTo TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t\nTransaction chain-1\n/,
    );
    t.match(
      texts.find((text) => text.includes(lost)),
      /^Payout failed: \$7\.00 .*\n.*\nReason: Cryptomus: fail\./,
    );
    t.equal(texts.length, 2, 'a cancelled one is no payout that ended at Cryptomus');
  });
});
