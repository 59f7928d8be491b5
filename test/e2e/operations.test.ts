/**
 * What an operator does with a running system through the API: looks at its jobs, runs them, drains its
 * gateway.
 */
import t from 'tap';
import { ProxyAgent, request } from 'undici';
import { removeData, type Standalone, startStandalone } from '../helpers/standalone.js';

/** Time a job, or the gateway's restart, may take here. */
const WAIT_MS = 45_000;

interface JobState {
  name: string;
  schedule: string | null;
  running: boolean;
  last_run: {
    result: string;
    started_at: string;
    ended_at: string;
    duration_ms: number;
    details: object;
  } | null;
  last_success_at: string | null;
  next_run_at: string;
}

interface Gateway {
  id: string;
  run: string;
  draining: boolean;
  tunnels: number;
}

async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  const untilMs = performance.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > untilMs) throw new Error(`${what}: not within ${WAIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function fetchDemo({ file }: Standalone): Promise<string> {
  const { username, password } = file.buyer;
  const dispatcher = new ProxyAgent({
    uri: `http://127.0.0.1:${file.proxy_port}`,
    token: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
  });
  try {
    const { body } = await request(file.demo_destination_url, { dispatcher });
    return await body.text();
  } finally {
    await dispatcher.close();
  }
}

t.test('jobs and a drain, through the API of the standalone system', async (t) => {
  const system = await startStandalone();
  t.teardown(async () => {
    await system.stop();
    await removeData(system.dataDir);
  });
  const token = system.file.admin.token;
  const get = async <T>(path: string) => (await system.api(path, token)) as { items: T[] };

  await t.test('jobs are scheduled, run when asked, and say what came of it', async (t) => {
    const jobs = async () =>
      Object.fromEntries((await get<JobState>('/api/admin/jobs')).items.map((job) => [job.name, job]));
    const schedules = Object.entries(await jobs()).map(([name, { schedule }]) => [name, schedule]);
    t.match(Object.fromEntries(schedules), {
      cleanup: '*/5 * * * *',
      stats: /^\d+ \* \* \* \*$/,
      notifications: '* * * * *',
      daily_report: /^\d+ \d+ \* \* \*$/,
      backup: /^\d+ \d+ \* \* \*$/,
    });
    const since = new Date().toISOString();
    for (const name of ['cleanup', 'stats']) await system.api(`/api/admin/jobs/${name}/run`, token, {});
    for (const name of ['cleanup', 'stats']) {
      const job = await until(`a run of ${name}`, async () => {
        const state = (await jobs())[name] as JobState;
        return (state.last_success_at ?? '') >= since ? state : null;
      });
      t.match(job.last_run, {
        result: 'succeeded',
        attempt: Number,
        started_at: String,
        ended_at: String,
        duration_ms: Number,
        error: null,
        details: Object,
      });
      t.ok(job.next_run_at > since, `${name} comes again`);
      const { items } = await get<{ result: string }>(`/api/admin/jobs/${name}/runs`);
      t.equal(items[0]?.result, 'succeeded');
    }
    const { last_run: cleanup } = (await jobs()).cleanup as JobState;
    t.match(cleanup?.details, { login_codes: Number, telegram_updates: Number, packages: Number });
  });

  await t.test('a drained gateway ends, is started again, and serves', async (t) => {
    t.match(await fetchDemo(system), /It works/);
    const gateways = async () => (await get<Gateway>('/api/admin/gateways')).items;
    const [before] = await gateways();
    const [pid] = system.childPids('dist/gateway/main.js');
    const drained = await system.api(`/api/admin/gateways/${before?.id}/drain`, token, {});
    t.equal(drained.run, before?.run);
    const after = await until('another run with its device', async () => {
      const [gateway] = await gateways();
      return gateway && gateway.run !== before?.run && !gateway.draining && gateway.tunnels > 0
        ? gateway
        : null;
    });
    t.equal(after.id, before?.id);
    t.not(system.childPids('dist/gateway/main.js')[0], pid, 'a process of its own');
    t.match(
      await until('a page through it', () =>
        fetchDemo(system).then(
          (page) => page || null,
          () => null,
        ),
      ),
      /It works/,
    );
    const { items } = await get<{ action: string; object_id: string }>(
      '/api/admin/audit/search?action=gateway_drained',
    );
    t.match(items, [{ object_id: before?.id }]);
    const { total } = await system.api('/api/buyer/me/usage', system.file.buyer.token);
    t.ok((total as unknown as { bytes_down: number }).bytes_down > 0, 'what went before is booked');
  });
});
