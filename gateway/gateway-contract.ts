import type { DedicatedPort } from './listeners/port-protocol.js';
import type { WorkerReport } from './workers/messages.js';
import type { WorkerSeat } from './workers/seat.js';

/** A running gateway, or one worker of it. */
export interface Gateway {
  proxyPort: number;
  /** Those of TS_PROXY_PORTS, in its order. */
  dedicatedPorts: DedicatedPort[];
  tunnelPort: number;
  /** For other gateways; 0: links are off. */
  linkPort: number;
  /** 0: a worker has none. */
  metricsPort: number;
  /** What the private port would tell now; metrics where they are wanted. */
  report(withMetrics: boolean): Promise<WorkerReport>;
  /** Of one that only settles: resolves when all that its journal held is booked. */
  settled(): Promise<void>;
  /**
   * Takes no more connections, asks devices to move, lets live streams finish within `drainMs`, delivers the journal
   * and waits for Postgres to commit it as long as that takes a moment, then closes everything. A second call waits
   * for the first.
   */
  stop(drainMs: number): Promise<void>;
}

/** What a gateway is given beside its settings. */
export interface GatewaySurroundings {
  /** An admin wants this run to end; the caller calls `stop` and ends the process, as for SIGTERM. */
  onDrain?: () => void;
  /** It is one of several workers; left out: it is a gateway by itself. */
  seat?: WorkerSeat;
}
