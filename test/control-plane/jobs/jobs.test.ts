import { EventEmitter, once } from 'node:events';
import t from 'tap';
import { migrateJobQueue } from '../../../control-plane/db/job-queue.js';
import { JOB_NAME, type Job } from '../../../control-plane/jobs/job.js';
import { JobRunner } from '../../../control-plane/jobs/runner.js';
import { nextRunAtMs } from '../../../control-plane/jobs/schedule.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { signedIn, startWorld, type TestWorld } from '../../helpers/control-plane.js';

t.test('when a schedule comes next', async (t) => {
  const next = (schedule: string, after: string) => {
    const at = nextRunAtMs(schedule, Date.parse(after));
    return at === null ? null : new Date(at).toISOString();
  };
  t.equal(next('*/5 * * * *', '2026-11-26T10:04:59.999Z'), '2026-11-26T10:05:00.000Z');
  t.equal(next('*/5 * * * *', '2026-11-26T10:05:00Z'), '2026-11-26T10:10:00.000Z');
  t.equal(next('7 * * * *', '2026-11-26T23:30:00Z'), '2026-11-27T00:07:00.000Z');
  t.equal(next('30 2 * * *', '2026-12-31T02:30:00Z'), '2027-01-01T02:30:00.000Z');
  t.equal(next('0 0 31 2 *', '2026-11-26T00:00:00Z'), null, 'there is no such day');
  t.throws(() => nextRunAtMs('every day', 0));
});

/** A job that tells of each run and does what the test wants. */
function probe(
  name: string,
  run: Job['run'] = async () => ({}),
): Job & { runs: EventEmitter; count: number } {
  const runs = new EventEmitter();
  const job = {
    name,
    description: 'for a test',
    schedule: null,
    runs,
    count: 0,
    run: async (context: Parameters<Job['run']>[0]) => {
      job.count++;
      runs.emit('begin');
      try {
        return await run(context);
      } finally {
        setImmediate(() => runs.emit('end'));
      }
    },
  };
  return job;
}

function runnerOf(world: TestWorld, ...jobs: Job[]): JobRunner {
  const runner = new JobRunner({ databaseUrl: world.databaseUrl, pool: world.pool, log: silentLog });
  runner.register(...jobs);
  return runner;
}

