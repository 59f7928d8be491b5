import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * Compiles the wire and the agent into `folder` and gives the command that runs the agent as a process of its own.
 * Not by the test runner's loader: starting that takes longer than most tests, once for each process.
 */
export function compileAgent(folder: string): readonly string[] {
  const sources = readdirSync(join(ROOT, 'agent-protocol'), { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts'),
  );
  for (const path of sources) {
    const target = join(folder, 'agent-protocol', path.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    const { outputText } = ts.transpileModule(readFileSync(join(ROOT, 'agent-protocol', path), 'utf8'), {
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
      },
    });
    writeFileSync(target, outputText);
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n');
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const program = join(folder, 'agent.js');
  writeFileSync(
    program,
    `import { runAgentCli } from './agent-protocol/agent/cli.js';
process.exitCode = await runAgentCli(process.argv.slice(2), process.env);
`,
  );
  return [process.execPath, program];
}
