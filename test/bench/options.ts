import { parseArgs } from 'node:util';
import {
  LOAD_ARGUMENTS,
  LOAD_PHASES,
  LOAD_USAGE,
  type LoadOptions,
  type LoadPhase,
  readLoadOptions,
} from './load/load-options.js';

export const PHASES = ['bulk', 'connect', 'latency', 'rate', 'echo', 'delay', 'memory'] as const;
/** Alone only: the gateway is started with a switch that no other figure should have. */
const METERING = 'metering';
export type Phase = (typeof PHASES)[number] | LoadPhase | typeof METERING;
/** All names that `--only` knows. */
const NAMES = [...PHASES, ...LOAD_PHASES, METERING] as const;

/** How long and how much; every figure of the table is the median of `repeats` windows. */
export interface Options {
  only: readonly Phase[];
  /** Ids of systems; empty: all. */
  systems: readonly string[];
  repeats: number;
  /** Streams of the bulk phase: one measurement for each. */
  streams: readonly number[];
  /** Time for windows and buffers to grow before a bulk window, and the window itself. */
  bulkWarmMs: number;
  bulkMs: number;
  /** Connections in flight, connections before the first window, and the window. */
  concurrency: number;
  warmConnections: number;
  connectMs: number;
  latencyMs: number;
  /** The open-loop phase: requests that begin each second, come what may, and for how long. */
  ratePerSecond: number;
  rateMs: number;
  /** The small stream beside bulk ones: payload of a round trip, and for how long. */
  echoBytes: number;
  echoMs: number;
  /** The long line: its rates in Mbit/s, time for windows to grow, and the window. */
  lineRates: readonly number[];
  delayWarmMs: number;
  delayMs: number;
  /** Of the phases storm, soak, overload and memory. */
  load: LoadOptions;
  /** No peers: Traffic Share alone is put under load. */
  alone: boolean;
  /** Files to write: `.json` or `.md`. */
  out: readonly string[];
  /** Folder for an SVG of each figure; null: none. */
  plots: string | null;
  /** Run in a network namespace of its own (root, Linux): reno instead of the host's bbr, which paces loopback. */
  netns: boolean;
  quick: boolean;
}

export const USAGE = `npm run bench -- [options]

  --only <phase,…>      ${PHASES.join(', ')} (default: all), or metering alone: what it costs
  --systems <id,…>      traffic-share, direct, openssh, haproxy-splice, haproxy, dante, microsocks, proxy-chain, for
                        the phase delay also line; and traffic-share-tls (tunnel in TLS), traffic-share-workers (two
                        gateway workers) and traffic-share-linked (the device at another gateway), which are measured
                        only when they are named
  --quick               short windows, 2 repeats: some 5 minutes, for a look; the full run takes some 30
  --repeats <n>         windows a figure is the median of (default 5)
  --out <file>          write results: .md for people, .json for programs; may be given twice
  --plots <folder>      write an SVG of each figure
  --netns               run in a network namespace of its own (root, Linux)
${LOAD_USAGE}`;

/** Reads the command line. Throws an Error with a sentence for people. */
export function readOptions(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string', multiple: true },
      systems: { type: 'string', multiple: true },
      quick: { type: 'boolean', default: false },
      repeats: { type: 'string' },
      out: { type: 'string', multiple: true },
      plots: { type: 'string' },
      netns: { type: 'boolean', default: false },
      ...LOAD_ARGUMENTS,
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  const words = (lists: string[] | undefined) =>
    (lists ?? []).flatMap((list) => list.split(',')).filter(Boolean);
  const only = words(values.only).map((word) => {
    const phase = NAMES.find((name) => name === word);
    if (phase === undefined) throw new Error(`--only ${word}: one of ${NAMES.join(', ')}`);
    return phase;
  });
  if (only.includes(METERING) && only.length > 1) throw new Error(`--only ${METERING}: alone only`);
  const isLoad = (phase: Phase) => phase === 'memory' || LOAD_PHASES.some((name) => name === phase);
  const alone = only.length > 0 && only.every(isLoad);
  const heavy = only.find((phase) => phase !== 'memory' && isLoad(phase));
  if (heavy !== undefined && !alone)
    throw new Error(`--only ${heavy}: beside ${LOAD_PHASES.join(', ')} and memory only`);
  const quick = values.quick;
  const repeats = Number(values.repeats ?? (quick ? 2 : 5));
  if (!Number.isInteger(repeats) || repeats < 1) throw new Error('--repeats: a whole number from 1');
  const out = values.out ?? [];
  for (const file of out) if (!/\.(json|md)$/.test(file)) throw new Error(`--out ${file}: .json or .md`);
  return {
    only: only.length > 0 ? only : PHASES,
    systems: words(values.systems),
    repeats,
    streams: quick ? [8] : [1, 8, 64],
    bulkWarmMs: quick ? 300 : 700,
    bulkMs: quick ? 800 : 2_000,
    concurrency: 64,
    warmConnections: quick ? 2_000 : 10_000,
    connectMs: quick ? 1_000 : 2_500,
    latencyMs: quick ? 500 : 1_500,
    ratePerSecond: 500,
    rateMs: quick ? 2_000 : 6_000,
    echoBytes: 1_024,
    echoMs: quick ? 1_000 : 3_000,
    lineRates: [100, 1_000],
    delayWarmMs: quick ? 2_000 : 4_000,
    delayMs: quick ? 1_000 : 3_000,
    load: readLoadOptions(values, quick, alone),
    alone,
    out,
    plots: values.plots ?? null,
    netns: values.netns,
    quick,
  };
}
