import type { PhaseFigures } from './figures.js';
import { type FleetOptions, FleetWorld } from './world.js';

export interface FleetPlan extends FleetOptions {
  /** Simulated, of each phase. */
  phaseSeconds: number;
}

/** All devices come within so many simulated seconds. */
const ARRIVAL_SECONDS = 60;

/**
 * A day of the fleet in short: devices come, buyers come, one gateway dies, a tenth of them die at once, one is restarted, some
 * are added, Redis comes back empty. Each phase is told when it is over.
 */
export async function simulateFleet(
  plan: FleetPlan,
  onPhase: (figures: PhaseFigures) => void = () => {},
): Promise<PhaseFigures[]> {
  const fleet = new FleetWorld(plan);
  // The directory of gateways draws its lots with it.
  const { random } = Math;
  Math.random = () => fleet.random;
  try {
    return await play(plan, fleet, onPhase);
  } finally {
    Math.random = random;
  }
}

async function play(
  plan: FleetPlan,
  fleet: FleetWorld,
  onPhase: (figures: PhaseFigures) => void,
): Promise<PhaseFigures[]> {
  const { phaseSeconds: seconds } = plan;
  const phases: PhaseFigures[] = [];
  const add = async (figures: Promise<PhaseFigures>) => {
    phases.push(await figures);
    onPhase(phases.at(-1) as PhaseFigures);
  };
  const tenth = Math.max(1, Math.floor(plan.gateways / 10));

  fleet.arriveWithin(ARRIVAL_SECONDS * 1_000);
  await add(fleet.phase(`All devices come within ${ARRIVAL_SECONDS} s`, ARRIVAL_SECONDS + 5));
  fleet.startTraffic();
  await add(fleet.phase('Buyers come', seconds));
  await add(fleet.phase('In service', seconds));
  await add(fleet.phase('One gateway is killed', seconds, fleet.kill(1)));
  await add(fleet.phase(`${tenth} gateways are killed at once`, seconds, fleet.kill(tenth)));
  await add(fleet.phase('One gateway is restarted: its devices move', seconds, fleet.drain()));
  for (let i = 0; i < tenth; i++) await fleet.addGateway();
  await add(fleet.phase(`${tenth} gateways are added`, seconds));
  fleet.wipeRedis();
  await add(fleet.phase('Redis comes back empty: the first second', 1));
  await add(fleet.phase('After that', seconds));
  return phases;
}
