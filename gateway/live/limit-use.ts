/** What gateways do of a buyer's or sub-user's limits, told to each other through one record an owner. */
import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import type { CommandCall } from './live-redis.js';
import { sendMany } from './many.js';

/** What one gateway does of an owner's limits. Whole numbers from 0, below 2^53. */
export interface ToldUse {
  /** A buyer's id; or the account of a sub-user that has limits of its own. */
  owner: string;
  /** How long this is good for when nothing more is told, ms; up to ten minutes. */
  ttlMs: number;
  /** Live streams. */
  streams: number;
  /** The owner's limit over all gateways, connections a second; null: none. */
  connectionsPerSecondMax: number | null;
  /** Connections a second that are asked for here, refused ones included. */
  connectionsWanted: number;
  /** The owner's limit over all gateways, bytes a second; null: none. */
  bytesPerSecondMax: number | null;
  /** Bytes a second that would be moved here. */
  bytesWanted: number;
  /** What it counts for where more is wanted than there is, from 1: directions of streams that wait. */
  bytesWeight: number;
}

/** What the answer allows this gateway until the next one. */
export interface Portion {
  /** Live streams at the other gateways, as they told last. */
  streamsElsewhere: number;
  /** Of the limits; null: there is none. The portions of all gateways add up to no more than the limit. */
  connectionsPerSecond: number | null;
  bytesPerSecond: number | null;
  /** Gateways that the owner is active at, this one included. */
  gateways: number;
}

/** Owners in one round trip. */
const BATCH = 500;

/**
 * Tells what this gateway does, and resolves to its portions in the order of `uses`; null: Redis answered
 * with an error. May be repeated.
 */
export async function shareLimits(
  redis: LiveRedis,
  gatewayId: string,
  uses: readonly ToldUse[],
): Promise<Array<Portion | null>> {
  const portions: Array<Portion | null> = [];
  for (let i = 0; i < uses.length; i += BATCH) {
    const calls = uses.slice(i, i + BATCH).map((use): CommandCall => {
      const key = liveKeys.limitUse(use.owner);
      const rate = [String(use.connectionsPerSecondMax ?? -1), String(use.connectionsWanted)];
      const bytes = [String(use.bytesPerSecondMax ?? -1), String(use.bytesWanted), String(use.bytesWeight)];
      return ['shareLimits', key, gatewayId, String(use.ttlMs), String(use.streams), ...rate, ...bytes];
    });
    for (const [error, reply] of await redis.sendAll(calls))
      portions.push(error ? null : portionOf(reply as [number, number, number, number]));
  }
  return portions;
}

function portionOf([streamsElsewhere, rate, bytes, gateways]: [number, number, number, number]): Portion {
  return {
    streamsElsewhere,
    connectionsPerSecond: rate < 0 ? null : rate,
    bytesPerSecond: bytes < 0 ? null : bytes,
    gateways,
  };
}

/** The owners are not active at this gateway any more. */
export async function dropLimitUse(
  redis: LiveRedis,
  gatewayId: string,
  owners: readonly string[],
): Promise<void> {
  for (let i = 0; i < owners.length; i += BATCH)
    await sendMany(
      redis,
      owners.slice(i, i + BATCH).map((owner) => ['hdel', liveKeys.limitUse(owner), gatewayId]),
    );
}
