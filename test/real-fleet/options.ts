import { parseArgs } from 'node:util';

/** What `npm run test:fleet` was asked for. */
export interface FleetOptions {
  minutes: number;
  seed: number;
  agents: number;
  gateways: number;
  connectionsPerS: number;
  /** Null: nowhere. */
  out: string | null;
  logs: string | null;
}

export const USAGE = `npm run test:fleet -- [options]

A fleet on loopback: gateways joined by links, two control planes, a Redis Cluster, Postgres, devices' agents, HAProxy in front.
Mixed traffic runs while gateways are drained, killed and restarted in turn, control planes as well, while buyers, tokens,
devices and users are switched off, and at the end while Redis is away. Needs redis-server and haproxy. Ends with 0 when:

  every byte that was relayed is booked, none twice; what a fault may cost beyond is bounded; the ledger proves itself
  while a gateway is drained no connection is refused and no stream cut
  sessions of a killed gateway's devices are without service for at most 3 s
  what is switched off is over on every gateway within a second, and without Redis within TS_SNAPSHOT_TERM_MS
  a minute after the traffic no stream, claim or lease is left

  --minutes N      of traffic (10); starting, and looking for what is left, come on top
  --agents N       devices (300), 20 or more
  --gateways N     gateways (3), 2 or more
  --rate N         new connections a second beside those of named sessions (6)
  --seed N         of the traffic (1)
  --out FILE       writes the report there as well (Markdown)
  --logs FILE      keeps what the programs wrote there
  --help`;

/** Throws an Error with what is wrong. */
export function readOptions(args: readonly string[]): FleetOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: '10' },
      agents: { type: 'string', default: '300' },
      gateways: { type: 'string', default: '3' },
      rate: { type: 'string', default: '6' },
      seed: { type: 'string', default: '1' },
      out: { type: 'string' },
      logs: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const number = (name: 'minutes' | 'agents' | 'gateways' | 'rate' | 'seed', min: number) => {
    const value = Number(values[name]);
    if (!(value >= min)) throw new Error(`--${name} must be a number of at least ${min}`);
    return value;
  };
  return {
    minutes: number('minutes', 0.1),
    agents: Math.round(number('agents', 20)),
    gateways: Math.round(number('gateways', 2)),
    connectionsPerS: number('rate', 0.1),
    seed: number('seed', 0),
    out: values.out ?? null,
    logs: values.logs ?? null,
  };
}
