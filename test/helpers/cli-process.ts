import { once } from 'node:events';
import type { Test } from 'tap';
import { forkCompiled } from './compiled.js';

/** A command line for `cli-child.ts`. */
export interface CliRequest {
  words: readonly string[];
  env: Readonly<Record<string, string>>;
}

/** How a command ended and what it said. */
export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * `traffic-share` in one process for many commands, one at a time: the same commander, settings and code, without the second
 * of processor time that each start takes. Not for commands that end their process, and not for how npm or a shell start it:
 * a test keeps a few real processes beside it.
 */
export function startCli(t: Test): (words: readonly string[], env: CliRequest['env']) => Promise<CliResult> {
  const child = forkCompiled('test/helpers/cli-child', []);
  const exited = once(child, 'exit');
  t.teardown(() => child.kill('SIGKILL'));
  let last: Promise<unknown> = Promise.resolve();
  return (words, env) => {
    const result = last.then(async () => {
      child.send({ words, env } satisfies CliRequest);
      const ended = exited.then(() => {
        throw new Error(`traffic-share ${words.join(' ')} ended its process`);
      });
      const [answer] = await Promise.race([once(child, 'message'), ended]);
      return answer as CliResult;
    });
    last = result.catch(() => {});
    return result;
  };
}
