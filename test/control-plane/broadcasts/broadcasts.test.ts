import { randomUUID } from 'node:crypto';
import t from 'tap';
import { listUnsettled } from '../../../control-plane/broadcasts/broadcasts.js';
import { BroadcastSender } from '../../../control-plane/broadcasts/sender.js';
import type { MessageSender } from '../../../control-plane/telegram/message-sender.js';
import {
  type Delivery,
  type TelegramMessage,
  TelegramQueue,
} from '../../../control-plane/telegram/telegram-queue.js';
import { ManualClock, systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { refusal, startBotApi } from '../../helpers/bot-api.js';
import {
  signedIn,
  startWorld,
  type TestUser,
  type TestWorld,
  withDevice,
} from '../../helpers/control-plane.js';
import { stopwatch } from '../../helpers/stopwatch.js';

/** Takes messages and keeps them until told what became of them. */
class HeldSender implements MessageSender {
  readonly held: TelegramMessage[] = [];
  readonly taken: number[] = [];
  #wake = () => {};
  push(message: TelegramMessage): void {
    void this.#begin(message);
  }
  async #begin(message: TelegramMessage): Promise<void> {
    if (!(await message.onBegin?.())) return message.onDelivery?.('stopped');
    this.held.push(message);
    this.taken.push(message.chatId);
    this.#wake();
  }
  withdraw(message: TelegramMessage): boolean {
    const index = this.held.indexOf(message);
    if (index < 0) return false;
    this.held.splice(index, 1);
    message.onDelivery?.('stopped');
    return true;
  }
  async has(count: number): Promise<void> {
    while (this.held.length < count)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
  }
  deliver(count: number, delivery: Delivery): void {
    for (const message of this.held.splice(0, count)) message.onDelivery?.(delivery);
  }
}

/** Sends at once; who got what is in `sent`. */
const instantSender = (sent: number[]): MessageSender => ({
  withdraw: () => false,
  async push(message) {
    if (!(await message.onBegin?.())) return message.onDelivery?.('stopped');
    sent.push(message.chatId);
    setImmediate(() => message.onDelivery?.('sent'));
  },
});

const senderOf = ({ pool }: TestWorld, telegram: MessageSender) =>
  new BroadcastSender({ pool, clock: systemClock, log: silentLog, telegram });

const people = (world: TestWorld, count: number) =>
  Promise.all(Array.from({ length: count }, () => signedIn(world)));
const idsOf = (users: readonly TestUser[]) => users.map((u) => u.telegramId).sort((a, b) => a - b);
const sorted = (ids: readonly number[]) => [...ids].sort((a, b) => a - b);

function admins(world: TestWorld, admin: TestUser) {
  const call = (method: string, path: string, body?: unknown) =>
    world.call(method, `/api/admin/${path}`, { token: admin.token, body });
  return {
    call,
    notify: async (target: string) =>
      (await call('POST', 'notify', { target, message: `for ${target}` })).body as { id: string },
    read: async (id: string) => (await call('GET', `broadcasts/${id}`)).body,
  };
}

