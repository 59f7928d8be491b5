import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { MIGRATIONS_DIR, migrate, SchemaTooNew, schemaState } from '../../../control-plane/db/migrate.js';
import {
  createPool,
  DatabaseUnavailable,
  isDatabaseAway,
  withTransaction,
} from '../../../control-plane/db/pool.js';
import { freePort, startPostgres } from '../../helpers/services.js';

t.test('migrations', async (t) => {
  const postgres = await startPostgres();
  t.teardown(() => postgres.stop());
  const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test' });
  t.teardown(() => pool.end());

  await t.test('twenty at once: each is applied once and all succeed', async (t) => {
    const applied = await Promise.all(Array.from({ length: 20 }, () => migrate(postgres.url)));
    const names = applied.flat();
    t.ok(names.length > 0);
    t.equal(new Set(names).size, names.length);
    t.equal(applied.filter((a) => a.length > 0).length, 1);
    t.equal(await schemaState(pool), 'current');
    t.same(await migrate(postgres.url), []);
  });

  await t.test('a failing migration leaves nothing behind and is tried again', async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'ts-migrations-'));
    t.teardown(() => rm(dir, { recursive: true }));
    await cp(MIGRATIONS_DIR, dir, { recursive: true });
    const next = join(dir, '9998_next.sql');
    await writeFile(next, 'CREATE TABLE half_done (id int); SELECT 1 / 0;');
    await t.rejects(migrate(postgres.url, dir));
    t.equal(await schemaState(pool, dir), 'behind');
    const { rows } = await pool.query("SELECT to_regclass('half_done') AS there");
    t.equal(rows[0].there, null);
    await writeFile(next, 'CREATE TABLE half_done (id int);');
    t.same(await migrate(postgres.url, dir), ['9998_next']);
  });

  await t.test('a newer schema is refused, untouched', async (t) => {
    await t.rejects(migrate(postgres.url), { code: 'SCHEMA_TOO_NEW', unknownMigrations: ['9998_next'] });
    t.equal(await schemaState(pool), 'ahead');
    t.ok(new SchemaTooNew(['9998_next']).message.includes('9998_next'));
  });
});

t.test('the pool', async (t) => {
  const postgres = await startPostgres();
  t.teardown(() => postgres.stop());
  const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test', statementTimeoutMs: 300 });
  t.teardown(() => pool.end());

  await t.test('int8 is bigint, exactly; dates are text; sessions are in UTC', async (t) => {
    const { rows } = await pool.query(
      "SELECT 9007199254740993::int8 AS big, '{1,9007199254740993}'::int8[] AS bigs, '2026-02-03'::date AS day, " +
        "to_char('2026-01-01T00:00:00Z'::timestamptz, 'HH24') AS hour",
    );
    t.same(rows, [{ big: 9007199254740993n, bigs: [1n, 9007199254740993n], day: '2026-02-03', hour: '00' }]);
  });

  await t.test('a statement that takes too long is cancelled', async (t) => {
    await t.rejects(pool.query('SELECT pg_sleep(5)'), { code: '57014' });
  });

  await t.test('transactions: commit, roll back, try again after a conflict', async (t) => {
    await pool.query('CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL)');
    await pool.query('INSERT INTO counters VALUES (1, 0)');
    const increment = () =>
      withTransaction(
        pool,
        async (client) => {
          const { rows } = await client.query('SELECT n FROM counters WHERE id = 1');
          await client.query('UPDATE counters SET n = $1 WHERE id = 1', [rows[0].n + 1]);
        },
        'SERIALIZABLE',
      );
    await Promise.all([increment(), increment(), increment()]);
    t.same((await pool.query('SELECT n FROM counters')).rows, [{ n: 3 }]);
    await t.rejects(
      withTransaction(pool, async (client) => {
        await client.query('UPDATE counters SET n = 100');
        throw new Error('no');
      }),
      { message: 'no' },
    );
    t.same((await pool.query('SELECT n FROM counters')).rows, [{ n: 3 }]);
    t.equal(pool.idleCount, pool.totalCount, 'every connection came back');
  });

  await t.test('away is told apart from wrong', async (t) => {
    const gone = createPool({
      databaseUrl: `postgres://x:x@127.0.0.1:${await freePort()}/x`,
      applicationName: 'test',
    });
    t.teardown(() => gone.end());
    const error = await gone.query('SELECT 1').catch((e) => e);
    t.ok(error instanceof DatabaseUnavailable && isDatabaseAway(error));
    const wrong = await pool.query('SELECT nonsense').catch((e) => e);
    t.notOk(isDatabaseAway(wrong));
    t.notOk(isDatabaseAway(null));
  });
});
