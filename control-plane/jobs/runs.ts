import type pg from 'pg';
import type { Queryable } from '../db/pool.js';
import type { JobResult } from './job.js';

/** A run as it is kept. */
export interface JobRun {
  id: bigint;
  job: string;
  attempt: number;
  started_at: Date;
  ended_at: Date | null;
  outcome: 'running' | 'succeeded' | 'failed' | 'lost';
  result: JobResult | null;
  error: string | null;
}

const ERROR_LENGTH_MAX = 500;
const COLUMNS = 'id, job, attempt, started_at, ended_at, outcome, result, error';

/** A run begins. The caller holds the job's lock, so a run that never ended is of a control plane that went away. */
export async function beginRun(pool: pg.Pool, job: string, attempt: number): Promise<bigint> {
  const { rows } = await pool.query<{ id: bigint }>(
    `WITH lost AS (
       UPDATE job_runs SET outcome = 'lost', ended_at = now() WHERE job = $1 AND outcome = 'running')
     INSERT INTO job_runs (job, attempt) VALUES ($1, $2) RETURNING id`,
    [job, attempt],
  );
  return (rows[0] as { id: bigint }).id;
}

export async function endRun(
  pool: pg.Pool,
  id: bigint,
  end: { result: JobResult } | { error: string },
): Promise<void> {
  await pool.query(
    `UPDATE job_runs SET ended_at = now(), outcome = $2, result = $3, error = $4
      WHERE id = $1 AND outcome = 'running'`,
    'result' in end
      ? [id, 'succeeded', JSON.stringify(end.result), null]
      : [id, 'failed', null, end.error.slice(0, ERROR_LENGTH_MAX)],
  );
}

/** The last run of each of the jobs, and their last good one. */
export async function lastRuns(
  db: Queryable,
  jobs: readonly string[],
): Promise<Map<string, { last: JobRun | null; lastSuccessAt: Date | null }>> {
  const { rows } = await db.query<JobRun & { name: string; success_at: Date | null }>(
    `SELECT name, r.*, s.ended_at AS success_at
       FROM unnest($1::text[]) AS name
       LEFT JOIN LATERAL (SELECT ${COLUMNS} FROM job_runs WHERE job = name ORDER BY id DESC LIMIT 1) r ON true
       LEFT JOIN LATERAL (SELECT ended_at FROM job_runs WHERE job = name AND outcome = 'succeeded'
                           ORDER BY id DESC LIMIT 1) s ON true`,
    [jobs],
  );
  return new Map(
    rows.map(({ name, success_at, ...run }) => [
      name,
      { last: run.id === null ? null : run, lastSuccessAt: success_at },
    ]),
  );
}

/** Runs of one job, latest first, below the id. */
export async function readRuns(
  db: Queryable,
  job: string,
  beforeId: bigint | null,
  limit: number,
): Promise<JobRun[]> {
  const { rows } = await db.query<JobRun>(
    `SELECT ${COLUMNS} FROM job_runs WHERE job = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
    [job, beforeId, limit],
  );
  return rows;
}

/** Deletes runs that began longer ago; resolves to how many. */
export async function forgetOldRuns(pool: pg.Pool, keptDays: number): Promise<number> {
  const { rowCount } = await pool.query(
    'DELETE FROM job_runs WHERE started_at < now() - make_interval(days => $1)',
    [keptDays],
  );
  return rowCount ?? 0;
}
