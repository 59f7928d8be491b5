import type { RedisUse } from './redis.js';

/** What happened in one phase. */
export interface PhaseFigures {
  phase: string;
  /** Simulated. */
  seconds: number;
  gateways: number;
  devicesOnline: number;
  devicesPerGateway: { least: number; median: number; most: number };
  /** Buyers' connections by what came of them: `OK`, a code, or `gateway_gone`: a gateway that balancers thought alive. */
  connections: Record<string, number>;
  /** Of those that came about: through a device of another gateway, and how often others were asked. */
  linkedShare: number;
  asked: number;
  /** Exits that a buyer holds at the end, and that have a stream. */
  exitsHeld: number;
  exitsInUse: number;
  /** Processor time of this machine for one request, all of its asking included, µs. */
  allocationCpuUs: { p50: number; p99: number };
  /** To Redis, per simulated second, by kind of key. */
  redis: Record<string, { commands: number; bytesIn: number; bytesOut: number }>;
  /** What the phase is about, by name; times in ms. */
  events: Record<string, number>;
}

export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

export const ascending = (numbers: Iterable<number>) => [...numbers].sort((a, b) => a - b);

export function perSecond(use: Map<string, RedisUse>, seconds: number): PhaseFigures['redis'] {
  const rows = [...use].sort(([, a], [, b]) => b.commands - a.commands);
  return Object.fromEntries(
    rows.map(([kind, { commands, bytesIn, bytesOut }]) => [
      kind,
      {
        commands: Math.round(commands / seconds),
        bytesIn: Math.round(bytesIn / seconds),
        bytesOut: Math.round(bytesOut / seconds),
      },
    ]),
  );
}

const whole = (n: number) => Math.round(n).toLocaleString('en-US');
const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);

/** As Markdown. */
export function describe(figures: PhaseFigures): string {
  const { phase, seconds, gateways, devicesOnline, devicesPerGateway: per, connections, events } = figures;
  const total = Object.values(connections).reduce((a, b) => a + b, 0);
  const came = Object.entries(connections).map(([code, n]) => `${code} ${whole(n)}`);
  const redis = Object.entries(figures.redis);
  const sum = (of: 'commands' | 'bytesIn' | 'bytesOut') => redis.reduce((a, [, use]) => a + use[of], 0);
  return [
    `### ${phase}`,
    '',
    `${seconds} s; ${gateways} gateways, ${whole(devicesOnline)} devices (${whole(per.least)} to ${whole(per.most)} each, median ${whole(per.median)}).`,
    ...(total > 0
      ? [
          `Connections: ${came.join(', ')}; ${(100 * figures.linkedShare).toFixed(1)} % over a link, ${whole(figures.asked)} questions to other gateways.`,
          `Exits held ${whole(figures.exitsHeld)}, in use ${whole(figures.exitsInUse)}. A request cost ${figures.allocationCpuUs.p50.toFixed(0)} µs of processor time (p99 ${figures.allocationCpuUs.p99.toFixed(0)}).`,
        ]
      : []),
    ...Object.entries(events).map(
      ([name, value]) => `${name}: ${Number.isNaN(value) ? 'not within this phase' : whole(value)}.`,
    ),
    '',
    '| Redis, per second | commands | MB in | MB out |',
    '|---|---|---|---|',
    ...redis.map(
      ([kind, use]) =>
        `| ${kind} | ${whole(use.commands)} | ${megabytes(use.bytesIn)} | ${megabytes(use.bytesOut)} |`,
    ),
    `| all | ${whole(sum('commands'))} | ${megabytes(sum('bytesIn'))} | ${megabytes(sum('bytesOut'))} |`,
    '',
  ].join('\n');
}
