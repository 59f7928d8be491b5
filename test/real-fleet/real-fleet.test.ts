/**
 * A small fleet for a short time, so that `npm run test:fleet` stays true: one gateway drained, one killed, nothing left. And what it judges by must see what is wrong.
 */
import t from 'tap';
import { redisKinds } from '../../deploy/standalone/services/redis.js';
import { Random } from '../faults/random.js';
import { describeLeaks, leaksAfter, SOON_GONE } from '../helpers/leaks.js';
import { hasProgram } from '../helpers/programs.js';
import { Fleet } from './fleet.js';
import { drain, kill } from './gateways.js';
import { longestGapMs } from './load.js';
import { readOptions, USAGE } from './options.js';
import { Judge, type Phase, type PhaseResult, runPhase } from './phase.js';
import { line, table } from './report.js';

// Whole systems take their time, on a busy machine above all.
t.setTimeout(300_000);

const SIZE = { connectionsPerS: 4, sessions: 6, longStreams: 4, longS: 3 };
const DEAD_MS = 3_000;
const LEAK_WAIT_MS = 10_000;

t.test('a fleet under traffic: one drained, one killed', async (t) => {
  if (!redisKinds().includes('redis-server')) return t.comment('redis-server is not installed');
  if (!(await hasProgram(t, 'haproxy', ['haproxy', '-v']))) return;
  const fleet = await Fleet.start(t, { gateways: 3, agents: 40 });
  const random = new Random(1);
  const results: PhaseResult[] = [];
  const run = async (phase: Phase) => {
    const result = await runPhase(fleet, random, phase, SIZE, results.length);
    t.comment(line(result));
    results.push(result);
    return result;
  };
  for (const phase of [drain(0, 'signal'), kill(1, DEAD_MS)]) {
    const { name, failures, relayedBytes } = await run(phase);
    t.same(failures, [], name);
    t.ok(relayedBytes > 0);
  }
  t.equal(table(results).split('\n').length, 2 + results.length);
  // Named sessions keep their exits, and some money for them, for a minute yet.
  const left = await leaksAfter(fleet, LEAK_WAIT_MS, SOON_GONE);
  t.same(describeLeaks(left), []);
  const [drained] = results as [PhaseResult];
  t.match(line({ ...drained, failures: ['1 streams were cut'] }), /^FAIL gateway 1 drained.*\n +1 streams/s);
});

t.test('what is held against a phase', async (t) => {
  const at = (startedAtMs: number, state: 'refused' | 'cut' | 'complete', refusal: string | null = null) => ({
    ...{ startedAtMs, state, refusal },
  });
  const judge = new Judge();
  judge.excused.push({ fromMs: 100, toMs: 200 });
  judge.judge([at(150, 'refused'), at(99, 'refused', '503 NO_PEER'), at(201, 'refused'), at(50, 'complete')]);
  t.same(judge.failures, ['1 connections refused: 503 NO_PEER', '1 connections refused: no answer']);
  const cut = [at(150, 'cut')];
  judge.failures.length = 0;
  judge.judge(cut);
  t.same(judge.failures, ['1 streams were cut']);
  judge.failures.length = 0;
  judge.cutsAllowed = true;
  judge.judge(cut);
  t.same(judge.failures, []);
});

t.test('time without service', async (t) => {
  const at = (endMs: number, ok = true) => ({ startMs: endMs - 10, endMs, ok });
  t.equal(longestGapMs([at(90), at(150), at(400, false), at(700)], 100, 800), 550);
  t.equal(longestGapMs([at(150)], 100, 900), 750, 'it never came back');
  t.equal(longestGapMs([], 0, 500), 500);
});

t.test('options', async (t) => {
  t.equal(readOptions(['--help']), 'help');
  t.match(USAGE, '--gateways');
  t.match(readOptions([]), { minutes: 10, agents: 300, gateways: 3, seed: 1 });
  t.match(readOptions(['--minutes', '2.5', '--agents', '60']), { minutes: 2.5, agents: 60 });
  t.throws(() => readOptions(['--gateways', '1']), /at least 2/);
  t.throws(() => readOptions(['--agents', 'many']), /at least 20/);
});
