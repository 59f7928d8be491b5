/** `npm run fuzz`: see `--help`. Ends with 0 (nothing found), 1 (found, with the line that replays it) or 2 (not run). */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { BATCH_INPUTS, profileOf } from './campaign.js';
import { generate } from './generate.js';
import { type Kind, PARSER_KINDS, SOCKET_KINDS } from './input.js';
import { type Options, readOptions, replayCommand, USAGE } from './options.js';
import type { Answer, Failure, Task } from './worker.js';

const SAID_EVERY_MS = { terminal: 500, file: 10_000 } as const;

const say = (text: string) => process.stdout.write(`${text}\n`);

/** The seeds in batches as they are replayed: none goes over a multiple of the batch's size. */
function* tasksOf({ seed, inputs }: Pick<Options, 'seed' | 'inputs'>): Generator<Task> {
  const end = seed + inputs;
  for (let first = seed; first < end; ) {
    const next = Math.min(end, (Math.floor(first / BATCH_INPUTS) + 1) * BATCH_INPUTS);
    yield { first, end: next };
    first = next;
  }
}

/** What was played so far. */
class Tally {
  readonly #startMs = performance.now();
  readonly inputs = new Map<Kind, number>();
  /** Through sockets, at gateways with their default defences. */
  atDefaults = 0;
  granted = 0;
  #saidMs = this.#startMs;

  constructor(private readonly wanted: number) {}

  add({ task, outcome }: Extract<Answer, { task: Task }>): void {
    for (const [kind, count] of Object.entries(outcome.inputs) as Array<[Kind, number]>)
      this.inputs.set(kind, (this.inputs.get(kind) ?? 0) + count);
    if (profileOf(task.first) === 'defaults')
      for (const kind of SOCKET_KINDS) this.atDefaults += outcome.inputs[kind] ?? 0;
    this.granted += outcome.granted;
    this.progress(false);
  }

  count(kinds: readonly Kind[]): number {
    return kinds.reduce((sum, kind) => sum + (this.inputs.get(kind) ?? 0), 0);
  }

  progress(last: boolean): void {
    const nowMs = performance.now();
    const tty = process.stdout.isTTY;
    if (!last && nowMs - this.#saidMs < SAID_EVERY_MS[tty ? 'terminal' : 'file']) return;
    this.#saidMs = nowMs;
    const seconds = Math.max(0.001, (nowMs - this.#startMs) / 1_000);
    const done = this.count([...this.inputs.keys()]);
    const rate = done / seconds;
    const left = Math.ceil((this.wanted - done) / Math.max(1, rate));
    const inAll = last ? ` in ${Math.round(seconds)} s` : `, ${left} s left`;
    const text = `${done} of ${this.wanted}, ${Math.round(rate)} a second${inAll}`;
    if (tty) process.stdout.write(`\r\u001b[K${text}${last ? '\n' : ''}`);
    else say(text);
  }

  report(): void {
    const list = (kinds: readonly Kind[]) =>
      kinds
        .filter((kind) => this.inputs.has(kind))
        .map((kind) => `${kind} ${this.inputs.get(kind)}`)
        .join(', ');
    const sockets = this.count(SOCKET_KINDS);
    say(`through sockets ${sockets}: ${list(SOCKET_KINDS)}`);
    say(
      `  ${this.atDefaults} of them at default defences; ${this.granted} streams and datagrams granted to valid ones`,
    );
    say(`at parsers ${this.count(PARSER_KINDS)}: ${list(PARSER_KINDS)}`);
  }
}

/** Hands batches to workers as they become free, until all are played or one fails. */
async function playAll(options: Options, tally: Tally): Promise<{ failures: Failure[]; errors: string[] }> {
  const tasks = tasksOf(options);
  const failures: Failure[] = [];
  const errors: string[] = [];
  const work = () =>
    new Promise<void>((resolve) => {
      const entry = fileURLToPath(new URL('./worker.js', import.meta.url));
      const child: ChildProcess = fork(entry, [options.kinds.join()], {
        execArgv: ['--no-warnings', '--enable-source-maps'],
      });
      let over = false;
      const next = () => {
        const task = failures.length + errors.length > 0 ? undefined : tasks.next().value;
        child.send(task ?? 'end');
      };
      child.on('message', (answer: Answer) => {
        if ('error' in answer) errors.push(answer.error);
        else if ('task' in answer) {
          tally.add(answer);
          if (answer.failure !== null) failures.push(answer.failure);
        }
        if (!('over' in answer)) {
          next();
          return;
        }
        over = true;
        if (answer.problem !== null) errors.push(answer.problem);
        for (const { profile, warmMb, latestMb, descriptors, quietMsMax } of answer.memory)
          say(
            `gateway (${profile}): ${warmMb ?? '?'} MB when warm, ${latestMb} MB at last, ${descriptors} descriptors, quiet within ${quietMsMax} ms`,
          );
        child.disconnect();
      });
      child.once('exit', (code) => {
        if (!over) errors.push(`a worker ended (${code})`);
        resolve();
      });
    });
  const batches = Math.ceil(options.inputs / BATCH_INPUTS);
  await Promise.all(Array.from({ length: Math.min(options.workers, batches) }, work));
  return { failures, errors };
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    say(USAGE);
    return 0;
  }
  const { inputs, seed, kinds, workers } = options;
  say(`${inputs} inputs from seed ${seed}, ${workers} workers`);
  if (inputs === 1) say(inspect(generate(seed, kinds), { depth: 5, maxArrayLength: 40 }));
  const tally = new Tally(inputs);
  const { failures, errors } = await playAll(options, tally);
  tally.progress(true);
  tally.report();
  for (const { what, first, end } of failures) {
    say(end - first === 1 ? `seed ${first}: ${what}` : `seeds ${first} to ${end - 1} together: ${what}`);
    say(`replay: ${replayCommand(kinds, first, end)}`);
  }
  for (const error of errors) say(`not run: ${error}`);
  if (errors.length > 0) return 2;
  if (failures.length === 0) say('no crash, no grant without a login, no descriptor left, no growth');
  return failures.length === 0 ? 0 : 1;
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
