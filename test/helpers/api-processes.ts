import { closeSync, existsSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { Program } from '../faults/program.js';
import { type Answer, TEST_ENV } from './control-plane.js';

/** A control plane in a process of its own. */
export interface ApiProcess {
  readonly url: string;
  /** Calls the API as the bearer of a token; the body is sent as JSON. */
  post(path: string, token: string, body?: unknown): Promise<Answer>;
  /** Ends it as a service manager does. */
  stop(): Promise<void>;
  /** Ends it as a crash does: SIGKILL. */
  kill(): Promise<void>;
}

/** The rooms that `npm run build` compiles. */
const BUILT_ROOMS = ['agent-protocol', 'control-plane', 'deploy', 'gateway'];
/** How much of a process's log a failed test shows. */
const LOG_TAIL_CHARS = 8_000;

/**
 * Starts control planes as the product does, each a process with its own pool, its own jobs in the background and a
 * free port, on the Postgres and Redis of a world. They end with the test `t`, which shows what they wrote when it
 * failed. Throws when `dist/` is not what the sources say.
 */
export async function startApiProcesses(
  t: Pick<Test, 'teardown' | 'comment' | 'passing'>,
  count: number,
  world: { databaseUrl: string; redisUrl: string },
  env: Record<string, string> = {},
): Promise<ApiProcess[]> {
  requireFreshBuild();
  const folder = await mkdtemp(join(tmpdir(), 'ts-api-'));
  const logFile = join(folder, 'programs.log');
  const logFd = openSync(logFile, 'a');
  const tail = () => readFileSync(logFile, 'utf8').slice(-LOG_TAIL_CHARS);
  const { TS_BOT_TOKEN: _, ...secrets } = TEST_ENV; // without it nothing is asked of Telegram
  const programs = Array.from(
    { length: count },
    (_, n) =>
      new Program({
        name: `api-${n}`,
        entry: projectPath('dist/control-plane/main.js'),
        logFd,
        preload: null,
        env: {
          ...secrets,
          TS_LOG_LEVEL: 'warn',
          TS_DATABASE_URL: world.databaseUrl,
          TS_REDIS_URL: world.redisUrl,
          TS_API_HOST: '127.0.0.1',
          TS_API_PORT: '0',
          TS_CONTROL_METRICS_PORT: '0',
          ...env,
        },
      }),
  );
  t.teardown(async () => {
    await Promise.all(programs.map((program) => program.stop()));
    closeSync(logFd);
    if (!t.passing()) t.comment(`the API processes wrote:\n${tail()}`);
    await rm(folder, { recursive: true, force: true });
  });
  await Promise.all(programs.map((program) => program.start())).catch((error: Error) => {
    throw new Error(`${error.message}\n${tail()}`, { cause: error });
  });
  return programs.map((program) => {
    const url = `http://127.0.0.1:${program.port}`;
    return {
      url,
      post: (path, token, body) => post(url + path, token, body),
      stop: () => program.stop(),
      kill: () => program.killAndWait(),
    };
  });
}

async function post(url: string, token: string, body?: unknown): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      connection: 'close', // nothing of the client outlives the test
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) };
}

/** Processes run `dist/`; a test that passes there says nothing about sources that are newer. */
export function requireFreshBuild(): void {
  const stamp = projectPath('dist/.built');
  const builtMs = existsSync(stamp) ? statSync(stamp).mtimeMs : Number.NEGATIVE_INFINITY;
  for (const room of BUILT_ROOMS)
    for (const name of readdirSync(projectPath(room), { recursive: true }) as string[]) {
      if (!name.endsWith('.ts') || statSync(projectPath(join(room, name))).mtimeMs <= builtMs) continue;
      throw new Error(`dist/ is missing or older than ${room}/${name}: run npm run build first`);
    }
}
