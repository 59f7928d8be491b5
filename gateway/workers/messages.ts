/** What a gateway's parent process and its workers tell each other; plain data, some with a socket. */
import type { GatewayRun } from '../live/records.js';
import type { GatewayStatus } from '../private-server.js';
import type { ProcessMetrics } from './merged-metrics.js';

/** A device that has come: its id, its exit and when, wall clock. */
export type DeviceCame = readonly [deviceId: string, exit: string, connectedAtMs: number];

/** Tunnels that have come and gone at a worker. */
export interface DevicesMessage {
  kind: 'devices';
  came: readonly DeviceCame[];
  gone: readonly string[];
}

/** How a worker is, when it is asked. */
export interface WorkerReport {
  pid: number;
  /** null: nobody asked for them. They cost more than all the rest. */
  metrics: ProcessMetrics | null;
  status: GatewayStatus;
  ailments: string[];
}

/** The listening ports of a gateway: a socket goes with each. */
export type PortName = 'proxy' | 'tunnel' | `dedicated-${number}`;

/** A descriptor of the process, and the worker at the other end. */
export interface Link {
  worker: number;
  fd: number;
}

export type ToWorker =
  | { kind: 'port'; name: PortName }
  /**
   * All ports were sent. `epoch`: which it is to be known by. `links`: descriptors that were opened for channels to other workers. `settle`: there are none of
   * both, and what the journal holds is all that is to be done.
   */
  | { kind: 'start'; worker: number; workers: number; epoch: string; links: readonly Link[]; settle: boolean }
  /** A new worker is at the other end of the socket that goes with it. */
  | { kind: 'link'; worker: number }
  /** Who takes connections now. */
  | { kind: 'serving'; workers: readonly number[] }
  /** That run of a worker holds nothing any more for devices that came from it. */
  | { kind: 'freed'; run: GatewayRun }
  /** The process of that run of a worker has ended. */
  | { kind: 'over'; run: GatewayRun }
  | ({ from: number } & DevicesMessage)
  | { kind: 'report'; id: number; withMetrics: boolean }
  | { kind: 'stop'; drainMs: number };

export type FromWorker =
  /** It listens to what it is told. */
  | { kind: 'here' }
  /** It serves. */
  | { kind: 'ready' }
  /** The process before it, of a gateway that ended as a whole, was that run. */
  | { kind: 'over'; run: GatewayRun }
  /** It could not start. */
  | { kind: 'failed'; message: string }
  /** For the one to which devices came: what was held for them here is free in Redis. */
  | { kind: 'freed'; to: number }
  /** It takes no more connections, and ends. */
  | { kind: 'leaving' }
  /** Everything in the journal is booked. */
  | { kind: 'settled' }
  /** For all others, or for the one named. */
  | ({ to?: number } & DevicesMessage)
  | { kind: 'report'; id: number; report: WorkerReport };
