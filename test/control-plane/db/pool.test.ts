import t from 'tap';
import { createPool, isDatabaseAway, withLock, withTransaction } from '../../../control-plane/db/pool.js';
import { startPostgres } from '../../helpers/services.js';

const NOTHING = { queryable: null };

t.test('connections', async (t) => {
  const postgres = await startPostgres();
  t.teardown(() => postgres.stop());
  const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test', connectionsMax: 3 });
  t.teardown(() => pool.end());
  /** Ends the connection that asks, as a restart of Postgres would. */
  const end = async (client: { query: (text: string) => Promise<{ rows: { pid: number }[] }> }) => {
    const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
    await pool.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
  };
  const errorOf = (work: Promise<unknown>) =>
    work.then(
      () => NOTHING,
      (error: unknown) => error,
    );

  await t.test('one that is lost counts as Postgres being away, whichever query meets it', async (t) => {
    const seen: unknown[] = [];
    const thrown = await errorOf(
      withTransaction(pool, async (client) => {
        await end(client);
        for (let queries = 0; queries < 3; queries++) seen.push(await errorOf(client.query('SELECT 1')));
        throw seen.at(-1);
      }),
    );
    t.equal(thrown, seen.at(-1));
    for (const error of seen) t.ok(isDatabaseAway(error), String(error));
    t.equal(pool.totalCount - pool.idleCount, 0, 'it is given back');
    t.same((await pool.query('SELECT 1 AS one')).rows, [{ one: 1 }], 'and nobody gets it again');
    t.notOk(isDatabaseAway(new Error('Connection pool is full')));
  });

  await t.test(
    'one that is lost in the hands of somebody who does not listen ends nothing else',
    async (t) => {
      const client = await pool.connect();
      // Not `once` of node:events, which would listen for errors.
      const gone = new Promise<void>((resolve) => client.once('end', resolve));
      await end(client as Parameters<typeof end>[0]);
      await gone;
      t.ok(isDatabaseAway(await errorOf(client.query('SELECT 1'))));
      client.release();
      t.same((await pool.query('SELECT 1 AS one')).rows, [{ one: 1 }], 'nobody gets it again');
    },
  );

  await t.test('a lock is held by one at a time, and lost with its connection', async (t) => {
    const other = () => withLock(pool, 'one', async () => 'mine');
    const held = await withLock(pool, 'one', async (lost) => {
      t.equal(await other(), null);
      t.same(await withLock(pool, 'two', async () => 2), { result: 2 }, 'another one is free');
      return lost();
    });
    t.same(held, { result: false });
    t.same(await other(), { result: 'mine' });
    await t.rejects(
      withLock(pool, 'one', async () => {
        throw new Error('of the work');
      }),
      { message: 'of the work' },
    );
    t.same(await other(), { result: 'mine' }, 'a failure frees it');

    const broken = await withLock(pool, 'one', async (lost) => {
      const { rows } = await pool.query<{ pid: number }>(
        `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
      t.equal(rows.length, 1);
      await pool.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
      while (!lost()) await new Promise((resolve) => setImmediate(resolve));
      return other();
    });
    t.same(broken, { result: { result: 'mine' } }, 'another takes it over');
  });
});
