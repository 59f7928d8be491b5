import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Log } from '../../gateway/runtime/logging.js';

export interface ChildSpec {
  name: string;
  /** Absolute path of the compiled entry file. */
  entry: string;
  args?: string[];
  env: Record<string, string>;
  /** File descriptor that its log (standard error) goes to. */
  logFd: number;
  /** Told of each process that is started. */
  onPid: (pid: number) => void;
  /** Time it gets to say that it is ready; then starting fails. */
  readyTimeoutMs: number;
  /** Time it gets to stop by itself; then it is killed. */
  stopTimeoutMs: number;
}

/** Wait before a crashed child is started again: doubles from the first to the last value. */
const RESTART_MS = [250, 500, 1_000, 2_000, 5_000] as const;

/**
 * A process of the standalone system, kept alive: it is started again when it ends unasked. It says `{ready:true, …}`
 * over IPC when it serves, and stops when told or when this process dies (its IPC channel closes).
 */
export class Child {
  #process: ChildProcess | null = null;
  #stopping = false;
  #restarts = 0;

  constructor(
    readonly spec: ChildSpec,
    readonly log: Log,
  ) {}

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts it and waits until it is ready; throws when it ends or stays silent instead. */
  async start(): Promise<void> {
    const child = fork(this.spec.entry, this.spec.args ?? [], {
      env: { ...this.spec.env },
      stdio: ['ignore', this.spec.logFd, this.spec.logFd, 'ipc'],
      execArgv: ['--no-warnings', '--enable-source-maps'],
    });
    this.#process = child;
    if (child.pid !== undefined) this.spec.onPid(child.pid);
    const giveUp = new AbortController();
    const timer = setTimeout(() => giveUp.abort(), this.spec.readyTimeoutMs);
    const ended = once(child, 'exit', { signal: giveUp.signal }).then(([code, signal]) => {
      throw new Error(`${this.spec.name} ended before it was ready (${signal ?? code}); its log says why`);
    });
    const ready = (async () => {
      for (;;) {
        const [message] = (await once(child, 'message', { signal: giveUp.signal })) as [{ ready?: boolean }];
        if (message.ready) return;
      }
    })();
    try {
      await Promise.race([ready, ended]);
    } catch (error) {
      child.kill('SIGKILL');
      throw giveUp.signal.aborted
        ? new Error(`${this.spec.name} was not ready within ${this.spec.readyTimeoutMs} ms; its log says why`)
        : error;
    } finally {
      clearTimeout(timer);
      giveUp.abort();
      ended.catch(() => {});
      ready.catch(() => {});
    }
    const upSinceMs = performance.now();
    child.once('exit', (code, signal) => {
      if (this.#stopping) return;
      if (performance.now() - upSinceMs > 60_000) this.#restarts = 0;
      const waitMs = RESTART_MS[Math.min(this.#restarts++, RESTART_MS.length - 1)] ?? 5_000;
      this.log.warn({ child: this.spec.name, code, signal, waitMs }, 'child ended; starting it again');
      setTimeout(() => this.#restart(), waitMs);
    });
  }

  #restart(): void {
    if (this.#stopping) return;
    this.start().catch((error: Error) => {
      this.log.error({ child: this.spec.name, error: error.message }, 'child did not start again');
      setTimeout(() => this.#restart(), RESTART_MS.at(-1));
    });
  }

  /** Asks it to stop (SIGTERM), kills it after `stopTimeoutMs`. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), this.spec.stopTimeoutMs);
    await exited;
    clearTimeout(timer);
  }
}
