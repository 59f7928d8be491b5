// What `npm test` does before the tests, side by side: type check, lint, build. Ends with 1 when one of them failed.
import { spawn } from 'node:child_process';

const steps = ['typecheck', 'lint', 'build'];

/** Resolves to the step's exit code and all that it printed. */
function run(step) {
  return new Promise((resolve) => {
    const child = spawn('npm', ['run', '-s', step], { stdio: ['ignore', 'pipe', 'pipe'], shell: false });
    const printed = [];
    child.stdout.on('data', (chunk) => printed.push(chunk));
    child.stderr.on('data', (chunk) => printed.push(chunk));
    child.on('error', (error) => resolve({ code: 1, text: `${error.message}\n` }));
    child.on('close', (code) => resolve({ code: code ?? 1, text: Buffer.concat(printed).toString() }));
  });
}

const results = await Promise.all(
  steps.map(async (step) => {
    const { code, text } = await run(step);
    process.stdout.write(`${step}: ${code === 0 ? 'ok' : 'FAILED'}\n${text}`);
    return code;
  }),
);
process.exit(results.every((code) => code === 0) ? 0 : 1);
