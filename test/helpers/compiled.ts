/** Programs of the tests' own for child processes: as they were compiled with the tests, without tap's loaders. */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { projectPath } from '../../gateway/runtime/project-path.js';

/**
 * The compiled file of a source, `path` from the project's root without its ending. `node test/run.mjs` has just made
 * it; under tap alone it may be older than the source.
 */
export function compiledPath(path: string): string {
  return projectPath(join('dist-programs', `${path}.js`));
}

/** Starts a compiled program with an IPC channel and nothing of the environment but `PATH`. */
export function forkCompiled(path: string, args: string[]): ChildProcess {
  return fork(compiledPath(path), args, {
    execArgv: [],
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
}
