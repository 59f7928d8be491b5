/**
 * `npm run sim`: random histories of the project's settlement, wallet and journal code on simulated disk, Redis,
 * Postgres and clock. Ends with 1 and says how to replay it when one of them breaks an invariant.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type HistoryResult, runHistory } from './history.js';
import { VARIANTS, type Variant } from './variants.js';

const USAGE = `npm run sim -- [options]
  --histories N   histories to run (100000)
  --seed S        seed of the first one; the others follow it (drawn from the clock)
  --workers W     threads (one more than cores: each waits at times)
  --variant V     ${VARIANTS.join(', ')} (good)
  --verbose       print what happens; with one history: to replay a failed one`;

interface Options {
  histories: number;
  seed: number;
  workers: number;
  variant: Variant;
  verbose: boolean;
}
/** What one worker does: every `stride`-th seed. */
interface Share {
  first: number;
  end: number;
  stride: number;
  variant: Variant;
}
type Message = { done: number } | { failed: HistoryResult & { ok: false } };

/** Histories between two messages of a worker. */
const REPORT_EVERY = 250;
const LOG_LINES = 40;

function readOptions(args: string[]): Options | null {
  const { values } = parseArgs({
    args,
    options: {
      histories: { type: 'string', default: '100000' },
      seed: { type: 'string' },
      workers: { type: 'string', default: String(availableParallelism() + 1) },
      variant: { type: 'string', default: 'good' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const number = (text: string) => (/^\d{1,15}$/.test(text) ? Number(text) : Number.NaN);
  const histories = number(values.histories);
  const workers = number(values.workers);
  const seed = values.seed === undefined ? Date.now() : number(values.seed);
  const variant = VARIANTS.find((v) => v === values.variant);
  if (values.help || !(histories > 0) || !(workers > 0) || !(seed >= 0) || variant === undefined) return null;
  return { histories, seed, workers: Math.min(workers, histories), variant, verbose: values.verbose };
}

async function runShare(share: Share, tell: (message: Message) => void): Promise<void> {
  // Injected faults are thrown by the hundred thousand, and nobody reads where.
  Error.stackTraceLimit = 0;
  let done = 0;
  for (let seed = share.first; seed < share.end; seed += share.stride) {
    const result = await runHistory(seed, share.variant);
    done++;
    if (!result.ok) {
      tell({ failed: result });
      return;
    }
    if (done === REPORT_EVERY) {
      tell({ done });
      done = 0;
      // Lets the thread be stopped: a history itself never leaves the microtasks.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  tell({ done });
}

async function describeFailure(failed: HistoryResult & { ok: false }, variant: Variant): Promise<string> {
  Error.stackTraceLimit = 30;
  const again = await runHistory(failed.seed, variant, true);
  const told = again.ok ? failed : again;
  return [
    `seed ${failed.seed}: ${told.invariant}`,
    told.detail,
    'what happened last:',
    ...told.log.slice(-LOG_LINES).map((line) => `  ${line}`),
    ...(again.ok ? ['(it did not break when it was repeated: something in it is not simulated)'] : []),
    `replay: npm run sim -- --histories 1 --seed ${failed.seed} --variant ${variant} --verbose`,
  ].join('\n');
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === null) {
    console.error(USAGE);
    return process.argv.includes('--help') ? 0 : 2;
  }
  const { histories, seed, workers, variant, verbose } = options;
  if (histories === 1) {
    const result = await runHistory(seed, variant, true);
    if (verbose || !result.ok) console.log(result.log.join('\n'));
    console.log(result.ok ? `seed ${seed}: ok` : `seed ${seed}: ${result.invariant}\n${result.detail}`);
    return result.ok ? 0 : 1;
  }

  console.log(`${histories} histories of ${variant} from seed ${seed}, ${workers} workers`);
  const startedMs = performance.now();
  let done = 0;
  let saidMs = startedMs;
  const say = (last: boolean) => {
    const nowMs = performance.now();
    const tty = process.stdout.isTTY;
    if (!last && nowMs - saidMs < (tty ? 250 : 10_000)) return;
    saidMs = nowMs;
    const rate = done / Math.max(0.001, (nowMs - startedMs) / 1_000);
    const leftS = Math.ceil((histories - done) / Math.max(1, rate));
    const text = `${done} of ${histories}, ${Math.round(rate)} a second${last ? '' : `, ${leftS} s left`}`;
    if (tty) process.stdout.write(`\r\u001b[K${text}${last ? '\n' : ''}`);
    else console.log(text);
  };
  const threads: Worker[] = [];
  const failed = await new Promise<(HistoryResult & { ok: false }) | null>((resolve, reject) => {
    let running = workers;
    for (let i = 0; i < workers; i++) {
      const share: Share = { first: seed + i, end: seed + histories, stride: workers, variant };
      const thread = new Worker(new URL(import.meta.url), { workerData: share });
      threads.push(thread);
      thread.on('message', (message: Message) => {
        if ('failed' in message) return resolve(message.failed);
        done += message.done;
        say(false);
      });
      thread.on('error', reject);
      thread.on('exit', () => {
        running--;
        if (running === 0) resolve(null);
      });
    }
  });
  await Promise.all(threads.map((thread) => thread.terminate()));
  say(true);
  if (failed === null && done === histories) {
    console.log('every history kept every invariant');
    return 0;
  }
  console.log(failed === null ? 'a worker ended early' : await describeFailure(failed, variant));
  return 1;
}

if (isMainThread) {
  process.exitCode = await main();
} else {
  await runShare(workerData as Share, (message) => parentPort?.postMessage(message));
}
