import type { LinksStatus } from './links/gateway-links.js';
import {
  type PrivateServer,
  type PrivateServerOptions,
  startPrivateServer as startServer,
} from './runtime/private-server.js';

/** What `/status` answers: for people and scripts on the same machine. Of several workers together it is the sums. */
export interface GatewayStatus {
  gatewayId: string;
  epoch: string;
  uptimeSeconds: number;
  draining: boolean;
  tunnels: number;
  streams: number;
  connections: number;
  bytesUp: number;
  bytesDown: number;
  /** Meters that Postgres has not committed the last count of. */
  unsettledMeters: number;
  journalOk: boolean;
  /** With other gateways; left out: there are none, or of several workers each has its own. */
  links?: LinksStatus;
  /** Of each worker that answers; left out: there is one process. */
  workers?: Array<GatewayStatus & { worker: number; pid: number }>;
}

/** The gateway's private port. */
export function startPrivateServer(
  options: Omit<PrivateServerOptions, 'status'> & { status: () => GatewayStatus | Promise<GatewayStatus> },
): Promise<PrivateServer> {
  return startServer(options);
}
