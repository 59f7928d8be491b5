import { Api } from 'grammy';
import type { Update } from 'grammy/types';
import t from 'tap';
import type { AfterCommit } from '../../../control-plane/bot/update-worker.js';
import { UpdateWorker } from '../../../control-plane/bot/update-worker.js';
import { takeInUpdates } from '../../../control-plane/bot/updates.js';
import { createPool, type Queryable } from '../../../control-plane/db/pool.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startMigratedPostgres } from '../../helpers/services.js';

const message = (update_id: number, chatId: number) =>
  ({
    update_id,
    message: { message_id: update_id, date: 0, chat: { id: chatId, type: 'private' } },
  }) as Update;

t.test('handling updates', async (t) => {
  const postgres = await startMigratedPostgres();
  t.teardown(() => postgres.stop());
  const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test' });
  t.teardown(() => pool.end());
  await pool.query(
    'CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, update_id bigint, worker text)',
  );
  const effects = async () =>
    (await pool.query<{ update_id: bigint }>('SELECT update_id FROM effects ORDER BY n')).rows.map((row) =>
      Number(row.update_id),
    );
  const worker = (handle: (update: Update, db: Queryable) => Promise<AfterCommit[]>) =>
    new UpdateWorker({ pool, log: silentLog, api: new Api('1:t'), handle });
  const write = (update: Update, db: Queryable, name = '') =>
    db.query('INSERT INTO effects (update_id, worker) VALUES ($1, $2)', [update.update_id, name]);
  t.afterEach(() => pool.query('DELETE FROM effects'));

  await t.test('several processes: each update once, each chat in order', async (t) => {
    await takeInUpdates(
      pool,
      Array.from({ length: 60 }, (_, n) => message(n + 1, n % 3)),
    );
    t.equal(await takeInUpdates(pool, [message(60, 2), message(61, 2)]), 1, 'one of them is known');
    const workers = ['a', 'b', 'c'].map((name) =>
      worker(async (update, db) => {
        await write(update, db, name);
        await db.query('SELECT pg_sleep(0.002)');
        return [];
      }),
    );
    // One that ends while others still hold its chat's next update does not see to that one.
    while ((await effects()).length < 61) await Promise.all(workers.map((one) => one.idle()));
    const done = await effects();
    t.same(
      done.toSorted((a, b) => a - b),
      Array.from({ length: 61 }, (_, n) => n + 1),
    );
    for (const chat of [0, 1, 2]) {
      const own = done.filter((id) => (id === 61 ? 2 : (id - 1) % 3) === chat);
      t.same(
        own,
        own.toSorted((a, b) => a - b),
        `chat ${chat}`,
      );
    }
    const { rows } = await pool.query('SELECT count(DISTINCT worker)::int AS n FROM effects');
    t.ok(rows[0].n > 1, 'they shared the work');
    await Promise.all(workers.map((one) => one.stop()));
  });

  await t.test('what a failed try did is undone, and nothing follows it', async (t) => {
    let tries = 0;
    let followed = 0;
    const one = worker(async (update, db) => {
      await write(update, db);
      if (++tries === 1) throw new Error('a bug');
      return [async () => followed++];
    });
    await takeInUpdates(pool, [message(100, 1)]);
    await one.idle();
    t.same([await effects(), followed], [[], 0]);
    await pool.query('UPDATE telegram_updates SET due_at = now() WHERE update_id = 100');
    await one.idle();
    t.same([await effects(), followed], [[100], 1]);
    await one.idle();
    t.same([await effects(), followed], [[100], 1]);
    await one.stop();
  });

  await t.test('a process that dies in the middle: the next one handles it, once', async (t) => {
    await takeInUpdates(pool, [message(200, 1)]);
    const dying = worker(async (update, db) => {
      await write(update, db);
      const { rows } = await db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await pool.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
      await db.query('SELECT 1'); // the connection is gone, as with the process
      return [];
    });
    await t.rejects(dying.idle());
    t.same(await effects(), []);
    const next = worker(async (update, db) => {
      await write(update, db);
      return [];
    });
    await next.idle();
    t.same(await effects(), [200]);
    await Promise.all([dying.stop(), next.stop()]);
  });

  await t.test('what follows a commit may fail: the update stays done', async (t) => {
    await takeInUpdates(pool, [message(300, 1)]);
    const one = worker(async (update, db) => {
      await write(update, db);
      return [() => Promise.reject(new Error('Telegram is away'))];
    });
    await one.idle();
    await one.idle();
    t.same(await effects(), [300]);
    await one.stop();
  });

  await t.test('stop ends after the update under way', async (t) => {
    await takeInUpdates(pool, [message(400, 1), message(401, 1)]);
    let began = () => {};
    const under = new Promise<void>((resolve) => {
      began = resolve;
    });
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const one = worker(async (update, db) => {
      began();
      await held;
      await write(update, db);
      return [];
    });
    one.wake();
    await under;
    const stopped = one.stop();
    go();
    await stopped;
    t.same(await effects(), [400]);
  });
});
