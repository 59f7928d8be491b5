import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { bindPort } from '../../agent-protocol/raw-server.js';
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import { dedicatedPorts, type GatewayConfig } from '../config.js';
import type { DedicatedPort } from '../listeners/port-protocol.js';
import type { GatewayRun } from '../live/records.js';
import { drawEpoch } from '../metering/registry.js';
import { type GatewayStatus, startPrivateServer } from '../private-server.js';
import type { Log } from '../runtime/logging.js';
import type { PrivateServer } from '../runtime/private-server.js';
import { EndedRuns } from './ended-runs.js';
import { workersMetrics } from './merged-metrics.js';
import type { FromWorker, PortName, WorkerReport } from './messages.js';
import { configOfWorker, journalDirOf, leftBehind } from './seat.js';
import { WorkerProcess, type WorkerWatcher } from './worker-process.js';

/** Wait before a worker that ended unasked is started again: doubles from the first to the last value. */
const RESTART_MS = [100, 250, 500, 1_000, 2_000, 5_000] as const;
/** A worker that lived so long begins with the first again. */
const STEADY_MS = 60_000;

/** A gateway of several processes. */
export interface WorkersStarted {
  proxyPort: number;
  dedicatedPorts: DedicatedPort[];
  tunnelPort: number;
  metricsPort: number;
}

/**
 * The process above the workers of a gateway. It holds the ports, links the workers to each other and passes messages
 * between them; no connection and no byte of traffic comes here. A worker that ends unasked is started again under its own name, with its own journal.
 */
export class WorkersParent implements WorkerWatcher {
  readonly #ports = new Map<PortName, SocketHandle>();
  readonly #workers = new Map<number, WorkerProcess>();
  /** Starts after the first, by worker, since one lived for STEADY_MS. */
  readonly #restarts = new Map<number, number>();
  /** The same since the parent began. */
  readonly #restartsTotal = new Map<number, number>();
  readonly #over = new EndedRuns(() => performance.now());
  readonly #startedAtMs = Date.now();
  #privateServer: PrivateServer | null = null;
  #started = false;
  #stopping: Promise<void> | null = null;

