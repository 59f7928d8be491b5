import { parseArgs } from 'node:util';

/** What `npm run fuzz:api` was asked for. */
export interface Options {
  requests: number;
  /** Of the first request; the others follow it. */
  seed: number;
  /** Longest time that 99 of 100 refused requests may take, ms. */
  refusedP99MsMax: number;
}

export const USAGE = `npm run fuzz:api -- [options]

Sends random requests, drawn from OpenAPI and spoilt in many ways, to a real control plane with Postgres and Redis, as
every role. Fails when one is answered with 5xx or with what is not documented, when refusing takes long, when the
server ends, or when the books do not add up afterwards.

  --requests <n>    how many (default 100000); 1: shows the request and its answer
  --seed <n>        seed of the first one; the others follow it (default: drawn from the clock)
  --p99 <ms>        what 99 of 100 refused requests may take (default 100)
  --help

A seed is the same request only with the same OpenAPI document.`;

/** Throws an Error with what is wrong. */
export function readOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      requests: { type: 'string', default: '100000' },
      seed: { type: 'string' },
      p99: { type: 'string', default: '100' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const number = (name: 'requests' | 'seed' | 'p99', min: number) => {
    const text = values[name] ?? '';
    if (!/^\d{1,12}$/.test(text) || Number(text) < min)
      throw new Error(`--${name} must be a whole number of at least ${min}`);
    return Number(text);
  };
  return {
    requests: number('requests', 1),
    seed: values.seed === undefined ? Date.now() % 1e12 : number('seed', 0),
    refusedP99MsMax: number('p99', 1),
  };
}

/** The command that sends the requests of these seeds again. */
export function replayCommand(first: number, count = 1): string {
  return `npm run fuzz:api -- --requests ${count} --seed ${first}`;
}
