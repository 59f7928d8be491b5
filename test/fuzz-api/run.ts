/** `npm run fuzz:api`: see `--help`. Ends with 0 (nothing found), 1 (found, with what replays it) or 2 (not run). */
import { Progress } from '../../deploy/commands/progress.js';
import type { Operation } from '../helpers/openapi.js';
import { BATCH_REQUESTS, Campaign, type Findings, percentile, type Violation } from './campaign.js';
import { readOptions, replayCommand, USAGE } from './options.js';

/** After so many violations it is enough. */
const VIOLATIONS_MAX = 200;
/** Of each kind so many are shown. */
const SHOWN_MAX = 40;
const BODY_SHOWN_CHARS = 600;
/** From so many requests on a call without a good answer is named. */
const SAID_REQUESTS = 10_000;

const say = (text: string) => process.stdout.write(`${text}\n`);

function show({ request, what }: Violation): void {
  const { seed, operation, caller, target, headers, body } = request;
  say(`seed ${seed}: ${operation.call}, by ${caller}: ${what.slice(0, 600)}`);
  say(`  ${operation.method} ${target.slice(0, BODY_SHOWN_CHARS)}`);
  for (const name of Object.keys(headers).filter((n) => !/authorization|secret|init-data/.test(n)))
    say(`  ${name}: ${headers[name]?.slice(0, 100)}`);
  if (body !== null) say(`  ${JSON.stringify(body).slice(0, BODY_SHOWN_CHARS)}`);
  const batch = seed - (seed % BATCH_REQUESTS);
  say(
    `  replay: ${replayCommand(seed)}, after what came before it: ${replayCommand(batch, seed - batch + 1)}`,
  );
}

function report(findings: Findings, seconds: number): void {
  const { count, byStatus, refusedMs, acceptedMs, accepted } = findings;
  say(`${count} requests in ${Math.round(seconds)} s, ${Math.round(count / seconds)} a second`);
  const statuses = [...byStatus].sort(([a], [b]) => a - b).map(([status, n]) => `${status}: ${n}`);
  say(`answers ${statuses.join(', ')}; ${accepted.size} calls had a good one`);
  for (const [what, times] of [
    ['refused', refusedMs],
    ['accepted', acceptedMs],
  ] as const) {
    const [p50, p99, max] = [0.5, 0.99, 1].map((share) => percentile(times, share).toFixed(1));
    say(`${what} ${times.length}: p50 ${p50} ms, p99 ${p99} ms, longest ${max} ms`);
  }
}

/** Calls that nothing good was heard of: drawn wrongly, or they need what no world of the fuzzer has. */
function neverGood({ operations }: { operations: readonly Operation[] }, { accepted }: Findings): void {
  const calls = operations.map(({ call }) => call).filter((call) => !accepted.has(call));
  if (calls.length > 0) say(`${calls.length} had none: ${calls.join(', ')}`);
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    say(USAGE);
    return 0;
  }
  const { requests, seed, refusedP99MsMax } = options;
  say(`${requests} requests from seed ${seed}`);
  const campaign = await Campaign.start();
  const { findings } = campaign;
  const progress = new Progress(process.stderr, 'requests');
  const beganMs = performance.now();
  let seconds = 0;
  let wrong: string[] = [];
  try {
    for (let first = seed; first < seed + requests && findings.violations.length < VIOLATIONS_MAX; ) {
      const end = Math.min(seed + requests, first - (first % BATCH_REQUESTS) + BATCH_REQUESTS);
      await campaign.run(first, end);
      first = end;
      progress.update(first - seed, requests);
    }
    seconds = (performance.now() - beganMs) / 1_000;
  } finally {
    progress.end();
    wrong = await campaign.stop();
  }
  report(findings, seconds);
  // A few requests say nothing about who gets good answers
  if (requests >= SAID_REQUESTS) neverGood(campaign.world, findings);
  for (const violation of findings.violations.slice(0, SHOWN_MAX)) show(violation);
  if (findings.violations.length > SHOWN_MAX) say(`and ${findings.violations.length - SHOWN_MAX} more`);
  const p99Ms = percentile(findings.refusedMs, 0.99);
  // A handful of requests says nothing about one in a hundred.
  if (requests >= 1_000 && p99Ms >= refusedP99MsMax)
    wrong.push(`refusing took ${p99Ms.toFixed(1)} ms (p99), more than ${refusedP99MsMax}`);
  for (const sentence of wrong) say(sentence);
  if (findings.violations.length + wrong.length > 0) return 1;
  say('no 5xx, documented answers only, the books add up');
  return 0;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 2;
  },
);
