import { parseArgs } from 'node:util';
import { catalogue } from './catalogue.js';

/** What `npm run test:faults` was asked for. */
export interface Options {
  faults: readonly string[];
  seeds: readonly number[];
  workers: number;
  scale: number;
  out: string | null;
  /** Where the logs of systems that failed are kept; null: nowhere. */
  logs: string | null;
}

export const USAGE = `npm run test:faults -- [options]

Breaks a running system in every way of the list, several times each, and proves that no byte is lost, none is booked
twice and no buyer overdrawn. Needs redis-server and redis-cli; with the right to mount it fills a disk as well.

  --only <ids>      comma separated: ${catalogue.map((f) => f.id).join(', ')}
  --seeds <n>       runs of each fault (default 20); 8-14: those of these seeds
  --seed <n>        only this seed: replays a failure
  --workers <n>     systems at once (default 3; each takes about 1 GB of memory)
  --scale <x>       outages last x times as long as documented (default 1)
  --out <file>      writes the table there (Markdown)
  --logs <folder>   keeps the programs' logs of failures there
  --help`;

/** Throws an Error with what is wrong. */
export function readOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' },
      seeds: { type: 'string', default: '20' },
      seed: { type: 'string' },
      workers: { type: 'string', default: '3' },
      scale: { type: 'string', default: '1' },
      out: { type: 'string' },
      logs: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const faults = values.only?.split(',') ?? catalogue.map((f) => f.id);
  const unknown = faults.filter((id) => !catalogue.some((f) => f.id === id));
  if (unknown.length > 0) throw new Error(`--only: ${unknown.join(', ')} unknown`);
  const number = (name: 'seeds' | 'seed' | 'workers' | 'scale', min: number) => {
    const value = Number(values[name]);
    if (!(value >= min)) throw new Error(`--${name} must be a number of at least ${min}`);
    return value;
  };
  return {
    faults,
    seeds: values.seed === undefined ? seedsOf(values.seeds) : [number('seed', 0)],
    workers: number('workers', 1),
    scale: number('scale', 0.01),
    out: values.out ?? null,
    logs: values.logs ?? null,
  };
}

function seedsOf(text: string): number[] {
  const [, from = '1', to = ''] = /^(?:(\d+)-)?(\d+)$/.exec(text) ?? [];
  const count = Number(to) - Number(from) + 1;
  if (!(count >= 1))
    throw new Error('--seeds must be a number of at least 1, or two with a dash between them');
  return Array.from({ length: count }, (_, i) => Number(from) + i);
}
