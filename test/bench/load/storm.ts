import type { Stage } from '../phases.js';
import { startRole } from '../role.js';
import type { MixedCalls, MixedTraffic } from '../roles/mixed.js';
import type { Comeback } from '../roles/tunnels.js';
import { type Fleet, fleetRecords, openFleet, startFleet } from '../systems/fleet.js';
import type { Inside, RunningSystem } from '../systems/system.js';
import { mixOf } from './load-options.js';
import { newOutcome, notRun, type Outcome } from './outcome.js';
import { tooFew } from './resources.js';
import { percentile } from './statistics.js';
import { until } from './until.js';

/** Devices that are not back by then are missing. */
const RETURN_TIMEOUT_MS = 90_000;
/** The gateway may take so long to see that tunnels are gone. */
const NOTICE_TIMEOUT_MS = 10_000;
/** The username that keeps the streams beside the storm on the demo's device. */
const BESIDE = 'session-beside-ttl-60';

const BESIDE_TRAFFIC: Omit<MixedTraffic, 'mix' | 'usernames'> = {
  trickleBytes: 300,
  trickleEveryMs: 250,
  requestEveryMs: 250,
  bulkBytes: 4 << 20,
  bulkEveryMs: 250,
};

/**
 * All devices of a fleet lose their tunnels at once and dial again as the agent does, with a fresh ticket for each
 * attempt, while streams of another device go on. First their sockets end, which the gateway sees; then they vanish
 * without a word (their process is stopped, its sockets stay) and dial from another one, as phones do that change
 * the network.
 */
export async function storm(stage: Stage, system: RunningSystem): Promise<Outcome> {
  const { devices, streams } = stage.options.load.storm;
  const { inside } = system;
  if (inside === undefined) return notRun('storm: needs Traffic Share');
  // Twice the devices: those that vanished keep their sockets beside the new ones.
  const lacking = tooFew({ connections: 2 * devices + 2 * streams, toOneDestination: 2 * devices });
  if (lacking !== null) return notRun(`storm of ${devices} devices ${lacking}`);
  const outcome = newOutcome();
  const fleets: Fleet[] = [];
  const beside = startRole<MixedCalls>('mixed');
  try {
    // Bound to the demo's device before there is another one.
    const username = `${system.route.username}-${BESIDE}`;
    await beside.call.start(system.route, stage.originAt, {
      ...BESIDE_TRAFFIC,
      mix: mixOf(streams),
      usernames: [username],
    });
    const others = (await inside.status()).tunnels;
    const records = fleetRecords(devices);
    const first = await openFleet(inside.site, records);
    fleets.push(first);

    note(outcome, 'cut', await first.role.call.cutAndReturn(RETURN_TIMEOUT_MS));
    await expectTunnels(outcome, inside, devices + others, 'after the cut');

    process.kill(first.role.pid, 'SIGSTOP');
    const second = startFleet();
    fleets.push(second);
    note(outcome, 'vanish', await second.role.call.returnFrom(inside.site, records, RETURN_TIMEOUT_MS));
    await first.role.kill();
    await expectTunnels(outcome, inside, devices + others, 'after they vanished');
    const { lost, reason } = await second.role.call.losses();
    if (lost > 0) outcome.problems.push(`storm: ${lost} tunnels did not stay: ${reason}`);

    const { errors, firstError, refused, firstRefusal, echoMaxMs, requests } = await beside.call.finish();
    Object.assign(outcome.figures, {
      storm_others_broken: errors,
      storm_others_refused: refused,
      storm_others_echo_max_ms: echoMaxMs,
      storm_others_requests: requests,
    });
    if (errors > 0)
      outcome.problems.push(`storm: ${errors} streams of another device broke, the first: ${firstError}`);
    if (refused > 0)
      outcome.remarks.push(`storm: ${refused} new connections were not served, the first: ${firstRefusal}`);
    await second.role.call.close();
    // The next phase begins with a gateway that has no storm behind it to clear away.
    await expectTunnels(outcome, inside, others, 'when all had gone');
    return outcome;
  } finally {
    await beside.stop();
    for (const { role } of fleets) await role.kill();
  }
}

function note(outcome: Outcome, how: 'cut' | 'vanish', comeback: Comeback): void {
  const { welcomedMs, missing, failures, failure } = comeback;
  const seconds = (share: number) => (percentile(welcomedMs, share) ?? Number.NaN) / 1_000;
  outcome.figures[`storm_${how}_half_back_s`] = seconds(0.5);
  outcome.figures[`storm_${how}_all_back_s`] = seconds(1);
  outcome.figures[`storm_${how}_failed_attempts`] = failures;
  if (failure !== null)
    outcome.remarks.push(`storm, ${how}: ${failures} attempts failed, one of them: ${failure}`);
  if (missing > 0)
    outcome.problems.push(
      `storm, ${how}: ${missing} devices were not back after ${RETURN_TIMEOUT_MS / 1_000} s: ${failure}`,
    );
}

async function expectTunnels(outcome: Outcome, inside: Inside, tunnels: number, when: string): Promise<void> {
  let seen = 0;
  const met = await until(NOTICE_TIMEOUT_MS, async () => {
    seen = (await inside.status()).tunnels;
    return seen === tunnels;
  });
  if (!met) outcome.problems.push(`storm: the gateway counts ${seen} tunnels ${when}, not ${tunnels}`);
}
