import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { runHistory } from './history.js';
import { VARIANTS } from './variants.js';

const run = promisify(execFile);

// 20 000 histories take half a minute, longer where two cores are busy with other tests.
t.setTimeout(300_000);

/** How many histories a broken variant may survive. */
const CAUGHT_WITHIN = 1_500;
const HISTORIES = 20_000;

/** Compiled as `npm run sim` compiles it; returns the program. */
async function compile(t: Test): Promise<string> {
  const out = mkdtempSync(join(tmpdir(), 'ts-sim-'));
  t.teardown(() => rmSync(out, { recursive: true, force: true }));
  const tsc = projectPath('node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, '-p', projectPath('tsconfig.programs.json'), '--outDir', out]);
  symlinkSync(projectPath('node_modules'), join(out, 'node_modules'));
  writeFileSync(join(out, 'package.json'), '{"type":"module"}');
  return join(out, 'test/sim/run.js');
}

function sim(program: string, args: string[]): Promise<{ code: number; text: string }> {
  return run(process.execPath, [program, ...args]).then(
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
  const program = await compile(t);
  for (const variant of VARIANTS.filter((v) => v !== 'good')) {
    const { code, text } = await sim(program, [
      ...['--histories', String(CAUGHT_WITHIN), '--seed', '1', '--variant', variant],
    ]);
    t.equal(code, 1, `${variant} is caught: ${/^seed .*/m.exec(text)?.[0]}`);
    t.match(text, /^replay: npm run sim -- --histories 1 --seed \d+ --variant \S+ --verbose$/m);
  }
  const good = await sim(program, ['--histories', String(HISTORIES), '--seed', '1']);
  t.equal(good.code, 0, good.text);
  t.match(good.text, new RegExp(`${HISTORIES} of ${HISTORIES}`));
});