t.test('through the Bot API: everyone once, below the rate, whatever Telegram says', async (t) => {
  const odd = new Map<number, 'blocked' | 'cut' | 'wait'>();
  const api = await startBotApi(t, ({ chatId }) => {
    const how = odd.get(chatId);
    if (how === 'wait') odd.delete(chatId);
    if (how === 'blocked') return refusal(403, 'Forbidden: bot was blocked by the user');
    if (how === 'wait') return refusal(429, 'Too Many Requests', { retry_after: 1 });
    return how === 'cut' ? 'cut' : undefined;
  });
  const queue = new TelegramQueue(
    { botToken: '1:t', apiUrl: api.url, queueMax: 1_000 },
    { clock: systemClock, log: silentLog },
  );
  t.teardown(() => queue.stop());
  const world = await startWorld(t, { telegram: queue });
  const admin = await signedIn(world, 'admin');
  const { notify, read } = admins(world, admin);
  const users = await people(world, 59);
  const [blocked, cut, waits, quiet] = users as [TestUser, TestUser, TestUser, TestUser];
  odd.set(blocked.telegramId, 'blocked').set(cut.telegramId, 'cut').set(waits.telegramId, 'wait');
  await world.call('POST', '/api/user/update', {
    token: quiet.token,
    body: { settings: { notifications: false } },
  });

  const { id } = await notify('all');
  t.match(await read(id), { status: 'sending', recipients: 59, counters: { pending: 59, sent: 0 } });
  t.equal(await world.services.broadcasts.runOnce(), 59);
  t.match(await read(id), {
    status: 'done',
    counters: { pending: 0, sending: 0, sent: 57, blocked: 1, unknown: 1, failed: 0 },
  });
  const calls = new Map<number, number>();
  for (const { chatId, text } of api.sent) {
    calls.set(chatId, (calls.get(chatId) ?? 0) + 1);
    t.equal(text, 'for all');
  }
  t.equal(calls.get(waits.telegramId), 2, 'who had to wait was asked for twice');
  calls.delete(waits.telegramId);
  t.ok([...calls.values()].every((n) => n === 1));
  t.notOk(calls.has(quiet.telegramId), 'who turned notifications off gets none');
  const times = api.sent.map((s) => s.atMs);
  // 25 calls begin in a second; a timer may fire a millisecond early.
  const soonest = Math.min(...times.slice(25).map((at, i) => at - (times[i] as number)));
  t.ok(soonest > 950, `25 calls took ${Math.round(soonest)} ms`);

  const inbox = await world.call('GET', '/api/notifications', { token: cut.token });
  t.match(inbox.body.items, [{ kind: 'broadcast', body: 'for all' }]);
  const again = await notify('all');
  t.equal((await read(again.id)).recipients, 58, 'who blocked the bot is passed over');
  await world.pool.query("UPDATE users SET telegram_blocked_at = now() - interval '31 days' WHERE id = $1", [
    blocked.userId,
  ]);
  odd.clear();
  const third = await notify(`user:${blocked.userId}`);
  await admins(world, admin).call('POST', `broadcasts/${again.id}/cancel`);
  await world.services.broadcasts.runOnce();
  t.match(await read(third.id), { status: 'done', counters: { sent: 1 } });
  const { rows } = await world.pool.query('SELECT telegram_blocked_at FROM users WHERE id = $1', [
    blocked.userId,
  ]);
  t.same(rows, [{ telegram_blocked_at: null }], 'back again');
});

t.test('25 a second also when each call takes 200 ms, over batches', async (t) => {
  const api = await startBotApi(t, () => undefined, { delayMs: 200 });
  const queue = new TelegramQueue(
    { botToken: '1:t', apiUrl: api.url, queueMax: 1_000 },
    { clock: systemClock, log: silentLog },
  );
  t.teardown(() => queue.stop());
  const world = await startWorld(t, { telegram: queue });
  const { notify, read } = admins(world, await signedIn(world, 'admin'));
  await people(world, 99);
  const { id } = await notify('all');
  const runMs = stopwatch();
  t.equal(await world.services.broadcasts.runOnce(), 100);
  t.ok(runMs() < 5_000, 'no slower');
  t.match(await read(id), { status: 'done', counters: { sent: 100 } });
  t.equal(new Set(api.sent.map((s) => s.chatId)).size, 100);
  const times = api.sent.map((s) => s.atMs);
  const tookMs = (times.at(-1) as number) - (times[0] as number);
  t.ok(tookMs >= 3_900, `100 messages in ${Math.round(tookMs)} ms`);
});

t.test('a crash: it goes on, and nobody is sent it twice', async (t) => {
  const world = await startWorld(t);
  const { pool } = world;
  const admin = await signedIn(world, 'admin');
  const { notify, read } = admins(world, admin);
  const users = [admin, ...(await people(world, 69))];
  const { id } = await notify('all');

  const before = new HeldSender();
  const crashed = senderOf(world, before);
  const abandoned = crashed.runOnce();
  await before.has(25);
  before.deliver(25, 'sent');
  await before.has(25); // claimed and with Telegram, perhaps; then the process is gone
  t.match((await read(id)).counters, { sent: 25, sending: 25, pending: 20 });

  const after: number[] = [];
  const next = senderOf(world, instantSender(after));
  t.equal(await next.runOnce(), 0, 'not while the other one may live');
  await pool.query("UPDATE broadcast_sender SET lease_until = now() - interval '1 second'");
  t.equal(await next.runOnce(), 20);
  t.match(await read(id), { status: 'done', counters: { sent: 45, unknown: 25, sending: 0, pending: 0 } });
  t.same(sorted([...before.taken, ...after]), idsOf(users), 'each once, over both');

  before.deliver(25, 'sent'); // it was not dead after all
  await abandoned;
  t.match((await read(id)).counters, { sent: 70, unknown: 0 }, 'what became of them is known now');
});

