/** A buyer's limits over gateways that are processes of their own: one that is killed, and one with workers. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Gateway } from '../../gateway/gateway-contract.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { ANY_PORTS } from '../helpers/any-ports.js';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';
import {
  type Asked,
  buyer,
  echoDevice,
  INTERVAL_MS,
  LIMITED,
  openMany,
  served,
  sum,
  thenExactly,
  told,
  until,
} from '../helpers/limited-buyer.js';
import { startWalletBank } from '../helpers/wallet-bank.js';

t.setTimeout(240_000);

/** A gateway as a process, to be killed, or with workers. */
async function startProcess(t: Test, rig: GatewayRig, name: string, args: string[] = []) {
  const dataDir = await mkdtemp(join(tmpdir(), `ts-${name}-`));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  const child = spawn(process.execPath, [projectPath('dist/deploy/cli.js'), 'gateway', ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH ?? '',
      TS_REDIS_URL: rig.config.redisUrl,
      TS_GATEWAY_ID: name,
      TS_GATEWAY_DATA_DIR: dataDir,
      ...ANY_PORTS,
      TS_DEV_LOOPBACK_COUNTRY: 'US',
      TS_LOOP_LAG_MS_MAX: '0',
      TS_LOG_LEVEL: 'error',
      TS_DRAIN_MS: '0',
    },
  });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    if (child.exitCode === null && child.kill('SIGTERM')) await ended;
  });
  const [ports] = (await Promise.race([once(child, 'message'), ended])) as [
    Pick<Gateway, 'proxyPort' | 'tunnelPort'>,
  ];
  if (typeof ports !== 'object') throw new Error(`it ended with ${ports}`);
  return { ...ports, child, ended };
}

t.test('what a killed gateway had is free within six intervals', async (t) => {
  const rig = await startGatewayRig();
  t.teardown(() => rig.stop());
  const bank = startWalletBank(rig.redis, 'k');
  t.teardown(() => bank.stop());
  const killed = await startProcess(t, rig, 'k');
  for (const at of [rig.gateway, killed]) await echoDevice(t, rig, at);
  const who = await buyer(rig, { streamsMax: 10 });
  t.equal(served(await openMany(8, rig, killed, who)).length, 8);
  const [one] = served(await openMany(1, rig, rig.gateway, who));
  t.ok(one);
  await until(async () => (await told(rig, who)).k === 8, 'its eight are known');
  await delay(2 * INTERVAL_MS);
  const more = served(await openMany(5, rig, rig.gateway, who));
  t.equal(more.length, 1, 'ten in all');
  const startMs = performance.now();
  killed.child.kill('SIGKILL');
  await killed.ended;
  const live = [one as Asked, ...more];
  await until(async () => {
    live.push(...served(await openMany(1, rig, rig.gateway, who)));
    return live.length === 10;
  }, 'all ten are at the other');
  const tookMs = performance.now() - startMs;
  t.comment(`after ${Math.round(tookMs)} ms`);
  t.ok(tookMs > 2 * INTERVAL_MS, 'not before it was silent for long');
  t.ok(tookMs < 10 * INTERVAL_MS + 2_000, `${tookMs}`);
  for (const { reply } of await openMany(5, rig, rig.gateway, who)) t.equal(reply, LIMITED);
});

// Which worker a connection comes to is up to the kernel: all of the first ones may come to one, and later ones to the other.
t.test('workers of one gateway', async (t) => {
  const rig = await startGatewayRig();
  t.teardown(() => rig.stop());
  for (const name of ['duo', 'duo-w2']) {
    const bank = startWalletBank(rig.redis, name);
    t.teardown(() => bank.stop());
  }
  const duo = await startProcess(t, rig, 'duo', ['--workers', '2']);
  for (let i = 0; i < 6; i++) await echoDevice(t, rig, duo);
  const who = await buyer(rig, { streamsMax: 10 });
  const live = served(await openMany(40, rig, duo, who));
  t.ok(live.length >= 10 && live.length <= 20, `${live.length} at once`);
  await until(async () => sum(await told(rig, who)) === live.length, 'each is known once');
  t.comment(JSON.stringify(await told(rig, who)));
  await delay(2 * INTERVAL_MS);
  for (const { reply } of await openMany(20, rig, duo, who)) t.equal(reply, LIMITED, 'no more');
  await thenExactly(t, rig, [[duo]], who, live);
});
