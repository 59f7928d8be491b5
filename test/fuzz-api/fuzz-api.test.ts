/**
 * A share of `npm run fuzz:api`: a real control plane under random requests. And the fuzzer must find what is wrong:
 * servers that were broken on purpose do not pass.
 */
import { readdirSync } from 'node:fs';
import t from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { CALLERS, type Caller } from '../helpers/cast.js';
import { startWorld } from '../helpers/control-plane.js';
import { operationsOf } from '../helpers/openapi.js';
import { BATCH_REQUESTS, Campaign, percentile } from './campaign.js';
import { draw, type Known } from './draw.js';
import { readOptions, replayCommand, USAGE } from './options.js';

const REQUESTS = 2_000;
/** Batches in which what is broken must show. */
const BATCHES_MAX = 4;

t.setTimeout(300_000);

t.test(`${REQUESTS} requests: no 5xx, documented answers only`, async (t) => {
  const campaign = await Campaign.start();
  const { findings } = campaign;
  try {
    for (let first = 0; first < REQUESTS; first += BATCH_REQUESTS)
      await campaign.run(first, first + BATCH_REQUESTS);
  } finally {
    t.same(await campaign.stop(), [], 'the server lives and the books add up');
  }
  for (const { request, what } of findings.violations)
    t.fail(`${request.operation.call}: ${what.slice(0, 300)}; replay: ${replayCommand(request.seed)}`);
  t.equal(findings.count, REQUESTS);
  t.ok(findings.acceptedMs.length > REQUESTS / 5, `${findings.acceptedMs.length} had a good answer`);
  t.ok(findings.accepted.size > 100, `${findings.accepted.size} calls had one`);
  for (const status of [400, 401, 403, 404, 409, 415, 422])
    t.ok((findings.byStatus.get(status) ?? 0) > 0, `${findings.byStatus.get(status)} times ${status}`);
  t.comment(`refused: p99 ${percentile(findings.refusedMs, 0.99).toFixed(1)} ms`);
});

t.test('a server that was broken is found out', async (t) => {
  const broken: ReadonlyArray<[string, RegExp]> = [
    ['odd-status', /418 is not documented/],
    ['quoted-sql', /^500 .*internal/],
    ['sudden-end', /no answer/],
  ];
  const folder = projectPath('test/fuzz-api/preload');
  t.same(
    readdirSync(folder).sort(),
    broken.map(([name]) => `${name}.mjs`),
    'each of them is tried',
  );
  for (const [name, expected] of broken) {
    const campaign = await Campaign.start(`${folder}/${name}.mjs`);
    let wrong: string[] = [];
    try {
      for (let batch = 0; batch < BATCHES_MAX && campaign.findings.violations.length === 0; batch++)
        await campaign.run(batch * BATCH_REQUESTS, (batch + 1) * BATCH_REQUESTS);
    } finally {
      wrong = await campaign.stop();
    }
    t.ok(
      campaign.findings.violations.some(({ what }) => expected.test(what)),
      name,
    );
    t.equal(
      wrong.some((sentence) => sentence.startsWith('the server ended')),
      name === 'sudden-end',
      name,
    );
  }
});

t.test('a seed is a request', async (t) => {
  const { call } = await startWorld(t);
  const operations = operationsOf((await call('GET', '/openapi.json')).body);
  const known: Known = {
    credentials: Object.fromEntries(CALLERS.map((caller) => [caller, {}])) as Record<Caller, object> as never,
    values: { id: ['7f6b2f0e-3c58-4a39-9d0f-0f6a5a0d4a11'] },
  };
  const seen = new Set<string>();
  for (let seed = 0; seed < 3_000; seed++) {
    const request = draw(seed, operations, known);
    seen.add(request.operation.call);
    if (seed % 100 === 0) t.same(draw(seed, operations, known), request);
  }
  t.equal(seen.size, operations.length, 'every call is drawn');
});

t.test('options', async (t) => {
  t.equal(readOptions(['--help']), 'help');
  t.match(USAGE, '--seed');
  t.match(readOptions([]), { requests: 100_000, refusedP99MsMax: 100 });
  t.same(readOptions(['--requests', '5', '--seed', '7', '--p99', '9']), {
    requests: 5,
    seed: 7,
    refusedP99MsMax: 9,
  });
  t.throws(() => readOptions(['--requests', '0']), /at least 1/);
  t.throws(() => readOptions(['--seed=-1']), /at least 0/);
  t.equal(replayCommand(7), 'npm run fuzz:api -- --requests 1 --seed 7');
});

t.test('percentiles', async (t) => {
  const values = [5, 1, 4, 2, 3];
  t.same(
    [0, 0.5, 0.99, 1].map((share) => percentile(values, share)),
    [1, 3, 5, 5],
  );
  t.equal(percentile([], 0.99), 0);
});
