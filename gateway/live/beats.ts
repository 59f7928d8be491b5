/** Signs of life of gateways, for each other. */
import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import type { GatewayRun } from './records.js';
import { isBoolean, isCount, isRecordOf, isString, parseJson } from './validation.js';

/** A gateway says that its process lives, or, as its last word, that it is over. */
export interface GatewayBeat extends GatewayRun {
  /** Grows from beat to beat of a process. */
  beat: number;
  over: boolean;
}

const isBeat = isRecordOf<GatewayBeat>({
  gatewayId: isString,
  epoch: isString,
  beat: isCount,
  over: isBoolean,
});

export async function writeBeat(redis: LiveRedis, beat: GatewayBeat): Promise<void> {
  await redis.hset(liveKeys.gatewayBeats(), beat.gatewayId, JSON.stringify(beat));
}

/** All that can be read. */
export async function readBeats(redis: LiveRedis): Promise<GatewayBeat[]> {
  const texts = Object.entries(await redis.hgetall(liveKeys.gatewayBeats()));
  return texts.flatMap(([gatewayId, text]) => {
    const beat = parseJson(text, isBeat);
    return beat?.gatewayId === gatewayId ? [beat] : [];
  });
}

export async function deleteBeats(redis: LiveRedis, gatewayIds: readonly string[]): Promise<void> {
  if (gatewayIds.length > 0) await redis.hdel(liveKeys.gatewayBeats(), ...gatewayIds);
}
