import { setTimeout as delay } from 'node:timers/promises';
import type { Figures, Stage } from './phases.js';
import { residentBytes } from './processes.js';
import type { RunningSystem } from './systems/system.js';

/** Time for timers, buffers and the garbage of setting up to go. */
const QUIET_MS = 2_000;

/** Growth of the gateway's resident size by idle streams through it and by idle tunnels to it, for each. */
export async function measureMemory(stage: Stage, system: RunningSystem): Promise<Figures> {
  const { client, originAt, options } = stage;
  const grown = async (count: number, begin: () => Promise<void>, end: () => Promise<void>) => {
    const before = residentBytes(system.gatewayPids());
    try {
      await begin();
      await delay(QUIET_MS);
      return (residentBytes(system.gatewayPids()) - before) / count / 1024;
    } finally {
      await end();
      await delay(QUIET_MS);
    }
  };
  const streams = await grown(
    options.idleStreams,
    () => client.call.hold(system.route, originAt, options.idleStreams),
    () => client.call.release(),
  );
  const { idleTunnels } = system;
  if (idleTunnels === undefined) return { kib_per_idle_stream: streams };
  let open: { close(): Promise<void> } | null = null;
  const tunnels = await grown(
    options.idleTunnels,
    async () => {
      open = await idleTunnels(options.idleTunnels);
    },
    async () => open?.close(),
  );
  return { kib_per_idle_stream: streams, kib_per_idle_tunnel: tunnels };
}
