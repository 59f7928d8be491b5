/** Programs for child processes as plain JavaScript: they start in 0.1 s, through tap's loader in 2 s. */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import ts from 'typescript';
import { projectPath } from '../../../gateway/runtime/project-path.js';
import { folder } from './harness.js';

const FOLDERS = [
  'agent-protocol',
  'gateway/live',
  'gateway/metering',
  'gateway/runtime',
  'test/gateway/metering',
];

/** Compiles what a child may import, without type checks, into a folder of the test's own; returns the folder. */
export function compiled(t: Test): string {
  const out = folder(t);
  for (const part of FOLDERS) {
    mkdirSync(join(out, part), { recursive: true });
    for (const name of readdirSync(projectPath(part))) {
      if (!name.endsWith('.ts') || name.endsWith('.test.ts')) continue;
      const { outputText } = ts.transpileModule(readFileSync(join(projectPath(part), name), 'utf8'), {
        compilerOptions: {
          module: ts.ModuleKind.ESNext,
          target: ts.ScriptTarget.ES2023,
          verbatimModuleSyntax: true,
        },
      });
      writeFileSync(join(out, part, name.replace(/ts$/, 'js')), outputText);
    }
  }
  symlinkSync(projectPath('node_modules'), join(out, 'node_modules'));
  writeFileSync(join(out, 'package.json'), '{"type":"module"}');
  return out;
}

/** Starts a compiled program with an IPC channel and without tap's loaders. */
export function forkCompiled(program: string, path: string, args: string[]): ChildProcess {
  return fork(join(program, path), args, {
    execArgv: [],
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
}
