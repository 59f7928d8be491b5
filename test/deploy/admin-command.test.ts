/** `traffic-share admin`: the first admin, and tokens, without Telegram; on real Postgres, under a real control plane. */
import { execFile } from 'node:child_process';
import { userInfo } from 'node:os';
import { promisify } from 'node:util';
import t from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { widgetData } from '../helpers/cast.js';
import { startCli } from '../helpers/cli-process.js';
import { newTelegramId, signedIn, startWorld, TEST_ENV } from '../helpers/control-plane.js';
import { freePort } from '../helpers/services.js';

const run = promisify(execFile);

t.test('traffic-share admin', async (t) => {
  const world = await startWorld(t);
  const { pool } = world;
  const env = { ...TEST_ENV, TS_DATABASE_URL: world.databaseUrl, TS_REDIS_URL: world.redisUrl };
  const inOneProcess = startCli(t);
  const admin = (...words: string[]) => inOneProcess(['admin', ...words], env);
  const me = async (token: string) => world.call('GET', '/api/admin/auth/me', { token });
  const audited = async () =>
    (
      await pool.query<{ actor_role: string; action: string; object_id: string; after: unknown }>(
        "SELECT actor_role, action, object_id, after FROM audit_log WHERE action LIKE 'admin\\_%' ORDER BY id",
      )
    ).rows;
  const os_user = userInfo().username;

  t.match(await admin('list'), { code: 0, stdout: 'there is none: traffic-share admin create\n' });
  t.match(await admin('token'), { code: 1, stdout: '', stderr: /no such admin/ });
  t.match(await admin('create'), { code: 1, stdout: '', stderr: /^--username, --telegram-id or both/ });

  // As an operator types it
  const { stdout, stderr } = await run(
    process.execPath,
    [projectPath('dist/deploy/cli.js'), 'admin', 'create', '--username', 'olim'],
    { env: { PATH: process.env.PATH ?? '', ...env } },
  );
  const first = stdout.trim();
  const { body: olim, status } = await me(first);
  t.match({ status, olim }, { status: 200, olim: { telegram_id: null, username: 'olim', role: 'admin' } });
  t.equal(stderr, `token of admin ${olim.id}, for 28800 s\n`);
  t.match(await audited(), [
    {
      actor_role: 'system',
      action: 'admin_created',
      object_id: olim.id,
      after: { username: 'olim', telegram_id: null, os_user },
    },
    { actor_role: 'system', action: 'admin_token_issued', object_id: olim.id, after: { os_user } },
  ]);
  t.equal(
    (await world.call('GET', '/api/admin/users', { token: first })).body.items[0].username,
    'olim',
    'lists show an admin without Telegram',
  );
  const { TS_BOOTSTRAP_SECRET: secret } = TEST_ENV;
  const bootstrap = { secret, telegram_id: newTelegramId() };
  t.match(await world.call('POST', '/api/admin/create_superadmin', { body: bootstrap }), {
    status: 409,
    body: { code: 'superadmin_exists' },
  });

  await t.test('with a Telegram account, which signs in by itself from then on', async (t) => {
    const telegramId = newTelegramId();
    const words = ['--telegram-id', String(telegramId), '--json'];
    const made = JSON.parse((await admin('create', ...words)).stdout);
    t.match(made, { user_id: String, expires_in: 28_800, token_type: 'Bearer' });
    t.match((await me(made.access_token)).body, { id: made.user_id, telegram_id: telegramId });
    const login = await world.call('POST', '/api/admin/auth/login', { body: widgetData(telegramId) });
    t.match(login, { status: 200, body: { user_id: made.user_id } });
    const count = (await audited()).length;
    t.match(await admin('create', ...words), { code: 1, stdout: '', stderr: /is an admin already/ });
    t.equal((await audited()).length, count, 'a refusal is no event');
  });

  await t.test('a provider becomes one and stays who they are', async (t) => {
    const provider = await signedIn(world);
    await pool.query("UPDATE users SET username = 'dilya' WHERE id = $1", [provider.userId]);
    const words = ['--telegram-id', String(provider.telegramId), '--username', 'another', '--json'];
    const made = JSON.parse((await admin('create', ...words)).stdout);
    t.match(made, { user_id: provider.userId });
    t.match((await me(made.access_token)).body, { username: 'dilya', telegram_id: provider.telegramId });
  });

  await t.test('not somebody banned, nor by a linked account', async (t) => {
    const [banned, linked] = [await signedIn(world), await signedIn(world)];
    await pool.query("UPDATE users SET status = 'banned' WHERE id = $1", [banned.userId]);
    const second = newTelegramId();
    await pool.query('INSERT INTO telegram_accounts (telegram_id, user_id, position) VALUES ($1, $2, 1)', [
      second,
      linked.userId,
    ]);
    const count = (await audited()).length;
    const create = (id: number) => admin('create', '--telegram-id', String(id));
    t.match(await create(banned.telegramId), { code: 1, stdout: '', stderr: /banned or deleted/ });
    t.match(await create(second), { code: 1, stdout: '', stderr: /not the user's main Telegram account/ });
    const { rows } = await pool.query('SELECT is_admin FROM users WHERE id = ANY ($1)', [
      [banned.userId, linked.userId],
    ]);
    t.same(rows, [{ is_admin: false }, { is_admin: false }]);
    t.equal((await audited()).length, count);
  });

  await t.test('a token of one of several; it ends like any login', async (t) => {
    const { stdout: list } = await admin('list');
    t.match(list, new RegExp(`^${olim.id}  no Telegram  olim\n.*\n.*  dilya\n$`));
    const listed = JSON.parse((await admin('list', '--json')).stdout) as { telegram_id: number | null }[];
    t.equal(listed.length, 3);
    t.match(await admin('token'), { code: 1, stdout: '', stderr: /several admins/ });
    const another = '00000000-0000-4000-8000-000000000000';
    t.match(await admin('token', '--user', another), { code: 1, stdout: '', stderr: /no such admin/ });
    const both = ['--user', olim.id, '--telegram-id', '5'];
    t.match(await admin('token', ...both), { code: 1, stdout: '', stderr: /only one of/ });
    const again = (await admin('token', '--user', olim.id)).stdout.trim();
    t.not(again, first);
    t.match((await me(again)).body, { id: olim.id });
    const telegramId = String(listed[1]?.telegram_id);
    const other = (await admin('token', '--telegram-id', telegramId)).stdout.trim();
    t.equal((await me(other)).status, 200);
    t.match(await inOneProcess(['clear-sessions', '--telegram-id', telegramId], env), { code: 0 });
    t.equal((await me(other)).status, 401);
    t.equal((await me(again)).status, 200);
    await pool.query('UPDATE users SET is_admin = false WHERE id = $1', [olim.id]);
    t.equal((await me(again)).status, 401, 'who is no admin any more has no token of one');
    t.match(await admin('token', '--user', olim.id), { code: 1, stdout: '' });
  });

  await t.test('mistakes, help, the log', async (t) => {
    t.match(await inOneProcess(['audit', 'verify'], env), { code: 0 });
    const elsewhere = { ...env, TS_DATABASE_URL: `postgres://nobody@127.0.0.1:${await freePort()}/none` };
    t.match(await inOneProcess(['admin', 'list'], elsewhere), { code: 1, stderr: /can not be reached/ });
    const cli = (...words: string[]) =>
      run(process.execPath, [projectPath('dist/deploy/cli.js'), 'admin', ...words], {
        env: { PATH: process.env.PATH ?? '', TS_DATABASE_URL: world.databaseUrl },
      });
    const help = (await cli('create', '--help')).stdout;
    for (const word of ['--username', '--telegram-id', '--json']) t.match(help, word);
    for (const [words, said] of [
      [['create', '--telegram-id', 'olim'], /It must be a number/],
      [['create', '--username', 'a\nb'], /1 to 64 characters/],
      [['token', '--user', '5'], /It must be a UUID/],
      [['create', '--username', 'olim'], /TS_JWT_SECRET is required/],
    ] as const)
      await t.rejects(cli(...words), { code: 1, stderr: said });
  });
});
