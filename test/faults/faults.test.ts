/**
 * One seed of some faults, so that the harness itself stays true; `npm run test:faults` runs all of them, 20 seeds
 * each. And the harness must see what is wrong: books that were tampered with do not pass.
 */
import pg from 'pg';
import t from 'tap';
import { Books } from './books.js';
import { type CaseResult, runCase } from './case.js';
import { catalogue, type Fault } from './catalogue.js';
import { readOptions, USAGE } from './options.js';
import { line, table } from './report.js';
import { World } from './world.js';

const QUICK = [
  'gateway-kill-chunk',
  'settler-kill-commit',
  'redis-empty',
  'repeat-reorder',
  'everything-kill',
];

// Whole systems in trouble take their time, on a busy machine above all.
t.setTimeout(420_000);

t.test('a system in trouble loses no byte, books none twice and overdraws no buyer', async (t) => {
  const world = await World.start();
  t.teardown(() => world.stop());
  const books = new Books(world.databaseUrl);
  t.teardown(() => books.stop());
  books.watch();
  const results: CaseResult[] = [];
  for (const id of QUICK) {
    const result = await runCase(world, books, catalogue.find((f) => f.id === id) as Fault, 1, 1);
    t.comment(line(result));
    t.same(result.failures, [], id);
    t.ok(result.relayedBytes > 0 && result.samples > 10, 'there was traffic, and it was watched');
    results.push(result);
  }
  t.match(table(results), '| Redis restarted empty | 1 of 1 |');

  const tampering: Fault = {
    id: 'tampering',
    title: 'somebody takes bytes out of the books',
    streams: 'some',
    lastsS: 1,
    async run(_scene, strike) {
      strike();
      const client = new pg.Client({ connectionString: world.databaseUrl });
      await client.connect();
      await client.query("SET session_replication_role = 'replica'");
      // Behind the marks' back: what was booked of FINAL meters is smaller than it was.
      await client.query('UPDATE meters SET bytes_down = bytes_down - 1 WHERE final AND bytes_down > 0');
      await client.end();
    },
  };
  const tampered = await runCase(world, books, tampering, 1, 1);
  t.ok(tampered.failures.length > 0, 'the harness sees it');
  t.match(line(tampered), /^FAIL tampering seed 1/);
});

t.test('options', async (t) => {
  t.equal(readOptions(['--help']), 'help');
  t.match(USAGE, 'redis-rollback');
  t.match(readOptions([]), { seeds: { length: 20 }, faults: { length: catalogue.length }, scale: 1 });
  t.match(readOptions(['--only', 'clocks', '--seed', '7']), { faults: ['clocks'], seeds: [7] });
  t.match(readOptions(['--seeds', '8-10']), { seeds: [8, 9, 10] });
  t.throws(() => readOptions(['--seeds', '3-2']), /at least 1/);
  t.throws(() => readOptions(['--only', 'clock']), /unknown/);
  t.throws(() => readOptions(['--workers', '0']), /at least 1/);
});
