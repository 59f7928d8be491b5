import { createInterface } from 'node:readline/promises';
import { CommandFailure } from './command-failure.js';

/** Whether a person sits there: what they are shown and what they type goes over a terminal. */
export function isPerson(): boolean {
  return process.stdin.isTTY === true && (process.stdout.isTTY === true || process.stderr.isTTY === true);
}

/** Writes a line for the user. */
export function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}

/** Where a question is seen: standard error, unless that goes elsewhere while standard output is a terminal. */
const screen = () =>
  process.stderr.isTTY !== true && process.stdout.isTTY === true ? process.stdout : process.stderr;

/** Shows what a question is about, where the question will be. */
export function show(text: string): void {
  screen().write(`${text}\n`);
}

/** Asks and reads a line. Throws a CommandFailure when the input ends instead. */
export async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: screen() });
  const ended = new AbortController();
  lines.once('close', () => ended.abort());
  try {
    return (await lines.question(question, { signal: ended.signal })).trim();
  } catch {
    throw new CommandFailure('failed', 'Nothing was entered.');
  } finally {
    lines.close();
  }
}

/** Text in lines of at most `width` columns; empty lines stay. */
export function wrapText(text: string, width = 96): string {
  return text
    .split('\n')
    .map(
      (paragraph) =>
        paragraph.split(' ').reduce(
          (wrapped, word) => {
            const fits = wrapped.column + word.length + 1 <= width;
            return fits
              ? {
                  out: wrapped.out === '' ? word : `${wrapped.out} ${word}`,
                  column: wrapped.column + word.length + 1,
                }
              : { out: `${wrapped.out}\n${word}`, column: word.length };
          },
          { out: '', column: 0 },
        ).out,
    )
    .join('\n');
}
