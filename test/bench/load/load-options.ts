import type { Load } from '../../control-plane/settlement/throughput.js';
import type { AllocationLoad } from '../control/allocation.js';

/** Sizes and durations of the phases that put Traffic Share alone under load. */
export interface LoadOptions {
  control: {
    allocation: AllocationLoad;
    settlement: Load;
    /** Free ones, to be pulled. */
    packages: number;
    /** Each of the windows. */
    pullMs: number;
    /** How long Redis is watched while nothing is asked for. */
    restMs: number;
  };
  storm: {
    devices: number;
    /** Of other devices, while the storm goes on. */
    streams: number;
  };
  soak: {
    devices: number;
    streams: number;
    durationMs: number;
  };
  overload: {
    /** Processes that offer the load. */
    clients: number;
    /** What the gateway is held to, in cores; null: nothing. */
    gatewayCores: number | null;
    /** The load offered, as a multiple of the peak. */
    factor: number;
    /** Closed loop, twice; the better window is the peak. */
    peakMs: number;
    offerMs: number;
    /** At half the peak, before and after. */
    probeMs: number;
  };
  memory: {
    idleTunnels: number;
    idleStreams: number;
    /** How long each is held, in ms; 0: only until its size is read. */
    holdMs: number;
  };
}

/** Phases that are run only when they are named; they can be named together, and with `memory`. */
export const LOAD_PHASES = ['storm', 'soak', 'overload', 'control'] as const;
export type LoadPhase = (typeof LOAD_PHASES)[number];

/** Options of the command line, as `parseArgs` takes them. */
export const LOAD_ARGUMENTS = {
  'storm-devices': { type: 'string' },
  'soak-devices': { type: 'string' },
  'soak-streams': { type: 'string' },
  'soak-s': { type: 'string' },
  clients: { type: 'string' },
  'gateway-cores': { type: 'string' },
  'idle-tunnels': { type: 'string' },
  'idle-streams': { type: 'string' },
  'hold-s': { type: 'string' },
} as const;

export const LOAD_USAGE = `
  Traffic Share alone, minutes each, only when named (together, and with memory, which is larger then):
    --only storm        all devices lose their tunnels at once and dial again; then they vanish and dial again
    --only soak         streams with mixed traffic over many devices for minutes: errors, memory, money
    --only overload     five times what the gateway can do, and what comes after
    --only control      what moves no bytes: allocation, settlement, pull, use of Redis
    --only memory       as in the default run, but 20000 tunnels and 10000 streams, held for 300 s
  --storm-devices <n>   devices of storm (default 5000, quick 300)
  --soak-devices <n>, --soak-streams <n>, --soak-s <seconds>
                        of soak (default 1000, 10000 and 300; quick 40, 400 and 10)
  --clients <n>         processes that offer the load of overload (default 4, quick 2)
  --gateway-cores <n>   what the gateway of overload is held to, such as 0.25: else its clients, on the same machine,
                        take the CPU that it would need (root, Linux)
  --idle-tunnels <n>, --idle-streams <n>, --hold-s <seconds>
                        of memory (beside other phases 2000, 2000 and 0; quick 500, 500 and 3)
`;

/** Fewer streams have no mix. */
const STREAMS_MIN = 40;

type Values = { [Name in keyof typeof LOAD_ARGUMENTS]?: string | undefined };

/** Reads them. `memoryAlone`: no phase of the default run beside it. Throws an Error with a sentence for people. */
export function readLoadOptions(values: Values, quick: boolean, memoryAlone: boolean): LoadOptions {
  const number = (name: keyof Values, standard: number, min: number): number => {
    const value = values[name] === undefined ? standard : Number(values[name]);
    if (!Number.isInteger(value) || value < min) throw new Error(`--${name}: a whole number from ${min}`);
    return value;
  };
  const gatewayCores = values['gateway-cores'] === undefined ? null : Number(values['gateway-cores']);
  if (gatewayCores !== null && !(gatewayCores >= 0.01))
    throw new Error('--gateway-cores: a number from 0.01');
  const large = memoryAlone && !quick;
  const soak = {
    devices: number('soak-devices', quick ? 40 : 1_000, 1),
    streams: number('soak-streams', quick ? 400 : 10_000, STREAMS_MIN),
    durationMs: number('soak-s', quick ? 10 : 300, 2) * 1_000,
  };
  if (soak.devices > soak.streams) throw new Error('--soak-devices: not more than streams');
  return {
    control: {
      allocation: quick
        ? { devices: 2_000, connections: 20_000, claims: 500, concurrency: 64 }
        : { devices: 10_000, connections: 200_000, claims: 5_000, concurrency: 64 },
      settlement: quick
        ? { meters: 1_000, sessions: 50, buyers: 25, rounds: 2 }
        : { meters: 10_000, sessions: 200, buyers: 100, rounds: 5 },
      packages: quick ? 4_000 : 40_000,
      pullMs: quick ? 500 : 4_000,
      restMs: quick ? 3_000 : 15_000,
    },
    storm: { devices: number('storm-devices', quick ? 300 : 5_000, 1), streams: quick ? STREAMS_MIN : 100 },
    soak,
    overload: {
      clients: number('clients', quick ? 2 : 4, 1),
      gatewayCores,
      factor: 5,
      peakMs: quick ? 1_500 : 4_000,
      offerMs: quick ? 2_000 : 8_000,
      probeMs: quick ? 3_000 : 15_000,
    },
    memory: {
      idleTunnels: number('idle-tunnels', quick ? 500 : large ? 20_000 : 2_000, 1),
      idleStreams: number('idle-streams', quick ? 500 : large ? 10_000 : 2_000, 1),
      holdMs: number('hold-s', memoryAlone ? (quick ? 3 : 300) : 0, 0) * 1_000,
    },
  };
}

/** How a soak's streams divide: most idle, a quarter trickling, some small requests, a few bulk. */
export interface Mix {
  idle: number;
  trickle: number;
  request: number;
  bulk: number;
}

/** The mix of so many streams (at least 40); its parts add up to them. */
export function mixOf(streams: number): Mix {
  const bulk = Math.max(2, Math.min(8, Math.round(streams / 1_000)));
  const request = Math.max(2, Math.round(streams * 0.05));
  const trickle = Math.round(streams * 0.25);
  return { idle: streams - trickle - request - bulk, trickle, request, bulk };
}
