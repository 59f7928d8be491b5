import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

/** A part of the product in a process of its own. */
export interface ProgramSpec {
  name: string;
  /** Absolute path of the compiled entry file. */
  entry: string;
  /** Its arguments; left out: none. */
  args?: readonly string[];
  env: Record<string, string>;
  /** Where its log goes. */
  logFd: number;
  /** Absolute path of a module loaded before the program; null: none. */
  preload: string | null;
  /** What the process sends beside its being ready; left out: nobody listens. */
  onMessage?: (message: object) => void;
}

const READY_TIMEOUT_MS = 60_000;

/** Starts, kills, freezes and restarts one program; it stays down until it is told to start again. */
export class Program {
  #child: ChildProcess | null = null;
  #frozen = false;
  #port: number | null = null;

  constructor(readonly spec: ProgramSpec) {}

  get running(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Of the process; null: it was never started. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Where it serves since its latest start; null: it has not started, or does not say. */
  get port(): number | null {
    return this.#port;
  }

  /** Starts it and waits until it serves. Throws when it ends or stays silent instead. */
  async start(): Promise<void> {
    const { entry, args = [], env, logFd, preload, name } = this.spec;
    const child = fork(entry, [...args], {
      env: { PATH: process.env.PATH ?? '', ...env },
      stdio: ['ignore', logFd, logFd, 'ipc'],
      execArgv: ['--no-warnings', '--enable-source-maps', ...(preload ? ['--import', preload] : [])],
    });
    this.#child = child;
    this.#frozen = false;
    this.#port = null;
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', (message: { ready?: boolean; port?: number }) => {
        if (!message.ready) return this.spec.onMessage?.(message);
        this.#port = message.port ?? null;
        resolve();
      });
      child.once('exit', (code, signal) =>
        reject(new Error(`${name} ended at its start: ${signal ?? code}`)),
      );
    });
    const timeUp = new AbortController();
    await Promise.race([
      ready,
      delay(READY_TIMEOUT_MS, null, { signal: timeUp.signal }).then(() => {
        throw new Error(`${name} was not ready in time`);
      }),
    ]).finally(() => timeUp.abort());
  }

  /** Sends a signal; SIGKILL waits for nothing: use `gone()`. */
  signal(signal: NodeJS.Signals): void {
    if (signal === 'SIGSTOP') this.#frozen = true;
    if (signal === 'SIGCONT') this.#frozen = false;
    this.#child?.kill(signal);
  }

  /** Something for the preloaded module. */
  tell(message: object): void {
    if (this.running) this.#child?.send(message, () => {});
  }

  /** Resolves when the process has ended. */
  async gone(): Promise<void> {
    const child = this.#child;
    if (child && this.running) await once(child, 'exit');
  }

  async killAndWait(): Promise<void> {
    this.signal('SIGKILL');
    await this.gone();
  }

  /** Ends it in good order, or by force after a while. */
  async stop(): Promise<void> {
    if (!this.running) return;
    if (this.#frozen) this.signal('SIGCONT');
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), 15_000);
    await this.gone();
    clearTimeout(timer);
  }
}
