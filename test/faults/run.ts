/** `npm run test:faults`: see `--help`. */
import { type ChildProcess, fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { redisKinds } from '../../deploy/standalone/services/redis.js';
import type { CaseResult } from './case.js';
import { catalogue } from './catalogue.js';
import { readOptions, USAGE } from './options.js';
import { line, table } from './report.js';
import type { Answer, Task } from './worker.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

/** Hands the tasks to workers as they become free. Resolves to the results and to what could not be run. */
async function runAll(tasks: Task[], workers: number): Promise<{ results: CaseResult[]; errors: string[] }> {
  const results: CaseResult[] = [];
  const errors: string[] = [];
  const waiting = [...tasks];
  const startMs = performance.now();
  const work = () =>
    new Promise<void>((resolve) => {
      const child: ChildProcess = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
        execArgv: ['--no-warnings', '--enable-source-maps'],
      });
      let current: Task | null = null;
      const next = () => {
        current = waiting.shift() ?? null;
        if (current) child.send(current);
        else child.disconnect();
      };
      child.on('message', (answer: Answer) => {
        if ('result' in answer) results.push(answer.result);
        else if ('error' in answer)
          errors.push(`${answer.task.fault} seed ${answer.task.seed}: ${answer.error}`);
        if (!('ready' in answer)) {
          const done = results.length + errors.length;
          const leftMs = ((performance.now() - startMs) / done) * (tasks.length - done);
          const text = 'result' in answer ? line(answer.result) : `FAIL ${errors.at(-1)}`;
          say(`${done}/${tasks.length} (about ${Math.ceil(leftMs / 60_000)} min left) ${text}`);
        }
        next();
      });
      child.once('exit', (code) => {
        if (current) errors.push(`${current.fault} seed ${current.seed}: the worker ended (${code})`);
        resolve();
      });
    });
  await Promise.all(Array.from({ length: Math.min(workers, tasks.length) }, work));
  return { results, errors };
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    say(USAGE);
    return 0;
  }
  if (!redisKinds().includes('redis-server')) {
    say('redis-server is not installed: the fault tests need it');
    return 2;
  }
  // The long ones first, so that all workers end at about the same time.
  const order = catalogue.filter((f) => options.faults.includes(f.id)).sort((a, b) => b.lastsS - a.lastsS);
  const tasks = order.flatMap((f) =>
    options.seeds.map((seed) => ({ fault: f.id, seed, scale: options.scale, logs: options.logs })),
  );
  const { results, errors } = await runAll(tasks, options.workers);
  const text = table(results);
  say(`\n${text}\n`);
  if (options.out) writeFileSync(options.out, `${text}\n`);
  const failed = results.filter((r) => r.failures.length > 0);
  for (const r of failed) say(`replay: npm run test:faults -- --only ${r.fault} --seed ${r.seed}`);
  for (const error of errors) say(`not run: ${error}`);
  say(`${results.length - failed.length} passed, ${failed.length + errors.length} failed`);
  return failed.length + errors.length === 0 ? 0 : 1;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  },
);
