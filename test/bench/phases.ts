import { setTimeout as delay } from 'node:timers/promises';
import { percentile } from './load/statistics.js';
import type { Options } from './options.js';
import { cpuSeconds } from './processes.js';
import type { ClientCalls, Count, Endpoint, OriginCalls } from './protocol.js';
import type { Role } from './role.js';
import type { RunningSystem } from './systems/system.js';

/** The fixed parts of a measurement. */
export interface Stage {
  origin: Role<OriginCalls>;
  originAt: Endpoint;
  client: Role<ClientCalls>;
  options: Options;
}

/** One window's figures by name; null: nothing to count (a system without processes). */
export type Figures = Record<string, number | null>;

const GB = 1e9;
/** After a window: connections end, buffers drain. */
export const SETTLE_MS = 200;
/** More requests than a window can hold. */
const WITHOUT_LIMIT = Number.MAX_SAFE_INTEGER;

/** GB/s of payload with this many streams at once, and CPU seconds of gateway and agent for each GB. */
export async function bulk(
  stage: Stage,
  system: RunningSystem,
  direction: 'down' | 'up',
  streams: number,
): Promise<Figures> {
  const { client, origin, originAt, options } = stage;
  const count = (): Promise<Count> => (direction === 'down' ? client.call.bulkCount() : origin.call.count());
  try {
    await client.call.bulkStart(system.route, originAt, direction, streams);
    await delay(options.bulkWarmMs);
    const before = { count: await count(), ...cpuOf(system) };
    await delay(options.bulkMs);
    const after = { count: await count(), ...cpuOf(system) };
    await client.call.bulkCount(); // a broken stream fails the window
    const gigabytes = (after.count.bytes - before.count.bytes) / GB;
    const seconds = (after.count.atMs - before.count.atMs) / 1000;
    const perGigabyte = (from: number | null, to: number | null) =>
      from === null || to === null ? null : (to - from) / gigabytes;
    return {
      [`${direction}_${streams}_gb_per_s`]: gigabytes / seconds,
      [`${direction}_${streams}_cpu_s_per_gb`]: perGigabyte(before.gateway, after.gateway),
      [`${direction}_${streams}_agent_cpu_s_per_gb`]: perGigabyte(before.agent, after.agent),
    };
  } finally {
    await client.call.bulkStop();
    await delay(SETTLE_MS);
  }
}

/**
 * Gateway CPU seconds for each GB with and without metering and journal, over the same streams: both vary more from
 * one set of connections to the next than counting costs. Four windows, on, off, off, on, or with `offFirst` the other
 * way round: a drift cancels out, and over both orders what is special about the first window, too.
 */
export async function meteringCost(
  stage: Stage,
  system: RunningSystem,
  direction: 'down' | 'up',
  streams: number,
  offFirst: boolean,
): Promise<Figures> {
  const { client, origin, originAt, options } = stage;
  if (system.switchMetering === undefined) throw new Error('metering can not be switched here');
  const count = (): Promise<Count> => (direction === 'down' ? client.call.bulkCount() : origin.call.count());
  const used = { on: { cpu: 0, bytes: 0 }, off: { cpu: 0, bytes: 0 } };
  const window = async (sum: { cpu: number; bytes: number }): Promise<void> => {
    await delay(SETTLE_MS);
    const before = { count: await count(), ...cpuOf(system) };
    await delay(options.bulkMs);
    const after = { count: await count(), ...cpuOf(system) };
    sum.bytes += after.count.bytes - before.count.bytes;
    sum.cpu += (after.gateway ?? 0) - (before.gateway ?? 0);
  };
  try {
    await client.call.bulkStart(system.route, originAt, direction, streams);
    await delay(options.bulkWarmMs);
    const [outer, inner] = offFirst ? [used.off, used.on] : [used.on, used.off];
    if (offFirst) system.switchMetering();
    await window(outer);
    system.switchMetering();
    await window(inner);
    await window(inner);
    system.switchMetering();
    await window(outer);
    if (offFirst) system.switchMetering();
    await client.call.bulkCount(); // a broken stream fails the windows
    const [on, off] = [used.on, used.off].map(({ cpu, bytes }) => (cpu / bytes) * GB) as [number, number];
    const name = `metering_${direction}_${streams}`;
    return { [`${name}_on`]: on, [`${name}_off`]: off, [`${name}_percent`]: (on / off - 1) * 100 };
  } finally {
    await client.call.bulkStop();
    await delay(SETTLE_MS);
  }
}

/** Small requests on new connections, many at a time: how many a second, and CPU seconds for 1 000. */
export async function connectRate(stage: Stage, system: RunningSystem): Promise<Figures> {
  const { client, originAt, options } = stage;
  const before = cpuOf(system);
  const result = await client.call.requests(system.route, originAt, {
    concurrency: options.concurrency,
    durationMs: options.connectMs,
    countMax: WITHOUT_LIMIT,
  });
  const after = cpuOf(system);
  failWhenMany(result);
  const perThousand = (from: number | null, to: number | null) =>
    from === null || to === null ? null : ((to - from) / result.done) * 1000;
  await delay(SETTLE_MS);
  return {
    connections_per_s: result.done / (result.elapsedMs / 1000),
    cpu_s_per_1000: perThousand(before.gateway, after.gateway),
    agent_cpu_s_per_1000: perThousand(before.agent, after.agent),
    failed: result.failed,
  };
}

/** Small requests on new connections, one at a time: from dialling to the whole answer. */
export async function latency(stage: Stage, system: RunningSystem): Promise<Figures> {
  const result = await stage.client.call.requests(system.route, stage.originAt, {
    concurrency: 1,
    durationMs: stage.options.latencyMs,
    countMax: WITHOUT_LIMIT,
  });
  failWhenMany(result);
  await delay(SETTLE_MS);
  const { latenciesMs } = result;
  return { p50_ms: percentile(latenciesMs, 0.5), p99_ms: percentile(latenciesMs, 0.99) };
}

/** Small requests on new connections at a fixed rate: from when each was due to its whole answer. */
export async function fixedRate(stage: Stage, system: RunningSystem): Promise<Figures> {
  const { ratePerSecond: perSecond, rateMs: durationMs } = stage.options;
  const load = { perSecond, durationMs };
  const result = await stage.client.call.paced(system.route, stage.originAt, load);
  failWhenMany(result);
  await delay(SETTLE_MS);
  const { latenciesMs } = result;
  return { rate_p50_ms: percentile(latenciesMs, 0.5), rate_p99_ms: percentile(latenciesMs, 0.99) };
}

/** Connections that bring every part to its speed before anything is written down. */
export async function warmUp(stage: Stage, system: RunningSystem): Promise<void> {
  const { client, originAt, options } = stage;
  const load = { concurrency: options.concurrency, durationMs: 30_000, countMax: options.warmConnections };
  failWhenMany(await client.call.requests(system.route, originAt, load));
  await delay(SETTLE_MS);
}

function cpuOf(system: RunningSystem): { gateway: number | null; agent: number | null } {
  const sum = (processes: number[]) => (processes.length === 0 ? null : cpuSeconds(processes));
  return { gateway: sum(system.gatewayPids()), agent: sum(system.agentPids()) };
}

/** A rate counts only when what it counts worked: more than 1 in 1 000 failed fails the window. */
function failWhenMany(result: { done: number; failed: number; error: string | null }): void {
  if (result.done === 0 || result.failed > result.done / 1000)
    throw new Error(`${result.failed} of ${result.done + result.failed} requests failed: ${result.error}`);
}
