import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import { SocketPairs } from '../../agent-protocol/socket-pair.js';
import type { Allocator } from '../allocation/allocator.js';
import type { CandidateIndex } from '../allocation/candidate-index.js';
import { exitKey } from '../allocation/candidates.js';
import type { Authenticated } from '../listeners/connect-pipeline.js';
import type { HandedRequest, Siblings } from '../listeners/hand-over.js';
import type { GatewayRun } from '../live/records.js';
import type { TunnelRegistry } from '../tunnels/registry.js';
import type { Tunnel } from '../tunnels/tunnel.js';
import { EndedRuns } from './ended-runs.js';
import type { DeviceCame, DevicesMessage, FromWorker } from './messages.js';
import type { PassChannel, PassChannelEvents } from './pass-channel.js';

/** Sends to the parent process; `done` when it has left, or never will. */
export type SendToParent = (message: FromWorker, done?: () => void) => void;

/** What a worker's own part of the gateway is asked and told. */
export interface OwnParts {
  registry: TunnelRegistry;
  index: Pick<CandidateIndex<Tunnel>, 'byExit'>;
  allocator: Pick<Allocator<Tunnel>, 'deviceMoved' | 'heldNoMore'>;
  takeOver(request: HandedRequest, connection: SocketHandle): void;
  isDraining(): boolean;
}

const NONE: ReadonlySet<string> = new Set();

interface Elsewhere {
  worker: number;
  exit: string;
  connectedAtMs: number;
}

/**
 * A worker's view of the others: who takes connections, and which devices they have. Every worker has the same numbers,
 * from 1 to `workers`, so all of them find the same home for a named session.
 */
export class WorkerSiblings implements Siblings {
  readonly pairs = new SocketPairs();
  /** Requests given to others since the start. */
  passed = 0;
  #own: OwnParts | null = null;
  #serving: readonly number[] = [];
  /** To those that live. */
  readonly #channels = new Map<number, Pick<PassChannel, 'pass' | 'close'>>();
  readonly #over = new EndedRuns(() => performance.now());
  readonly #devices = new Map<string, Elsewhere>();
  /** How many of them each worker has. */
  readonly #deviceCounts = new Map<number, number>();
  readonly #byExit = new Map<string, Set<string>>();
  /** To be told at the end of this turn: came, or gone (null). */
  readonly #news = new Map<string, DeviceCame | null>();

  constructor(
    readonly self: number,
    private readonly workers: number,
    private readonly send: SendToParent,
  ) {}

  /** From now on the parts are told what comes, and the others what becomes of our devices. */
  attach(own: OwnParts): void {
    this.#own = own;
    own.registry.watch({
      onTunnel: (tunnel) => this.#tell(tunnel.deviceId, cameOf(tunnel)),
      onTunnelChanged: () => {},
      onTunnelGone: (tunnel) => this.#tell(tunnel.deviceId, null),
    });
  }

