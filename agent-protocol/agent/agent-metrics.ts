import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Registry } from 'prom-client';
import type { Agent, AgentState } from './agent.js';

/** What the metrics are read from. */
export type MeasuredAgent = Pick<Agent, 'state' | 'counters' | 'figures'>;

const STATES: readonly AgentState[] = ['starting', 'connecting', 'online', 'waiting', 'refused', 'ended'];
/** How exactly the event loop's lag is sampled, ms; longer sampling costs less. */
const LAG_RESOLUTION_MS = 20;

/**
 * The agent's metrics, read when they are asked for. `prom` is prom-client, which is loaded only where metrics are wanted;
 * `lagSeconds` tells the worst lag of the event loop since it was asked last.
 */
export function agentMetrics(
  prom: typeof import('prom-client'),
  agent: MeasuredAgent,
  lagSeconds: () => number,
): Registry {
  const registry = new prom.Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number) =>
    new prom.Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  const counter = (name: string, help: string, read: () => number) =>
    new prom.Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  const counters = (
    name: string,
    help: string,
    label: string,
    read: () => Iterable<readonly [string, number]>,
  ) =>
    new prom.Counter({
      name,
      help,
      registers,
      labelNames: [label],
      collect() {
        this.reset();
        for (const [value, count] of read()) this.inc({ [label]: value }, count);
      },
    });
  new prom.Gauge({
    name: 'ts_agent_state',
    help: '1 for the state that the agent is in, 0 for the others',
    registers,
    labelNames: ['state'],
    collect() {
      for (const state of STATES) this.set({ state }, agent.state === state ? 1 : 0);
    },
  });
  counter('ts_agent_tunnels_total', 'Tunnels that came up; each after the first is a reconnection', () => {
    return agent.counters.tunnelsTotal;
  });
  counters('ts_agent_troubles_total', 'Starts that were refused and tunnels that were lost', 'code', () => {
    return agent.figures.troubles;
  });
  gauge('ts_agent_streams', 'Streams that are dialled or relayed now', () => agent.counters.streamsOpen);
  counter('ts_agent_streams_total', 'Streams that gateways asked for', () => agent.counters.streamsTotal);
  counters('ts_agent_dials_total', 'What gateways were answered', 'result', () => agent.figures.dials);
  counter('ts_agent_bytes_up_total', 'Payload from buyers to destinations', () => agent.counters.bytesUp);
  counter('ts_agent_bytes_down_total', 'Payload from destinations to buyers', () => agent.counters.bytesDown);
  counter('ts_agent_datagrams_dropped_total', 'Datagrams that came to nothing', () => {
    return agent.counters.datagramsDropped;
  });
  counters('ts_agent_credit_stalls_total', 'Times a stream stood for want of window', 'direction', () => {
    const { up, down } = agent.figures.stalls;
    return [
      ['up', up],
      ['down', down],
    ];
  });
  gauge('ts_agent_loop_lag_seconds', 'Longest that the event loop was late since the last look', lagSeconds);
  return registry;
}

/** Metrics that are being served. */
export interface MetricsServer {
  readonly port: number;
  stop(): void;
}

/**
 * Serves `/metrics` on 127.0.0.1, under no other name, so that no web page reads it by a name of its own. `port` 0: any
 * free one. Rejects when the port is taken, or prom-client is not installed.
 */
export async function serveAgentMetrics(agent: MeasuredAgent, port: number): Promise<MetricsServer> {
  const prom = await import('prom-client');
  const lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
  lag.enable();
  const registry = agentMetrics(prom, agent, () => {
    // What is measured is the time between two samples, which are so long apart without any lag
    const seconds = Math.max(0, lag.max / 1e9 - LAG_RESOLUTION_MS / 1e3);
    lag.reset();
    return seconds;
  });
  prom.collectDefaultMetrics({ register: registry });
  const server = createServer((request, response) => {
    const end = (status: number, text = '') => {
      response.writeHead(status, { 'content-type': registry.contentType, connection: 'close' }).end(text);
    };
    const { host = '' } = request.headers;
    if (!/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(host)) return end(421);
    if (request.url !== '/metrics') return end(404);
    registry.metrics().then(
      (text) => end(200, text),
      () => end(500),
    );
  });
  server.headersTimeout = 5_000;
  server.requestTimeout = 5_000;
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(port, '127.0.0.1', () => done());
  });
  server.unref();
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      lag.disable();
      server.closeAllConnections();
      server.close();
    },
  };
}
