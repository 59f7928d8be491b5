/**
 * A share of `npm run fuzz`: a real gateway and its parsers under random inputs. And the fuzzer must find what is
 * wrong: gateways and parsers that were broken on purpose do not pass.
 */
import { readdirSync } from 'node:fs';
import t from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import type { Random } from '../sim/random.js';
import { BATCH_INPUTS, Campaign, profileOf } from './campaign.js';
import { generate } from './generate.js';
import { type Kind, labelOf, PARSER_KINDS, SOCKET_KINDS, seedOfLabel } from './input.js';
import { readOptions, replayCommand, USAGE } from './options.js';
import { CHECKS, parserProblem } from './parsers.js';
import { readerProblem } from './readings.js';
import { failureOf } from './worker.js';

const ALL: readonly Kind[] = [...SOCKET_KINDS, ...PARSER_KINDS];
/** Seeds of ten batches, of which the last meets the default defences. */
const INPUTS = 20_000;

// A gateway under fire takes its time on a busy machine.
t.setTimeout(300_000);

t.test(`${INPUTS} inputs: no crash, no grant without a login, no descriptor left`, async (t) => {
  const campaign = new Campaign({ kinds: ALL });
  t.teardown(() => campaign.stop());
  const played: Partial<Record<Kind, number>> = {};
  let granted = 0;
  for (let first = 0; first < INPUTS; first += BATCH_INPUTS) {
    const outcome = await campaign.run(first, first + BATCH_INPUTS);
    const { violation } = outcome;
    t.equal(
      violation,
      null,
      `replay: ${replayCommand(ALL, violation?.seed ?? first, (violation?.seed ?? first + BATCH_INPUTS - 1) + 1)}`,
    );
    if (violation !== null) break;
    granted += outcome.granted;
    for (const kind of ALL) played[kind] = (played[kind] ?? 0) + (outcome.inputs[kind] ?? 0);
  }
  t.comment(JSON.stringify(played), JSON.stringify(campaign.memory));
  for (const kind of ALL) t.ok((played[kind] ?? 0) > 100, `${kind}: ${played[kind]} inputs`);
  t.ok(granted > 300, `${granted} streams and datagrams of valid inputs went through`);
  t.same(campaign.memory.map(({ profile }) => profile).sort(), ['defaults', 'open'], 'both set-ups were met');
  t.equal(await campaign.stop(), null, 'the gateways stop in good order');
});

t.test('a gateway that was broken is found out', async (t) => {
  const broken: ReadonlyArray<[string, RegExp]> = [
    ['any-password', /granted without a login/],
    ['kept-socket', /left over[\s\S]*{"kind":"tcp"/],
    ['long-password', /the gateway ended: exit 1[\s\S]*too long a password/],
  ];
  const folder = projectPath('test/fuzz/preload');
  t.same(
    readdirSync(folder).sort(),
    broken.map(([name]) => `${name}.mjs`),
    'each of them is tried',
  );
  for (const [name, expected] of broken) {
    const options = {
      kinds: ['socks'] as const,
      preload: `${folder}/${name}.mjs`,
      quietTimeoutMs: 8_000,
      laterMs: 0,
    };
    const campaign = new Campaign(options);
    t.teardown(() => campaign.stop());
    const outcome = await campaign.run(0, BATCH_INPUTS);
    await campaign.stop();
    t.match(outcome.violation?.what, expected, name);
    if (name !== 'any-password') continue;
    const failure = await failureOf(options, { first: 0, end: BATCH_INPUTS }, outcome);
    t.equal((failure?.end ?? 0) - (failure?.first ?? 0), 1, 'and the one input it is due to');
    t.match(generate(failure?.first ?? 0, ['socks']), { valid: false });
  }
});

t.test('a parser that was broken is found out', async (t) => {
  const seeds = Array.from({ length: 500 }, (_, seed) => seed);
  const problems = (check: (random: Random) => string | null) =>
    seeds.flatMap(
      (seed) => parserProblem({ seed, kind: 'parse-socks' }, { ...CHECKS, 'parse-socks': check }) ?? [],
    );
  const reader = (read: (bytes: Buffer) => { value: number; bytes: number } | null) => (random: Random) =>
    readerProblem(random, 'reader', read, Buffer.from([3, 1, 2, 3, 9]), () => false);
  const whole = { value: 3, bytes: 4 };
  t.same(problems(reader((bytes) => (bytes.length < 4 ? null : whole))), [], 'a good one');
  t.match(problems(reader((bytes) => (bytes.length < 3 ? null : whole)))[0], /took 4 of 3 bytes/);
  t.match(problems(reader((bytes) => ({ value: bytes.length, bytes: 0 })))[0], /of all/);
  t.match(
    problems(reader((bytes) => ({ value: bytes.readUInt16BE(), bytes: 2 })))[0],
    /thrown: RangeError/,
    'an exception is no answer',
  );
});

t.test('a seed is an input, and is found in a name', async (t) => {
  for (const seed of [0, 1, 4_711, 2 ** 33]) {
    t.same(generate(seed, ALL), generate(seed, ALL));
    t.equal(seedOfLabel(labelOf(seed)), seed);
  }
  t.notSame(generate(1, ALL), generate(2, ALL));
  t.equal(seedOfLabel('example.org'), null);
  t.equal(profileOf(0), 'open');
  t.equal(profileOf(9 * BATCH_INPUTS), 'defaults');
});

t.test('options', async (t) => {
  t.equal(readOptions(['--help']), 'help');
  t.match(USAGE, 'proxy-header');
  t.match(readOptions([]), { inputs: 1_000_000, workers: 2, kinds: { length: ALL.length } });
  t.same(readOptions(['--kinds', 'udp,socks', '--seed', '7']), {
    inputs: 1e6,
    seed: 7,
    workers: 2,
    kinds: ['socks', 'udp'],
  });
  t.throws(() => readOptions(['--kinds', 'socks6']), /unknown/);
  t.throws(() => readOptions(['--inputs', '0']), /at least 1/);
  t.throws(() => readOptions(['--seed=-1']), /at least 0/);
  t.equal(replayCommand(ALL, 5, 6), 'npm run fuzz -- --inputs 1 --seed 5');
  t.equal(replayCommand(['udp'], 5, 7), 'npm run fuzz -- --inputs 2 --seed 5 --kinds udp');
});
