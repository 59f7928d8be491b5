import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { get } from 'node:http';
import { projectPath } from '../../gateway/runtime/project-path.js';

/** What `/status` and `/metrics` tell, as far as the checks need it. */
export interface GatewayReading {
  connections: number;
  streams: number;
  tunnels: number;
  bytesUp: number;
  bytesDown: number;
}

interface Ready {
  ready?: boolean;
  proxyPort: number;
  tunnelPort: number;
  metricsPort: number;
}

const READY_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 10_000;
const END_NEWS_MS = 1_000;
/** Drain (1 s), the last counts (3 s) and some more. */
const STOP_TIMEOUT_MS = 6_000;
/** A gateway whose memory grows without bound ends by itself. */
const HEAP_MB_MAX = 256;
/** pino's number for `error`. */
const LEVEL_ERROR = 50;

/** A gateway as it is deployed (`dist/`), in a process of its own that is looked at from outside. */
export class GatewayProcess {
  readonly #child: ChildProcess;
  readonly #logFile: string;
  #logReadBytes = 0;
  #logRest = '';

  private constructor(
    child: ChildProcess,
    readonly ports: { any: number; tunnel: number; metrics: number },
    logFile: string,
  ) {
    this.#child = child;
    this.#logFile = logFile;
  }

  /** Throws when it does not start. `preload`: a module to load before it, which breaks it. */
  static async start(options: {
    env: Record<string, string>;
    logFile: string;
    preload: string | null;
  }): Promise<GatewayProcess> {
    const log = openSync(options.logFile, 'a');
    const child = fork(projectPath('dist/gateway/main.js'), [], {
      env: { PATH: process.env.PATH ?? '', ...options.env },
      stdio: ['ignore', log, log, 'ipc'],
      execArgv: [
        `--max-old-space-size=${HEAP_MB_MAX}`,
        '--trace-warnings',
        '--enable-source-maps',
        '--import',
        projectPath('test/fuzz/inside/describe-sockets.mjs'),
        ...(options.preload ? ['--import', options.preload] : []),
      ],
    });
    closeSync(log);
    const ready = await Promise.race([
      once(child, 'message', { signal: AbortSignal.timeout(READY_TIMEOUT_MS) }).then(([m]) => m as Ready),
      once(child, 'exit').then(() => null),
    ]).catch(() => null);
    if (!ready?.ready) {
      child.kill('SIGKILL');
      throw new Error(`the gateway did not start:\n${readFileSync(options.logFile, 'utf8').slice(-4_000)}`);
    }
    const { proxyPort, tunnelPort, metricsPort } = ready;
    return new GatewayProcess(
      child,
      { any: proxyPort, tunnel: tunnelPort, metrics: metricsPort },
      options.logFile,
    );
  }

  /** How it ended; null: it runs. */
  get ended(): string | null {
    const { exitCode, signalCode } = this.#child;
    return exitCode === null && signalCode === null ? null : `exit ${signalCode ?? exitCode}`;
  }

  /** The same, once the news of an end had time to come: a port that refuses is noticed before it. */
  async endedSoon(): Promise<string | null> {
    if (this.ended === null)
      await once(this.#child, 'exit', { signal: AbortSignal.timeout(END_NEWS_MS) }).catch(() => {});
    return this.ended;
  }

  /** Descriptors it has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.#child.pid}/fd`).length;
  }

  /** Memory it has in RAM. */
  get residentBytes(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1_024;
  }

  /** What each of its sockets is at, a line each; of the kernel's view what `ss` says, where there is one. */
  async describeSockets(): Promise<string[]> {
    const answered = once(this.#child, 'message', { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    this.#child.send({ describeSockets: true });
    const inside = await answered.then(
      ([message]) => (message as { sockets: string[] }).sockets,
      (error: Error) => [`no description: ${error.message}`],
    );
    const { stdout } = spawnSync('ss', ['-tnpoe', '-O', 'state', 'all'], { encoding: 'utf8' });
    const kernel = (stdout ?? '').split('\n').filter((line) => line.includes(`pid=${this.#child.pid},`));
    return [...inside, ...kernel];
  }

  /** `/status`. Rejects when the private port does not answer in time. */
  async status(): Promise<GatewayReading> {
    return JSON.parse(await this.#ask('/status')) as GatewayReading;
  }

  /** Metrics without labels by name, and `ts_connections_total` by outcome, such as `ts_connections_total OK`. */
  async metrics(): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    for (const line of (await this.#ask('/metrics')).split('\n')) {
      const parts = /^(ts_\w+)(?:\{outcome="(\w+)"\})? (\S+)$/.exec(line);
      if (parts) found.set(parts[2] ? `${parts[1]} ${parts[2]}` : (parts[1] as string), Number(parts[3]));
    }
    return found;
  }

  /** A connection of its own each time: none is left open that would be counted. */
  #ask(path: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
      const request = get(
        { host: '127.0.0.1', port: this.ports.metrics, path, agent: false, signal },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (piece: string) => {
            text += piece;
          });
          response.once('close', () =>
            response.complete ? resolve(text) : reject(new Error(`${path}: answer cut short`)),
          );
        },
      );
      request.once('error', (error) => reject(new Error(`${path}: ${error.message}`)));
    });
  }

  /** Lines of the log since the last call that must not be there: errors, and whatever Node itself wrote. */
  newLogProblems(): string[] {
    const fd = openSync(this.#logFile, 'r');
    const bytes = Buffer.alloc(fstatSync(fd).size - this.#logReadBytes);
    this.#logReadBytes += readSync(fd, bytes, 0, bytes.length, this.#logReadBytes);
    closeSync(fd);
    const lines = (this.#logRest + bytes.toString('utf8')).split('\n');
    this.#logRest = lines.pop() as string;
    return lines.filter((line) => line !== '' && !isExpected(line));
  }

  /** Ends it in good order; false: it had to be killed, or failed. */
  async stop(): Promise<boolean> {
    if (this.ended !== null) return false;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
    return this.#child.exitCode === 0;
  }
}

function isExpected(line: string): boolean {
  try {
    return (JSON.parse(line) as { level: number }).level < LEVEL_ERROR;
  } catch {
    return false;
  }
}
