import { parseArgs } from 'node:util';
import { type Kind, PARSER_KINDS, SOCKET_KINDS } from './input.js';

/** What `npm run fuzz` was asked for. */
export interface Options {
  inputs: number;
  /** Of the first input; the others follow it. */
  seed: number;
  kinds: readonly Kind[];
  workers: number;
}

const KINDS: readonly Kind[] = [...SOCKET_KINDS, ...PARSER_KINDS];

export const USAGE = `npm run fuzz -- [options]

Plays random inputs, sound ones and spoilt ones, at a real gateway in a process of its own and at its parsers, and fails
when it crashes, grants something without a login, keeps a descriptor, grows, or no longer serves a good client.

  --inputs <n>     inputs to play (default 1000000); 1: replays a seed, and says what it is
  --seed <n>       seed of the first one; the others follow it (default: drawn from the clock)
  --kinds <list>   comma separated (default: all of them)
                   through sockets: ${SOCKET_KINDS.join(', ')}
                   at parsers: ${PARSER_KINDS.join(', ')}
  --workers <n>    gateways at once, each with a client process (default 2)
  --help

A seed is the same input only with the same --kinds.`;

/** Throws an Error with what is wrong. */
export function readOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      inputs: { type: 'string', default: '1000000' },
      seed: { type: 'string' },
      kinds: { type: 'string' },
      workers: { type: 'string', default: '2' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const number = (name: 'inputs' | 'seed' | 'workers', min: number) => {
    const text = values[name] ?? '';
    if (!/^\d{1,12}$/.test(text) || Number(text) < min)
      throw new Error(`--${name} must be a whole number of at least ${min}`);
    return Number(text);
  };
  const named = values.kinds?.split(',') ?? KINDS;
  const unknown = named.filter((kind) => !(KINDS as readonly string[]).includes(kind));
  if (unknown.length > 0) throw new Error(`--kinds: ${unknown.join(', ')} unknown`);
  return {
    inputs: number('inputs', 1),
    seed: values.seed === undefined ? Date.now() : number('seed', 0),
    // In one order, so that the same kinds give the same inputs.
    kinds: KINDS.filter((kind) => named.includes(kind)),
    workers: number('workers', 1),
  };
}

/** The command that plays these seeds again. */
export function replayCommand(kinds: readonly Kind[], first: number, end: number): string {
  const chosen = kinds.length === KINDS.length ? '' : ` --kinds ${kinds.join()}`;
  return `npm run fuzz -- --inputs ${end - first} --seed ${first}${chosen}`;
}
