import { setTimeout as delay } from 'node:timers/promises';
import { newOutcome, type Outcome } from './load/outcome.js';
import { tooFew } from './load/resources.js';
import { growthPercent, Sampler } from './load/statistics.js';
import type { Stage } from './phases.js';
import { residentBytes } from './processes.js';
import type { Fleet } from './systems/fleet.js';
import type { RunningSystem } from './systems/system.js';

/** Time for timers, buffers and the garbage of setting up to go. */
const QUIET_MS = 2_000;
/** While streams or tunnels are held. */
const SAMPLE_MS = 250;

/** Growth of the gateway's resident size by idle streams through it and by idle tunnels to it, for each. */
export async function measureMemory(stage: Stage, system: RunningSystem): Promise<Outcome> {
  const { client, originAt, options } = stage;
  const { idleStreams, idleTunnels } = options.load.memory;
  const outcome = newOutcome();
  // A stream is a buyer's connection and, through another process, one to the destination.
  const streamsLack = tooFew({ connections: idleStreams, toOneDestination: idleStreams });
  if (streamsLack !== null) outcome.problems.push(`memory of ${idleStreams} idle streams ${streamsLack}`);
  else
    await hold(outcome, stage, system, {
      what: 'stream',
      count: idleStreams,
      begin: () => client.call.hold(system.route, originAt, idleStreams),
      lost: () => client.call.lost(),
      end: () => client.call.release(),
    });

  if (system.idleTunnels === undefined) return outcome;
  const tunnelsLack = tooFew({ connections: idleTunnels, toOneDestination: idleTunnels });
  let fleet: Fleet | null = null;
  if (tunnelsLack !== null) outcome.problems.push(`memory of ${idleTunnels} idle tunnels ${tunnelsLack}`);
  else
    await hold(outcome, stage, system, {
      what: 'tunnel',
      count: idleTunnels,
      begin: async () => {
        fleet = (await system.idleTunnels?.(idleTunnels)) ?? null;
      },
      lost: async () => (await fleet?.role.call.losses())?.lost ?? 0,
      end: async () => fleet?.close(),
    });
  return outcome;
}

interface Holding {
  what: 'stream' | 'tunnel';
  count: number;
  begin(): Promise<void>;
  /** How many of them are gone that should be there. */
  lost(): Promise<number>;
  end(): Promise<void>;
}

/** What they take for each, and, when they are held for a time, how much that grows. */
async function hold(
  outcome: Outcome,
  { options }: Stage,
  system: RunningSystem,
  { what, count, begin, lost, end }: Holding,
): Promise<void> {
  const resident = () => residentBytes(system.gatewayPids());
  const { holdMs } = options.load.memory;
  const before = resident();
  try {
    await begin();
    await delay(QUIET_MS);
    outcome.figures[`kib_per_idle_${what}`] = (resident() - before) / count / 1024;
    if (holdMs > 0) {
      const sampler = new Sampler(SAMPLE_MS, resident);
      await delay(holdMs);
      outcome.figures[`idle_${what}s_growth_percent`] = growthPercent(sampler.stop());
    }
    const gone = await lost();
    if (gone > 0) outcome.problems.push(`memory: ${gone} of ${count} idle ${what}s were lost`);
  } finally {
    await end();
    await delay(QUIET_MS);
  }
}