t.test(
  'what a dead sender had claimed and not begun is sent by the next, and by that one alone',
  async (t) => {
    const world = await startWorld(t);
    const admin = await signedIn(world, 'admin');
    const { notify, read } = admins(world, admin);
    const users = [admin, ...(await people(world, 29))];
    const { id } = await notify('all');
    const waiting: TelegramMessage[] = [];
    const slow = senderOf(world, { push: (message) => void waiting.push(message), withdraw: () => false });
    const round = slow.runOnce();
    while (waiting.length < 25) await new Promise((resolve) => setTimeout(resolve, 5));
    const [one, other] = waiting as [TelegramMessage, TelegramMessage];
    t.equal(await one.onBegin?.(), true);
    t.equal(await other.onBegin?.(), true);
    t.equal(await other.onBegin?.(), false, 'begun once');
    await other.onHeld?.(); // told to wait: certainly not sent
    t.match((await read(id)).counters, { sending: 1, pending: 29 });

    await world.pool.query("UPDATE broadcast_sender SET lease_until = '-infinity'");
    const sent: number[] = [];
    t.equal(await senderOf(world, instantSender(sent)).runOnce(), 29);
    t.match(await read(id), { status: 'done', counters: { sent: 29, unknown: 1 } });
    t.same(sorted([...sent, one.chatId]), idsOf(users), 'all but the one whose call had begun');
    for (const message of waiting) if (message !== one) t.equal(await message.onBegin?.(), false);
    for (const message of waiting) message.onDelivery?.(message === one ? 'unknown' : 'stopped');
    await round;
    t.match(await read(id), { status: 'done', counters: { sent: 29, unknown: 1, pending: 0 } });
  },
);

t.test('unknown recipients wait for an admin: again, or left', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const { call, notify, read } = admins(world, admin);
  await people(world, 4);
  const { id } = await notify('all');
  const settle = (decision: string, which = id) => call('POST', `broadcasts/${which}/unknown`, { decision });
  const held = new HeldSender();
  const round = senderOf(world, held).runOnce();
  await held.has(5);
  held.deliver(3, 'unknown');
  held.deliver(2, 'sent');
  await round;
  await world.pool.query("UPDATE broadcast_sender SET lease_until = '-infinity'");
  const sent: number[] = [];
  const next = senderOf(world, instantSender(sent));
  await next.runOnce();
  t.match(await read(id), { status: 'done', counters: { sent: 2, unknown: 3 } });
  t.same(await listUnsettled(world.pool), [id]);
  const both = await Promise.all([settle('send_again'), settle('send_again')]);
  for (const { status, body } of both)
    t.match([status, body], [200, { status: 'sending', counters: { pending: 3, unknown: 0 } }]);
  t.same(await listUnsettled(world.pool), []);
  t.equal(await next.runOnce(), 3);
  t.same(sorted(sent), sorted(held.taken.slice(0, 3)), 'to those again, and to nobody else');
  t.match(await read(id), { status: 'done', counters: { sent: 5, unknown: 0 } });

  await world.pool.query(
    "UPDATE broadcast_recipients SET state = 'unknown' WHERE broadcast_id = $1 AND user_id = $2",
    [id, admin.userId],
  );
  t.match((await settle('leave')).body, { status: 'done', counters: { given_up: 1, unknown: 0 } });
  t.match((await settle('send_again')).body, { status: 'done', counters: { given_up: 1 } }, 'nobody is left');
  const { rows } = await world.pool.query(
    `SELECT after FROM audit_log WHERE action = 'broadcast_unknown_settled' AND after->>'recipients' <> '0'
      ORDER BY id`,
  );
  t.match(rows, [
    { after: { decision: 'send_again', recipients: 3 } },
    { after: { decision: 'leave', recipients: 1 } },
  ]);
  const draft = (await call('POST', 'broadcasts', { target: 'all', message: 'x' })).body.id;
  t.match(
    (await settle('send_again', draft)).body,
    { status: 'draft', recipients: 0 },
    'is not started by it',
  );
  await call('POST', `broadcasts/${draft}/cancel`);
  t.match((await settle('send_again', draft)).body, { status: 409, code: 'broadcast_over' });
});

