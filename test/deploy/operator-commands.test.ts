/** Commands that operators run on a database, on real Postgres and Redis. */
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import pg from 'pg';
import t, { type Test } from 'tap';
import { insertLogin } from '../../control-plane/auth/logins.js';
import { createToken } from '../../control-plane/buyers/tokens.js';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { createPool } from '../../control-plane/db/pool.js';
import { rolesSql } from '../../control-plane/db/roles.js';
import { materialiseDays } from '../../control-plane/figures/figures.js';
import { reportMeters } from '../../gateway/live/meters.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { startCli } from '../helpers/cli-process.js';
import { startWorld, TEST_ENV } from '../helpers/control-plane.js';
import { addBuyer, addSession, addUser, TestMeter } from '../helpers/money-world.js';
import { startMigratedPostgres, startPostgres, startRedis } from '../helpers/services.js';

const run = promisify(execFile);

/** The command as an operator types it, a process of its own: how it ended and what it said. */
async function cliProcess(env: Record<string, string>, ...words: string[]) {
  const args = [projectPath('dist/deploy/cli.js'), ...words];
  return run(process.execPath, args, { env: { PATH: process.env.PATH ?? '', ...env } }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

const inOneProcess = startCli(t);
const cli = (env: Record<string, string>, ...words: string[]) => inOneProcess(words, env);

const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
t.teardown(() => Promise.all([postgres.stop(), redis.stop()]));
const env = { ...TEST_ENV, TS_DATABASE_URL: postgres.url, TS_REDIS_URL: redis.url };
const pool = createPool({ databaseUrl: postgres.url, applicationName: 'test' });
t.teardown(() => pool.end());

t.test('migrate', async (t) => {
  const dry = await cli(env, 'migrate', '--dry-run', '--json');
  const { pending } = JSON.parse(dry.stdout) as { pending: string[] };
  t.match(pending[0], /^0001_/);
  const { rows } = await pool.query("SELECT to_regclass('users') AS users");
  t.same(rows, [{ users: null }], 'a dry run does nothing');
  t.match(await cliProcess(env, 'migrate', '--json'), {
    code: 0,
    stdout: `${JSON.stringify({ dry_run: false, applied: pending }, null, 2)}\n`,
  });
  t.match(await cli(env, 'migrate', '--dry-run'), { code: 0, stdout: 'up to date\n' });
});

t.test('seed: a dry run says what it would write', async (t) => {
  const words = ['seed', '--scale', '--users', '7', '--packages', '8', '--entries', '9', '--dry-run'];
  t.match(await cli(env, ...words), {
    code: 0,
    stdout: '7 users, 8 packages and at least 9 entries would be written\n',
  });
  const said = { dry_run: true, users: 7, packages: 8, entries: 9 };
  t.same(JSON.parse((await cli(env, ...words, '--json')).stdout), said);
  t.match(await cli({ ...env, NODE_ENV: 'production' }, ...words), { code: 1, stderr: /production system/ });
  t.equal((await pool.query('SELECT 1 FROM users')).rowCount, 0);
});

t.test('clear-sessions', async (t) => {
  const [one, other] = [await addUser(pool), await addUser(pool)];
  const login = (userId: string) => insertLogin(pool, { userId, ip: null, userAgent: 'test' });
  const [recent, old] = [await login(one), await login(one)];
  await login(other);
  await pool.query("UPDATE logins SET last_used_at = now() - interval '40 days' WHERE id = $1", [old]);
  const open = async () =>
    (await pool.query<{ id: string }>('SELECT id FROM logins WHERE revoked_at IS NULL')).rows.map(
      ({ id }) => id,
    );

  t.match(await cli(env, 'clear-sessions'), { code: 1, stderr: /^one of --telegram-id/ });
  t.match(await cli(env, 'clear-sessions', '--all', '--unused-days', '3'), { code: 1, stderr: /^one of/ });
  t.match(await cli(env, 'clear-sessions', '--telegram-id', "1' OR true"), { code: 1 });
  t.match(await cli(env, 'clear-sessions', '--all', '--dry-run'), {
    code: 0,
    stdout: '3 sign-ins would end\n',
  });
  t.equal((await open()).length, 3);
  const unused = await cli(env, 'clear-sessions', '--unused-days', '30', '--json');
  t.same(JSON.parse(unused.stdout), { dry_run: false, found: 1, ended: 1 });
  t.notOk((await open()).includes(old));
  const { rows } = await pool.query<{ telegram_id: bigint }>(
    'SELECT telegram_id FROM telegram_accounts WHERE user_id = $1',
    [one],
  );
  t.match(await cli(env, 'clear-sessions', '--telegram-id', String(rows[0]?.telegram_id)), {
    code: 0,
    stdout: '1 sign-ins ended\n',
    stderr: /^1 of 1 sign-ins ended$/m,
  });
  t.notOk((await open()).includes(recent));
  t.match(await cli(env, 'clear-sessions', '--all'), { code: 0, stdout: '1 sign-ins ended\n' });
  t.same(await open(), []);
  const audit = await pool.query("SELECT after FROM audit_log WHERE action = 'logins_cleared'");
  t.same(audit.rows, [{ after: { ended: 1 } }, { after: { ended: 1 } }, { after: { ended: 1 } }]);
});

t.test('rotate-tokens', async (t) => {
  const world = await startWorld(t, { share: { databaseUrl: postgres.url, redisUrl: redis.url } });
  const buyerId = await addBuyer(pool);
  const { secret } = await createToken(pool, { buyerId });
  const buyers = await pool.query<{ account: string }>('SELECT account FROM buyers WHERE id = $1', [buyerId]);
  const { account = '' } = buyers.rows[0] ?? {};
  const status = async (token: string) => (await world.call('GET', '/api/buyer/me', { token })).status;
  t.equal(await status(secret), 200);

  t.match(await cli(env, 'rotate-tokens'), { code: 1, stderr: /^one of --buyer and --all/ });
  const dry = await cli(env, 'rotate-tokens', '--buyer', account, '--kind', 'token', '--dry-run');
  t.match(dry, { code: 0, stdout: new RegExp(`^${account},token,`), stderr: /would be replaced/ });
  t.match(await cli(env, 'rotate-tokens', '--all', '--older-than-days', '1'), {
    code: 0,
    stderr: 'nothing to replace\n',
  });
  t.match(await cli({ ...env, TS_REDIS_URL: 'redis://127.0.0.1:1' }, 'rotate-tokens', '--all'), {
    code: 1,
    stderr: /^Redis at TS_REDIS_URL can not be reached/,
  });
  t.equal(await status(secret), 200, 'nothing was replaced');

  const ran = await cli(
    env,
    'rotate-tokens',
    '--buyer',
    account,
    '--kind',
    'token',
    '--grace-hours',
    '0',
    '--json',
  );
  t.match(ran, { code: 0, stderr: /of \d+ replaced$/m }, ran.stderr);
  const lines = ran.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, string>);
  t.ok(lines.every((line) => line.account === account && line.kind === 'token'));
  t.equal(await status(secret), 401, 'the old one is void');
  for (const { secret: fresh = '' } of lines) t.equal(await status(fresh), 200);
  // Gateways know the account from Redis
  const snapshot = JSON.stringify(await world.redis.keys('*')).includes(account);
  t.ok(snapshot, 'the account was told to gateways');
  const audit = await pool.query(
    "SELECT 1 FROM audit_log WHERE action = 'token_rotated' AND actor_role = 'system'",
  );
  t.equal(audit.rowCount, lines.length);
});

t.test('rotate-tokens whose Redis is killed says so, and is gone on with', async (t) => {
  const TOKENS = 1_500;
  const buyerId = await addBuyer(pool);
  const { rows } = await pool.query<{ account: string }>('SELECT account FROM buyers WHERE id = $1', [
    buyerId,
  ]);
  const account = rows[0]?.account as string;
  await pool.query(
    `INSERT INTO buyer_tokens (id, buyer_id, kind, token_hash, prefix, created_at)
     SELECT gen_random_uuid(), $1, 'token', sha256(n::text::bytea), 'tsb_' || n, now() - interval '1 hour'
       FROM generate_series(1, ${TOKENS}) n`,
    [buyerId],
  );
  const before = (await pool.query('SELECT id FROM buyer_tokens WHERE buyer_id = $1', [buyerId])).rowCount;
  const mortal = await startRedis();
  t.teardown(() => mortal.kill());
  const child = spawn(
    process.execPath,
    [projectPath('dist/deploy/cli.js'), 'rotate-tokens', '--buyer', account, '--json'],
    { env: { PATH: process.env.PATH ?? '', ...env, TS_REDIS_URL: mortal.url } },
  );
  let [out, err, killed] = ['', '', false];
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    if (!killed) void mortal.kill();
    killed = true;
  });
  const [code] = (await once(child, 'close')) as [number];
  t.equal(code, 3, err);
  const linesOf = (text: string) =>
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { secret: string; token_id: string });
  const first = linesOf(out);
  t.match(err, new RegExp(`^live_state_unavailable: stopped after ${first.length} of ${before};`, 'm'));
  t.ok(first.length < TOKENS, `${first.length} were replaced`);
  const replaced = async () =>
    (
      await pool.query('SELECT 1 FROM buyer_tokens WHERE buyer_id = $1 AND replaced_at IS NOT NULL', [
        buyerId,
      ])
    ).rowCount;
  t.equal(await replaced(), first.length, 'each of which was shown');

  const words = /^ {2}traffic-share (rotate-tokens .*)$/m.exec(err)?.[1]?.split(' ') ?? [];
  const dry = await cli(env, ...words, '--dry-run');
  t.match(dry, { code: 0, stderr: `${(before ?? 0) - first.length} would be replaced\n` });
  // All that is left but one is thrown away: this is about what is done, not how fast
  await pool.query(
    `UPDATE buyer_tokens SET revoked_at = now() WHERE buyer_id = $1 AND replaced_at IS NULL AND id NOT IN
       (SELECT id FROM buyer_tokens WHERE buyer_id = $1 AND replaced_at IS NULL ORDER BY created_at, id LIMIT 1)
       AND created_at < now() - interval '30 minutes'`,
    [buyerId],
  );
  const other = await startRedis();
  t.teardown(() => other.stop());
  const rest = await cli({ ...env, TS_REDIS_URL: other.url }, ...words);
  t.equal(rest.code, 0, rest.stderr);
  t.equal(await replaced(), first.length + linesOf(rest.stdout).length);
  const made = [...first, ...linesOf(rest.stdout)];
  t.equal(new Set(made.map(({ secret }) => secret)).size, made.length);
  const redis = new Redis(other.url);
  t.teardown(() => redis.disconnect());
  const keys = (await redis.keys('*')).filter((key) => key.includes(account));
  const known = (await Promise.all(keys.map((key) => redis.get(key).catch(() => '')))).join();
  for (const { secret } of made)
    t.ok(known.includes(createHash('sha256').update(secret).digest('hex')), 'gateways know it');
  t.match(await cli({ ...env, TS_REDIS_URL: other.url }, ...words), {
    code: 0,
    stdout: '',
    stderr: '',
  });
});

