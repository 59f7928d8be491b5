import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { signalProcess } from '../../deploy/standalone/services/server-process.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { patience } from '../helpers/busy-machine.js';
import type { Scene } from './catalogue.js';

const run = promisify(execFile);

/** From the first start to the last program that says it is ready, ms. */
const READY_MS_MAX = 20_000;
const ASKED_AGAIN_MS = 50;

/** Pids of a process and of all that it has started; itself alone where the system does not say. */
function familyOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean);
    return [pid, ...children.flatMap((child) => familyOf(Number(child)))];
  } catch {
    return [pid];
  }
}

/**
 * kill -9 of everything that an operator runs, at once: gateways, control planes (with their workers), Redis, Postgres with every
 * process of it. Then all of it is started again: it must be ready within 20 s, and the ledger must prove itself. Redis comes
 * back empty. Devices are other people's: they go on and come back by themselves.
 */
export async function killEverything({ world, note, fail }: Scene, strike: () => void): Promise<void> {
  for (const site of world.sites) {
    await world.untilDevicesAtEase(site);
    site.onlineSinceMs = null;
  }
  const programs = world.sites.flatMap((site) => [site.controlPlane, site.gateway]);
  const pids = [...programs.map(({ pid }) => pid ?? 0), world.redisPid, ...familyOf(world.postgresPid)];
  const factor = patience();
  const readyMsMax = factor * READY_MS_MAX;
  strike();
  for (const pid of pids) signalProcess(pid, 'SIGKILL');
  await Promise.all([...programs.map((program) => program.gone()), world.serversGone()]);

  const startMs = performance.now();
  const tookMs = () => performance.now() - startMs;
  await Promise.all([world.startPostgresAgain(), world.startRedisAgain('empty')]);
  const serversMs = Math.round(tookMs());
  await Promise.all(programs.map((program) => program.start()));
  const programsMs = Math.round(tookMs());
  for (const { apiUrl, metricsPort } of world.sites)
    for (const url of [`${apiUrl}/api/system/ready`, `http://127.0.0.1:${metricsPort}/health`])
      while (!(await answersWell(url))) {
        if (tookMs() > 2 * readyMsMax) throw new Error(`${url} is not ready`);
        await delay(ASKED_AGAIN_MS);
      }
  const readyMs = Math.round(tookMs());
  note(
    `${pids.length} processes killed; servers there after ${serversMs} ms, programs after ${programsMs} ms, ` +
      `ready after ${readyMs} ms${factor > 1 ? ', on a busy machine' : ''}`,
  );
  if (readyMs > readyMsMax) fail(`ready after ${readyMs} ms`);
  await run(process.execPath, [projectPath('dist/deploy/cli.js'), 'ledger', 'verify'], {
    env: { PATH: process.env.PATH, TS_DATABASE_URL: world.databaseUrl },
  }).catch((error: { stdout: string }) => fail(`ledger verify: ${error.stdout}`));
  for (const site of world.sites) await world.untilDevicesOnline(site);
}

async function answersWell(url: string): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
  await answer?.arrayBuffer();
  return answer?.ok ?? false;
}
