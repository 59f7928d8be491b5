/**
 * `npm run bench:api`: how many pulls, balances and summaries a second one control plane answers over a large record:
 * real HTTP, real tokens, every check in place. `--packages`, `--users`, `--entries` say how large; `--database` names
 * one that `traffic-share seed --scale` has filled (packages are used up). `--only pull`: the cases that begin so. `--window-ms`: how long each is measured,
 * `--out`: where the figures go as Markdown. Ends with 1 when a target is missed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { issueAccessToken } from '../../control-plane/auth/access-token.js';
import { insertLogin } from '../../control-plane/auth/logins.js';
import { createToken } from '../../control-plane/buyers/tokens.js';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { migrate } from '../../control-plane/db/migrate.js';
import { createPool } from '../../control-plane/db/pool.js';
import { Progress } from '../../deploy/commands/progress.js';
import { type Scale, seedScale } from '../../deploy/seed/scale.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { Program } from '../faults/program.js';
import { UNHURRIED_ENV } from '../helpers/cast.js';
import { TEST_ENV } from '../helpers/control-plane.js';
import { startOwnPostgres, startRedis } from '../helpers/services.js';
import { type LoadResult, load, type Wire, wireRequest } from './http-load.js';

const CONNECTIONS = 32;
/** People whose tokens take turns. */
const CALLERS = 1_000;
const WARM_MS = 3_000;
const REPEATS = 3;

