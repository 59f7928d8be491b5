import { parseArgs } from 'node:util';
import { CommandFailure } from './command-failure.js';

/** Options of a command, by name: `true` for a switch, else the name of its value in the help text. */
export type CommandOptions = Readonly<
  Record<string, { readonly value: string | true; readonly help: string }>
>;

/** A command of `traffic-share agent`, for its help and its reading. */
export interface CommandShape {
  readonly usage: string;
  readonly about: string;
  readonly options: CommandOptions;
  /** Words that may follow, `show` and the like. */
  readonly words?: readonly string[];
}

/** What a command line says. */
export interface CommandInput {
  readonly help: boolean;
  readonly word: string | null;
  value(name: string): string | null;
  isSet(name: string): boolean;
}

/** Options that every command has. */
const COMMON: CommandOptions = {
  'state-dir': {
    value: 'path',
    help: 'folder of the agent, TS_STATE_DIR (default ~/.local/state/traffic-share)',
  },
  help: { value: true, help: 'this text' },
};

/** Reads a command line. Throws a CommandFailure that says what is wrong. */
export function readCommand(name: string, shape: CommandShape, argv: readonly string[]): CommandInput {
  const options = { ...shape.options, ...COMMON };
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: Object.fromEntries(
        Object.entries(options).map(([flag, { value }]) => [
          flag,
          {
            type: value === true ? 'boolean' : 'string',
            ...(flag === 'help' ? { short: 'h' } : {}),
          } as const,
        ]),
      ),
    });
  } catch (error) {
    throw new CommandFailure('failed', `${(error as Error).message}\nSee traffic-share agent ${name} --help`);
  }
  const { values, positionals } = parsed;
  const [word = null, ...more] = positionals;
  if (more.length > 0 || (word !== null && !(shape.words ?? []).includes(word)))
    throw new CommandFailure(
      'failed',
      `What is "${more[0] ?? word}"? See traffic-share agent ${name} --help`,
    );
  return {
    help: values.help === true,
    word,
    value: (flag) => (typeof values[flag] === 'string' ? (values[flag] as string) : null),
    isSet: (flag) => values[flag] === true,
  };
}

/** Text of `--help`. */
export function commandHelp(shape: CommandShape): string {
  const rows = Object.entries({ ...shape.options, ...COMMON }).map(([flag, { value, help }]) => {
    const head = value === true ? `--${flag}` : `--${flag} <${value}>`;
    return `  ${head.padEnd(28)} ${help}`;
  });
  return `Usage: traffic-share agent ${shape.usage}\n\n${shape.about}\n\nOptions:\n${rows.join('\n')}\n`;
}
