import { Gauge, type Registry } from 'prom-client';

/** A connection to one server, or to a cluster's nodes. */
export interface ShownConnection {
  readonly status: string;
  readonly commandQueue?: { readonly length: number };
  nodes?(): ReadonlyArray<{ readonly commandQueue: { readonly length: number } }>;
}

/** Shows connections to Redis, each by a name of ours. */
export function exposeRedis(
  registry: Registry,
  connections: Readonly<Record<string, ShownConnection>>,
): void {
  const registers = [registry];
  const labelNames = ['connection'];
  const all = Object.entries(connections);
  new Gauge({
    name: 'ts_redis_connected',
    help: '1: the connection to Redis is up',
    labelNames,
    registers,
    collect() {
      for (const [connection, { status }] of all) this.set({ connection }, status === 'ready' ? 1 : 0);
    },
  });
  new Gauge({
    name: 'ts_redis_commands_pending',
    help: 'Commands that Redis has not answered; one that waits for news is always pending',
    labelNames,
    registers,
    collect() {
      for (const [connection, shown] of all) {
        const servers = shown.nodes?.() ?? [shown];
        this.set(
          { connection },
          servers.reduce((sum, { commandQueue }) => sum + (commandQueue?.length ?? 0), 0),
        );
      }
    },
  });
}
