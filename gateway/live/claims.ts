import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import type { CommandCall } from './live-redis.js';
import { readMany } from './many.js';
import type { ClaimRecord, GatewayRun } from './records.js';
import type { ScriptCommands } from './scripts.js';
import { decode } from './store.js';
import { isCount, isMissingOr, isNullOr, isRecordOf, isString } from './validation.js';

/** How long a claim lives without renewal; its holder renews it at a third of this. */
export const CLAIM_TTL_MS = 30_000;

/** A claim to take or renew. */
export interface Claim {
  providerId: string;
  exitIp: string;
  record: ClaimRecord;
  ttlMs: number;
  /** The claim may also be taken over from this allocation: one that its holder knows to be dead. */
  displacesAllocationId?: string;
}

/** `held`: whether the allocation holds the claim now; if not, `holder` is who does (null: unreadable). */
export type ClaimOutcome = { held: true } | { held: false; holder: ClaimRecord | null };

const isClaim = isRecordOf<ClaimRecord>({
  allocationId: isString,
  buyerId: isString,
  account: isString,
  sessionId: isNullOr(isString),
  packageId: isNullOr(isString),
  sizeBytes: isCount,
  assignedAtMs: isCount,
  gateway: isMissingOr(isRecordOf<GatewayRun>({ gatewayId: isString, epoch: isString })),
  device: isMissingOr(isRecordOf({ deviceId: isString, sinceMs: isCount })),
  sessionIdleMs: isMissingOr(isCount),
});

type ClaimArguments = Parameters<ScriptCommands['claimTake']>;

function takeArguments(claim: Claim): ClaimArguments {
  return [
    liveKeys.claim(claim.providerId, claim.exitIp),
    JSON.stringify(claim.record),
    String(Math.max(1, Math.round(claim.ttlMs))),
    claim.record.allocationId,
    claim.displacesAllocationId ?? '',
  ];
}

function outcome(redis: LiveRedis, key: string, [held, holder]: [0 | 1, string]): ClaimOutcome {
  return held === 1 ? { held: true } : { held: false, holder: decode(redis, key, holder, isClaim) };
}

/**
 * Takes the claim when it is free, or keeps it when the same allocation holds it already (its ttl never shortens).
 * Of any number of takers one holds it. May be repeated.
 */
export async function takeClaim(redis: LiveRedis, claim: Claim): Promise<ClaimOutcome> {
  const args = takeArguments(claim);
  return outcome(redis, args[0], await redis.claimTake(...args));
}

/**
 * `takeClaim` for many in one round trip, the first of them first; claims one holds are renewed, or asserted again after
 * Redis came back empty. The outcomes are in the order of the claims; null
 * where Redis answered with an error (try again later).
 */
export async function takeClaims(
  redis: LiveRedis,
  claims: readonly Claim[],
): Promise<Array<ClaimOutcome | null>> {
  if (claims.length === 0) return [];
  const calls = claims.map((claim): CommandCall => ['claimTake', ...takeArguments(claim)]);
  return (await redis.sendAll(calls)).map(([error, reply], i) =>
    error ? null : outcome(redis, calls[i]?.[1] as string, reply as [0 | 1, string]),
  );
}

/** Frees the claim if the allocation holds it; says whether it did. */
export async function releaseClaim(
  redis: LiveRedis,
  claim: { providerId: string; exitIp: string; allocationId: string },
): Promise<boolean> {
  return (await redis.claimRelease(liveKeys.claim(claim.providerId, claim.exitIp), claim.allocationId)) === 1;
}

/** Now, ms: the clock that all gateways share, by which claims tell the later of two tunnels. */
export async function redisNowMs(redis: LiveRedis): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000);
}

/** Exits asked about in one round trip. */
const READ_BATCH = 500;

/** Who holds each of the exits now, in their order; null: nobody. */
export async function readClaims(
  redis: LiveRedis,
  exits: ReadonlyArray<{ providerId: string; exitIp: string }>,
): Promise<Array<ClaimRecord | null>> {
  const claims: Array<ClaimRecord | null> = [];
  for (let i = 0; i < exits.length; i += READ_BATCH) {
    const keys = exits.slice(i, i + READ_BATCH).map((exit) => liveKeys.claim(exit.providerId, exit.exitIp));
    const texts = await readMany(redis, keys);
    keys.forEach((key, n) => {
      claims.push(decode(redis, key, texts[n] ?? null, isClaim));
    });
  }
  return claims;
}

/** Who holds the exit now, or null. */
export async function readClaim(
  redis: LiveRedis,
  providerId: string,
  exitIp: string,
): Promise<ClaimRecord | null> {
  const key = liveKeys.claim(providerId, exitIp);
  return decode(redis, key, await redis.get(key), isClaim);
}