t.test('export-stats', async (t) => {
  await materialiseDays(pool, new AbortController().signal);
  await pool.query('UPDATE daily_figures SET bytes_up = 5, charged_micros = 7 WHERE day = utc_day()');
  const { stdout } = await cli(env, 'export-stats', '--days', '3');
  const [names = '', ...days] = stdout
    .trim()
    .split('\r\n')
    .map((line) => line.split(','));
  t.equal(days.length, 3);
  const today = Object.fromEntries(days.at(-1)?.map((value, index) => [names[index], value]) ?? []);
  t.match(today, { bytes_up: '5', charged_micros: '7' });
  const json = JSON.parse((await cli(env, 'export-stats', '--days', '3', '--json')).stdout);
  t.match(json.at(-1), { day: today.day, bytes_up: 5, charged_micros: 7 });
  t.match(await cli(env, 'export-stats', '--dry-run'), { code: 0, stdout: /^30 days would be exported, / });
  t.match(await cli(env, 'export-stats', '--days', '401'), { code: 1, stderr: /At most 400/ });
});

t.test('transparency', async (t) => {
  await pool.query(
    `INSERT INTO abuse_findings (id, rule, subject, measured, measured_max, threshold, evidence)
     VALUES (gen_random_uuid(), 'fan_out', 'x', 9, 9, 5, '{}')`,
  );
  const { stdout } = await cli(env, 'transparency', '--quarters', '2');
  const [names = '', ...quarters] = stdout
    .trim()
    .split('\r\n')
    .map((line) => line.split(','));
  t.equal(quarters.length, 2);
  const now = Object.fromEntries(quarters.at(-1)?.map((value, index) => [names[index], value]) ?? []);
  t.match(now, {
    quarter: /^\d{4}-Q[1-4]$/,
    findings_opened: '1',
    findings_fan_out: '1',
    answer_hours_median: '',
  });
  const json = JSON.parse((await cli(env, 'transparency', '--quarters', '1', '--json')).stdout);
  t.match(json, [
    { quarter: now.quarter, findings_opened: 1, reports_received: 0, answer_hours_median: null },
  ]);
  t.match(await cli(env, 'transparency', '--quarters', '41'), { code: 1, stderr: /At most 40/ });
});

