import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { compiledPath } from '../helpers/compiled.js';
import { runHistory } from './history.js';
import { VARIANTS } from './variants.js';

const run = promisify(execFile);

// 20 000 histories take half a minute, longer where two cores are busy with other tests.
t.setTimeout(300_000);

/** How many histories a broken variant may survive. */
const CAUGHT_WITHIN = 1_500;
const HISTORIES = 20_000;

function sim(args: string[]): Promise<{ code: number; text: string }> {
  return run(process.execPath, [compiledPath('test/sim/run'), ...args]).then(
    ({ stdout }) => ({ code: 0, text: stdout }),
    (error: { code: number; stdout: string }) => ({ code: error.code, text: error.stdout }),
  );
}

t.test('equal seeds give equal histories', async (t) => {
  for (const seed of [1, 2, 3])
    t.same(await runHistory(seed, 'good', true), await runHistory(seed, 'good', true));
  const broken = async () => {
    for (let seed = 0; ; seed++) {
      const result = await runHistory(seed, 'mark-per-session', true);
      if (!result.ok) return result;
    }
  };
  const [first, second] = [await broken(), await broken()];
  t.same(first, second, 'also the one that fails');
  t.ok(first.log.length > 0, 'and says what happened');
});

t.test('the project keeps every invariant, each broken variant is caught', async (t) => {
  for (const variant of VARIANTS.filter((v) => v !== 'good')) {
    const { code, text } = await sim([
      ...['--histories', String(CAUGHT_WITHIN), '--seed', '1', '--variant', variant],
    ]);
    t.equal(code, 1, `${variant} is caught: ${/^seed .*/m.exec(text)?.[0]}`);
    t.match(text, /^replay: npm run sim -- --histories 1 --seed \d+ --variant \S+ --verbose$/m);
  }
  const good = await sim(['--histories', String(HISTORIES), '--seed', '1']);
  t.equal(good.code, 0, good.text);
  t.match(good.text, new RegExp(`${HISTORIES} of ${HISTORIES}`));
});
