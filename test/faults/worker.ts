/** One worker of `npm run test:faults`: a system of its own, and the cases it is told to run on it. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Books } from './books.js';
import { type CaseResult, runCase } from './case.js';
import { catalogue } from './catalogue.js';
import { World } from './world.js';

/** What the runner asks for. */
export interface Task {
  fault: string;
  seed: number;
  scale: number;
  /** Where to keep the programs' log if it fails; null: nowhere. */
  logs: string | null;
}

/** What it is told. `error`: the case could not be run to its end. */
export type Answer = { ready: true } | { task: Task; result: CaseResult } | { task: Task; error: string };

let world: World | null = null;
let books: Books | null = null;

async function begin(): Promise<{ world: World; books: Books }> {
  world ??= await World.start();
  if (books === null) {
    books = new Books(world.databaseUrl);
    books.watch();
  }
  return { world, books };
}

async function end(): Promise<void> {
  await books?.stop();
  await world?.stop();
  books = null;
  world = null;
}

function keepLog({ logs, fault, seed }: Task): void {
  if (logs === null || world === null) return;
  mkdirSync(logs, { recursive: true });
  copyFileSync(world.logFile, join(logs, `${fault}-${seed}.log`));
}

async function run(task: Task): Promise<Answer> {
  const fault = catalogue.find((f) => f.id === task.fault);
  if (!fault) return { task, error: 'unknown fault' };
  try {
    const system = await begin();
    const result = await runCase(system.world, system.books, fault, task.seed, task.scale);
    // What one case broke must not be blamed on the next.
    if (result.failures.length > 0) {
      keepLog(task);
      await end();
    }
    return { task, result };
  } catch (error) {
    keepLog(task);
    await end().catch(() => {});
    return { task, error: (error as Error).stack ?? String(error) };
  }
}

process.on('message', (task: Task) => {
  void run(task).then((answer) => process.send?.(answer));
});
process.on('disconnect', () => {
  void end().finally(() => process.exit(0));
});
process.send?.({ ready: true });
