/** Programs people use, as they come, through the whole system: right content, every byte counted, none twice. */
import t from 'tap';
import { hasProgram } from '../../helpers/programs.js';
import { PROGRAMS, type Way, WITHOUT_LOGIN } from './programs.js';
import { allowlistLoopback, type ClientSystem, startClientSystem } from './system.js';

let system: ClientSystem;
t.before(async () => {
  system = await startClientSystem(t);
});

async function tryWays(ways: readonly Way[], t: Parameters<typeof hasProgram>[0]): Promise<void> {
  for (const { client, program, probe, kind, page, fetch } of ways) {
    if (program !== null && !(await hasProgram(t, program, probe))) continue;
    const name = `${client}, ${kind}, ${page}`;
    await system.counted(t, name, async () => {
      const got = await fetch(system[page], system.proxy).catch((error: Error) => error.message);
      t.equal(got, system[page].sha256, `${name}: content`);
    });
  }
}

t.test('with name and password', async (t) => {
  await tryWays(PROGRAMS, t);
  await system.usageIsExact(t);
});

t.test('by their address alone', async (t) => {
  await allowlistLoopback(system);
  await tryWays(WITHOUT_LOGIN, t);
  await system.usageIsExact(t);
});
