import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Stage } from '../phases.js';
import { cpuSeconds } from '../processes.js';
import { type Role, startRole } from '../role.js';
import type { Offer, OfferResult, OffersCalls } from '../roles/offers.js';
import type { RunningSystem } from '../systems/system.js';
import { limitCores } from './cpu-limit.js';
import { newOutcome, type Outcome } from './outcome.js';
import { type CoresUsed, clientBound, localPorts, notOffered, openFilesMax } from './resources.js';
import { BUCKET_MS, bucketsP99, percentile, recoveryMs } from './statistics.js';

/** Below it the 99th percentile of a quarter second is that of a handful of requests. */
const PROBE_PER_SECOND_MIN = 200;
/** Normal is what the worst look before the overload was, and so much more. */
const NORMAL_FACTOR = 1.5;
/** Connections of all clients at once, as a share of the gateway's open files, and of the ports they come from. */
const OPEN_SHARE = 0.8;
/** The gateway closes those above 50 000 unread (TS_CONNECTIONS_MAX). */
const OPEN_MAX = 40_000;
/** Between two looks at the gateway's lag. */
const LAG_MS = 200;
/** The first looks are those of a client that warms up. */
const WARM_UP_MS = 2 * BUCKET_MS;
/** Until gateway, buffers and what an earlier phase left behind are at rest. */
const SETTLE_MS = 2_000;

/**
 * The peak of small requests in a closed loop; then several times that rate in an open loop, which is more than
 * anybody could answer; then half the peak again. How much is still answered, how fast the others are turned away,
 * and how long until answers are as fast as before.
 */
export async function overload(stage: Stage, system: RunningSystem): Promise<Outcome> {
  const { clients, factor, gatewayCores, offerMs, probeMs } = stage.options.load.overload;
  const { route } = system;
  const { originAt } = stage;
  const outcome = newOutcome();
  const unlimit =
    gatewayCores === null ? [] : system.gatewayPids().map((pid) => limitCores(pid, gatewayCores));
  const roles = Array.from({ length: clients }, () => startRole<OffersCalls>('offers'));
  const probe = startRole<OffersCalls>('offers');
  if (gatewayCores !== null)
    outcome.remarks.push(
      `overload: the gateway was held to ${gatewayCores} cores, so that its clients had enough`,
    );
  try {
    await delay(SETTLE_MS);
    const peak = await findPeak(outcome, stage, system);
    const openAll = Math.min(OPEN_MAX, openFilesMax() * OPEN_SHARE, localPorts() * OPEN_SHARE);
    const openMax = Math.floor(openAll / clients);
    const halfPeak: Offer = {
      perSecond: Math.max(PROBE_PER_SECOND_MIN, peak / 2),
      durationMs: probeMs,
      openMax,
    };
    const before = await probe.call.offer(route, originAt, halfPeak);
    await delay(SETTLE_MS);

    const watch = watchCpu(stage, system, roles);
    const lag = watchLag(system);
    const offer: Offer = { perSecond: (peak * factor) / clients, durationMs: offerMs, openMax };
    const offered = roles.map((role) => role.call.offer(route, originAt, offer));
    const all = Promise.all(offered);
    await Promise.race([delay(offerMs), all]); // an early end is a failure, told below
    const cores = watch();
    outcome.figures.overload_loop_lag_max_ms = await lag();
    const after = await probe.call.offer(route, originAt, halfPeak);
    noteOffer(outcome, await all, { peak, offerMs, factor, cores });
    noteRecovery(outcome, before, { ...after, durationMs: probeMs });
    return outcome;
  } finally {
    for (const lift of unlimit) lift();
    await probe.stop();
    for (const role of roles) await role.stop();
  }
}

async function findPeak(outcome: Outcome, stage: Stage, system: RunningSystem): Promise<number> {
  const { client, originAt, options } = stage;
  const load = {
    concurrency: options.concurrency,
    durationMs: options.load.overload.peakMs,
    countMax: Number.MAX_SAFE_INTEGER,
  };
  let peak = 0;
  let cores: Cores | null = null;
  for (let window = 0; window < 2; window++) {
    const watch = watchCpu(stage, system, [client]);
    const { done, failed, error, elapsedMs } = await client.call.requests(system.route, originAt, load);
    const perSecond = done / (elapsedMs / 1_000);
    if (failed > 0)
      throw new Error(`overload: ${failed} of ${done + failed} requests failed at the peak: ${error}`);
    if (perSecond <= peak) continue;
    peak = perSecond;
    cores = watch();
  }
  outcome.figures.overload_peak_per_s = peak;
  outcome.figures.overload_peak_gateway_cores = cores?.gateway ?? null;
  const bound = cores === null ? null : clientBound(cores);
  if (bound !== null) outcome.remarks.push(`overload, peak: ${bound}`);
  await delay(SETTLE_MS);
  return peak;
}