  /** `onDrained`: admins have ended every worker; the caller ends the process. */
  constructor(
    private readonly config: GatewayConfig,
    private readonly log: Log,
    private readonly onDrained: () => void,
  ) {
    process.once('exit', () => {
      for (const worker of this.#workers.values()) worker.kill();
    });
  }

  /**
   * Rejects with what was wrong, once, whichever worker found it; then nothing is left running. Workers beyond the
   * configured number that have left something in their journals settle it in the background.
   */
  async start(): Promise<WorkersStarted> {
    try {
      const started = await this.#start();
      this.#started = true;
      return started;
    } catch (error) {
      await this.stop(0);
      throw error;
    }
  }

  async #start(): Promise<WorkersStarted> {
    const { config } = this;
    const bind = async (name: PortName, host: string, wanted: number) => {
      const { bound, port } = await bindPort(host, wanted);
      this.#ports.set(name, bound);
      return port;
    };
    const proxyPort = await bind('proxy', config.proxyHost, config.proxyPort);
    const dedicated: DedicatedPort[] = [];
    for (const [index, { port, protocol }] of dedicatedPorts(config).entries())
      dedicated.push({ port: await bind(`dedicated-${index}`, config.proxyHost, port), protocol });
    const tunnelPort = await bind('tunnel', config.tunnelHost, config.tunnelPort);
    this.#privateServer = await startPrivateServer({
      host: config.metricsHost,
      port: config.metricsPort,
      metrics: {
        contentType: 'text/plain; version=0.0.4; charset=utf-8',
        metrics: () => this.#metrics(),
      },
      status: () => this.#status(),
      ailments: () => this.#ailments(),
      isReady: () => !this.#stopping,
      troubles: () => this.#troubles(),
    });
    // What is wrong with the settings shows at the first: it is told once.
    await this.#launch(1, false).ready;
    // Beside the others: until it has begun nobody knows that what was held for its devices is free.
    for (const worker of leftBehind(this.config)) this.#launch(worker, true);
    const others = this.#numbers()
      .slice(1)
      .map((number) => this.#launch(number, false));
    await Promise.all(others.map(({ ready }) => ready));
    return {
      proxyPort,
      dedicatedPorts: dedicated,
      tunnelPort,
      metricsPort: this.#privateServer.port,
    };
  }

  /** Passes the drain to every worker and waits for them; a second call waits for the first. */
  stop(drainMs: number): Promise<void> {
    this.#stopping ??= this.#stop(drainMs);
    return this.#stopping;
  }

  async #stop(drainMs: number): Promise<void> {
    const stopped = [...this.#workers.values()].map((worker) => worker.stop(drainMs));
    // Workers close their copies; with the last one clients are refused instead of left waiting.
    for (const bound of this.#ports.values()) bound.close();
    await Promise.all(stopped);
    await this.#privateServer?.stop();
  }

  #launch(number: number, settles: boolean): WorkerProcess {
    const { workers } = this.config;
    const place = settles
      ? { workers, ports: new Map<PortName, SocketHandle>(), siblings: [] }
      : { workers, ports: this.#ports, siblings: this.#own().filter(({ state }) => state !== 'over') };
    const { gatewayId } = configOfWorker(this.config, number);
    const worker = new WorkerProcess(number, { gatewayId, epoch: drawEpoch() }, settles, place, this);
    this.#workers.set(number, worker);
    for (const run of this.#over.all()) worker.send({ kind: 'over', run });
    return worker;
  }

  onMessage(from: WorkerProcess, message: FromWorker): void {
    switch (message.kind) {
      case 'ready':
      case 'leaving':
        this.#tellWhoServes();
        return;
      case 'freed':
        this.#workers.get(message.to)?.send({ kind: 'freed', run: from.run });
        return;
      case 'over':
        this.#tellOver(message.run);
        return;
      case 'settled':
        // Booked to the last byte: without the folder the next start has nothing to settle.
        rmSync(journalDirOf(this.config, from.number), { recursive: true, force: true });
        this.log.info({ worker: from.number }, 'worker_settled');
        return;
      case 'devices': {
        const { to, came, gone } = message;
        for (const worker of this.#serving())
          if (worker !== from && (to === undefined || to === worker.number))
            worker.send({ kind: 'devices', from: from.number, came, gone });
      }
    }
  }

  onExit(worker: WorkerProcess, how: { code: number | null; signal: NodeJS.Signals | null }): void {
    const { number, settles } = worker;
    const drained = how.code === 0 || worker.left;
    if (drained) this.#workers.delete(number);
    this.#tellOver(worker.run);
    this.#tellWhoServes();
    if (this.#stopping !== null || (!this.#started && !settles)) return;
    if (!drained) void this.#launchAgain(worker, how);
    else if (!settles && !this.#own().some(({ state }) => state !== 'over')) this.onDrained();
  }

  async #launchAgain(
    { number, settles, startedAtMs }: WorkerProcess,
    how: { code: number | null; signal: NodeJS.Signals | null },
  ): Promise<void> {
    if (performance.now() - startedAtMs >= STEADY_MS) this.#restarts.delete(number);
    const restarts = this.#restarts.get(number) ?? 0;
    this.#restarts.set(number, restarts + 1);
    this.#restartsTotal.set(number, (this.#restartsTotal.get(number) ?? 0) + 1);
    const waitMs = RESTART_MS[Math.min(restarts, RESTART_MS.length - 1)] as number;
    this.log.error({ worker: number, ...how, waitMs }, 'worker_ended');
    await delay(waitMs);
    if (this.#stopping !== null) return;
    this.#launch(number, settles).ready.catch((error: Error) =>
      this.log.error({ worker: number, error: error.message }, 'worker_not_started'),
    );
  }

  /** Those that take connections, or did. */
  #own(): WorkerProcess[] {
    return [...this.#workers.values()].filter(({ settles }) => !settles);
  }

  #serving(): WorkerProcess[] {
    return this.#own().filter(({ state }) => state === 'serving');
  }

  #tellOver(run: GatewayRun): void {
    this.#over.add(run);
    for (const worker of this.#own()) worker.send({ kind: 'over', run });
  }

  #tellWhoServes(): void {
    const serving = this.#serving();
    const workers = serving.map(({ number }) => number);
    for (const worker of serving) worker.send({ kind: 'serving', workers });
  }

  async #reports(withMetrics = false): Promise<Array<[number, WorkerReport]>> {
    const asked = [...this.#workers.values()].map(
      async (worker) => [worker.number, await worker.report(withMetrics)] as const,
    );
    return (await Promise.all(asked)).filter(
      (answer): answer is [number, WorkerReport] => answer[1] !== null,
    );
  }

  async #status(): Promise<GatewayStatus> {
    const workers = (await this.#reports()).map(([worker, { pid, status }]) => ({ worker, pid, ...status }));
    const sum = (of: (status: GatewayStatus) => number) =>
      workers.reduce((total, status) => total + of(status), 0);
    return {
      gatewayId: this.config.gatewayId,
      epoch: workers.find(({ worker }) => worker === 1)?.epoch ?? '',
      uptimeSeconds: Math.round((Date.now() - this.#startedAtMs) / 1_000),
      draining: workers.every(({ draining }) => draining),
      tunnels: sum(({ tunnels }) => tunnels),
      streams: sum(({ streams }) => streams),
      connections: sum(({ connections }) => connections),
      bytesUp: sum(({ bytesUp }) => bytesUp),
      bytesDown: sum(({ bytesDown }) => bytesDown),
      unsettledMeters: sum(({ unsettledMeters }) => unsettledMeters),
      journalOk: workers.every(({ journalOk }) => journalOk),
      workers,
    };
  }

  /** What is wrong at those that take connections; clients of the others are taken by these. */
  async #ailments(): Promise<string[]> {
    const reports = new Map(await this.#reports());
    const serving = this.#serving();
    if (serving.length === 0) return ['no worker serves'];
    return serving.flatMap(({ number }) =>
      (reports.get(number)?.ailments ?? ['does not answer']).map((ailment) => `worker ${number}: ${ailment}`),
    );
  }

  /** Workers that are not there. */
  #troubles(): string[] {
    const serving = new Set(this.#serving().map(({ number }) => number));
    return this.#numbers()
      .filter((number) => !serving.has(number))
      .map((number) => `worker ${number}: does not serve`);
  }

  /** Of all that are configured. */
  #numbers(): number[] {
    return Array.from({ length: this.config.workers }, (_, i) => i + 1);
  }

  async #metrics(): Promise<string> {
    const reports = (await this.#reports(true)).map(
      ([number, { metrics }]) => [number, metrics ?? []] as const,
    );
    const serving = new Set(this.#serving().map(({ number }) => number));
    return workersMetrics(
      new Map(reports),
      new Map(
        this.#numbers().map((worker) => [
          worker,
          { serves: serving.has(worker), restarts: this.#restartsTotal.get(worker) ?? 0 },
        ]),
      ),
    );
  }
}
