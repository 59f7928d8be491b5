import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { projectPath } from '../../gateway/runtime/project-path.js';

/** `.data/standalone.json`. */
export interface StandaloneFile {
  api_url: string;
  console_url: string;
  proxy_url: string;
  proxy_host: string;
  proxy_port: number;
  /** PEM, to be trusted for https:// to the proxy port. */
  proxy_tls_cert_path: string;
  tunnel_url: string;
  /** Of the gateway and of the control plane. */
  metrics_urls: string[];
  demo_destination_url: string;
  buyer: { id: string; username: string; password: string; token: string };
  admin: { token: string };
  provider: { user_id: string; access_token: string; device_id: string };
}

export interface Standalone {
  file: StandaloneFile;
  /** What it printed so far. */
  output: () => string;
  dataDir: string;
  pid: number;
  /** Calls the API; throws unless the answer is 2xx. */
  api: (path: string, token: string, body?: object) => Promise<Record<string, unknown>>;
  /** The gateway's `/status`. */
  status: () => Promise<{
    tunnels: number;
    streams: number;
    bytesUp: number;
    bytesDown: number;
    unsettledMeters: number;
  }>;
  /** Ctrl-C; waits for the end and gives the exit code. */
  stop: () => Promise<number | null>;
  /** kill -9 of the parent process. */
  kill: () => Promise<void>;
  /** Pids of a part's processes: its compiled entry file as in the command line. */
  childPids: (entry: string) => number[];
}

const START_TIMEOUT_MS = 60_000;

/**
 * Starts `npm start`'s program on free ports. `dataDir`: of an earlier run, to go on with its data; else a fresh
 * temporary folder, removed by `remove()`.
 */
export async function startStandalone(
  options: { env?: Record<string, string>; dataDir?: string } = {},
): Promise<Standalone> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'ts-standalone-')));
  const child = spawn(process.execPath, [projectPath('deploy/standalone/start.mjs')], {
    cwd: projectPath('.'),
    env: {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '',
      TS_DATA_DIR: dataDir,
      TS_PROXY_PORT: '0',
      TS_API_PORT: '0',
      TS_TUNNEL_PORT: '0',
      TS_METRICS_PORT: '0',
      TS_CONTROL_METRICS_PORT: '0',
      TS_DEMO_PORT: '0',
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  child.stdout.on('data', (chunk) => {
    printed += chunk;
  });
  child.stderr.on('data', (chunk) => {
    printed += chunk;
  });
  const file = await untilReady(child, join(dataDir, 'standalone.json'), () => printed, dataDir);
  return {
    file,
    output: () => printed,
    dataDir,
    pid: child.pid as number,
    api: (path, token, body) => callApi(file.api_url + path, token, body),
    status: async () => {
      const url = new URL('/status', file.metrics_urls[0]);
      return (await (await fetch(url)).json()) as Awaited<ReturnType<Standalone['status']>>;
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      const [code] = await exited;
      return code as number | null;
    },
    kill: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
    childPids: (entry) => childrenOf(child.pid as number).filter((pid) => commandLine(pid).includes(entry)),
  };
}

/** Removes a data folder once its system has ended. */
export async function removeData(dataDir: string): Promise<void> {
  await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
}

async function untilReady(
  child: ChildProcess,
  path: string,
  output: () => string,
  dataDir: string,
): Promise<StandaloneFile> {
  const untilMs = performance.now() + START_TIMEOUT_MS;
  // One that a killed run left behind does not count.
  const begunMs = Date.now();
  while (!existsSync(path) || statSync(path).mtimeMs < begunMs) {
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > untilMs) {
      child.kill('SIGKILL');
      const log = join(dataDir, 'standalone.log');
      const tail = existsSync(log) ? readFileSync(log, 'utf8').slice(-4_000) : '';
      throw new Error(`the standalone system did not start:\n${output()}\n${tail}`);
    }
    await delay(50);
  }
  return JSON.parse(readFileSync(path, 'utf8')) as StandaloneFile;
}

async function callApi(url: string, token: string, body?: object): Promise<Record<string, unknown>> {
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
    ...(body ? { method: 'POST', body: JSON.stringify(body) } : {}),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`);
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}

function childrenOf(pid: number): number[] {
  const direct = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);
  return direct.flatMap((child) => [child, ...childrenOf(child)]);
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}
