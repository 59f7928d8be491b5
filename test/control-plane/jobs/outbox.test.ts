import t from 'tap';
import { createPool, withTransaction } from '../../../control-plane/db/pool.js';
import { forgetOldMessages, Outbox, putIntoOutbox } from '../../../control-plane/jobs/outbox.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { startMigratedPostgres } from '../../helpers/services.js';

t.test('the outbox', async (t) => {
  const postgres = await startMigratedPostgres();
  t.teardown(() => postgres.stop());
  const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test' });
  t.teardown(() => pool.end());
  const { signal } = new AbortController();
  const make = (kind: string, deliver: (payload: unknown) => Promise<void>) => {
    const outbox = new Outbox({ pool, log: silentLog });
    outbox.register(kind, ({ payload }) => deliver(payload));
    return outbox;
  };

  await t.test('goes out with its transaction, once, in order, and not before its time', async (t) => {
    const seen: unknown[] = [];
    const outbox = make('note', async (payload) => void seen.push(payload));
    t.throws(() => outbox.register('note', async () => {}), /already/);
    await t.rejects(
      withTransaction(pool, async (client) => {
        await putIntoOutbox(client, [{ kind: 'note', payload: 'never' }]);
        throw new Error('rolled back');
      }),
    );
    t.equal(await putIntoOutbox(pool, [{ kind: 'note', key: 'a', payload: { n: 1 } }]), 1);
    t.equal(
      await putIntoOutbox(pool, [
        { kind: 'note', key: 'a', payload: { n: 'again' } },
        { kind: 'note', payload: { n: 2 } },
        { kind: 'note', payload: { n: 'later' }, dueAt: new Date(Date.now() + 3_600_000) },
        { kind: 'unknown', payload: {} },
      ]),
      3,
    );
    t.same(await outbox.deliverDue(signal), { delivered: 2, failed: 0 });
    t.same(seen, [{ n: 1 }, { n: 2 }]);
    t.same(await outbox.deliverDue(signal), { delivered: 0, failed: 0 });
    await pool.query(`UPDATE outbox SET ended_at = now() - interval '40 days' WHERE state = 'done'`);
    t.equal(await forgetOldMessages(pool, 30), 2);
  });

  await t.test('several control planes deliver each once', async (t) => {
    const seen: unknown[] = [];
    await putIntoOutbox(
      pool,
      Array.from({ length: 40 }, (_, n) => ({ kind: 'many', payload: n })),
    );
    const outboxes = [1, 2, 3].map(() => make('many', async (n) => void seen.push(n)));
    const counts = await Promise.all(outboxes.map((outbox) => outbox.deliverDue(signal)));
    t.equal(
      counts.reduce((sum, c) => sum + c.delivered, 0),
      40,
    );
    t.same(
      [...seen].sort((a, b) => Number(a) - Number(b)),
      Array.from({ length: 40 }, (_, n) => n),
    );
  });

  await t.test('a failure waits, longer each time, and is given up in the end', async (t) => {
    const outbox = make('bad', async () => {
      throw new Error('Telegram is away');
    });
    await putIntoOutbox(pool, [{ kind: 'bad', payload: 1 }]);
    const row = async () => {
      const { rows } = await pool.query(
        `SELECT attempts, state, error, extract(epoch FROM due_at - now())::int AS wait_s FROM outbox WHERE kind = 'bad'`,
      );
      return rows[0];
    };
    t.same(await outbox.deliverDue(signal), { delivered: 0, failed: 1 });
    t.match(await row(), { attempts: 1, state: 'waiting', error: 'Telegram is away' });
    t.ok((await row()).wait_s > 50);
    for (let attempt = 2; attempt <= 10; attempt++) {
      await pool.query(`UPDATE outbox SET due_at = now() WHERE kind = 'bad'`);
      await outbox.deliverDue(signal);
      if (attempt === 3) t.ok((await row()).wait_s > 200);
    }
    t.match(await row(), { attempts: 10, state: 'given_up' });
    t.same(await outbox.deliverDue(signal), { delivered: 0, failed: 0 });
  });
});
