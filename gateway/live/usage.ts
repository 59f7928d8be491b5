/**
 * Usage on its way from gateways to the control plane: who reached which destination, when, with how many bytes. For
 * people to look at and for abuse handling; money is made of meters, never of this.
 */
import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import { readGatewayPresence } from './presence.js';
import { decode } from './store.js';
import { type Check, isCount, isListOf } from './validation.js';

/** What went to one destination on one UTC day since the batch before: payload bytes, streams opened, times. */
export interface DestinationUsage {
  sessionId: string;
  allocationId: string;
  buyerId: string;
  /** null: the buyer's own account. */
  subUserId: string | null;
  /** As asked for, normalised: a name in lower case or an address; `(other)` (port 0): one of many. */
  host: string;
  port: number;
  /** `tag-` and `session-` of the username; null: none; `(other)`: one of many. */
  tag: string | null;
  sessionName: string | null;
  bytesUp: number;
  bytesDown: number;
  streams: number;
  /** First and last time that something was noticed, on the gateway's clock. */
  firstAtMs: number;
  lastAtMs: number;
}

/** How often connections of a buyer were refused with one code, within one hour, since the batch before. */
export interface BuyerRefusals {
  buyerId: string;
  /** Of the proxy's errors (`gateway/errors.ts`). */
  code: string;
  /** At least 1. */
  refusals: number;
  lastAtMs: number;
  /** What the latest one said beside the code, such as the key of BAD_PARAM: at most 64 harmless characters. */
  lastDetail: string | null;
  /** Of refusals that were about a destination: about how many different ones, as a `Sketch`; left out: of others. */
  targets?: string;
  /** The first of them as `host:port`, printable ASCII: at most `REFUSED_SAMPLES_MAX`. */
  samples?: string[];
}

/** Destinations that a count of refusals names. */
export const REFUSED_SAMPLES_MAX = 5;

/** What batches are made of; who reads them knows one from the other by `refusals`. */
export type UsageEntry = DestinationUsage | BuyerRefusals;

/** Which batch: `seq` counts from 1 within a run of the gateway (`runOf`). */
export interface UsageBatchId {
  run: string;
  seq: number;
}

/** Numbers from the first to **before** the second. */
export type SeqRange = readonly [from: number, to: number];

const isSeqRange: Check<SeqRange> = (value): value is SeqRange =>
  isListOf(isCount)(value) && value.length === 2;
const isSeqRanges = isListOf(isSeqRange);

const fieldOf = ({ run, seq }: UsageBatchId) => `${run}.${seq}`;

function batchIdOf(field: string): UsageBatchId | null {
  const parts = /^([0-9a-f]{24})\.([1-9]\d{0,14})$/.exec(field);
  return parts ? { run: parts[1] as string, seq: Number(parts[2]) } : null;
}

// The gateway's side.

/** Puts a batch where the control plane finds it; may be repeated. `text`: JSON of `UsageEntry[]`. */
export async function deliverUsage(
  redis: LiveRedis,
  gatewayId: string,
  id: UsageBatchId,
  text: string,
): Promise<void> {
  await redis.hset(liveKeys.usage(gatewayId), fieldOf(id), text);
  // After the batch: whoever finds nothing of a gateway in the set's turn may take it out.
  await redis.sadd(liveKeys.usageGateways(), gatewayId);
}

/** Batches of the run that Postgres has committed, as far as the live state knows. */
export async function readBookedUsage(redis: LiveRedis, gatewayId: string, run: string): Promise<SeqRange[]> {
  const key = liveKeys.usageBooked(gatewayId);
  return decode(redis, `${key} ${run}`, await redis.hget(key, run), isSeqRanges) ?? [];
}

/** Earlier runs of this gateway are over, and nobody waits to hear what was booked of them. */
export async function forgetOtherUsageRuns(redis: LiveRedis, gatewayId: string, run: string): Promise<void> {
  const key = liveKeys.usageBooked(gatewayId);
  const others = (await redis.hkeys(key)).filter((other) => other !== run);
  if (others.length > 0) await redis.hdel(key, ...others);
}

// The control plane's side.

/** Gateways that may have batches waiting. */
export function readUsageGateways(redis: LiveRedis): Promise<string[]> {
  return redis.smembers(liveKeys.usageGateways());
}

/** Batches that wait, oldest first within a run. Fields that are no batch of ours are removed and logged. */
export async function listUsageBatches(redis: LiveRedis, gatewayId: string): Promise<UsageBatchId[]> {
  const key = liveKeys.usage(gatewayId);
  const found: UsageBatchId[] = [];
  for (const field of await redis.hkeys(key)) {
    const id = batchIdOf(field);
    if (id) found.push(id);
    else {
      redis.log.error({ key: `${key} ${field}` }, 'live_value_unreadable');
      await redis.hdel(key, field);
    }
  }
  return found.sort((a, b) => (a.run === b.run ? a.seq - b.seq : a.run < b.run ? -1 : 1));
}

/** The batch's JSON as it came, unchecked; null: gone. */
export function readUsageBatch(
  redis: LiveRedis,
  gatewayId: string,
  id: UsageBatchId,
): Promise<string | null> {
  return redis.hget(liveKeys.usage(gatewayId), fieldOf(id));
}

/** After the commit: tells the gateway which batches of the run are booked, and removes this one. May be repeated. */
export async function settleUsage(
  redis: LiveRedis,
  gatewayId: string,
  id: UsageBatchId,
  booked: readonly SeqRange[],
): Promise<void> {
  // In this order: a batch that is gone and not known to be booked would be sent again.
  await redis.hset(liveKeys.usageBooked(gatewayId), id.run, JSON.stringify(booked));
  await redis.hdel(liveKeys.usage(gatewayId), fieldOf(id));
}

/** Leaves out a gateway that has nothing waiting and gives no sign of life; its next delivery brings it back. */
export async function forgetUsageGatewayWhenGone(redis: LiveRedis, gatewayId: string): Promise<void> {
  if ((await readGatewayPresence(redis, gatewayId)) !== null) return;
  await redis.srem(liveKeys.usageGateways(), gatewayId);
  if ((await redis.hlen(liveKeys.usage(gatewayId))) > 0)
    await redis.sadd(liveKeys.usageGateways(), gatewayId);
  else await redis.del(liveKeys.usageBooked(gatewayId));
}
