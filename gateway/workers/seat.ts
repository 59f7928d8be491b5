import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import type { GatewayConfig } from '../config.js';
import { linkPortsOfWorker } from '../links/settings.js';
import type { PortName } from './messages.js';
import type { WorkerSiblings } from './siblings.js';

/** A worker's place in its gateway. */
export interface WorkerSeat {
  /** Workers that share the ports. */
  readonly workers: number;
  readonly siblings: WorkerSiblings;
  /** Of this process. */
  readonly epoch: string;
  /** Where its own journal is. */
  readonly journalDir: string;
  /** The gateway's listening sockets. */
  readonly ports: ReadonlyMap<PortName, SocketHandle>;
  /** It takes no connections: what its journal holds is all there is to do. */
  readonly settles: boolean;
}

/**
 * The settings of a worker: the first has the gateway's own name and journal, so that it goes on where a gateway without
 * workers ended, and the other way round; the others have names and folders of their own.
 */
export function configOfWorker(config: GatewayConfig, worker: number): GatewayConfig {
  if (worker === 1) return config;
  return { ...config, gatewayId: `${config.gatewayId}-w${worker}`, ...linkPortsOfWorker(config, worker) };
}

/** The folder of the worker's journal. */
export function journalDirOf({ dataDir }: Pick<GatewayConfig, 'dataDir'>, worker: number): string {
  return worker === 1 ? dataDir : join(dataDir, `w${worker}`);
}

/** Workers beyond the wanted number that have left a journal: it may hold what is not booked. */
export function leftBehind(config: Pick<GatewayConfig, 'dataDir' | 'workers'>): number[] {
  if (!existsSync(config.dataDir)) return [];
  return readdirSync(config.dataDir)
    .map((name) => Number(/^w([1-9]\d{0,3})$/.exec(name)?.[1]))
    .filter((worker) => worker > Math.max(1, config.workers))
    .filter((worker) => existsSync(join(journalDirOf(config, worker), 'meters.journal')))
    .sort((a, b) => a - b);
}
