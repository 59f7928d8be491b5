import { Sketch } from '../../gateway/runtime/sketch.js';
import type { Queryable } from '../db/pool.js';
import { BLOCKED_CODES, FAILED_DIAL_CODES } from '../usage/activity.js';
import type { BuyerFacts, TargetFacts, Thresholds } from './rules.js';

/** Buyers and hosts judged in one look, those with most first: enough to see that everything is on fire. */
const SUBJECTS_MAX = 1_000;
const SAMPLES_MAX = 5;

interface ActivityRow {
  buyer_id: string;
  streams: bigint;
  hosts: number[];
  failed_targets: number[];
  failed_samples: string[];
  blocked_samples: string[];
}

/**
 * What buyers did in this UTC hour and `windowHours` before it. Only those are read who did enough of anything to be found
 * suspicious; what is read of one grows with the window's hours alone.
 */
export async function readBuyerFacts(
  db: Queryable,
  windowHours: number,
  t: Thresholds,
): Promise<BuyerFacts[]> {
  const { rows: refused } = await db.query<{ buyer_id: string; code: string; refusals: number }>(
    `SELECT buyer_id, code, sum(refusals)::float8 AS refusals FROM buyer_refusals
      WHERE hour >= date_trunc('hour', now()) - make_interval(hours => $1) AND code = ANY ($2)
      GROUP BY buyer_id, code ORDER BY refusals DESC LIMIT $3`,
    [windowHours, [...FAILED_DIAL_CODES, ...BLOCKED_CODES], SUBJECTS_MAX * 7],
  );
  const byBuyer = new Map<string, Record<string, number>>();
  for (const { buyer_id, code, refusals } of refused)
    byBuyer.set(buyer_id, { ...byBuyer.get(buyer_id), [code]: refusals });
  const sum = (counts: Record<string, number>, codes: readonly string[]) =>
    codes.reduce((total, code) => total + (counts[code] ?? 0), 0);
  const least = (min: number) => (min === 0 ? Number.POSITIVE_INFINITY : min);
  const many = [...byBuyer].filter(
    ([, counts]) =>
      sum(counts, FAILED_DIAL_CODES) >= least(t.failedDialsMin) ||
      sum(counts, BLOCKED_CODES) >= least(t.blockedAttemptsMin),
  );
  // Who opened fewer connections did not reach so many hosts.
  const { rows } = await db.query<ActivityRow>(
    `WITH a AS (SELECT * FROM buyer_activity WHERE hour >= date_trunc('hour', now()) - make_interval(hours => $1)),
          b AS (SELECT buyer_id FROM a GROUP BY buyer_id
                HAVING sum(streams) >= $2 OR buyer_id = ANY ($3) ORDER BY sum(streams) DESC LIMIT $4)
     SELECT a.buyer_id, streams, hosts, failed_targets, failed_samples, blocked_samples
       FROM a JOIN b USING (buyer_id) ORDER BY hour DESC`,
    [
      windowHours,
      t.fanOutHostsMin === 0 ? Number.MAX_SAFE_INTEGER : t.fanOutHostsMin,
      many.map(([buyerId]) => buyerId),
      SUBJECTS_MAX,
    ],
  );
  const hoursOf = new Map<string, ActivityRow[]>(many.map(([buyerId]) => [buyerId, []]));
  for (const row of rows) hoursOf.set(row.buyer_id, [...(hoursOf.get(row.buyer_id) ?? []), row]);
  return [...hoursOf].map(([buyerId, hours]) => {
    const byCode = byBuyer.get(buyerId) ?? {};
    const about = (read: (row: ActivityRow) => number[]) => {
      const sketch = new Sketch();
      for (const row of hours) sketch.merge(read(row));
      return sketch.estimate();
    };
    const some = (read: (row: ActivityRow) => string[]) =>
      [...new Set(hours.flatMap(read))].slice(0, SAMPLES_MAX);
    return {
      buyerId,
      streams: hours.reduce((total, row) => total + Number(row.streams), 0),
      hosts: about((row) => row.hosts),
      failed: sum(byCode, FAILED_DIAL_CODES),
      failedTargets: about((row) => row.failed_targets),
      blocked: sum(byCode, BLOCKED_CODES),
      byCode,
      failedSamples: some((row) => row.failed_samples),
      blockedSamples: some((row) => row.blocked_samples),
    };
  });
}

/** Devices are told apart by their exit address, which is what the host sees. Hosts that were reached often enough on this UTC day and lately, by each buyer and by all together. */
export async function readTargetFacts(
  db: Queryable,
  windowHours: number,
  t: Thresholds,
): Promise<TargetFacts[]> {
  if (t.targetStreamsMin === 0) return [];
  const { rows } = await db.query<{
    host: string;
    buyer_id: string | null;
    buyers: number;
    devices: number;
    streams: number;
    bytes: number;
    top_buyers: string[];
  }>(
    `WITH u AS (SELECT host, buyer_id, count(DISTINCT exit_ip) AS devices, sum(streams) AS streams,
                       sum(bytes_up + bytes_down) AS bytes, max(last_at) AS last_at
                  FROM destination_usage
                 WHERE day = (now() AT TIME ZONE 'UTC')::date AND host <> '(other)' GROUP BY host, buyer_id),
          h AS (SELECT host FROM u GROUP BY host HAVING sum(streams) >= $1
                   AND max(last_at) >= date_trunc('hour', now()) - make_interval(hours => $2))
     SELECT host, buyer_id, count(DISTINCT buyer_id)::int AS buyers, sum(streams)::float8 AS streams,
            sum(bytes)::float8 AS bytes, sum(devices)::int AS devices,
            (array_agg(buyer_id::text ORDER BY streams DESC))[:10] AS top_buyers
       FROM u JOIN h USING (host) GROUP BY GROUPING SETS ((host, buyer_id), (host))
     HAVING sum(streams) >= $1 ORDER BY sum(streams) DESC LIMIT $3`,
    [t.targetStreamsMin, windowHours, SUBJECTS_MAX],
  );
  return rows.map((r) => ({
    host: r.host,
    buyerId: r.buyer_id,
    buyers: r.buyers,
    devices: r.devices,
    streams: r.streams,
    bytes: r.bytes,
    topBuyerIds: r.top_buyers,
  }));
}
