import type pg from 'pg';
import type { Job } from './job.js';
import { forgetOldMessages } from './outbox.js';
import { forgetOldRuns } from './runs.js';

/** Tidies one thing; resolves to how many it put away. */
export type CleanupStep = () => Promise<number>;

/** Runs of jobs and messages that went out are kept for people to look at. */
const RUNS_KEPT_DAYS = 7;
const MESSAGES_KEPT_DAYS = 30;
/** Codes count for the limit of codes an hour; expired tokens tell reuse from nonsense for a while. */
const EXPIRED_KEPT = '1 day';
/** Longer than any access token lives (config: 90 days): nobody can come back with such a login. */
const LOGIN_UNUSED = '100 days';
/** Rows deleted in one statement. */
const DELETE_ROWS_MAX = 5_000;

/**
 * The job `cleanup`: every step is tried, whatever became of the ones before; it fails, and is tried again, when one of
 * them did.
 */
export function cleanupJob(pool: pg.Pool, domainSteps: Readonly<Record<string, CleanupStep>>): Job {
  const steps: Record<string, CleanupStep> = {
    ...domainSteps,
    login_codes: () =>
      deleteInSteps(pool, `login_codes WHERE expires_at < now() - interval '${EXPIRED_KEPT}'`),
    refresh_tokens: () =>
      deleteInSteps(pool, `refresh_tokens WHERE expires_at < now() - interval '${EXPIRED_KEPT}'`),
    logins: () =>
      deleteInSteps(
        pool,
        `logins l WHERE last_used_at < now() - interval '${LOGIN_UNUSED}'
           AND NOT EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.login_id = l.id)`,
      ),
    job_runs: () => forgetOldRuns(pool, RUNS_KEPT_DAYS),
    messages: () => forgetOldMessages(pool, MESSAGES_KEPT_DAYS),
  };
  return {
    name: 'cleanup',
    description: 'Takes back pulled packages that were not used, and deletes what has expired.',
    schedule: '*/5 * * * *',
    async run({ signal }) {
      const result: Record<string, number> = {};
      const errors: unknown[] = [];
      for (const [name, step] of Object.entries(steps)) {
        signal.throwIfAborted();
        try {
          result[name] = await step();
        } catch (error) {
          errors.push(new Error(`${name}: ${(error as Error).message}`, { cause: error }));
        }
      }
      if (errors.length > 0)
        throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'cleanup steps failed');
      return result;
    },
  };
}

/** `from`: table and condition; rows are found anew in each step, so that none holds many of them. */
async function deleteInSteps(pool: pg.Pool, from: string): Promise<number> {
  const [table = ''] = from.split(' ');
  let deleted = 0;
  for (;;) {
    const { rowCount } = await pool.query(
      `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${from} LIMIT ${DELETE_ROWS_MAX}))`,
    );
    deleted += rowCount ?? 0;
    if ((rowCount ?? 0) < DELETE_ROWS_MAX) return deleted;
  }
}
