import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { migrate } from '../../../control-plane/db/migrate.js';
import { createPool } from '../../../control-plane/db/pool.js';
import { seedScale } from '../../../deploy/seed/scale.js';
import { startRedis } from '../../../deploy/standalone/services/redis.js';
import { connectLive, type LiveRedis } from '../../../gateway/live/connection.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { measureSettlement } from '../../control-plane/settlement/throughput.js';
import { createDatabase, dropDatabase } from '../../helpers/services.js';
import { buyerTokens, measureCase, pullCase, startControlPlane } from '../api-load.js';
import { newOutcome, notRun, type Outcome } from '../load/outcome.js';
import type { Figures, Stage } from '../phases.js';
import { median } from '../report.js';
import type { RunningSystem } from '../systems/system.js';
import { measureAllocation } from './allocation.js';
import { measureRedisUse } from './redis-use.js';

/** One buyer for ten of them; the callers of the pull. */
const SEEDED_USERS = 2_000;

/**
 * What does not move bytes: allocation (in the gateway, with and without Redis), what the running system asks of its
 * Redis, settlement and the pull of packages, the last two on databases of their own in the system's Postgres, which
 * keeps what it commits.
 */
export async function control(stage: Stage, system: RunningSystem): Promise<Outcome> {
  const { inside } = system;
  if (inside === undefined) return notRun('control: needs Traffic Share');
  const outcome = newOutcome();
  const { allocation, restMs } = stage.options.load.control;
  await withRedis(inside.site.redisUrl, async (redis) => {
    Object.assign(outcome.figures, await measureRedisUse(stage, system, redis, restMs));
  });
  const own = await startRedis({ prefer: 'auto' });
  try {
    await withRedis(own.url, async (redis) => {
      Object.assign(outcome.figures, await measureAllocation(redis, allocation));
      Object.assign(outcome.figures, await settlement(stage, inside.databaseUrl, redis));
      await redis.flushall();
    });
    Object.assign(outcome.figures, await pulls(stage, inside.databaseUrl, own.url));
  } finally {
    await own.stop();
  }
  outcome.remarks.push(
    'control: Redis, Postgres and whoever loads them share the cores with what is measured; its counts of commands ' +
      'include those that scripts call',
  );
  return outcome;
}

async function withRedis(url: string, work: (redis: LiveRedis) => Promise<void>): Promise<void> {
  const redis = connectLive({ url, log: silentLog, commandTimeoutMs: 10_000 });
  try {
    await work(redis);
  } finally {
    redis.disconnect();
  }
}

/** A migrated database in this server, for the time of the work. */
async function inDatabase<T>(serverUrl: string, work: (databaseUrl: string) => Promise<T>): Promise<T> {
  const url = await createDatabase(serverUrl);
  try {
    await migrate(url);
    return await work(url);
  } finally {
    await dropDatabase(url);
  }
}

function settlement(stage: Stage, serverUrl: string, redis: LiveRedis): Promise<Figures> {
  return inDatabase(serverUrl, async (databaseUrl) => {
    const pool = createPool({ databaseUrl, applicationName: 'bench', statementTimeoutMs: 60_000 });
    try {
      const measured = await measureSettlement(pool, redis, stage.options.load.control.settlement);
      return {
        settlement_first_per_s: measured.insertedPerS,
        settlement_growth_per_s: median(measured.grownPerS),
      };
    } finally {
      await pool.end();
    }
  });
}

function pulls(stage: Stage, serverUrl: string, redisUrl: string): Promise<Figures> {
  const { packages, pullMs } = stage.options.load.control;
  return inDatabase(serverUrl, async (databaseUrl) => {
    await migrateJobQueue(databaseUrl);
    const pool = createPool({ databaseUrl, applicationName: 'bench', statementTimeoutMs: 0 });
    try {
      await seedScale(pool, { users: SEEDED_USERS, packages, entries: 0 }, () => {});
      const one = pullCase(await buyerTokens(pool));
      const program = await startControlPlane(databaseUrl, redisUrl);
      try {
        const windows = await measureCase(one, program, pullMs, pullMs);
        const of = (figure: 'perSecond' | 'p50Ms' | 'p99Ms' | 'cpu') => median(windows.map((w) => w[figure]));
        return {
          pull_per_s: of('perSecond'),
          pull_p50_ms: of('p50Ms'),
          pull_p99_ms: of('p99Ms'),
          pull_cpu_s_per_1000: (of('cpu') / of('perSecond')) * 1_000,
        };
      } finally {
        await program.stop();
      }
    } finally {
      await pool.end();
    }
  });
}