async function until<T>(look: () => Promise<T | null | undefined | false>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

t.test('names, and twice the same', async (t) => {
  const runner = new JobRunner({ databaseUrl: 'postgres://', pool: null as never, log: silentLog });
  runner.register(probe('one'));
  t.throws(() => runner.register(probe('one')), /already/);
  t.throws(() => runner.register(probe('No name')), /no name/);
  t.throws(() => runner.register({ ...probe('two'), schedule: 'sometimes' }));
  t.notMatch('x'.repeat(41), JOB_NAME);
});

t.test('two control planes', async (t) => {
  const world = await startWorld(t);
  await Promise.all([1, 2, 3].map(() => migrateJobQueue(world.databaseUrl)));

  await t.test('one run of a job at a time, and what came meanwhile follows', async (t) => {
    let inside = 0;
    let most = 0;
    const go = new EventEmitter();
    const make = () =>
      probe('shared', async () => {
        most = Math.max(most, ++inside);
        await once(go, 'go');
        inside--;
        return { done: true };
      });
    const [a, b] = [make(), make()];
    const [first, second] = [runnerOf(world, a), runnerOf(world, b)];
    const begun = Promise.race([once(a.runs, 'begin'), once(b.runs, 'begin')]);
    first.start();
    second.start();
    t.teardown(() => Promise.all([first.stop(), second.stop()]));
    await first.runNow(world.pool, 'shared');
    await begun;
    t.match(await first.states(Date.now()), [
      { running: true, last: { outcome: 'running' }, nextRunAt: null },
    ]);
    await second.runNow(world.pool, 'shared');
    // It is taken by a free worker, finds the other at work, and is put off.
    await until(async () => (await first.states(Date.now()))[0]?.nextRunAt);
    const later = Promise.race([once(a.runs, 'begin'), once(b.runs, 'begin')]);
    go.emit('go');
    await later;
    go.emit('go');
    await until(async () => {
      const { rows } = await world.pool.query(
        `SELECT count(*)::int AS n FROM job_runs WHERE job = 'shared' AND outcome = 'succeeded'`,
      );
      return rows[0].n === 2;
    });
    t.equal(most, 1);
    t.equal(a.count + b.count, 2);
  });

  await t.test('what must not wait for its schedule runs at the start, too', async (t) => {
    const job = { ...probe('at_start'), atStart: true };
    const runner = runnerOf(world, job, probe('not_at_start'));
    const begun = once(job.runs, 'begin');
    runner.start();
    t.teardown(() => runner.stop());
    await begun;
    const states = await until(async () => {
      const found = await runner.states(Date.now());
      return found[0]?.lastSuccessAt && found;
    });
    t.match(states, [{ last: { outcome: 'succeeded' } }, { last: null, nextRunAt: null }]);
  });

  await t.test('a failure is recorded, counted and tried again', async (t) => {
    let failures = 1;
    const job = probe('fails_once', async () => {
      if (failures-- > 0) throw new Error('not yet');
      return { rows: 3 };
    });
    const runner = runnerOf(world, job);
    runner.start();
    t.teardown(() => runner.stop());
    await runner.runNow(world.pool, 'fails_once');
    const failed = await until(async () => {
      const [state] = await runner.states(Date.now());
      return state?.last?.outcome === 'failed' && state.nextRunAt && state;
    });
    t.match(failed, { last: { attempt: 1, error: 'not yet' }, lastSuccessAt: null });
    t.ok(Number(failed.nextRunAt) > Number(failed.last?.ended_at), 'after a while');
    const { rowCount } = await world.pool.query(
      `UPDATE graphile_worker._private_jobs SET run_at = now() WHERE key = 'fails_once'`,
    );
    t.equal(rowCount, 1);
    await world.pool.query(`SELECT pg_notify('jobs:insert', '{"count":1}')`);
    const [done] = await until(async () => {
      const states = await runner.states(Date.now());
      return states[0]?.last?.outcome === 'succeeded' && states;
    });
    t.match(done, { last: { attempt: 2, result: { rows: 3 } }, lastSuccessAt: Date, nextRunAt: null });
    t.same([runner.counts.failed.fails_once, runner.counts.succeeded.fails_once], [1, 1]);
  });

  await t.test('a stop aborts what is under way, and it is tried again elsewhere', async (t) => {
    const job = probe('long', async ({ signal }) => {
      await once(signal, 'abort');
      signal.throwIfAborted();
      return {};
    });
    const runner = runnerOf(world, job);
    const begun = once(job.runs, 'begin');
    runner.start();
    await runner.runNow(world.pool, 'long');
    await begun;
    await runner.stop();
    const other = probe('long');
    const next = runnerOf(world, other);
    t.match(await next.states(Date.now()), [
      { running: false, last: { outcome: 'failed' }, nextRunAt: Date },
    ]);
  });

  await t.test(
    'a run whose control plane went away is lost, and the next one is not kept from running',
    async (t) => {
      await world.pool.query(`INSERT INTO job_runs (job, attempt) VALUES ('orphan', 1)`);
      const job = probe('orphan');
      const runner = runnerOf(world, job);
      t.match(await runner.states(Date.now()), [{ running: true }]);
      const ended = once(job.runs, 'end');
      runner.start();
      t.teardown(() => runner.stop());
      await runner.runNow(world.pool, 'orphan');
      await ended;
      const outcomes = await until(async () => {
        const { rows } = await world.pool.query(
          `SELECT outcome FROM job_runs WHERE job = 'orphan' ORDER BY id`,
        );
        return rows[1]?.outcome === 'succeeded' && rows;
      });
      t.same(outcomes, [{ outcome: 'lost' }, { outcome: 'succeeded' }]);
    },
  );

  await t.test('it comes back when its connections were cut', async (t) => {
    const job = probe('stays');
    const runner = runnerOf(world, job);
    runner.start();
    t.teardown(() => runner.stop());
    const first = once(job.runs, 'end');
    await runner.runNow(world.pool, 'stays');
    await first;
    await world.pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'traffic-share-jobs' AND datname = current_database()`,
    );
    const second = once(job.runs, 'end');
    await runner.runNow(world.pool, 'stays');
    await second;
    t.equal(job.count, 2);
  });
});

t.test('the API', async (t) => {
  const world = await startWorld(t);
  const admin = await signedIn(world, 'admin');
  const user = await signedIn(world);
  const call = (method: string, path: string, token = admin.token) => world.call(method, path, { token });

  const early = await call('POST', '/api/admin/jobs/cleanup/run');
  t.match([early.status, early.body.code], [503, 'jobs_unavailable'], 'before the queue is there');
  t.equal((await call('GET', '/api/admin/jobs')).status, 200);
  await migrateJobQueue(world.databaseUrl);

  for (const [method, path] of [
    ['GET', '/api/admin/jobs'],
    ['GET', '/api/admin/jobs/cleanup/runs'],
    ['POST', '/api/admin/jobs/cleanup/run'],
  ] as const) {
    t.equal((await world.call(method, path)).status, 401);
    t.equal((await call(method, path, user.token)).status, 403);
  }
  t.equal((await call('POST', '/api/admin/jobs/nothing/run')).body.code, 'not_found');
  t.equal((await call('GET', '/api/admin/jobs/nothing/runs')).status, 404);
  t.equal((await call('POST', '/api/admin/jobs/No-Name/run')).status, 400);
  t.equal((await call('GET', '/api/admin/jobs/cleanup/runs?limit=0')).status, 400);
  t.equal((await call('GET', '/api/admin/jobs/cleanup/runs?cursor=x')).status, 400);

  const { items } = (await call('GET', '/api/admin/jobs')).body;
  t.match(items, [
    { name: 'cleanup', schedule: '*/5 * * * *', last_run: null, next_run_at: String },
    { name: 'abuse_detection', schedule: '*/2 * * * *' },
    { name: 'stats' },
    { name: 'notifications', schedule: '* * * * *' },
    { name: 'daily_report' },
    { name: 'backup' },
    { name: 'restore_test', schedule: '30 4 * * 0' },
    { name: 'app_updates', schedule: '*/10 * * * *' },
  ]);

  world.services.jobs.start();
  t.teardown(() => world.services.jobs.stop());
  const started = await call('POST', '/api/admin/jobs/cleanup/run');
  t.match([started.status, started.body], [202, { ok: true }]);
  const cleanup = await until(async () => {
    const [first] = (await call('GET', '/api/admin/jobs')).body.items;
    return first.last_run?.result === 'succeeded' && first;
  });
  t.match(cleanup, {
    running: false,
    last_run: { attempt: 1, duration_ms: Number, error: null, details: { login_codes: 0, packages: 0 } },
    last_success_at: String,
  });
  const runs = (await call('GET', '/api/admin/jobs/cleanup/runs?limit=1')).body;
  t.equal(runs.items.length, 1);
  const { rows } = await world.pool.query(
    `SELECT actor_id, object_id FROM audit_log WHERE action = 'job_started'`,
  );
  t.same(rows, [{ actor_id: admin.userId, object_id: 'cleanup' }], 'refused calls leave no line');
});

t.test('what cleanup deletes', async (t) => {
  const world = await startWorld(t);
  await migrateJobQueue(world.databaseUrl);
  const { userId } = await signedIn(world);
  const { pool, services } = world;
  await pool.query(
    `INSERT INTO login_codes (id, user_id, code_hash, salt, expires_at)
     SELECT gen_random_uuid(), $1, '\\x00', '\\x00', now() - ago
       FROM unnest(ARRAY['2 days', '1 hour']::interval[]) AS ago`,
    [userId],
  );
  await pool.query(
    `INSERT INTO logins (id, user_id, last_used_at) VALUES ('11111111-1111-4111-8111-111111111111', $1, now() - interval '101 days'),
       ('22222222-2222-4222-8222-222222222222', $1, now() - interval '101 days')`,
    [userId],
  );
  await pool.query(
    `INSERT INTO refresh_tokens (token_hash, login_id, expires_at) VALUES
       ('\\x01', '11111111-1111-4111-8111-111111111111', now() - interval '2 days'),
       ('\\x02', '22222222-2222-4222-8222-222222222222', now() + interval '2 days')`,
  );
  await pool.query(
    `INSERT INTO idempotency_keys (actor, key, request_hash, created_at) VALUES ('a', 'old', '\\x00', now() - interval '25 hours'),
       ('a', 'new', '\\x00', now())`,
  );
  services.jobs.start();
  t.teardown(() => services.jobs.stop());
  await services.jobs.runNow(pool, 'cleanup');
  const result = await until(async () => {
    const [state] = await services.jobs.states(Date.now());
    return state?.last?.result;
  });
  t.match(result, { login_codes: 1, refresh_tokens: 1, logins: 1, idempotency_keys: 1, packages: 0 });
  const { rows } = await pool.query(
    `SELECT (SELECT count(*) FROM login_codes)::int AS codes, (SELECT count(*) FROM refresh_tokens)::int AS tokens,
            (SELECT array_agg(key) FROM idempotency_keys) AS keys, (SELECT count(*) FROM logins)::int AS logins`,
  );
  t.same(rows, [{ codes: 1, tokens: 1, keys: ['new'], logins: 2 }]);
});
