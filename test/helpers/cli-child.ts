/** The process behind `startCli`: runs one command line after the other, each with an environment of its own. */
import { type Command, CommanderError } from 'commander';
import { buildCli } from '../../deploy/cli.js';
import { EnvironmentError } from '../../gateway/runtime/environment.js';
import type { CliRequest } from './cli-process.js';

const own = { ...process.env };

/** Commander then throws where it would end the process. */
function withoutExit(command: Command): Command {
  command.exitOverride();
  for (const inner of command.commands) withoutExit(inner);
  return command;
}

async function run({ words, env }: CliRequest): Promise<number> {
  for (const name of Object.keys(process.env)) if (!(name in own)) delete process.env[name];
  Object.assign(process.env, env);
  process.exitCode = undefined;
  try {
    await withoutExit(buildCli()).parseAsync(words, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    process.stderr.write(`${error instanceof EnvironmentError ? error.message : (error as Error).stack}\n`);
    return 1;
  }
  return Number(process.exitCode ?? 0);
}

process.on('message', async (request: CliRequest) => {
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    process[name].write = (text: string | Uint8Array) => {
      said[name] += String(text);
      return true;
    };
  const code = await run(request);
  process.send?.({ code, ...said });
});
