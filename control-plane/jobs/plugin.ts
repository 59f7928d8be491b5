import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { Type } from 'typebox';
import type { Clock } from '../../gateway/runtime/clock.js';
import { auditContext, recordAudit } from '../audit/audit.js';
import { withTransaction } from '../db/pool.js';
import { Problem } from '../errors.js';
import { cursorPart, cutPage, decodeCursor, pageOfAll } from '../http/pagination.js';
import { Nullable, Ok, pageOf, pageQuery, problemResponses, Timestamp } from '../http/schemas.js';
import type { JobRunner, JobState } from './runner.js';
import { type JobRun, readRuns } from './runs.js';

export interface JobsPluginDeps {
  pool: pg.Pool;
  clock: Clock;
  jobs: JobRunner;
}

const Name = Type.String({ pattern: '^[a-z][a-z_]{1,39}$', examples: ['cleanup'] });

const RunSchema = Type.Object({
  started_at: Timestamp,
  ended_at: Nullable(Timestamp),
  duration_ms: Nullable(Type.Integer({ description: 'null while it runs' })),
  attempt: Type.Integer({ description: '1 at the first' }),
  result: Type.Enum(['running', 'succeeded', 'failed', 'lost'], {
    description: 'lost: its control plane went away in the middle',
  }),
  error: Nullable(Type.String()),
  details: Nullable(Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true })),
});

const JobSchema = Type.Object({
  name: Type.String(),
  description: Type.String(),
  schedule: Nullable(Type.String({ description: 'crontab, UTC', examples: ['*/5 * * * *'] })),
  running: Type.Boolean(),
  last_run: Nullable(RunSchema),
  last_success_at: Nullable(Timestamp),
  next_run_at: Nullable(Timestamp),
});

const runJson = (run: JobRun) => ({
  started_at: run.started_at.toISOString(),
  ended_at: run.ended_at?.toISOString() ?? null,
  duration_ms: run.ended_at === null ? null : Math.max(0, run.ended_at.getTime() - run.started_at.getTime()),
  attempt: run.attempt,
  result: run.outcome,
  error: run.error,
  details: run.result,
});

const stateJson = (state: JobState) => ({
  name: state.job.name,
  description: state.job.description,
  schedule: state.job.schedule,
  running: state.running,
  last_run: state.last === null ? null : runJson(state.last),
  last_success_at: state.lastSuccessAt?.toISOString() ?? null,
  next_run_at: state.nextRunAt?.toISOString() ?? null,
});

/** Background jobs, for admins: `/api/admin/jobs`. */
export const jobsPlugin: FastifyPluginAsyncTypebox<JobsPluginDeps> = async (app, { pool, clock, jobs }) => {
  app.get(
    '/api/admin/jobs',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Background jobs',
        description:
          'Each with its last run on any control plane, and the next: by schedule, or earlier as a further try of a ' +
          'run that failed.',
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(JobSchema), ...problemResponses(401, 403) },
      },
    },
    async (request) => pageOfAll((await jobs.states(clock.nowMs())).map(stateJson), request.query),
  );

  app.get(
    '/api/admin/jobs/:name/runs',
    {
      config: { roles: ['admin'] },
      schema: {
        tags: ['Admin'],
        summary: 'Runs of one job',
        description: 'Latest first, of the last seven days.',
        params: Type.Object({ name: Name }, { additionalProperties: false }),
        querystring: Type.Object(pageQuery, { additionalProperties: false }),
        response: { 200: pageOf(RunSchema), ...problemResponses(401, 403, 404) },
      },
    },
    async (request) => {
      const { name } = request.params;
      const { limit, cursor } = request.query;
      if (!jobs.names.includes(name)) throw new Problem('not_found', 'There is no job of this name.');
      const [before] = cursor === undefined ? [] : decodeCursor(cursor, [cursorPart.integer]);
      const rows = await readRuns(pool, name, before === undefined ? null : BigInt(before), limit + 1);
      const page = cutPage(rows, limit, (run) => [run.id]);
      return { items: page.rows.map(runJson), next_cursor: page.nextCursor };
    },
  );

  app.post(
    '/api/admin/jobs/:name/run',
    {
      config: { roles: ['admin'], idempotency: {} },
      schema: {
        tags: ['Admin'],
        summary: 'Run a job now',
        description:
          'Beside its schedule, on whichever control plane is free; `GET /api/admin/jobs` shows what became of it. ' +
          'While a run is under way, the next one follows it.',
        params: Type.Object({ name: Name }, { additionalProperties: false }),
        response: { 202: Ok, ...problemResponses(401, 403, 404, 409) },
      },
    },
    async (request, reply) => {
      await withTransaction(pool, async (client) => {
        await jobs.runNow(client, request.params.name);
        await recordAudit(client, {
          ...auditContext(request),
          action: 'job_started',
          objectType: 'job',
          objectId: request.params.name,
        });
      });
      return reply.code(202).send({ ok: true as const });
    },
  );
};
