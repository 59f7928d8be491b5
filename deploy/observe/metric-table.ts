import prom, { type Registry } from 'prom-client';
import { agentMetrics, type MeasuredAgent } from '../../agent-protocol/agent/agent-metrics.js';
import { Measures } from '../../control-plane/measures.js';
import { ControlPlaneMetrics, type ControlPlaneMetricsDeps } from '../../control-plane/metrics.js';
import { exposeLinks } from '../../gateway/links/link-metrics.js';
import {
  exposeDatagrams,
  exposePassed,
  GatewayMetrics,
  type GatewayParts,
  type GaugeReadings,
} from '../../gateway/metrics.js';
import { DatagramTotals } from '../../gateway/relay/datagram-totals.js';
import { systemClock } from '../../gateway/runtime/clock.js';
import { exposeWorker } from '../../gateway/workers/merged-metrics.js';
import { labelOf } from './metric-labels.js';

/** A metric as a process exposes it. */
export interface DescribedMetric {
  process: 'gateway' | 'control plane' | 'agent';
  name: string;
  type: 'counter' | 'gauge' | 'histogram' | 'summary';
  help: string;
  labels: string[];
  /** Series beside `_sum`, `_count` and `+Inf` that a histogram has for each set of labels. */
  buckets: number;
}

/** What a name says of its unit: the first that fits. */
const UNITS: readonly (readonly [name: RegExp, unit: string])[] = [
  [/_bytes_per_second$/, 'bytes/s'],
  [/_bytes(_(up|down|booked|total))*$/, 'bytes'],
  [/_seconds(_total)?$/, 'seconds'],
  [/_micros(_total)?$/, 'micro-dollars'],
];

/** The unit a metric's name says; `1`: a number of things, or a yes and no. */
export function unitOf(name: string): string {
  return UNITS.find(([fits]) => fits.test(name))?.[1] ?? '1';
}

/** Everything the processes expose, those of Node included, without starting them. */
export function describeMetrics(): DescribedMetric[] {
  const nothing = { counts: {} };
  const gateway = new GatewayMetrics(new Proxy({} as GaugeReadings, { get: () => () => 0 }), {
    refusals: () => ({}),
    redis: {},
    registry: { all: () => [], totals: {} },
  } as unknown as GatewayParts).registry;
  exposeDatagrams(gateway, new DatagramTotals());
  exposePassed(gateway, { passed: 0 });
  exposeLinks(gateway, {
    status: { to: [], streamsOut: 0, from: [], streamsIn: 0 },
    asked: new Map(),
    failures: { out: 0, in: 0 },
  });
  exposeWorker(gateway, { serves: true, restarts: 0 });
  const controlPlane = new ControlPlaneMetrics({
    clock: systemClock,
    measures: new Measures(),
    settlement: nothing,
    wallets: nothing,
    usage: nothing,
    jobs: nothing,
    money: {},
    record: {},
    bot: null,
    telegramQueue: null,
  } as unknown as ControlPlaneMetricsDeps).registry;
  const agent = agentMetrics(prom, {} as MeasuredAgent, () => 0);
  return [
    ...ofRegistry('gateway', gateway),
    ...ofRegistry('control plane', controlPlane),
    ...ofRegistry('agent', agent),
  ];
}

function ofRegistry(process: DescribedMetric['process'], registry: Registry): DescribedMetric[] {
  return registry.getMetricsAsArray().map((metric) => {
    const { name, help, type, labelNames, upperBounds } = metric as unknown as {
      name: string;
      help: string;
      type: DescribedMetric['type'];
      labelNames?: string[];
      upperBounds?: number[];
    };
    return { process, name, help, type, labels: [...(labelNames ?? [])], buckets: upperBounds?.length ?? 0 };
  });
}

const HEAD = `# Metrics

Made from the code by \`traffic-share metrics\`; a test asks that it is up to date. Each process has its own private port:
gateways \`TS_METRICS_PORT\` (9464), control planes \`TS_CONTROL_METRICS_PORT\` (9465), agents none unless they are told to, path \`/metrics\`.

- Counters end in \`_total\` and begin at 0 with the process. A unit is the end of the name; money is whole
  micro-dollars (1 USD = 1 000 000), sizes are bytes, times are seconds.
- A figure that is not known (Postgres does not answer) is \`NaN\` or missing, never 0.
- A histogram has \`_bucket\`, \`_sum\` and \`_count\`.
- Labels have few values: never an id, a host, an account or an address. With several workers in one gateway every
  series has the label \`worker\` as well.
`;

/** The table of metrics as Markdown. */
export function metricTable(): string {
  const all = describeMetrics();
  const ours = (process: string) => all.filter((m) => m.process === process && m.name.startsWith('ts_'));
  const nodes = [...new Map(all.filter((m) => !m.name.startsWith('ts_')).map((m) => [m.name, m])).values()];
  return `${HEAD}
## Gateway

${table(ours('gateway'))}
## Control plane

${table(ours('control plane'))}
## Agent

Off by default: \`--metrics-port\` or \`TS_AGENT_METRICS_PORT\`, on 127.0.0.1 alone.

${table(ours('agent'))}
## All: of the process and of Node

${table(nodes)}`;
}

function table(metrics: readonly DescribedMetric[]): string {
  const rows = [...metrics].sort((a, b) => (a.name < b.name ? -1 : 1)).map(row);
  return `| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n${rows.join('')}`;
}

function row({ name, type, help, labels }: DescribedMetric): string {
  const told = labels.map((label) => {
    const values = labelOf(name, label)?.values;
    return values === undefined ? `\`${label}\`` : `\`${label}\`: ${values}`;
  });
  return `| \`${name}\` | ${type} | ${unitOf(name)} | ${told.join('; ') || '–'} | ${help.replaceAll('|', '\\|')} |\n`;
}
