/**
 * `npm run bench:api`: how many pulls, balances and summaries a second one control plane answers over a large record:
 * real HTTP, real tokens, every check in place. `--packages`, `--users`, `--entries` say how large; `--database` names
 * one that `traffic-share seed --scale` has filled (packages are used up). `--only pull`: the cases that begin so. `--window-ms`: how long each is measured,
 * `--out`: where the figures go as Markdown. Ends with 1 when a target is missed.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { migrateJobQueue } from '../../control-plane/db/job-queue.js';
import { migrate } from '../../control-plane/db/migrate.js';
import { createPool } from '../../control-plane/db/pool.js';
import { Progress } from '../../deploy/commands/progress.js';
import { type Scale, seedScale } from '../../deploy/seed/scale.js';
import { startOwnPostgres, startRedis } from '../helpers/services.js';
import {
  type Case,
  CONNECTIONS,
  type MeasuredWindow,
  makeCases,
  measureCase,
  REPEATS,
  startControlPlane,
} from './api-load.js';
import { median } from './report.js';

const USAGE = `npm run bench:api -- [options]

  --users <n> --packages <n> --entries <n>   what the database is filled with
  --database <url>                           one that is filled already
  --window-ms <n> --auth-cache-ms <n>        of each measurement; TS_AUTH_CACHE_MS
  --only <name>                              calls whose name begins so
  --out <file>                               writes the table there
`;

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
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
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

    const program = await startControlPlane(databaseUrl, redis.url, {
      TS_AUTH_CACHE_MS: values['auth-cache-ms'],
    });
    undo.push(() => program.stop());
    const cases = (await makeCases(pool)).filter(({ name }) => name.startsWith(values.only));
    const lines: string[] = [];
    let missed = 0;
    for (const one of cases) {
      const results = await measureCase(one, program, Number(values['window-ms']));
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

function rowOf({ name, targetPerSecond }: Case, results: readonly MeasuredWindow[]): string {
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
