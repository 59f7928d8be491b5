import type { LiveRedis } from './connection.js';
import { liveKeys } from './keys.js';
import { type MeterReport, meterKey, type SettledMark } from './records.js';
import { decode } from './store.js';
import { isBoolean, isCount, isMicros, isNullOr, isRecordOf, isString } from './validation.js';

const isReport = isRecordOf<MeterReport>({
  sessionId: isString,
  allocationId: isString,
  epoch: isString,
  providerPriceMicrosPerGb: isMicros,
  buyerPriceMicrosPerGb: isMicros,
  buyerId: isString,
  packageId: isNullOr(isString),
  subUserId: isNullOr(isString),
  bytesUp: isCount,
  bytesDown: isCount,
  openedAtMs: isCount,
  activeAtMs: isCount,
  final: isBoolean,
  allocationEnded: isBoolean,
});

const isMark = isRecordOf<SettledMark>({ bytesUp: isCount, bytesDown: isCount, final: isBoolean });

/** Meters handled by one call of a script: Redis serves nobody else meanwhile. */
const SCRIPT_BATCH = 500;

/**
 * Brings a gateway's meters to Redis, keeping the larger of each count and whatever was final: may be repeated and
 * may arrive out of order. Resolves to how many meters changed (they are dirty now).
 */
export async function reportMeters(
  redis: LiveRedis,
  gatewayId: string,
  reports: readonly MeterReport[],
): Promise<number> {
  if (reports.length === 0) return 0;
  let changed = 0;
  const known = redis.sadd(liveKeys.gateways(), gatewayId);
  known.catch(() => {}); // awaited below, unless a report fails first
  for (let i = 0; i < reports.length; i += SCRIPT_BATCH) {
    const args: string[] = [];
    for (const r of reports.slice(i, i + SCRIPT_BATCH))
      args.push(
        meterKey(r),
        String(r.bytesUp),
        String(r.bytesDown),
        r.final ? '1' : '0',
        r.allocationEnded ? '1' : '0',
        JSON.stringify(r),
      );
    changed += await redis.reportMeters(liveKeys.meters(gatewayId), liveKeys.dirtyMeters(gatewayId), ...args);
  }
  await known;
  return changed;
}

/** Gateways that ever reported meters. */
export function readMeteringGateways(redis: LiveRedis): Promise<string[]> {
  return redis.smembers(liveKeys.gateways());
}

/** Settlement is through with a gateway that is gone: no meters, no presence. */
export async function forgetMeteringGateway(redis: LiveRedis, gatewayId: string): Promise<void> {
  await redis.srem(liveKeys.gateways(), gatewayId);
}

/** Up to `max` meters that grew since settlement last booked them, by meter key, in no order. */
export async function readDirtyMeters(
  redis: LiveRedis,
  gatewayId: string,
  max: number,
): Promise<Map<string, MeterReport>> {
  const keys = await redis.srandmember(liveKeys.dirtyMeters(gatewayId), max);
  const found = new Map<string, MeterReport>();
  if (keys.length === 0) return found;
  const hash = liveKeys.meters(gatewayId);
  const values = await redis.hmget(hash, ...keys);
  const orphans: string[] = [];
  keys.forEach((key, i) => {
    const report = decode(redis, `${hash} ${key}`, values[i] ?? null, isReport);
    if (report) found.set(key, report);
    else orphans.push(key);
  });
  // Without a report there is nothing to book; the gateway's next delivery brings it back.
  if (orphans.length > 0) await redis.dropOrphanMeters(hash, liveKeys.dirtyMeters(gatewayId), ...orphans);
  return found;
}

/** Keys of the gateway's meters that grew since settlement last booked them. */
export async function readDirtyMeterKeys(redis: LiveRedis, gatewayId: string): Promise<string[]> {
  const keys = new Set<string>();
  let cursor = '0';
  do {
    const [next, some] = await redis.sscan(liveKeys.dirtyMeters(gatewayId), cursor, 'COUNT', SCRIPT_BATCH);
    for (const key of some) keys.add(key);
    cursor = next;
  } while (cursor !== '0');
  return [...keys];
}

/** Every meter of the gateway in Redis, by meter key. */
export async function readMeters(redis: LiveRedis, gatewayId: string): Promise<Map<string, MeterReport>> {
  return readHash(redis, liveKeys.meters(gatewayId), isReport);
}

/**
 * Tells the gateway what Postgres has **committed**. Call after the commit, with each meter's new mark; may be
 * repeated. Resolves, in the order of the marks, to whether nothing is left to book of the meter.
 */
export async function settleMeters(
  redis: LiveRedis,
  gatewayId: string,
  marks: ReadonlyArray<{ key: string } & SettledMark>,
): Promise<boolean[]> {
  const clean: boolean[] = [];
  for (let i = 0; i < marks.length; i += SCRIPT_BATCH) {
    const args: string[] = [];
    for (const m of marks.slice(i, i + SCRIPT_BATCH))
      args.push(m.key, String(m.bytesUp), String(m.bytesDown), m.final ? '1' : '0');
    const replies = await redis.settleMeters(
      liveKeys.meters(gatewayId),
      liveKeys.dirtyMeters(gatewayId),
      liveKeys.settled(gatewayId),
      ...args,
    );
    for (const reply of replies) clean.push(reply === 1);
  }
  return clean;
}

/** What settlement has committed of the gateway's meters, by meter key, until the gateway forgets it. */
export function readSettled(redis: LiveRedis, gatewayId: string): Promise<Map<string, SettledMark>> {
  return readHash(redis, liveKeys.settled(gatewayId), isMark);
}

/** The gateway has freed these meters' journal slots. */
export async function forgetSettled(
  redis: LiveRedis,
  gatewayId: string,
  keys: readonly string[],
): Promise<void> {
  if (keys.length > 0) await redis.hdel(liveKeys.settled(gatewayId), ...keys);
}

async function readHash<T>(
  redis: LiveRedis,
  hash: string,
  check: (value: unknown) => value is T,
): Promise<Map<string, T>> {
  const found = new Map<string, T>();
  let cursor = '0';
  do {
    const [next, flat] = await redis.hscan(hash, cursor, 'COUNT', SCRIPT_BATCH);
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const key = flat[i] as string;
      const value = decode(redis, `${hash} ${key}`, flat[i + 1] as string, check);
      if (value) found.set(key, value);
    }
    cursor = next;
  } while (cursor !== '0');
  return found;
}