t.test('Telegram answers nothing: few are tried, until it does', async (t) => {
  const world = await startWorld(t);
  const { notify, read } = admins(world, await signedIn(world, 'admin'));
  await people(world, 59);
  const { id } = await notify('all');
  const clock = new ManualClock();
  let delivery: Delivery = 'unknown';
  const tried: number[] = [];
  // A lane that claims after the other has got no answer already tries only one.
  let letAnswer = () => {};
  const bothLanes = new Promise<void>((resolve) => {
    letAnswer = resolve;
  });
  const telegram: MessageSender = {
    withdraw: () => false,
    async push(message) {
      if (!(await message.onBegin?.())) return message.onDelivery?.('stopped');
      if (tried.push(message.chatId) === 25) letAnswer();
      await bothLanes;
      message.onDelivery?.(delivery);
    },
  };
  const sender = new BroadcastSender({ pool: world.pool, clock, log: silentLog, telegram });
  t.equal(await sender.runOnce(), 25);
  t.equal(await sender.runOnce(), 0, 'a pause');
  for (let round = 0; round < 4; round++) {
    clock.advance(60_000);
    t.equal(await sender.runOnce(), 2, 'one a lane');
  }
  delivery = 'sent';
  clock.advance(60_000);
  await sender.runOnce();
  await sender.runOnce();
  t.match(await read(id), { status: 'done', counters: { unknown: 33, sent: 27 } });
  t.equal(new Set(tried).size, 60);
});

t.test('a stop in the middle gives back what was not sent', async (t) => {
  const world = await startWorld(t);
  const { notify, read } = admins(world, await signedIn(world, 'admin'));
  await people(world, 39);
  const { id } = await notify('all');
  const held = new HeldSender();
  const first = senderOf(world, held);
  const round = first.runOnce();
  await held.has(25);
  held.deliver(3, 'sent');
  await first.stop();
  await round;
  t.match(await read(id), { status: 'sending', counters: { sent: 3, sending: 0, pending: 37 } });
  const sent: number[] = [];
  await senderOf(world, instantSender(sent)).runOnce();
  t.equal(new Set(sent).size, 37);
  t.match(await read(id), { status: 'done', counters: { sent: 40 } });
});

t.test('cancel in the middle', async (t) => {
  const world = await startWorld(t);
  const { call, notify, read } = admins(world, await signedIn(world, 'admin'));
  await people(world, 39);
  const { id } = await notify('all');
  const held = new HeldSender();
  const sender = senderOf(world, held);
  const round = sender.runOnce();
  await held.has(25);
  t.match((await call('POST', `broadcasts/${id}/cancel`)).body, {
    status: 'cancelled',
    counters: { cancelled: 15, sending: 25 },
  });
  held.deliver(20, 'sent');
  held.deliver(5, 'expired');
  await round;
  t.match((await read(id)).counters, { sent: 20, cancelled: 20, pending: 0, sending: 0 });
  t.equal((await call('POST', `broadcasts/${id}/cancel`)).body.code, 'broadcast_over');
  t.equal((await call('POST', `broadcasts/${id}/start`)).body.code, 'broadcast_not_draft');
});

t.test('several control planes, several broadcasts, one deletion', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const { call, notify, read } = admins(world, admin);
  const users = await people(world, 49);
  const [gone, ...others] = users as [TestUser, ...TestUser[]];
  const ids = [(await notify('all')).id, (await notify('all')).id];
  t.equal((await call('DELETE', `users/${gone.userId}`)).status, 200);
  const sent: number[] = [];
  const telegram = instantSender(sent);
  await Promise.all(Array.from({ length: 4 }, () => senderOf(world, telegram).runOnce()));
  t.same(sorted(sent), sorted([...idsOf([admin, ...others]), ...idsOf([admin, ...others])]));
  for (const id of ids)
    t.match(await read(id), { status: 'done', counters: { sent: 49, skipped: 1, unknown: 0 } });
});

