import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { runProgram } from '../helpers/programs.js';

/** How a command ended; `code` is null while it goes on. */
export interface Ran {
  code: number | null;
  out: string;
  err: string;
}

/** Somebody at the keyboard: writes lines to the command's input. */
export type Typist = (type: (line: string) => Promise<unknown>) => Promise<unknown>;

export interface RunOptions {
  /** Who answers the command's questions; without one its input is empty. */
  typist?: Typist;
  /** The command goes on: it is left running once this resolves. */
  untilReady?: () => Promise<unknown>;
  /** It wants a terminal. */
  terminal?: boolean;
}

/** A bash that a document's commands are given to, one after the other: what one sets the next one sees. */
export class Shell {
  readonly #bash: ChildProcess;
  readonly #folder: string;
  readonly #ended: AsyncIterator<string>;
  readonly #exited: Promise<unknown>;
  readonly #inputs: FileHandle[] = [];
  #count = 0;

  /** `folder`: for what commands print. `cwd`: where they run. */
  constructor(folder: string, cwd: string, env: Readonly<Record<string, string>>) {
    this.#folder = folder;
    this.#bash = spawn('bash', [], {
      cwd,
      env,
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
      detached: true, // a group of its own: what it left running ends with it
    });
    this.#exited = once(this.#bash, 'exit');
    this.#ended = createInterface({ input: this.#bash.stdio[3] as Readable })[Symbol.asyncIterator]();
  }

  /** Runs a command to its end, or until it is ready. */
  async run(command: string, options: RunOptions = {}): Promise<Ran> {
    const base = join(this.#folder, String(++this.#count));
    const read = (name: string) => readFileSync(`${base}.${name}`, 'utf8');
    for (const name of ['out', 'err']) writeFileSync(`${base}.${name}`, '');
    const input = options.typist || options.terminal ? `${base}.in` : '/dev/null';
    if (input !== '/dev/null') await runProgram('mkfifo', [input]);
    const written = options.terminal ? `script -qec ${quoted(command)} /dev/null` : command;
    const ending = options.untilReady ? '&' : "; printf '%s\\n' $? >&3";
    this.#bash.stdin?.write(`{ ${written}\n} <${input} >${base}.out 2>${base}.err 3>&- ${ending}\n`);
    if (input !== '/dev/null') {
      const keyboard = await open(input, 'w');
      this.#inputs.push(keyboard); // a terminal stays open: somebody sits there
      await options.typist?.((line) => keyboard.write(`${line}\n`));
    }
    if (options.untilReady) {
      await options.untilReady().catch((error: Error) => {
        throw new Error(`${error.message}:\n${read('out')}${read('err')}`);
      });
      return { code: null, out: read('out'), err: read('err') };
    }
    const { value, done } = await this.#ended.next();
    return { code: done ? Number.NaN : Number(value), out: read('out'), err: read('err') };
  }

  /** Ends it and all that it started and that still runs. */
  async stop(): Promise<void> {
    try {
      process.kill(-(this.#bash.pid as number), 'SIGKILL');
    } catch {
      // nobody is left
    }
    await this.#exited;
    for (const input of this.#inputs) await input.close();
  }
}

/** As one word of a shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
