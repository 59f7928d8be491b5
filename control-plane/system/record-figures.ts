import type pg from 'pg';
import type { Clock } from '../../gateway/runtime/clock.js';
import type { Log } from '../../gateway/runtime/logging.js';
import { JOB_QUEUE_SCHEMA } from '../db/job-queue.js';
import { withTransaction } from '../db/pool.js';

/** What waits in the tables that others work off. */
export const QUEUES = ['jobs', 'outbox', 'bot_updates', 'bot_notices', 'pushes'] as const;
export type Queue = (typeof QUEUES)[number];

/** Operation at a glance, as the record says. */
export interface RecordFigures {
  /** Due now and not worked off, and for how long the oldest has been due, seconds. */
  queues: Record<Queue, { due: number; oldestS: number }>;
  /** Traffic sessions under way. */
  sessions: Record<'active' | 'stopping', number>;
  /** Devices that are registered, by the country (two letters) they were last seen in; `unknown`: never seen. */
  devices: Record<string, number>;
  /** What admins are warned of now, by kind. */
  alerts: Record<string, number>;
  /** Findings of abuse that are open, reports that wait for an answer, and for how long the oldest has, seconds. */
  abuse: Record<'findings' | 'reports', { open: number; oldestS: number }>;
  /** Seconds since each job last ended well; a job that never did, or was skipped each time, is missing. */
  jobSuccessAgeS: Record<string, number>;
  /** Of backups, seconds since the epoch; NaN: there never was one. */
  backups: {
    /** When the last one ended well. */
    lastAtS: number;
    /** When one was last restored and proven; before that ever was, when the first one was made. */
    provenAtS: number;
  };
}

export interface RecordWatchDeps {
  pool: pg.Pool;
  clock: Clock;
  log: Log;
  /** Names of all jobs. */
  jobs: () => readonly string[];
  /** Figures younger than this are given again, ms. Default 10 s. */
  maxAgeMs?: number;
}

const MAX_AGE_MS = 10_000;
/** Then Postgres gives up, and there are no figures. */
const STATEMENT_TIMEOUT_MS = 3_000;

const due = (table: string, and = 'true') =>
  `SELECT '${table}' AS name, count(*)::int AS due, coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8 AS oldest
     FROM ${table} WHERE due_at <= now() AND ${and}`;

const age = (column: string) => `coalesce(extract(epoch FROM now() - min(${column})), 0)::float8`;

/** Each part reads an index of what is open, or one with an entry a device: nothing that only grows. */
const STATEMENT = `
  WITH queues AS (
    SELECT 'jobs' AS name, count(*)::int AS due, coalesce(extract(epoch FROM now() - min(run_at)), 0)::float8 AS oldest
      FROM ${JOB_QUEUE_SCHEMA}.jobs WHERE run_at <= now() AND locked_at IS NULL AND attempts < max_attempts
    UNION ALL ${due('outbox', "state = 'waiting'")}
    UNION ALL ${due('telegram_updates', "state = 'waiting'").replace("'telegram_updates'", "'bot_updates'")}
    UNION ALL ${due('bot_notices', "state = 'waiting'")}
    UNION ALL ${due('pushes')})
  SELECT (SELECT jsonb_object_agg(name, jsonb_build_object('due', due, 'oldest', oldest)) FROM queues) AS queues,
         (SELECT count(*)::int FROM traffic_sessions WHERE status = 'active') AS active,
         (SELECT count(*)::int FROM traffic_sessions WHERE status = 'stopping') AS stopping,
         (SELECT coalesce(jsonb_object_agg(country, n), '{}') FROM (
            SELECT coalesce(last_country, 'unknown') AS country, count(*) AS n
              FROM devices WHERE removed_at IS NULL GROUP BY 1) d) AS devices,
         (SELECT coalesce(jsonb_object_agg(kind, n), '{}') FROM (
            SELECT split_part(key, ':', 1) AS kind, count(*) AS n FROM admin_alerts GROUP BY 1) a) AS alerts,
         (SELECT jsonb_object_agg(of, jsonb_build_object('open', open, 'oldestS', oldest)) FROM (
            SELECT 'findings' AS of, count(*)::int AS open, ${age('opened_at')} AS oldest
              FROM abuse_findings WHERE state = 'open'
            UNION ALL SELECT 'reports', count(*)::int, ${age('received_at')} FROM abuse_reports WHERE state = 'open') a)
           AS abuse,
         (SELECT coalesce(jsonb_object_agg(name, extract(epoch FROM now() - s.ended_at)), '{}')
            FROM unnest($1::text[]) AS name,
                 LATERAL (SELECT ended_at FROM job_runs WHERE job = name AND outcome = 'succeeded'
                             AND NOT coalesce(result ? 'skipped', false)
                           ORDER BY id DESC LIMIT 1) s) AS job_ages,
         (SELECT extract(epoch FROM max(ended_at))::float8 FROM backups WHERE state IN ('done', 'removed')) AS backup_at,
         (SELECT extract(epoch FROM coalesce(
            (SELECT max(ended_at) FROM restore_tests WHERE error_code IS NULL),
            (SELECT min(ended_at) FROM backups WHERE state IN ('done', 'removed'))))::float8) AS proven_at`;