interface Case {
  name: string;
  /** Answers a second that must be reached. */
  targetPerSecond: number;
  requests: readonly Wire[];
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      users: { type: 'string', default: '10000' },
      packages: { type: 'string', default: '100000' },
      entries: { type: 'string', default: '1000000' },
      'window-ms': { type: 'string', default: '5000' },
      'auth-cache-ms': { type: 'string', default: '500' },
      database: { type: 'string' },
      only: { type: 'string', default: '' },
      out: { type: 'string' },
    },
  });
  const scale = {
    users: Number(values.users),
    packages: Number(values.packages),
    entries: Number(values.entries),
  };
  const undo: Array<() => unknown> = [];
  try {
    const databaseUrl = values.database ?? (await ownDatabase(undo));
    const redis = await startRedis();
    undo.push(() => redis.stop());
    const pool = createPool({ databaseUrl, applicationName: 'bench', statementTimeoutMs: 0 });
    undo.push(() => pool.end());
    const seededS = values.database === undefined ? await seed(pool, scale) : null;
    await pool.query('CHECKPOINT');

    const program = new Program({
      name: 'control-plane',
      entry: projectPath('dist/control-plane/main.js'),
      logFd: 2,
      preload: null,
      env: {
        ...TEST_ENV,
        ...UNHURRIED_ENV,
        TS_LOG_LEVEL: 'warn',
        TS_BOT_UPDATES: 'off',
        TS_AUTH_CACHE_MS: values['auth-cache-ms'],
        TS_DATABASE_URL: databaseUrl,
        TS_REDIS_URL: redis.url,
        TS_API_HOST: '127.0.0.1',
        TS_API_PORT: '0',
        TS_CONTROL_METRICS_PORT: '0',
      },
    });
    undo.push(() => program.stop());
    await program.start();
    const cases = (await makeCases(pool)).filter(({ name }) => name.startsWith(values.only));
    const lines: string[] = [];
    let missed = 0;
    for (const one of cases) {
      const results = await measure(one, program, Number(values['window-ms']));
      const line = rowOf(one, results);
      process.stdout.write(`${line}\n`);
      lines.push(line);
      if (median(results.map((r) => r.perSecond)) < one.targetPerSecond) missed++;
    }
    const text = reportOf(scale, seededS, lines);
    if (values.out !== undefined) writeFileSync(values.out, text);
    process.stdout.write(text);
    return missed === 0 ? 0 : 1;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

type Pool = ReturnType<typeof createPool>;

/** An empty, migrated database in a server of its own; its URL. */
async function ownDatabase(undo: Array<() => unknown>): Promise<string> {
  const postgres = await startOwnPostgres();
  undo.push(() => postgres.stop());
  await migrate(postgres.url);
  await migrateJobQueue(postgres.url);
  return postgres.url;
}

/** Fills it; how long that took, seconds. */
async function seed(pool: Pool, scale: Scale): Promise<number> {
  const beganMs = performance.now();
  let progress: { what: string; bar: Progress } | null = null;
  await seedScale(pool, scale, (what, done, total) => {
    if (progress?.what !== what) {
      progress?.bar.end();
      progress = { what, bar: new Progress(process.stderr, what) };
    }
    progress.bar.update(done, total);
  });
  return (performance.now() - beganMs) / 1_000;
}

async function makeCases(pool: Pool): Promise<Case[]> {
  const people = await pool.query<{ id: string }>('SELECT id FROM users ORDER BY id LIMIT $1', [CALLERS]);
  const users: string[] = [];
  for (const { id: userId } of people.rows) {
    const loginId = await insertLogin(pool, { userId, ip: '127.0.0.1', userAgent: 'bench' });
    users.push(
      await issueAccessToken(TEST_ENV.TS_JWT_SECRET, { userId, role: 'user', loginId, ttlS: 86_400 }),
    );
  }
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM buyers ORDER BY id LIMIT $1', [CALLERS]);
  const buyers: string[] = [];
  for (const { id: buyerId } of rows) buyers.push((await createToken(pool, { buyerId })).secret);
  const get = (path: string, tokens: string[]) =>
    tokens.map((token) => wireRequest('GET', path, { authorization: `Bearer ${token}` }));
  return [
    {
      name: 'pull, one package',
      targetPerSecond: 1_000,
      requests: buyers.map((token) =>
        wireRequest(
          'POST',
          '/api/buyer/packets/pull',
          { authorization: `Bearer ${token}` },
          { max_count: 1 },
        ),
      ),
    },
    { name: 'balance of a provider', targetPerSecond: 1_500, requests: get('/api/balance', users) },
    { name: 'balance of a buyer', targetPerSecond: 1_500, requests: get('/api/buyer/me/balance', buyers) },
    { name: 'summary of traffic', targetPerSecond: 1_500, requests: get('/api/traffic/summary', users) },
  ];
}

interface Measured extends LoadResult {
  /** CPU of the control plane, seconds a second. */
  cpu: number;
}

async function measure({ requests, name }: Case, program: Program, windowMs: number): Promise<Measured[]> {
  let at = 0;
  const next = () => requests[at++ % requests.length] as Wire;
  const port = program.port ?? 0;
  await load({ port, connections: CONNECTIONS, windowMs: WARM_MS, next });
  const results: Measured[] = [];
  for (let n = 0; n < REPEATS; n++) {
    const [cpuMs, beganMs] = [cpuMsOf(program.pid ?? 0), performance.now()];
    const result = await load({ port, connections: CONNECTIONS, windowMs, next });
    const cpu = (cpuMsOf(program.pid ?? 0) - cpuMs) / (performance.now() - beganMs);
    const bad = Object.keys(result.statuses).filter((status) => status !== '200');
    if (bad.length > 0) throw new Error(`${name}: ${JSON.stringify(result.statuses)}`);
    results.push({ ...result, cpu });
  }
  return results;
}

/** CPU time a process has used, ms (proc(5): clock ticks of 10 ms). */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function rowOf({ name, targetPerSecond }: Case, results: readonly Measured[]): string {
  const of = (key: 'perSecond' | 'p50Ms' | 'p99Ms' | 'cpu') => median(results.map((r) => r[key]));
  const rate = of('perSecond');
  const spread = results.map((r) => Math.round(r.perSecond)).join(', ');
  const perThousandS = (of('cpu') / rate) * 1_000;
  return (
    `| ${name} | ${Math.round(rate)} (${spread}) | ${targetPerSecond} | ${of('p50Ms').toFixed(1)} | ` +
    `${of('p99Ms').toFixed(1)} | ${perThousandS.toFixed(2)} |`
  );
}

function reportOf(scale: Scale, seededS: number | null, lines: readonly string[]): string {
  return `Over ${scale.packages} packages, ${scale.users} users, ${scale.entries} ledger entries${
    seededS === null ? '' : ` (seeded in ${Math.round(seededS)} s)`
  }; Node ${process.version}, ${availableParallelism()} cores shared by client, control plane, Postgres and Redis,
load ${loadavg()[0]?.toFixed(1)}; ${CONNECTIONS} connections, median of ${REPEATS} windows.

| call | a second (each window) | target | p50, ms | p99, ms | CPU s of the control plane per 1000 |
|---|---|---|---|---|---|
${lines.join('\n')}
`;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 2;
  },
);