/** What a role is refused: the message of Postgres for each statement, none when it is allowed. */
async function refusals(client: pg.Client, statements: readonly string[]): Promise<string[]> {
  const messages: string[] = [];
  for (const statement of statements)
    await client.query('BEGIN').then(() =>
      client
        .query(statement)
        .then(
          () => messages.push(`${statement}: allowed`),
          (error: Error) => messages.push(error.message),
        )
        .finally(() => client.query('ROLLBACK')),
    );
  return messages;
}

t.test('database-roles', async (t: Test) => {
  const server = await startMigratedPostgres();
  t.teardown(() => server.stop());
  await migrateJobQueue(server.url);
  const owner = createPool({ databaseUrl: server.url, applicationName: 'test' });
  t.teardown(() => owner.end());
  const prefix = `t_${randomBytes(6).toString('hex')}`;
  const roles = (...words: string[]) =>
    cli({ TS_DATABASE_URL: server.url }, 'database-roles', '--prefix', prefix, ...words);
  t.throws(() => rolesSql('bad-prefix"; --', []), { code: 'BAD_ROLE_PREFIX' });
  t.match(await cli({ TS_DATABASE_URL: server.url }, 'database-roles', '--prefix', 'B'), {
    code: 1,
    stderr: /^--prefix/,
  });
  const count = async () =>
    (await owner.query('SELECT 1 FROM pg_roles WHERE starts_with(rolname, $1)', [prefix])).rowCount;
  t.match(await roles('--dry-run'), { code: 0, stdout: /^GRANT SELECT .* TO t_\w+_metrics;$/m });
  t.equal(await count(), 0, 'a dry run does nothing');
  t.match(await roles(), { code: 0, stdout: /_control: control planes/ });
  t.match(await roles('--json'), { code: 0 }, 'it may run again');
  t.equal(await count(), 3);
  // Roles are the server's, which other tests share
  t.teardown(async () => {
    const names = ['control', 'metrics', 'backup'].map((name) => `${prefix}_${name}`);
    await owner.query(`REASSIGN OWNED BY ${prefix}_control TO CURRENT_USER`);
    // One by one: default privileges that name two of them are dropped twice otherwise, which Postgres refuses
    for (const name of names) await owner.query(`DROP OWNED BY ${name}`);
    await owner.query(`DROP ROLE ${names.join(', ')}`);
  });
  const urlOf = async (name: string) => {
    await owner.query(`ALTER ROLE ${prefix}_${name} PASSWORD 'p'`);
    const url = new URL(server.url);
    url.username = `${prefix}_${name}`;
    url.password = 'p';
    return url.href;
  };
  const connect = async (name: string) => {
    const client = new pg.Client({ connectionString: await urlOf(name) });
    await client.connect();
    t.teardown(() => client.end());
    return client;
  };

  await t.test('a control plane works with its role', async (t) => {
    const world = await startWorld(t, {
      share: { databaseUrl: await urlOf('control'), redisUrl: redis.url },
      background: true,
    });
    t.match(await world.call('GET', '/api/system/ready'), {
      status: 200,
      body: { dependencies: { schema: 'current' } },
    });
    const telegramId = 5_000_001;
    await world.call('POST', '/api/auth/register', {
      body: { telegram_id: telegramId, terms_version: '1', consent: true },
    });
    const buyerId = await addBuyer(world.pool);
    t.ok((await createToken(world.pool, { buyerId })).secret);
    const { sessionId } = await addSession(world.pool, await addUser(world.pool));
    const meter = new TestMeter('g1', sessionId, buyerId).count(4e8, 6e8);
    await reportMeters(world.redis, 'g1', [meter.report({ final: true, allocationEnded: true })]);
    await world.services.settlement.settleNow();
    const { rows } = await owner.query('SELECT count(*) > 0 AS booked FROM ledger_entries');
    t.same(rows, [{ booked: true }], 'traffic is booked');
    await t.resolves(
      world.pool.query("SELECT make_destination_usage_partition((now() + interval '70 days')::date)"),
      'months of usage by destination are made',
    );
    await t.resolves(world.services.usageRetention.runOnce(), 'and dropped');
    await t.resolves(
      world.pool.query(
        "INSERT INTO audit_log (actor_role, action, object_type) VALUES ('system', 'test', 'none')",
      ),
    );
    const { jobs } = world.services;
    await jobs.runNow(world.pool, 'cleanup');
    jobs.start();
    t.teardown(() => jobs.stop());
    while ((jobs.counts.succeeded.cleanup ?? 0) + (jobs.counts.failed.cleanup ?? 0) === 0)
      await setTimeout(50);
    t.equal(jobs.counts.failed.cleanup, 0, 'jobs run');
  });

  await t.test('what it can not do', async (t) => {
    const control = await connect('control');
    const denied = /^(permission denied|must be owner)/;
    for (const message of await refusals(control, [
      'UPDATE ledger_entries SET amount_micros = 0',
      'DELETE FROM ledger_entries',
      'TRUNCATE ledger_entries CASCADE',
      'ALTER TABLE ledger_entries DISABLE TRIGGER ALL',
      'DELETE FROM ledger_transactions',
      'DELETE FROM ledger_accounts',
      'UPDATE audit_log SET action = action',
      'DELETE FROM audit_chain',
      'DELETE FROM audit_head',
      'UPDATE payout_approvals SET admin_id = admin_id',
      'DELETE FROM payouts',
      'DELETE FROM legal_holds',
      'ALTER TABLE legal_holds DISABLE TRIGGER ALL',
      'DELETE FROM abuse_findings',
      'DELETE FROM abuse_reports',
      'DROP TABLE users',
      'DELETE FROM schema_migrations',
      `CREATE ROLE ${prefix}_more`,
      "COPY users TO PROGRAM 'cat'",
    ]))
      t.match(message, denied);

    const metrics = await connect('metrics');
    await t.resolves(metrics.query('SELECT sum(balance_micros) FROM ledger_accounts'));
    await t.resolves(metrics.query('SELECT * FROM daily_figures'));
    for (const message of await refusals(metrics, [
      'SELECT * FROM users',
      'SELECT * FROM devices',
      'SELECT * FROM buyers',
      'SELECT * FROM buyer_tokens',
      'SELECT * FROM destination_usage',
      'SELECT * FROM buyer_activity',
      'SELECT * FROM abuse_findings',
      'SELECT * FROM abuse_reports',
      'SELECT * FROM legal_holds',
      'SELECT * FROM audit_log',
      'SELECT * FROM graphile_worker.jobs',
      'INSERT INTO daily_prices DEFAULT VALUES',
      'CREATE TABLE public.mine ()',
    ]))
      t.match(message, denied);

    const backup = await connect('backup');
    const { rows: tables } = await owner.query<{ name: string }>(
      "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('public', 'graphile_worker')",
    );
    for (const { name } of tables) await backup.query(`SELECT 1 FROM ${name} LIMIT 1`);
    t.ok(tables.length > 50, 'everything may be read');
    for (const message of await refusals(backup, [
      'DELETE FROM users',
      `INSERT INTO audit_unchained VALUES (${1})`,
      `UPDATE users SET language = 'en' WHERE id = '${randomUUID()}'`,
      'CREATE TABLE public.mine ()',
    ]))
      t.match(message, denied);
  });
});
