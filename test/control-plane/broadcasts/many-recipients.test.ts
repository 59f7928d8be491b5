import t from 'tap';
import { type ApiProcess, startApiProcesses } from '../../helpers/api-processes.js';
import { type Reply, refusal, startBotApi } from '../../helpers/bot-api.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

/** TS_TEST_RECIPIENTS=10000 is the run of a release (test/README.md). */
const PEOPLE = Number(process.env.TS_TEST_RECIPIENTS ?? 400);
/** Calls under way at once (`telegram/telegram-queue.ts`). */
const CALLS_MAX = 10;
/** Time an answer takes while the process is told to end. */
const SLOW_MS = 300;
const LOOK_MS = 25;

t.setTimeout(240_000);
t.test(
  'many people, the sender ended three times: once each, but for calls that were open at a kill',
  { timeout: 240_000 },
  async (t) => {
    const world = await startWorld(t);
    const admin = await signedIn(world, 'admin');
    await world.pool.query(
      `INSERT INTO users (id, telegram_id, language, referral_code, is_verified)
     SELECT gen_random_uuid(), 5000000000 + n, 'en', 'T' || lpad(n::text, 7, '0'), true
       FROM generate_series(1, $1) n`,
      [PEOPLE - 1],
    );
    /** Who was sent it, as Telegram knows: a call that is held is carried out for each second one. */
    const sentTo: number[] = [];
    const held: number[] = [];
    let refusals = 0;
    let mode: 'answer' | 'refuse' | 'hold' = 'answer';
    let delayMs = 0;
    let turn = () => {};
    const answer = (chatId: number): Reply | undefined => {
      turn();
      if (mode === 'refuse') {
        refusals++;
        return refusal(429, 'Too Many Requests', { retry_after: 60 });
      }
      if (mode === 'hold') {
        held.push(chatId);
        if (held.length % 2 === 0) sentTo.push(chatId);
        return 'hang';
      }
      sentTo.push(chatId);
      return undefined;
    };
    const api = await startBotApi(t, ({ chatId }) => answer(chatId), { delayMs: () => delayMs });
    /** Resolves when so many were sent it; from the next call on Telegram is as `change` makes it. */
    const reach = (count: number, change: () => void = () => {}) =>
      new Promise<void>((resolve) => {
        turn = () => {
          if (sentTo.length < count) return;
          turn = () => {};
          change();
          resolve();
        };
      });
    const env = {
      TS_BOT_TOKEN: '1:t',
      TS_BOT_API_URL: api.url,
      TS_BOT_UPDATES: 'off',
      TS_BOT_MESSAGES_PER_SECOND: '1000',
    };
    const call = (method: string, path: string, body?: unknown) =>
      world.call(method, `/api/admin/${path}`, { token: admin.token, body });
    const { body } = await call('POST', 'notify', { target: 'all', message: 'Hello' });
    t.equal(body.recipients, PEOPLE);
    const counters = async () => (await call('GET', `broadcasts/${body.id}`)).body.counters;
    /** Looks again and again until the counters are so, twice in a row. */
    const settled = async (isSo: (counters: Record<'sent' | 'sending' | 'pending', number>) => boolean) => {
      for (let times = 0; times < 2; ) {
        times = isSo(await counters()) ? times + 1 : 0;
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
      return counters();
    };
    const start = async () => (await startApiProcesses(t, 1, world, env))[0] as ApiProcess;
    // A killed sender's lease runs out by itself; the test does not wait for that.
    const endLease = () => world.pool.query("UPDATE broadcast_sender SET lease_until = '-infinity'");
    const step = Math.floor(PEOPLE / 5);

    // Killed between two calls: Telegram told it to wait, so nothing is open.
    let sender = await start();
    await reach(step, () => {
      mode = 'refuse';
    });
    await settled(({ sending }) => refusals > 0 && sending === 0);
    await sender.kill();
    const first = await counters();
    t.match(first, { sent: sentTo.length, sending: 0, unknown: 0, pending: PEOPLE - sentTo.length });

    // Told to end while calls are open: those are waited for, and the rest is given back at once.
    await endLease();
    mode = 'answer';
    sender = await start();
    await reach(2 * step, () => {
      delayMs = SLOW_MS;
    });
    await settled(({ sending }) => sending > 0);
    await sender.stop();
    const second = await counters();
    t.match(second, { sent: sentTo.length, sending: 0, unknown: 0, pending: PEOPLE - sentTo.length });
    t.ok(second.pending > 0);

    // Killed while calls are open. The next one is not kept waiting by the one that ended.
    delayMs = 0;
    sender = await start();
    await reach(3 * step, () => {
      mode = 'hold';
    });
    await settled(({ sending }) => sending === CALLS_MAX && held.length === CALLS_MAX);
    await sender.kill();
    const known = sentTo.length - CALLS_MAX / 2;
    const third = { sent: known, sending: CALLS_MAX, unknown: 0, pending: PEOPLE - known - CALLS_MAX };
    t.match(await counters(), third);

    await endLease();
    mode = 'answer';
    sender = await start();
    const rest = await settled(({ pending, sending }) => pending === 0 && sending === 0);
    t.match(rest, { sent: PEOPLE - CALLS_MAX, unknown: CALLS_MAX, blocked: 0, failed: 0 });
    const times = new Map<number, number>();
    for (const chatId of sentTo) times.set(chatId, (times.get(chatId) ?? 0) + 1);
    t.ok(
      [...times.values()].every((n) => n === 1),
      'nobody twice',
    );
    t.equal(times.size, PEOPLE - CALLS_MAX / 2, 'everybody but those whose call never arrived');
    const { rows: unknown } = await world.pool.query<{ telegram_id: bigint }>(
      `SELECT u.telegram_id FROM broadcast_recipients r JOIN users u ON u.id = r.user_id
        WHERE r.broadcast_id = $1 AND r.state = 'unknown'`,
      [body.id],
    );
    const byId = (ids: number[]) => [...ids].sort((a, b) => a - b);
    t.same(byId(unknown.map((row) => Number(row.telegram_id))), byId(held), 'those whose call was open');

    // An admin has it sent to them again: everybody has it, and only those twice who had it unknown to us.
    t.match((await call('POST', `broadcasts/${body.id}/unknown`, { decision: 'send_again' })).status, 200);
    t.match(await settled(({ sent }) => sent === PEOPLE), { unknown: 0, pending: 0 });
    await sender.stop();
    t.equal(new Set(sentTo).size, PEOPLE);
    t.equal(sentTo.length, PEOPLE + CALLS_MAX / 2);
    t.same(byId(sentTo.slice(-CALLS_MAX)), byId(held));
    t.match((await call('GET', `broadcasts/${body.id}`)).body, { status: 'done' });
  },
);