/** Reads the figures at most every few seconds, however often it is asked. */
export class RecordWatch {
  readonly #deps: RecordWatchDeps;
  #figures: RecordFigures | null = null;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | null = null;
  #failures = 0;

  constructor(deps: RecordWatchDeps) {
    this.#deps = deps;
  }

  /** Readings that failed since the start. */
  get failures(): number {
    return this.#failures;
  }

  /** The figures; null while Postgres does not give them, rather than old ones that look well. Never rejects. */
  async read(): Promise<RecordFigures | null> {
    const { clock, maxAgeMs = MAX_AGE_MS } = this.#deps;
    if (clock.monotonicMs() - this.#readAtMs >= maxAgeMs) {
      this.#reading ??= this.#refresh().finally(() => {
        this.#reading = null;
      });
      await this.#reading;
    }
    return this.#figures;
  }

  async #refresh(): Promise<void> {
    const { pool, clock, log, jobs } = this.#deps;
    try {
      this.#figures = await withTransaction(pool, async (client) => {
        await client.query(`SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
        return readFigures(client, jobs());
      });
    } catch (error) {
      this.#failures++;
      this.#figures = null;
      log.warn({ err: error }, 'record_figures_not_read');
    }
    // Also after a failure: a Postgres that is too slow is not asked again at once.
    this.#readAtMs = clock.monotonicMs();
  }
}

async function readFigures(client: pg.PoolClient, jobs: readonly string[]): Promise<RecordFigures> {
  const { rows } = await client.query<{
    queues: Record<Queue, { due: number; oldest: number }>;
    active: number;
    stopping: number;
    devices: Record<string, number>;
    alerts: Record<string, number>;
    abuse: RecordFigures['abuse'];
    job_ages: Record<string, number>;
    backup_at: number | null;
    proven_at: number | null;
  }>(STATEMENT, [jobs]);
  const [r] = rows;
  if (r === undefined) throw new Error('Postgres gave no figures');
  return {
    queues: Object.fromEntries(
      QUEUES.map((name) => [name, { due: r.queues[name].due, oldestS: Math.max(0, r.queues[name].oldest) }]),
    ) as RecordFigures['queues'],
    sessions: { active: r.active, stopping: r.stopping },
    devices: r.devices,
    alerts: r.alerts,
    abuse: r.abuse,
    jobSuccessAgeS: r.job_ages,
    backups: { lastAtS: r.backup_at ?? Number.NaN, provenAtS: r.proven_at ?? Number.NaN },
  };
}
