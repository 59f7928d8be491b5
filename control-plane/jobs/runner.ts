import { Logger, parseCronItems, type Runner, run, type Task } from 'graphile-worker';
import pg from 'pg';
import type { Log } from '../../gateway/runtime/logging.js';
import { spanEnded } from '../../gateway/runtime/spans.js';
import { JOB_QUEUE_SCHEMA } from '../db/job-queue.js';
import { isDatabaseAway, type Queryable, withLock } from '../db/pool.js';
import { Problem } from '../errors.js';
import { JOB_NAME, type Job } from './job.js';
import { beginRun, endRun, type JobRun, lastRuns } from './runs.js';
import { nextRunAtMs } from './schedule.js';

export interface JobRunnerDeps {
  databaseUrl: string;
  /** For the record of runs. */
  pool: pg.Pool;
  log: Log;
}

/** How a job stands, on all control planes together. */
export interface JobState {
  job: Job;
  running: boolean;
  last: JobRun | null;
  lastSuccessAt: Date | null;
  /** By schedule or, after a failure, the next try. */
  nextRunAt: Date | null;
}

/** Runs since this process started. */
export interface JobCounts {
  succeeded: Record<string, number>;
  failed: Record<string, number>;
}

/** Jobs at once in one control plane. */
const CONCURRENCY = 3;
/** One to listen, one to schedule, and for each job one for its lock and one for the queue. */
const CONNECTIONS_MAX = 2 + 2 * CONCURRENCY;
const ATTEMPTS_MAX = 5;
/** When a run finds another of the same job under way, it comes again so much later. */
const BUSY_RETRY_S = 5;
/** Time a job gets to end by itself at stop before its signal is aborted. */
const STOP_GRACE_MS = 2_000;
const RESTART_MS = { first: 500, longest: 30_000 };
const UNDEFINED_SCHEMA_OR_TABLE = /^(3F000|42P01|42883)$/;

/**
 * Runs jobs by schedule and on demand. Every control plane has one; whichever is free takes what is due. While Postgres
 * is away it waits and comes back by itself.
 */
export class JobRunner {
  readonly counts: JobCounts = { succeeded: {}, failed: {} };
  readonly #deps: JobRunnerDeps;
  readonly #jobs = new Map<string, Job>();
  #stopped = false;
  #runner: Runner | null = null;
  #pool: pg.Pool | null = null;
  #loop: Promise<void> | null = null;
  #wake: (() => void) | null = null;

  constructor(deps: JobRunnerDeps) {
    this.#deps = deps;
  }

  /** Before `start`. Throws when a name is taken or no name, or a schedule is no crontab. */
  register(...jobs: readonly Job[]): void {
    if (this.#loop !== null) throw new Error('jobs are registered before the start');
    for (const job of jobs) {
      if (!JOB_NAME.test(job.name)) throw new Error(`${job.name} is no name of a job`);
      if (this.#jobs.has(job.name)) throw new Error(`there is a job ${job.name} already`);
      if (job.schedule !== null) nextRunAtMs(job.schedule, 0);
      this.#jobs.set(job.name, job);
      this.counts.succeeded[job.name] = 0;
      this.counts.failed[job.name] = 0;
    }
  }

  get names(): string[] {
    return [...this.#jobs.keys()];
  }

  start(): void {
    this.#loop ??= this.#keepRunning();
  }

  /** Takes no more jobs; those under way get a moment, then their signal is aborted. Resolves when all have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake?.();
    await this.#runner?.stop().catch(() => {}); // it may have ended by itself
    await this.#loop;
  }

  /**
   * Has the job run as soon as a control plane is free, after the transaction of `db`. A run that waits (for a further
   * try) comes at once; one that is under way is followed by another. Throws `not_found`, `jobs_unavailable`.
   */
  async runNow(db: Queryable, name: string): Promise<void> {
    const job = this.#jobs.get(name);
    if (job === undefined) throw new Problem('not_found', 'There is no job of this name.');
    await this.#enqueue(db, job, 0).catch((error: { code?: string }) => {
      if (!UNDEFINED_SCHEMA_OR_TABLE.test(error.code ?? '')) throw error;
      throw new Problem('jobs_unavailable', undefined, {}, { cause: error });
    });
  }

  async #enqueue(db: Queryable, job: Job, inSeconds: number): Promise<void> {
    await db.query(
      `SELECT 1 FROM ${JOB_QUEUE_SCHEMA}.add_job($1, '{}'::json, job_key := $1, max_attempts := $2,
                                       run_at := now() + make_interval(secs => $3))`,
      [job.name, job.attemptsMax ?? ATTEMPTS_MAX, inSeconds],
    );
  }

