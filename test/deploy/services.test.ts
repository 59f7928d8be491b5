import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import pg from 'pg';
import t, { type Test } from 'tap';
import { initPostgres, startPostgres } from '../../deploy/standalone/services/postgres.js';
import { signalProcess } from '../../deploy/standalone/services/server-process.js';
import {
  createDatabase,
  redisKinds,
  startOwnPostgres,
  startRedis,
  startPostgres as startTestPostgres,
  templateDatabase,
} from '../helpers/services.js';

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

async function temporaryFolder(t: Test, mode = 0o755): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ts-services-'));
  await chmod(folder, mode);
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A process that started a durable Postgres and can be killed. */
async function startParent(dataDir: string): Promise<{ child: ChildProcess; url: string; pid: number }> {
  const script = fileURLToPath(import.meta.resolve('./fixtures/postgres-parent.js'));
  const child = fork(script, [dataDir], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const [message] = (await once(child, 'message')) as [{ url: string; pid: number }];
  return { child, ...message };
}

async function killed(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function childrenOf(pid: number): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const candidate of pids) {
    const line = await readFile(`/proc/${candidate}/stat`, 'utf8').catch(() => '');
    if (Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[1]) === pid) found.push(candidate);
  }
  return found;
}

t.test('a durable Postgres outlives kill -9 of its parent with what was committed', async (t) => {
  const dataDir = join(await temporaryFolder(t), 'deep', 'data');
  const parent = await startParent(dataDir);
  t.teardown(() => parent.child.kill('SIGKILL'));
  await query(parent.url, 'CREATE TABLE kept AS SELECT 7 AS n');
  await killed(parent.child);
  const again = await startPostgres({ dataDir, durable: true });
  t.teardown(() => again.stop());
  t.same(await query(again.url, 'SELECT n FROM kept'), [{ n: 7 }]);
  t.notOk(signalProcess(parent.pid, 0), 'the server of the killed parent is gone');
  t.equal(new URL(again.url).password, new URL(parent.url).password, 'the password is kept');
});

t.test('an orphan on the data folder is stopped first', { skip: process.platform !== 'linux' }, async (t) => {
  const dataDir = join(await temporaryFolder(t), 'data');
  const parent = await startParent(dataDir);
  t.teardown(() => parent.child.kill('SIGKILL'));
  await query(parent.url, 'CREATE TABLE kept AS SELECT 8 AS n');
  const supervisors = (await childrenOf(parent.child.pid as number)).filter((pid) => pid !== parent.pid);
  for (const pid of supervisors) {
    for (const helper of await childrenOf(pid)) if (helper !== parent.pid) signalProcess(helper, 'SIGKILL');
    signalProcess(pid, 'SIGKILL');
  }
  await killed(parent.child);
  t.ok(signalProcess(parent.pid, 0), 'the server lives on alone');
  const again = await startPostgres({ dataDir, durable: true });
  t.teardown(() => again.stop());
  t.notOk(signalProcess(parent.pid, 0), 'until the next start');
  t.same(await query(again.url, 'SELECT n FROM kept'), [{ n: 8 }]);
});

t.test('a folder in use is refused, a stale pid file is not believed', async (t) => {
  const dataDir = join(await temporaryFolder(t), 'data');
  await initPostgres(dataDir);
  await writeFile(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n`); // the pid of another program
  const first = await startPostgres({ dataDir, durable: true });
  t.teardown(() => first.stop());
  await t.rejects(startPostgres({ dataDir, durable: true }), { code: 'POSTGRES_UNAVAILABLE' });
  t.same(await query(first.url, 'SELECT 1 AS one'), [{ one: 1 }], 'the one in use is left alone');

  const owner = join(dataDir, 'traffic-share.json');
  const text = await readFile(owner, 'utf8');
  await writeFile(owner, JSON.stringify({ ...JSON.parse(text), pid: 0 })); // nobody of ours started it
  await t.rejects(startPostgres({ dataDir, durable: true }), { code: 'POSTGRES_UNAVAILABLE' });
  t.same(await query(first.url, 'SELECT 1 AS one'), [{ one: 1 }], 'a foreign one is left alone too');

  const port = first.port;
  const other = join(await temporaryFolder(t), 'data');
  const taken = startPostgres({ dataDir: other, durable: true, port });
  await t.rejects(taken, { code: 'POSTGRES_UNAVAILABLE' }, 'port taken');
});

t.test('a folder that only its owner may enter', async (t) => {
  const dataDir = join(await temporaryFolder(t, 0o700), 'data');
  const server = await startPostgres({ dataDir, durable: true });
  t.teardown(() => server.stop());
  t.same(await query(server.url, 'SELECT 1 AS one'), [{ one: 1 }]);
});

t.test('databases for tests: empty, cloned, apart', async (t) => {
  const base = await startTestPostgres();
  t.teardown(() => base.stop());
  const template = await templateDatabase(base.url, (url) =>
    query(url, 'CREATE TABLE kept AS SELECT 1 AS n'),
  );
  const [a, b] = [await template.clone(), await template.clone()];
  await query(a, 'DELETE FROM kept');
  t.same(await query(a, 'SELECT n FROM kept'), []);
  t.same(await query(b, 'SELECT n FROM kept'), [{ n: 1 }]);
  const empty = await createDatabase(base.url);
  await t.rejects(query(empty, 'SELECT n FROM kept'), { code: '42P01' });
});

t.test('a Postgres of its own can be killed', async (t) => {
  const server = await startOwnPostgres();
  t.teardown(() => server.stop());
  signalProcess(server.pid, 'SIGKILL');
  await server.exited;
  // Its children may hold the listening socket for a moment longer.
  await t.rejects(query(server.url, 'SELECT 1'), { code: /^ECONN(REFUSED|RESET)$/ });
});

for (const kind of redisKinds())
  t.test(`Redis: ${kind}`, async (t) => {
    const server = await startRedis(kind);
    t.teardown(() => server.stop());
    t.equal(server.kind, kind);
    const redis = new Redis(server.url, { retryStrategy: null });
    const waiting = new Redis(server.url, { retryStrategy: null });
    for (const client of [redis, waiting]) {
      client.on('error', () => {});
      t.teardown(() => client.disconnect());
    }
    t.equal(await redis.set('a', '1', 'PX', 60_000, 'NX'), 'OK');
    t.equal(await redis.set('a', '2', 'PX', 60_000, 'NX'), null);
    t.equal(await redis.getdel('a'), '1');
    t.equal(await redis.eval("return redis.call('HSET', KEYS[1], 'f', ARGV[1])", 1, 'h', 'v'), 1);
    t.equal(await redis.pexpire('h', 50_000), 1);
    const woken = waiting.xread('BLOCK', 10_000, 'STREAMS', 's', '0');
    await redis.xadd('s', 'MAXLEN', '~', '100', '*', 'c', 'hello');
    t.match(await woken, [['s', [[String, ['c', 'hello']]]]]);
    await waiting.subscribe('channel');
    const heard = once(waiting, 'message');
    await redis.publish('channel', 'news');
    t.same(await heard, ['channel', 'news']);
    const closed = once(redis, 'end');
    await server.kill();
    await closed;
    await t.rejects(redis.get('a'), 'killed means gone');
  });
