/** What gateways tell each other of themselves, and at which of them an exit is. */
import type { LiveRedis } from './connection.js';
import { EXIT_TTL_MS, liveKeys } from './keys.js';
import { sendMany } from './many.js';
import { isBoolean, isCount, isRecordOf, isString, parseJson } from './validation.js';

/** Free devices, and those that share, by country (ISO 3166 alpha-2) and type of network. */
export type DeviceCounts = Record<string, Record<string, [free: number, sharing: number]>>;

/** What a gateway has for buyers of others. */
export interface GatewaySummary {
  gatewayId: string;
  /** Where it takes links. */
  host: string;
  port: number;
  /** It takes no new requests. */
  draining: boolean;
  devices: DeviceCounts;
  /** Grows with each writing: one that stands still is of a gateway that is gone. */
  beat: number;
}

/** Gateways whose summaries are read; further ones are not asked for anything. */
const GATEWAYS_MAX = 1_000;
/** Of one summary: more than all countries and types of network need. */
const SUMMARY_CHARS_MAX = 32_768;

function isDeviceCounts(value: unknown): value is DeviceCounts {
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).every(
    (byNetwork) =>
      typeof byNetwork === 'object' &&
      byNetwork !== null &&
      Object.values(byNetwork).every(
        (counts) => Array.isArray(counts) && counts.length >= 2 && counts.every(isCount),
      ),
  );
}

const isSummary = isRecordOf<GatewaySummary>({
  gatewayId: isString,
  host: isString,
  port: isCount,
  draining: isBoolean,
  devices: isDeviceCounts,
  beat: isCount,
});

export async function writeSummary(redis: LiveRedis, summary: GatewaySummary): Promise<void> {
  await redis.hset(liveKeys.gatewaySummaries(), summary.gatewayId, JSON.stringify(summary));
}

/** All that can be read; what another version or program wrote in another form is left out. */
export async function readSummaries(redis: LiveRedis): Promise<GatewaySummary[]> {
  const texts = Object.entries(await redis.hgetall(liveKeys.gatewaySummaries()));
  const summaries: GatewaySummary[] = [];
  for (const [gatewayId, text] of texts.slice(0, GATEWAYS_MAX)) {
    const summary = text.length <= SUMMARY_CHARS_MAX ? parseJson(text, isSummary) : undefined;
    if (summary?.gatewayId === gatewayId) summaries.push(summary);
  }
  return summaries;
}

export async function deleteSummaries(redis: LiveRedis, gatewayIds: readonly string[]): Promise<void> {
  if (gatewayIds.length > 0) await redis.hdel(liveKeys.gatewaySummaries(), ...gatewayIds);
}

/** An address of a provider. */
export interface ExitPlace {
  readonly providerId: string;
  readonly exitIp: string;
}

/** The exits are at this gateway. */
export async function writeExits(
  redis: LiveRedis,
  gatewayId: string,
  exits: readonly ExitPlace[],
): Promise<void> {
  if (exits.length === 0) return;
  await sendMany(
    redis,
    exits.map(({ providerId, exitIp }) => [
      'set',
      liveKeys.exit(providerId, exitIp),
      gatewayId,
      'PX',
      EXIT_TTL_MS,
    ]),
  );
}

/** The gateway that the exit was at last; null: not known. */
export function readExit(redis: LiveRedis, { providerId, exitIp }: ExitPlace): Promise<string | null> {
  return redis.get(liveKeys.exit(providerId, exitIp));
}
