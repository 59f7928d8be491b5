import type { LiveRedis } from '../../gateway/live/connection.js';
import { liveKeys } from '../../gateway/live/keys.js';
import { forgetMeteringGateway, readMeteringGateways, settleMeters } from '../../gateway/live/meters.js';
import { readGatewayPresence } from '../../gateway/live/presence.js';
import type { SettledMark } from '../../gateway/live/records.js';

/** Reports as they came, by meter key. Nothing about them is checked. */
export type ReportBatch = ReadonlyMap<string, string>;

/**
 * Where gateways put their reports and where they are told what is committed. Any of it may be lost, come twice or
 * be old; every call may reject while the other side is away.
 */
export interface MeterInbox {
  /** Ids of the gateways that ever reported. */
  gateways(): Promise<string[]>;
  /**
   * Reports of a gateway in batches of at most `batchMax`: those that changed since they were last settled (`dirty`),
   * or every one (`all`). Everything that was there when the iteration began is seen. Meters of one session come
   * together, in the order of their keys, as far as memory is spent on it.
   */
  reports(gatewayId: string, which: 'dirty' | 'all', batchMax: number): AsyncIterable<ReportBatch>;
  /** Tells the gateway what Postgres **has committed**. May be repeated. */
  settled(gatewayId: string, marks: ReadonlyArray<{ key: string } & SettledMark>): Promise<void>;
  /** Whether nothing of the gateway is left: no report, no sign of life. */
  isGone(gatewayId: string): Promise<boolean>;
  /** `gateways` need not name it any more until it reports again. */
  forget(gatewayId: string): Promise<void>;
}

/** Keys collected and sorted before they are cut into batches: neighbours share sessions, accounts and rows. */
const KEYS_SORTED_MAX = 50_000;
/** Keys asked for in one step of an iteration: Redis serves nobody else meanwhile. */
const SCAN_COUNT = 1_000;

/** The live state as the inbox. */
export function redisMeterInbox(redis: LiveRedis): MeterInbox {
  return {
    gateways: () => readMeteringGateways(redis),
    reports: (gatewayId, which, batchMax) =>
      which === 'dirty' ? dirtyReports(redis, gatewayId, batchMax) : allReports(redis, gatewayId, batchMax),
    async settled(gatewayId, marks) {
      await settleMeters(redis, gatewayId, marks);
    },
    async isGone(gatewayId) {
      return (
        (await redis.hlen(liveKeys.meters(gatewayId))) === 0 &&
        (await readGatewayPresence(redis, gatewayId)) === null
      );
    },
    forget: (gatewayId) => forgetMeteringGateway(redis, gatewayId),
  };
}

async function* dirtyReports(
  redis: LiveRedis,
  gatewayId: string,
  batchMax: number,
): AsyncGenerator<ReportBatch> {
  const dirty = liveKeys.dirtyMeters(gatewayId);
  let cursor = '0';
  const keys = new Set<string>();
  do {
    const [next, page] = await redis.sscan(dirty, cursor, 'COUNT', SCAN_COUNT);
    cursor = next;
    for (const key of page) keys.add(key);
    if (cursor !== '0' && keys.size < KEYS_SORTED_MAX) continue;
    const sorted = [...keys].sort();
    keys.clear();
    for (let i = 0; i < sorted.length; i += batchMax) {
      const batch = sorted.slice(i, i + batchMax);
      const texts = await redis.hmget(liveKeys.meters(gatewayId), ...batch);
      const reports = new Map<string, string>();
      const orphans: string[] = [];
      batch.forEach((key, n) => {
        const text = texts[n];
        if (typeof text === 'string') reports.set(key, text);
        else orphans.push(key);
      });
      // Deleted with their FINAL by another worker. Should a report come in this very moment, the sweep finds it.
      if (orphans.length > 0) await redis.srem(dirty, ...orphans);
      if (reports.size > 0) yield reports;
    }
  } while (cursor !== '0');
}

async function* allReports(
  redis: LiveRedis,
  gatewayId: string,
  batchMax: number,
): AsyncGenerator<ReportBatch> {
  let cursor = '0';
  let reports = new Map<string, string>();
  do {
    const [next, flat] = await redis.hscan(liveKeys.meters(gatewayId), cursor, 'COUNT', SCAN_COUNT);
    cursor = next;
    for (let i = 0; i + 1 < flat.length; i += 2) reports.set(flat[i] as string, flat[i + 1] as string);
    if (cursor !== '0' && reports.size < KEYS_SORTED_MAX) continue;
    const sorted = [...reports].sort(([a], [b]) => (a < b ? -1 : 1));
    reports = new Map();
    for (let i = 0; i < sorted.length; i += batchMax) yield new Map(sorted.slice(i, i + batchMax));
  } while (cursor !== '0');
}
