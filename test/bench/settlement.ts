/**
 * `npm run bench:settlement`: how many dirty meters a second settlement books, on a Postgres that keeps what it
 * commits (as the standalone system's) and on the tests' one. Each run has a fresh database and a fresh Redis.
 */
import { chmod, mkdtemp, open, rm } from 'node:fs/promises';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { migrate } from '../../control-plane/db/migrate.js';
import { createPool } from '../../control-plane/db/pool.js';
import { startPostgres } from '../../deploy/standalone/services/postgres.js';
import { connectLive } from '../../gateway/live/connection.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { type Load, measureSettlement } from '../control-plane/settlement/throughput.js';
import { createDatabase, startRedis } from '../helpers/services.js';

const USAGE = `npm run bench:settlement -- [options]
  --runs <n>      runs on each Postgres; figures are their medians (5)
  --meters <n>    meters, all of which grow in every round (10000)
  --sessions <n>  traffic sessions they belong to (200)
  --buyers <n>    buyers they belong to (100)
  --rounds <n>    rounds of growth a run (5)
  --postgres <k>  durable, tests or both (both)
  --folder <path> where the cluster's files lie (the system's temporary folder)`;

/** The Postgres measured: one that keeps what it commits, and one without fsync. */
const KINDS = ['durable', 'tests'] as const;
type Kind = (typeof KINDS)[number];

/** What decides how much a commit costs. */
const SETTINGS = ['server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'max_wal_size'];
const FSYNC_PROBES = 50;

const say = (text: string) => process.stdout.write(`${text}\n`);
const perSecond = (n: number) => Math.round(n).toLocaleString('en');
/** Of the last minute, by whatever runs here: figures of a busy machine say little. */
const loadNow = () => `load ${loadavg()[0]?.toFixed(2)}`;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const above = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? above : (above + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** Median time of a small write that is brought to the disk, ms: what a commit waits for at least. */
async function fsyncMs(folder: string): Promise<number> {
  const path = join(folder, 'fsync-probe');
  const file = await open(path, 'w');
  const times: number[] = [];
  for (let i = 0; i < FSYNC_PROBES; i++) {
    const startMs = performance.now();
    await file.write(Buffer.alloc(8192, i), 0, 8192, i * 8192);
    await file.datasync();
    times.push(performance.now() - startMs);
  }
  await file.close();
  await rm(path);
  return median(times);
}

/** One figure: the median, and the lowest and highest beside it. */
function figure(name: string, values: readonly number[]): string {
  const spread = `${perSecond(Math.min(...values))} to ${perSecond(Math.max(...values))}`;
  return `${name} ${perSecond(median(values))} meters/s (${spread})`;
}

async function measureOn(kind: Kind, runs: number, load: Load, folder: string): Promise<void> {
  const home = await mkdtemp(join(folder, 'ts-bench-settlement-'));
  await chmod(home, 0o755); // as root the server runs as another user
  const postgres = await startPostgres({ dataDir: join(home, 'data'), durable: kind === 'durable' });
  try {
    const inserted: number[] = [];
    const grown: number[] = [];
    for (let run = 0; run < runs; run++) {
      const databaseUrl = await createDatabase(postgres.url);
      await migrate(databaseUrl);
      const server = await startRedis();
      const pool = createPool({ databaseUrl, applicationName: 'bench', statementTimeoutMs: 60_000 });
      const redis = connectLive({ url: server.url, log: silentLog, commandTimeoutMs: 10_000 });
      try {
        if (run === 0) {
          const settings = await Promise.all(
            SETTINGS.map(async (name) => {
              const { rows } = await pool.query<Record<string, string>>(`SHOW ${name}`);
              return `${name} ${Object.values(rows[0] ?? {})[0]}`;
            }),
          );
          const disk = `8 KiB to the disk in ${(await fsyncMs(home)).toFixed(2)} ms`;
          say(`\n${kind} Postgres: ${settings.join(', ')}; ${disk}; Redis: ${server.kind}`);
        }
        const measured = await measureSettlement(pool, redis, load);
        inserted.push(measured.insertedPerS);
        grown.push(median(measured.grownPerS));
        const rounds = measured.grownPerS.map(perSecond).join(' ');
        say(`  run ${run + 1}: ${perSecond(measured.insertedPerS)} first, ${rounds} grown; ${loadNow()}`);
      } finally {
        redis.disconnect();
        await pool.end();
        await server.stop();
      }
    }
    say(`  ${figure('first booking', inserted)}`);
    say(`  ${figure('growth', grown)}`);
  } finally {
    await postgres.stop();
    await rm(home, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '5' },
      meters: { type: 'string', default: '10000' },
      sessions: { type: 'string', default: '200' },
      buyers: { type: 'string', default: '100' },
      rounds: { type: 'string', default: '5' },
      postgres: { type: 'string', default: 'both' },
      folder: { type: 'string', default: tmpdir() },
      help: { type: 'boolean', default: false },
    },
  });
  const numbers = [values.runs, values.meters, values.rounds, values.sessions, values.buyers].map(Number);
  const kinds = KINDS.filter((kind) => values.postgres === 'both' || values.postgres === kind);
  const wrong = kinds.length === 0 || numbers.some((n) => !(Number.isInteger(n) && n > 0));
  if (values.help || wrong) {
    say(USAGE);
    process.exitCode = values.help ? 0 : 1;
    return;
  }
  const [runs = 1, meters = 1, rounds = 1, sessions = 1, buyers = 1] = numbers;
  const load = { meters, sessions, buyers, rounds };
  const [cpu] = cpus();
  const gib = (totalmem() / 2 ** 30).toFixed(0);
  say(
    `${cpus().length} × ${cpu?.model}, ${gib} GiB, Linux ${release()}, Node ${process.version}, ${loadNow()}`,
  );
  say(`${meters} meters of ${sessions} sessions and ${buyers} buyers at two gateways, one settler`);
  for (const kind of kinds) await measureOn(kind, runs, load, values.folder);
}

await main();