interface Cores extends CoresUsed {
  clients: number;
  agent: number;
  origin: number;
}

/** Starts a window; what it gives ends it. */
function watchCpu(stage: Stage, system: RunningSystem, clients: readonly Role<object>[]): () => Cores {
  const read = () => ({
    atMs: performance.now(),
    gateway: cpuSeconds(system.gatewayPids()),
    agent: cpuSeconds(system.agentPids()),
    origin: cpuSeconds([stage.origin.pid]),
    clients: clients.map(({ pid }) => cpuSeconds([pid])),
  });
  const from = read();
  return () => {
    const to = read();
    const seconds = (to.atMs - from.atMs) / 1_000;
    const each = to.clients.map((used, n) => (used - (from.clients[n] ?? 0)) / seconds);
    const clientsCores = each.reduce((sum, cores) => sum + cores, 0);
    const [gateway, agent, origin] = (['gateway', 'agent', 'origin'] as const).map(
      (part) => (to[part] - from[part]) / seconds,
    ) as [number, number, number];
    return {
      gateway,
      agent,
      origin,
      clients: clientsCores,
      all: clientsCores + gateway + agent + origin,
      busiestClient: Math.max(...each),
    };
  };
}

/** The largest lag of the gateway's event loop from now on; null: it does not say. What it gives ends it. */
function watchLag({ inside }: RunningSystem): () => Promise<number | null> {
  let most: number | null = null;
  let over = false;
  const look = async () => {
    while (!over && inside !== undefined) {
      most = Math.max(most ?? 0, await inside.loopLagMs());
      await delay(LAG_MS);
    }
  };
  const looking = look();
  return async () => {
    over = true;
    await looking;
    return most;
  };
}

function noteOffer(
  outcome: Outcome,
  results: readonly OfferResult[],
  { peak, offerMs, factor, cores }: { peak: number; offerMs: number; factor: number; cores: Cores },
): void {
  const sum = (of: (result: OfferResult) => number) =>
    results.reduce((total, result) => total + of(result), 0);
  const begun = sum(({ begun }) => begun);
  const refusalMs = results.flatMap((result) => result.refusalMs);
  const lost = sum((result) => result.lost);
  Object.assign(outcome.figures, {
    overload_offered_per_s: begun / (offerMs / 1_000),
    overload_goodput_percent: (sum(({ doneInTime }) => doneInTime) / (offerMs / 1_000) / peak) * 100,
    overload_refused: refusalMs.length,
    overload_refusal_p50_ms: percentile(refusalMs, 0.5),
    overload_refusal_p99_ms: percentile(refusalMs, 0.99),
    overload_unanswered: lost,
    overload_gateway_cores: cores.gateway,
    overload_agent_cores: cores.agent,
    overload_clients_cores: cores.clients,
    overload_origin_cores: cores.origin,
  });
  const due = peak * factor * (offerMs / 1_000);
  const offered = { begun: begun / due, heldBack: sum(({ heldBack }) => heldBack) / due };
  outcome.remarks.push(
    ...notOffered(offered, cores, availableParallelism()).map((text) => `overload: ${text}`),
  );
  const reasons = new Map<string, number>();
  for (const { refusals } of results)
    for (const [why, count] of Object.entries(refusals)) reasons.set(why, (reasons.get(why) ?? 0) + count);
  if (reasons.size > 0)
    outcome.remarks.push(
      `overload: refused: ${[...reasons].map(([why, count]) => `${count} × ${why}`).join(', ')}`,
    );
  const loss = results.find(({ firstLoss }) => firstLoss !== null)?.firstLoss;
  if (lost > 0) outcome.remarks.push(`overload: ${lost} requests had neither answer nor refusal: ${loss}`);
}

function noteRecovery(
  outcome: Outcome,
  before: OfferResult,
  after: OfferResult & { durationMs: number },
): void {
  const calm = bucketsP99(before.requests, WARM_UP_MS);
  const normalMs = Math.max(...calm) * NORMAL_FACTOR;
  if (!Number.isFinite(normalMs)) {
    outcome.problems.push(
      `overload: at half the peak requests failed before any overload: ${before.firstLoss}`,
    );
    return;
  }
  const recoveredMs = recoveryMs(bucketsP99(after.requests, 0), normalMs);
  outcome.figures.overload_calm_p99_ms = percentile(calm, 0.5);
  outcome.figures.overload_recovery_s = (recoveredMs ?? after.durationMs) / 1_000;
  if (recoveredMs === null)
    outcome.remarks.push(
      `overload: it had not recovered by the end of the measurement: the p99 of ${BUCKET_MS} ms was not back below ` +
        `${normalMs.toFixed(1)} ms`,
    );
}
