import t from 'tap';
import { startApiProcesses } from '../../helpers/api-processes.js';
import { type Sent, startBotApi } from '../../helpers/bot-api.js';
import { signedIn, startWorld } from '../../helpers/control-plane.js';

/** Recipients, the admin included: four seconds' worth. */
const PEOPLE = 100;
/** Messages after which the process is killed. */
const KILL_AFTER = 40;
/** Calls under way at once (`telegram/telegram-queue.ts`). */
const CALLS_MAX = 10;
/** Time each call to Telegram takes. */
const CALL_MS = 200;

t.test(
  'killed in the middle of a broadcast: the next process goes on, nobody is sent it twice',
  async (t) => {
    const world = await startWorld(t);
    let onSent: (count: number) => void = () => {};
    const sent: Sent[] = [];
    const api = await startBotApi(
      t,
      (one) => {
        sent.push(one);
        onSent(sent.length);
        return undefined;
      },
      { delayMs: CALL_MS },
    );
    const env = { TS_BOT_TOKEN: '1:t', TS_BOT_API_URL: api.url };
    const admin = await signedIn(world, 'admin');
    await Promise.all(Array.from({ length: PEOPLE - 1 }, () => signedIn(world)));
    const { body } = await world.call('POST', '/api/admin/notify', {
      token: admin.token,
      body: { target: 'all', message: 'Hello' },
    });
    t.equal(body.recipients, PEOPLE);

    const enough = new Promise<void>((resolve) => {
      onSent = (count) => count >= KILL_AFTER && resolve();
    });
    const [first] = await startApiProcesses(t, 1, world, env);
    await enough;
    await first?.kill();
    const sentByFirst = sent.length;
    const read = async () =>
      (await world.call('GET', `/api/admin/broadcasts/${body.id}`, { token: admin.token })).body;
    const left = await read();
    t.ok(left.counters.pending > 0 && left.counters.sending > 0, JSON.stringify(left.counters));
    t.ok(left.counters.sending <= CALLS_MAX, 'open calls alone');

    // A dead sender's lease runs out by itself; the test does not wait for that.
    await world.pool.query("UPDATE broadcast_sender SET lease_until = now() - interval '1 second'");
    const all = new Promise<void>((resolve) => {
      onSent = (count) => count >= sentByFirst + left.counters.pending && resolve();
    });
    const [second] = await startApiProcesses(t, 1, world, env);
    await all;
    const times = sent.slice(0, KILL_AFTER).map((one) => one.atMs);
    const tookMs = (times.at(-1) as number) - (times[0] as number);
    t.ok(tookMs < (KILL_AFTER / 25) * 1_000 * 1.25, `${KILL_AFTER} messages in ${Math.round(tookMs)} ms`);
    await second?.stop(); // writes down what came of the last ones
    const { counters } = await read();
    t.match(counters, { pending: 0, sending: 0, blocked: 0, failed: 0 });
    t.equal(counters.sent + counters.unknown, PEOPLE);
    t.equal(counters.unknown, left.counters.sending, 'the calls that were open');
    t.equal(new Set(sent.map((s) => s.chatId)).size, sent.length, 'nobody twice');
    t.ok(sent.length >= counters.sent && sent.length <= PEOPLE, `${sent.length} messages`);
    t.comment(`killed after ${sentByFirst} messages: ${counters.sent} sent, ${counters.unknown} unknown`);
  },
);