  /** Another worker began: what `open` makes leads to it. */
  link(worker: number, open: (events: PassChannelEvents) => Pick<PassChannel, 'pass' | 'close'>): void {
    this.#channels.get(worker)?.close(); // of one that has died
    const channel = open({
      onPassed: (text, connection) => this.#onPassed(JSON.parse(text) as HandedRequest, connection),
      onClosed: () => {
        if (this.#channels.get(worker) === channel) this.#channels.delete(worker);
      },
    });
    this.#channels.set(worker, channel);
  }

  /** Gives and takes nothing any more. */
  close(): void {
    this.pairs.close();
    for (const channel of [...this.#channels.values()]) channel.close();
  }

  /** Which other worker has the device. */
  workerWith(deviceId: string): number | null {
    return this.#devices.get(deviceId)?.worker ?? null;
  }

  /** The process of a worker has ended: what it held in Redis is nobody's. */
  onOver(run: GatewayRun): void {
    this.#over.add(run);
    this.#own?.allocator.heldNoMore(run);
  }

  /** Another worker has given back what it held for devices that came here: whoever asked too early may ask again. */
  onFreed(run: GatewayRun): void {
    this.#own?.allocator.heldNoMore(run);
  }

  /** Whether that run of a worker is known to have ended; for as long as claims of it may stand. */
  isOver(run: GatewayRun): boolean {
    return this.#over.has(run);
  }

  /** The process before this one has ended: it had the same journal. */
  tellOver(run: GatewayRun): void {
    this.send({ kind: 'over', run });
  }

  homeOf({ params, buyer }: Authenticated): number | null {
    if (params.packageId !== null) return this.#homeOfPackage(buyer.packageRoute);
    if (params.session === null) return this.#own?.registry.size === 0 ? this.#withDevices() : null;
    const first = hashOf(`${buyer.account} ${params.session}`) % this.workers;
    for (let i = 0; i < this.workers; i++) {
      const worker = 1 + ((first + i) % this.workers);
      if (worker === this.self) return null;
      if (this.#takes(worker)) return worker;
    }
    return null;
  }

  /** Of one that has just begun, say: its devices went to others, who have to be asked in any case. */
  #withDevices(): number | null {
    for (const { worker } of this.#devices.values()) if (this.#takes(worker)) return worker;
    return null;
  }

  #takes(worker: number): boolean {
    return this.#serving.includes(worker) && this.#channels.has(worker);
  }

  next(tried: readonly number[]): number | null {
    return this.#nextThat(tried, () => true);
  }

  nextWithDevices(tried: readonly number[]): number | null {
    return this.#nextThat(tried, (worker) => (this.#deviceCounts.get(worker) ?? 0) > 0);
  }

  #nextThat(tried: readonly number[], suits: (worker: number) => boolean): number | null {
    for (let i = 0; i < this.workers; i++) {
      const worker = 1 + ((this.self + i) % this.workers);
      if (worker !== this.self && this.#takes(worker) && !tried.includes(worker) && suits(worker))
        return worker;
    }
    return null;
  }

  pass(to: number, request: HandedRequest, connection: SocketHandle): void {
    const done = (passed: boolean) => {
      if (passed) this.passed++;
      // It is served here then, or by another one: nothing was answered yet.
      else this.#onPassed({ ...request, tried: [...request.tried, to], stays: true }, connection);
    };
    const channel = this.#channels.get(to);
    if (!channel?.pass(JSON.stringify(request), connection, done)) done(false);
  }

  #onPassed(request: HandedRequest, connection: SocketHandle): void {
    const own = this.#own;
    if (own === null) {
      connection.close();
      return;
    }
    const tried = [...request.tried, this.self];
    const other = own.isDraining() ? this.next(tried) : null;
    if (other === null) own.takeOver(request, connection);
    else this.pass(other, { ...request, tried, stays: true }, connection);
  }

  /** Who takes connections now. Whoever is new is told of our devices; what others had is forgotten with them. */
  onServing(workers: readonly number[]): void {
    const before = this.#serving;
    this.#serving = workers;
    for (const [deviceId, { worker }] of this.#devices) if (!workers.includes(worker)) this.#forget(deviceId);
    const came = [...(this.#own?.registry.all() ?? [])].map(cameOf);
    if (came.length === 0) return;
    for (const worker of workers)
      if (worker !== this.self && !before.includes(worker))
        this.send({ kind: 'devices', to: worker, came, gone: [] });
  }

  /** Devices that came to another worker are gone from here: the newest tunnel of a device is the one that counts. */
  onDevices(from: number, { came, gone }: DevicesMessage): void {
    for (const [deviceId, exit, connectedAtMs] of came) {
      this.#forget(deviceId);
      this.#devices.set(deviceId, { worker: from, exit, connectedAtMs });
      this.#deviceCounts.set(from, (this.#deviceCounts.get(from) ?? 0) + 1);
      const onExit = this.#byExit.get(exit);
      if (onExit) onExit.add(deviceId);
      else this.#byExit.set(exit, new Set([deviceId]));
      const own = this.#own?.registry.byDevice(deviceId);
      const isNewer =
        own === undefined ||
        own.connectedAtMs < connectedAtMs ||
        (own.connectedAtMs === connectedAtMs && this.self < from);
      if (!isNewer) continue;
      if (own) this.#own?.registry.replace(own);
      void this.#own?.allocator.deviceMoved(deviceId)?.then(() => this.send({ kind: 'freed', to: from }));
    }
    for (const deviceId of gone) if (this.#devices.get(deviceId)?.worker === from) this.#forget(deviceId);
  }

  #homeOfPackage(route: Authenticated['buyer']['packageRoute']): number | null {
    if (!route) return null;
    const exit = exitKey(route);
    if (this.#own?.index.byExit(exit, NONE)) return null;
    for (const deviceId of this.#byExit.get(exit) ?? []) return this.workerWith(deviceId);
    return null;
  }

  #forget(deviceId: string): void {
    const known = this.#devices.get(deviceId);
    if (known === undefined) return;
    this.#devices.delete(deviceId);
    this.#deviceCounts.set(known.worker, (this.#deviceCounts.get(known.worker) ?? 1) - 1);
    const onExit = this.#byExit.get(known.exit);
    onExit?.delete(deviceId);
    if (onExit?.size === 0) this.#byExit.delete(known.exit);
  }

  #tell(deviceId: string, news: DeviceCame | null): void {
    if (this.#news.size === 0) setImmediate(() => this.#tellNews());
    this.#news.set(deviceId, news);
  }

  #tellNews(): void {
    const came: DeviceCame[] = [];
    const gone: string[] = [];
    for (const [deviceId, news] of this.#news) {
      if (news === null) gone.push(deviceId);
      else came.push(news);
    }
    this.#news.clear();
    this.send({ kind: 'devices', came, gone });
  }
}

function cameOf(tunnel: Tunnel): DeviceCame {
  return [tunnel.deviceId, exitKey(tunnel), tunnel.connectedAtMs];
}

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