  /** Every job, in the order of registration. */
  async states(nowMs: number): Promise<JobState[]> {
    const { pool } = this.#deps;
    const [runs, waiting] = await Promise.all([lastRuns(pool, this.names), this.#waiting()]);
    return [...this.#jobs.values()].map((job) => {
      const { last = null, lastSuccessAt = null } = runs.get(job.name) ?? {};
      const next = [
        job.schedule === null ? null : nextRunAtMs(job.schedule, nowMs),
        waiting.get(job.name) ?? null,
      ].filter((atMs) => atMs !== null);
      return {
        job,
        running: last?.outcome === 'running',
        last,
        lastSuccessAt,
        nextRunAt: next.length === 0 ? null : new Date(Math.min(...next)),
      };
    });
  }

  /** When runs that wait in the queue are due, ms. */
  async #waiting(): Promise<Map<string, number>> {
    const { rows } = await this.#deps.pool
      .query<{ name: string; run_at: Date }>(
        `SELECT task_identifier AS name, min(run_at) AS run_at FROM ${JOB_QUEUE_SCHEMA}.jobs
          WHERE locked_at IS NULL AND attempts < max_attempts GROUP BY task_identifier`,
      )
      .catch((error: { code?: string }) => {
        if (!UNDEFINED_SCHEMA_OR_TABLE.test(error.code ?? '')) throw error;
        return { rows: [] };
      });
    return new Map(rows.map((row) => [row.name, row.run_at.getTime()]));
  }

  async #keepRunning(): Promise<void> {
    const { log } = this.#deps;
    let waitMs = RESTART_MS.first;
    while (!this.#stopped) {
      const startedAtMs = performance.now();
      try {
        await this.#runOnce();
      } catch (error) {
        log.warn({ error_code: (error as { code?: string }).code, error: String(error) }, 'job_runner_ended');
      }
      if (this.#stopped) break;
      if (performance.now() - startedAtMs > RESTART_MS.longest) waitMs = RESTART_MS.first;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      waitMs = Math.min(RESTART_MS.longest, waitMs * 2);
    }
  }

