import { setTimeout as delay } from 'node:timers/promises';
import type { Stage } from '../phases.js';
import { cpuSeconds, residentBytes } from '../processes.js';
import type { Payload } from '../protocol.js';
import { startRole } from '../role.js';
import type { MixedCalls, MixedFigures, MixedTraffic } from '../roles/mixed.js';
import { Books } from '../systems/books.js';
import { FLEET_NETWORK, type Fleet, fleetRecords, openFleet } from '../systems/fleet.js';
import type { RunningSystem } from '../systems/system.js';
import { mixOf } from './load-options.js';
import { newOutcome, notRun, type Outcome } from './outcome.js';
import { tooFew } from './resources.js';
import { growthPercent, lastPart, Sampler } from './statistics.js';
import { until } from './until.js';

const SAMPLE_MS = 1_000;
/** Under a minute samples come more often, so that a short form has some. */
const SAMPLE_SHORT_MS = 100;
/** In less time nothing can be flat: the first minutes of a process grow. */
const SETTLED_MS = 240_000;
/** Of the time: what flatness is asked of (the last 3 of 5 minutes). */
const FLAT_SHARE = 0.6;
/** Counts go to settlement every second; it books within some more. */
const BOOKED_TIMEOUT_MS = 60_000;
/** Without a change for so long everything that came before is booked. */
const BOOKS_QUIET_MS = 3_000;

const TRAFFIC: Omit<MixedTraffic, 'mix' | 'usernames'> = {
  trickleBytes: 300,
  trickleEveryMs: 1_000,
  requestEveryMs: 4_000,
  bulkBytes: 16 << 20,
  bulkEveryMs: 2_000,
};

/**
 * Streams with mixed traffic over many devices, each with a provider, a traffic session and an allocation of its own,
 * for minutes: errors, memory and its growth, and at the end every byte and every micro-dollar.
 */
export async function soak(stage: Stage, system: RunningSystem): Promise<Outcome> {
  const { devices, streams } = stage.options.load.soak;
  const { inside } = system;
  if (inside === undefined) return notRun('soak: needs Traffic Share');
  const lacking = tooFew({ connections: streams + devices, toOneDestination: streams });
  if (lacking !== null) return notRun(`soak of ${streams} streams over ${devices} devices ${lacking}`);
  const outcome = newOutcome();
  const books = new Books(inside.databaseUrl);
  const client = startRole<MixedCalls>('mixed');
  let fleet: Fleet | null = null;
  try {
    const records = fleetRecords(devices);
    await books.addSessions(records);
    fleet = await openFleet(inside.site, records);
    const before = { booked: await quietBooks(books), origin: await stage.origin.call.totals() };

    const { username } = system.route;
    const usernames = records.map((_, n) => `${username}-net-${FLEET_NETWORK}-session-soak${n}`);
    await client.call.start(system.route, stage.originAt, { ...TRAFFIC, mix: mixOf(streams), usernames });
    await watchMemory(outcome, stage, system);
    const counted = await client.call.finish();
    noteTraffic(outcome, counted);
    const { lost, reason } = await fleet.role.call.losses();
    if (lost > 0) outcome.problems.push(`soak: ${lost} tunnels were lost: ${reason}`);

    const origin = less(await stage.origin.call.totals(), before.origin);
    let booked: Payload = { bytesUp: 0, bytesDown: 0 };
    await until(BOOKED_TIMEOUT_MS, async () => {
      booked = less(await books.booked(), before.booked);
      return booked.bytesUp >= origin.bytesUp && booked.bytesDown >= origin.bytesDown;
    });
    compare(outcome, { booked, origin, client: counted });
    const used = await books.sessionsUsed(records);
    if (used < devices) outcome.problems.push(`soak: only ${used} of ${devices} devices carried anything`);
    outcome.figures.soak_ledger_sum_micros = await books.ledgerSum();
    for (const fault of await books.faults()) outcome.problems.push(`soak: the books: ${fault}`);
    return outcome;
  } finally {
    await client.stop();
    await fleet?.close();
    await books.close();
  }
}

/** What is booked once nothing changes any more: traffic of earlier phases is then in it. */
async function quietBooks(books: Books): Promise<Payload> {
  let last = await books.booked();
  let sinceMs = performance.now();
  const quiet = await until(BOOKED_TIMEOUT_MS, async () => {
    const now = await books.booked();
    if (now.bytesUp !== last.bytesUp || now.bytesDown !== last.bytesDown) sinceMs = performance.now();
    last = now;
    return performance.now() - sinceMs >= BOOKS_QUIET_MS;
  });
  if (!quiet) throw new Error('bytes are booked and nobody sends any');
  return last;
}

async function watchMemory(outcome: Outcome, stage: Stage, system: RunningSystem): Promise<void> {
  const { durationMs } = stage.options.load.soak;
  const pids = system.gatewayPids();
  const cpuBefore = cpuSeconds(pids);
  const sampler = new Sampler(durationMs < 60_000 ? SAMPLE_SHORT_MS : SAMPLE_MS, () => residentBytes(pids));
  await delay(durationMs);
  const samples = sampler.stop();
  if (durationMs < SETTLED_MS)
    outcome.remarks.push(`soak: ${durationMs / 1_000} s are too short for its growth to say anything`);
  outcome.figures.soak_gateway_cores = (cpuSeconds(pids) - cpuBefore) / (durationMs / 1_000);
  outcome.figures.soak_rss_max_mb = Math.max(...samples) / 1e6;
  outcome.figures.soak_growth_percent = growthPercent(lastPart(samples, FLAT_SHARE));
}

function noteTraffic(outcome: Outcome, counted: MixedFigures): void {
  const { requests, transfers, echoes, echoP99Ms } = counted;
  const errors = counted.errors + counted.refused;
  const first = counted.firstError ?? counted.firstRefusal;
  Object.assign(outcome.figures, {
    soak_errors: errors,
    soak_requests: requests,
    soak_transfers: transfers,
    soak_echoes: echoes,
    soak_echo_p99_ms: echoP99Ms,
    soak_gb: (counted.bytesUp + counted.bytesDown) / 1e9,
  });
  if (errors > 0) outcome.problems.push(`soak: ${errors} errors, the first: ${first}`);
  if (requests === 0 || echoes === 0 || transfers === 0)
    outcome.problems.push('soak: a kind of traffic did nothing');
}

/** Every byte is booked, and no other. */
function compare(
  outcome: Outcome,
  { booked, origin, client }: Record<'booked' | 'origin' | 'client', Payload>,
): void {
  const differs = (a: Payload, b: Payload) =>
    Math.abs(a.bytesUp - b.bytesUp) + Math.abs(a.bytesDown - b.bytesDown);
  outcome.figures.soak_unbooked_bytes = differs(booked, origin);
  const told = ({ bytesUp, bytesDown }: Payload) => `${bytesUp} up and ${bytesDown} down`;
  if (differs(booked, origin) > 0)
    outcome.problems.push(`soak: booked ${told(booked)}, the origin counted ${told(origin)}`);
  if (differs(client, origin) > 0)
    outcome.problems.push(`soak: the client counted ${told(client)}, the origin ${told(origin)}`);
}

const less = (a: Payload, b: Payload): Payload => ({
  bytesUp: a.bytesUp - b.bytesUp,
  bytesDown: a.bytesDown - b.bytesDown,
});
