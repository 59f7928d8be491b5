import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { readableBytes, readableStatus } from '../../../agent-protocol/agent/status-line.js';
import { compiledPath } from '../../helpers/compiled.js';
import { goaway, problem, startApi, startGateway } from './harness.js';

const PROGRAM = compiledPath('agent-protocol/agent/main');

interface Run {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  stdout: string;
  stderr: string;
}

function run(t: Test, argv: string[], env: Record<string, string> = {}, ipc = false): Run {
  const child = spawn(process.execPath, [PROGRAM, ...argv], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...(ipc ? (['ipc'] as const) : [])],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const result: Run = {
    child,
    // Not 'close': it does not come when a channel to the child was disconnected here
    exit: Promise.all([
      once(child, 'exit'),
      once(child.stdout as Readable, 'end'),
      once(child.stderr as Readable, 'end'),
    ]).then(([[code]]) => code as number | null),
    stdout: '',
    stderr: '',
  };
  child.stdout?.on('data', (data: Buffer) => {
    result.stdout += data.toString();
  });
  child.stderr?.on('data', (data: Buffer) => {
    result.stderr += data.toString();
  });
  return result;
}

async function world(t: Test) {
  const gateway = await startGateway();
  t.teardown(() => gateway.stop());
  const api = await startApi(gateway);
  t.teardown(() => api.stop());
  return { gateway, api, env: { TS_API_URL: api.url, TS_DEVICE_ID: 'd1', TS_DEVICE_KEY: 'very-secret' } };
}

// Each starts a process and mostly waits for it: together they take the time of one
t.jobs = 4;

t.test('--help and wrong settings', async (t) => {
  const help = run(t, ['--help']);
  t.equal(await help.exit, 0);
  t.match(help.stdout, /--cap-bytes-day <bytes> +TS_CAP_BYTES_DAY/);
  t.equal(help.stderr, '');
  const wrong = run(t, ['--cap-bytes-day', 'x'], { TS_DEV_ALLOW: 'a:1', NODE_ENV: 'production' });
  t.equal(await wrong.exit, 1);
  t.match(wrong.stderr, /--cap-bytes-day must be/);
  t.match(wrong.stderr, /--api-url \(TS_API_URL\) is required/);
  t.match(wrong.stderr, /refused when NODE_ENV=production/);
  t.equal(wrong.stdout, '');
});

t.test('SIGTERM stops the session and exits 0; status and log are JSON lines', async (t) => {
  const { gateway, api, env } = await world(t);
  const agent = run(t, ['--status'], env);
  await gateway.tunnels.next();
  agent.child.kill('SIGTERM');
  t.equal(await agent.exit, 0);
  t.ok(api.calls.all.some((call) => call.path === '/api/traffic/stop'));
  const events = agent.stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.match(events.at(-1), { level: 'info', event: 'ended', code: 'stopped' });
  const status = agent.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.match(status.at(-1), { state: 'ended', bytes_up: 0, streams_open: 0 });
  t.notMatch(agent.stdout + agent.stderr, /very-secret/);
});

t.test('--keep-session leaves it open', async (t) => {
  const { gateway, api, env } = await world(t);
  const agent = run(t, ['--keep-session'], env);
  await gateway.tunnels.next();
  agent.child.kill('SIGINT');
  t.equal(await agent.exit, 0);
  t.same(
    api.calls.all.map((call) => call.path),
    ['/api/traffic/start'],
  );
});

t.test('a parent that goes away leaves it open as well', async (t) => {
  const { gateway, api, env } = await world(t);
  const agent = run(t, [], env, true);
  await gateway.tunnels.next();
  agent.child.disconnect();
  t.equal(await agent.exit, 0);
  t.notOk(api.calls.all.some((call) => call.path === '/api/traffic/stop'));
});

t.test('a final refusal exits 2 and says what to do; a replacement exits 3', async (t) => {
  const { gateway, api, env } = await world(t);
  const refused = await world(t);
  refused.api.answers['/api/traffic/start'] = problem(403, 'consent_required');
  const agent = run(t, [], env);
  const other = run(t, [], refused.env);
  (await gateway.tunnels.next()).session.close(goaway('replaced'));
  t.equal(await agent.exit, 3);
  t.equal(api.calls.all.length, 1);
  t.equal(await other.exit, 2);
  t.match(other.stderr.trim().split('\n').at(-1), /Accept them in the app or the bot/);
});

t.test('the line for people', async (t) => {
  t.same([0, 999, 1_000, 999_949, 999_950, 1.5e9, 2e15].map(readableBytes), [
    '0 B',
    '999 B',
    '1.0 kB',
    '999.9 kB',
    '1.0 MB',
    '1.5 GB',
    '2000.0 TB',
  ]);
  const counters = {
    bytesUp: 0,
    bytesDown: 0,
    streamsOpen: 2,
    streamsTotal: 2,
    datagramsDropped: 0,
    tunnelsTotal: 1,
    capBytesLeft: 5_000,
  };
  const before = { state: 'online', counters, atMs: 0 } as const;
  const now = {
    state: 'online',
    counters: { ...counters, bytesUp: 1_000, bytesDown: 2_000 },
    atMs: 2_000,
  } as const;
  t.equal(
    readableStatus(before, now),
    'online      up 1.0 kB  down 2.0 kB  1.5 kB/s  2 streams  5.0 kB left',
  );
});