  /** Until it is stopped, or Postgres was away for longer than the queue's worker bears. */
  async #runOnce(): Promise<void> {
    // A pool of its own: the queue reads ids as text where ours are bigint, and API requests must not wait for jobs.
    const pool = new pg.Pool({
      connectionString: this.#deps.databaseUrl,
      max: CONNECTIONS_MAX,
      connectionTimeoutMillis: 5_000,
      application_name: 'traffic-share-jobs',
      options: '-c TimeZone=UTC',
      keepAlive: true,
    });
    // Connections that break are replaced; who uses one hears of it.
    pool.on('error', () => {});
    pool.on('connect', (client) => client.on('error', () => {}));
    this.#pool = pool;
    try {
      const runner = await run(
        {
          pgPool: pool,
          schema: JOB_QUEUE_SCHEMA,
          concurrency: CONCURRENCY,
          noHandleSignals: true,
          gracefulShutdownAbortTimeout: STOP_GRACE_MS,
          // What became of a job is told to the queue in batches, because only those are waited for at stop and tried
          // again; without, a connection that breaks just then is an unhandled rejection.
          preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
          logger: quietLogger(this.#deps.log),
        },
        this.#tasks(),
        this.#crontab(),
      );
      this.#runner = runner;
      for (const job of this.#jobs.values()) if (job.atStart) await this.#enqueue(pool, job, 0);
      if (this.#stopped) await runner.stop().catch(() => {});
      await runner.promise;
    } finally {
      this.#runner = null;
      this.#pool = null;
      await pool.end();
    }
  }

  /**
   * `jobKey`: at most one run of a job waits, so that nothing piles up behind one that fails. No named queue: it would
   * stay locked for hours after a kill -9, where the lock of `#execute` goes with its connection.
   */
  #crontab() {
    return parseCronItems(
      [...this.#jobs.values()].flatMap((job) =>
        job.schedule === null
          ? []
          : [
              {
                task: job.name,
                match: job.schedule,
                identifier: job.name,
                options: {
                  jobKey: job.name,
                  maxAttempts: job.attemptsMax ?? ATTEMPTS_MAX,
                  backfillPeriod: 0,
                },
              },
            ],
      ),
    );
  }

  #tasks(): Record<string, Task> {
    return Object.fromEntries(
      [...this.#jobs.values()].map((job): [string, Task] => [
        job.name,
        (_payload, helpers) => this.#execute(job, helpers.job.attempts, helpers.abortSignal),
      ]),
    );
  }

  /** One run under the job's lock; leaves it to the other when there is one already. */
  async #execute(job: Job, attempt: number, signal: AbortSignal): Promise<void> {
    const pool = this.#pool as pg.Pool;
    const ran = await withLock(pool, `job:${job.name}`, () => this.#record(job, attempt, signal));
    // Not dropped: what this run was asked for may have come too late for the one under way.
    if (ran === null) await this.#enqueue(pool, job, BUSY_RETRY_S);
  }

  async #record(job: Job, attempt: number, signal: AbortSignal): Promise<void> {
    const { pool, log } = this.#deps;
    const id = await beginRun(pool, job.name, attempt);
    const startedAtMs = performance.now();
    const ended = (failed: boolean) =>
      spanEnded(() => ({
        name: `job ${job.name}`,
        kind: 'internal',
        durationMs: performance.now() - startedAtMs,
        attributes: { 'ts.attempt': attempt },
        failed,
      }));
    const about = () => ({
      job: job.name,
      attempt,
      duration_ms: Math.round(performance.now() - startedAtMs),
    });
    try {
      const result = await job.run({ signal });
      await endRun(pool, id, { result });
      this.counts.succeeded[job.name] = (this.counts.succeeded[job.name] ?? 0) + 1;
      ended(false);
      log.debug({ ...about(), result }, 'job_done');
    } catch (error) {
      this.counts.failed[job.name] = (this.counts.failed[job.name] ?? 0) + 1;
      ended(true);
      log.warn({ ...about(), err: error }, 'job_failed');
      await endRun(pool, id, { error: describe(error) }).catch((recordError: unknown) => {
        if (!isDatabaseAway(recordError)) throw recordError;
      });
      throw error;
    }
  }
}

/** For the record, which admins read: SQL and values stay in the log. */
function describe(error: unknown): string {
  if (error instanceof Problem) return `${error.code}: ${error.message}`;
  if (isDatabaseAway(error)) return 'database_unavailable';
  const { code, name, message } = error as { code?: unknown; name?: string; message?: string };
  return typeof code === 'string' ? `${name ?? 'Error'} ${code}` : (message ?? String(error));
}

/** The queue's own messages: its failures are ours to tell, so they are for debugging. */
function quietLogger(log: Log): Logger {
  return new Logger(() => (level, message) => {
    if (level === 'error' || level === 'warning') log.debug({ message }, 'job_queue');
  });
}
