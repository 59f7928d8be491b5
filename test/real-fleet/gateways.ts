/** What happens to gateways and control planes of the fleet: drained, killed, restarted. */
import { setTimeout as delay } from 'node:timers/promises';
import { patience } from '../helpers/busy-machine.js';
import { longestGapMs, type SessionUser } from './load.js';
import type { Phase, Scene } from './phase.js';

/** Longest time without service of a killed gateway's devices' sessions, and how long newcomers may meet it, ms. */
export const GAP_MS_MAX = 3_000;
/** Traffic goes on so long after everything is there again, ms. */
const AFTER_MS = 1_000;
const DRAINED_TIMEOUT_MS = 40_000;

/** For people. */
const s = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

/** Stopped in order by its service manager or by the API, then started again: nobody may notice. */
export function drain(gateway: number, by: 'signal' | 'api'): Phase {
  return {
    name: `gateway ${gateway + 1} drained ${by === 'api' ? 'by the API' : 'by SIGTERM'}, restarted`,
    async run({ fleet, note, fail }) {
      const { program } = fleet.gateway(gateway);
      const { online } = await fleet.agents();
      const startMs = performance.now();
      if (by === 'signal') program.signal('SIGTERM');
      else await fleet.asAdmin(`/api/admin/gateways/${fleet.gatewayId(gateway)}/drain`, {});
      const inTime = await Promise.race([program.gone().then(() => true), delay(DRAINED_TIMEOUT_MS, false)]);
      if (!inTime) {
        fail('did not end');
        await program.killAndWait();
      }
      note(`ended after ${s(performance.now() - startMs)}`);
      await program.start();
      await fleet.untilWell(gateway);
      await fleet.untilOnline(online);
      await delay(AFTER_MS);
    },
  };
}

/** kill -9, and started again after `deadMs`: sessions of its devices go on elsewhere within three seconds. */
export function kill(gateway: number, deadMs: number): Phase {
  return {
    name: `gateway ${gateway + 1} killed, started after ${s(deadMs)}`,
    newSessions: true,
    async run(scene) {
      const { fleet, load, note, fail } = scene;
      const { program } = fleet.gateway(gateway);
      const { online } = await fleet.agents();
      const places = await Promise.all(load.sessions.map(({ buyer, name }) => fleet.placeOf(buyer, name)));
      const hit = load.sessions.filter((_, n) => places[n]?.gatewayId === fleet.gatewayId(gateway));
      if (hit.length === 0) fail('no session had a device there: nothing was measured');
      scene.strike();
      scene.mayCut();
      const struckMs = performance.now();
      const gapMsMax = GAP_MS_MAX * patience();
      scene.excuse(struckMs - GAP_MS_MAX, struckMs + gapMsMax);
      program.signal('SIGKILL');
      await program.gone();
      const back = fleet.untilOnline(online).then((ms) => note(`devices back after ${s(ms)}`));
      await Promise.all([back, delay(deadMs)]);
      await program.start();
      await fleet.untilWell(gateway);
      await delay(AFTER_MS);
      const untilMs = performance.now();
      const gapsOf = (users: readonly SessionUser[]) =>
        users.map(({ attempts }) => longestGapMs(attempts, struckMs, untilMs));
      const gaps = gapsOf(hit);
      const longestMs = Math.max(0, ...gaps);
      scene.gap(longestMs);
      // What the machine does to everybody, while a third of the devices comes back and others use it as well
      const elsewhereMs = Math.max(0, ...gapsOf(load.sessions.filter((user) => !hit.includes(user))));
      note(
        `${hit.length} of ${load.sessions.length} sessions had their device there, without service for ` +
          `${gaps.map(s).join(', ')}; the others for at most ${s(elsewhereMs)}` +
          (gapMsMax > GAP_MS_MAX ? `; on a busy machine ${s(gapMsMax)} are allowed` : ''),
      );
      if (longestMs > gapMsMax) fail(`a session had no service for ${s(longestMs)}`);
    },
  };
}

/** One of the two control planes: buyers must not notice. */
export function controlPlane(which: number, signal: 'SIGTERM' | 'SIGKILL'): Phase {
  return {
    name: `control plane ${which + 1} ${signal === 'SIGKILL' ? 'killed' : 'stopped'}, restarted`,
    async run({ fleet }) {
      const { program } = fleet.system.controlPlanes[which] as (typeof fleet.system.controlPlanes)[number];
      program.signal(signal);
      await program.gone();
      await delay(AFTER_MS);
      await program.start();
      await delay(AFTER_MS);
    },
  };
}

/** Nothing happens: what the rest is compared with. */
export function quiet(lastsMs: number): Phase {
  return {
    name: 'nothing',
    run: (_scene: Scene) => delay(lastsMs),
  };
}