t.test('drafts, targets, roles, bounds', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const { call, notify, read } = admins(world, admin);
  const german = await signedIn(world);
  const device = await withDevice(world, german);
  await world.call('POST', '/api/traffic/start', {
    token: german.token,
    body: { device_id: device.deviceId, client_version: '1.0.0' },
  });
  const uzbek = await signedIn(world);
  await world.call('POST', '/api/user/update', { token: uzbek.token, body: { language: 'uz' } });
  const banned = await signedIn(world);
  await call('POST', `user/${banned.userId}/ban`);

  const recipients = async (target: string) => {
    const { id } = await notify(target);
    const { body } = await call('GET', `broadcasts/${id}/recipients?state=pending`);
    return body.items.map((r: { user_id: string }) => r.user_id).sort();
  };
  t.same(await recipients('all'), [admin.userId, german.userId, uzbek.userId].sort());
  t.same(await recipients('active'), [german.userId]);
  t.same(await recipients('region:DE'), [german.userId]);
  t.same(await recipients('region:EU'), [german.userId]);
  t.same(await recipients('region:US'), []);
  t.same(await recipients('language:uz'), [uzbek.userId]);
  t.same(await recipients('admins'), [admin.userId]);
  t.same(await recipients(`user:${uzbek.userId}`), [uzbek.userId]);

  const body = { target: 'all', message: 'Hello' };
  const draft = await call('POST', 'broadcasts', body);
  t.match([draft.status, draft.body], [201, { status: 'draft', recipients: 0, created_by: admin.userId }]);
  const { id } = draft.body;
  const starts = await Promise.all(Array.from({ length: 5 }, () => call('POST', `broadcasts/${id}/start`)));
  t.same(starts.map((a) => a.status).sort(), [200, 409, 409, 409, 409], 'started once');
  t.equal((await read(id)).recipients, 3);
  const unsent = (await call('POST', 'broadcasts', body)).body.id;
  t.match((await call('POST', `broadcasts/${unsent}/cancel`)).body, { status: 'cancelled', recipients: 0 });
  const page = await call('GET', 'broadcasts?limit=2');
  t.match(page.body.items, [{ id: unsent }, { id, counters: { pending: 3 } }]);
  t.equal((await call('GET', `broadcasts?limit=200&cursor=${page.body.next_cursor}`)).body.items.length, 8);

  const key = { 'idempotency-key': randomUUID() };
  const options = { token: admin.token, body, headers: key };
  const first = await world.call('POST', '/api/admin/notify', options);
  t.same(
    (await world.call('POST', '/api/admin/notify', options)).body,
    first.body,
    'replayed, not sent anew',
  );

  for (const target of ['', 'everyone', 'region:', 'region:USA', "region:'-", 'user:1', 'language:de'])
    t.equal((await call('POST', 'notify', { target, message: 'x' })).status, 400, target);
  t.equal((await call('POST', 'notify', { target: 'all', message: '' })).status, 400);
  t.equal((await call('POST', 'notify', { target: 'all', message: 'x'.repeat(4_097) })).status, 400);
  t.equal((await call('POST', 'broadcasts', { ...body, status: 'done' })).status, 400);
  t.equal((await call('POST', `broadcasts/${id}/unknown`, { decision: 'wait' })).status, 400);
  const routes: [string, string, unknown?][] = [
    ['POST', 'notify', body],
    ['POST', 'broadcasts', body],
    ['GET', 'broadcasts'],
    ['GET', `broadcasts/${id}`],
    ['GET', `broadcasts/${id}/recipients`],
    ['POST', `broadcasts/${id}/start`],
    ['POST', `broadcasts/${id}/cancel`],
    ['POST', `broadcasts/${id}/unknown`, { decision: 'leave' }],
  ];
  for (const [method, path, sent] of routes) {
    t.equal((await world.call(method, `/api/admin/${path}`, { body: sent })).status, 401, path);
    const user = await world.call(method, `/api/admin/${path}`, { body: sent, token: german.token });
    t.equal(user.status, 403, path);
    if (path.includes(id))
      t.equal((await call(method, path.replace(id, randomUUID()), sent)).status, 404, path);
  }
});
