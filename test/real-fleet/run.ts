/** `npm run test:fleet`: see `--help`. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { redisKinds } from '../../deploy/standalone/services/redis.js';
import { Random } from '../faults/random.js';
import { ALL_GONE, describeLeaks, leaksAfter } from '../helpers/leaks.js';
import { runProgram } from '../helpers/programs.js';
import { Fleet, interrupted, Undo } from './fleet.js';
import { controlPlane, drain, kill, quiet } from './gateways.js';
import { type FleetOptions, readOptions, USAGE } from './options.js';
import { type Phase, type PhaseResult, runPhase } from './phase.js';
import { leakLine, line, notes, table } from './report.js';
import { redisAway, switches } from './switches.js';

const PROGRESS_MS = 10_000;
/** Named sessions of each phase: some for each gateway. */
const SESSIONS = 15;
const LONG_STREAMS = 10;
const LONG_S = 12;
/** A killed gateway stays away so long: its devices find others meanwhile. */
const DEAD_MS = 9_000;
/** What the last phase and the silence around it take, ms. */
const LAST_PHASE_MS = 65_000;
/** A minute for what is to be gone, and some seconds more for claims: a named session keeps its exit for a minute. */
const LEAK_WAIT_MS = 60_000;
const CLAIM_WAIT_MS = 75_000;
const QUIET_MS = 10_000;

/** What a run came to. */
interface Outcome {
  results: PhaseResult[];
  /** When what was gone after the traffic. */
  left: string;
  /** What was not, in time. */
  leaks: string[];
}

const say = (text: string) => process.stdout.write(`${text}\n`);

/** All that happens, in turn, without end. */
function* story(gateways: number): Generator<Phase> {
  yield quiet(QUIET_MS);
  for (let round = 0; ; round++) {
    for (let n = 0; n < gateways; n++) {
      yield drain((n + round) % gateways, (n + round) % 2 === 0 ? 'signal' : 'api');
      yield kill((n + round + 1) % gateways, DEAD_MS);
    }
    yield switches(round);
    yield controlPlane(round % 2, 'SIGTERM');
    yield controlPlane((round + 1) % 2, 'SIGKILL');
  }
}

async function runFleet(fleet: Fleet, options: FleetOptions): Promise<Outcome> {
  const random = new Random(options.seed);
  const size = {
    connectionsPerS: options.connectionsPerS,
    sessions: SESSIONS,
    longStreams: LONG_STREAMS,
    longS: LONG_S,
  };
  const endMs = performance.now() + options.minutes * 60_000 - LAST_PHASE_MS;
  const results: PhaseResult[] = [];
  let current = '';
  const startMs = performance.now();
  const timer = setInterval(() => {
    const [load = 0] = loadavg();
    say(`     ${Math.round((performance.now() - startMs) / 1_000)} s, ${current}; load ${load.toFixed(1)}`);
  }, PROGRESS_MS);
  try {
    const run = async (phase: Phase) => {
      current = phase.name;
      const result = await runPhase(fleet, random, phase, size, results.length);
      results.push(result);
      say(line(result));
    };
    for (const phase of story(options.gateways)) {
      if (performance.now() > endMs) break;
      await run(phase);
    }
    await run(redisAway());
    current = 'what is left';
    const report = await leaksAfter(fleet, CLAIM_WAIT_MS, ALL_GONE);
    const text = leakLine(report);
    say(text);
    const late = Object.entries(report.goneAfterMs)
      .filter(([what, ms]) => what !== 'claims' && ms !== null && ms > LEAK_WAIT_MS)
      .map(([what]) => `${what} were there after a minute`);
    return { results, left: text, leaks: [...describeLeaks(report), ...late] };
  } finally {
    clearInterval(timer);
  }
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    say(USAGE);
    return 0;
  }
  if (!redisKinds().includes('redis-server'))
    throw new Error('redis-server is not installed: the fleet test needs it');
  await runProgram('haproxy', ['-v']).catch(() => {
    throw new Error('haproxy is not installed: the fleet test needs it');
  });
  const undo = new Undo();
  void interrupted().then(async () => {
    await undo.all();
    process.exit(130);
  });
  let fleet: Fleet | null = null;
  try {
    const [loadBefore = 0] = loadavg();
    const startMs = performance.now();
    fleet = await Fleet.start(undo, options);
    say(
      `${options.gateways} gateways and ${options.agents} devices are there after ${Math.round((performance.now() - startMs) / 1_000)} s`,
    );
    const { results, left, leaks } = await runFleet(fleet, options);
    const failed = results.filter(({ failures }) => failures.length > 0);
    const sum = (of: (r: PhaseResult) => number) => results.reduce((total, r) => total + of(r), 0);
    const text = [
      `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}, load before ${loadBefore.toFixed(1)}; ` +
        `${options.gateways} gateways, ${options.agents} devices, seed ${options.seed}, ${fleet.books.samples} looks at the invariants.`,
      '',
      table(results),
      '',
      notes(results),
      '',
      `${sum((r) => r.connections)} connections, ${sum((r) => r.refused)} refused; ${sum((r) => r.relayedBytes)} bytes relayed, ` +
        `${sum((r) => r.underBytes)} under, ${sum((r) => r.overBytes)} over. ${left.slice(5)}`,
    ].join('\n');
    say(`\n${text}\n`);
    if (options.out !== null) writeFileSync(options.out, `${text}\n`);
    for (const { name, failures } of failed)
      for (const failure of failures) say(`failed: ${name}: ${failure}`);
    for (const leak of leaks) say(`failed: ${leak}`);
    say(`${results.length - failed.length} phases passed, ${failed.length} failed`);
    undo.failed = failed.length + leaks.length > 0;
    return undo.failed ? 1 : 0;
  } finally {
    if (fleet !== null && options.logs !== null) copyFileSync(fleet.system.logFile, options.logs);
    await undo.all();
    for (const trouble of undo.troubles) process.stderr.write(`while ending: ${trouble}\n`);
  }
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(2);
  },
);
