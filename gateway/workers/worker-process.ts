import { type ChildProcess, fork } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import type { GatewayRun } from '../live/records.js';
import type { FromWorker, PortName, ToWorker, WorkerReport } from './messages.js';

/** Time a worker has to say how it is, ms; then it is not told of. */
const REPORT_TIMEOUT_MS = 2_000;

/** Descriptors of links follow standard input, output, error and the IPC channel. */
const FIRST_LINK_FD = 4;

/** Who is told what a worker says and does. */
export interface WorkerWatcher {
  onMessage(worker: WorkerProcess, message: FromWorker): void;
  /** Once, whether it had ever been ready or not. */
  onExit(worker: WorkerProcess, how: { code: number | null; signal: NodeJS.Signals | null }): void;
}

/**
 * | state | may be given connections | leaves to |
 * |---|---|---|
 * | starting | no | serving, over |
 * | serving | yes | leaving, over |
 * | leaving | no | over |
 * | over | no | |
 */
export class WorkerProcess {
  state: 'starting' | 'serving' | 'leaving' | 'over' = 'starting';
  /** It was leaving before it ended: somebody had asked it to. */
  left = false;
  /** When it began, monotonic. */
  readonly startedAtMs = performance.now();
  /** Resolves when it serves; rejects when it ends instead, with what it said. */
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  /** What it is to be told once it listens: node gives messages to whoever listens first, a preloaded module perhaps. */
  #held: Array<() => void> | null = [];
  readonly #reports = new Map<number, (report: WorkerReport | null) => void>();
  #nextReport = 1;

  constructor(
    readonly number: number,
    /** As others know it by what it holds in Redis. */
    readonly run: GatewayRun,
    readonly settles: boolean,
    place: { workers: number; ports: ReadonlyMap<PortName, SocketHandle>; siblings: WorkerProcess[] },
    watcher: WorkerWatcher,
  ) {
    const { workers, ports, siblings } = place;
    this.#child = fork(fileURLToPath(new URL('./main.js', import.meta.url)), {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc', ...siblings.map(() => 'pipe' as const)],
    });
    for (const [name, bound] of ports) this.send({ kind: 'port', name }, bound);
    const links = siblings.map((sibling, i) => {
      const fd = FIRST_LINK_FD + i;
      sibling.#link(number, this.#child.stdio[fd] as Socket | null | undefined);
      return { worker: sibling.number, fd };
    });
    this.send({ kind: 'start', worker: number, workers, epoch: run.epoch, links, settle: settles });
    this.ready = new Promise((resolve, reject) => {
      let failure = '';
      this.#child.on('message', (message: FromWorker) => {
        if (message.kind === 'here') return this.#release();
        if (message.kind === 'report') return this.#reports.get(message.id)?.(message.report);
        if (message.kind === 'failed') failure = message.message;
        if (message.kind === 'leaving') {
          this.state = 'leaving';
          this.left = true;
        }
        if (message.kind === 'ready') {
          this.state = 'serving';
          resolve();
        }
        watcher.onMessage(this, message);
      });
      this.#child.once('exit', (code, signal) => {
        this.state = 'over';
        this.#release();
        for (const report of this.#reports.values()) report(null);
        reject(new Error(failure || `worker ${number} ended before it was ready (${signal ?? code})`));
        watcher.onExit(this, { code, signal });
      });
    });
    this.ready.catch(() => {});
    this.#exited = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    // It may end while it is being told something: its exit says so.
    this.#child.on('error', () => {});
  }

  /** Gives it an end of a pair whose other end a new worker has; `end` is closed here. */
  #link(worker: number, end: Socket | null | undefined): void {
    if (!end) return; // the new one could not be started
    const { _handle: handle } = end as unknown as { _handle: SocketHandle };
    // Whatever comes is for whom it is given to.
    handle.readStop?.();
    this.send({ kind: 'link', worker }, handle, () => end.destroy());
  }

  /** `done`: the socket, if any, has left or never will. */
  send(message: ToWorker, socket?: SocketHandle, done: () => void = () => {}): void {
    const send = () => {
      if (this.#child.connected) this.#child.send(message, socket as never, {}, done);
      else done();
    };
    if (this.#held === null) send();
    else this.#held.push(send);
  }

  #release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const send of held) send();
  }

  /** How it is; null: it does not say. */
  report(withMetrics: boolean): Promise<WorkerReport | null> {
    if (this.state === 'starting' || this.state === 'over') return Promise.resolve(null);
    const id = this.#nextReport++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => done(null), REPORT_TIMEOUT_MS);
      const done = (report: WorkerReport | null) => {
        clearTimeout(timer);
        this.#reports.delete(id);
        resolve(report);
      };
      this.#reports.set(id, done);
      this.send({ kind: 'report', id, withMetrics });
    });
  }

  /** Ends it as SIGTERM would; resolves when it is gone. */
  async stop(drainMs: number): Promise<void> {
    if (this.state === 'starting') this.#child.kill('SIGTERM');
    else this.send({ kind: 'stop', drainMs });
    if (this.state !== 'over') await this.#exited;
  }

  /** Ends it at once: its journal says what it had counted. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
