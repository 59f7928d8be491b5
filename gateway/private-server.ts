import {
  type PrivateServer,
  type PrivateServerOptions,
  startPrivateServer as startServer,
} from './runtime/private-server.js';

/** What `/status` answers: for people and scripts on the same machine. */
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
}

/** The gateway's private port. */
export function startPrivateServer(
  options: Omit<PrivateServerOptions, 'status'> & { status: () => GatewayStatus },
): Promise<PrivateServer> {
  return startServer(options);
}
