import { REFUSED_SAMPLES_MAX } from '../../gateway/live/usage.js';
import { Sketch } from '../../gateway/runtime/sketch.js';
import type { Queryable } from '../db/pool.js';
import { REFUSALS_KEPT_HOURS } from './refusals.js';
import type { RefusalClaim, UsageClaim } from './usage-batch.js';

/** Refusals that mean: the destination was dialled, and it did not work. */
export const FAILED_DIAL_CODES: readonly string[] = ['DNS_FAIL', 'REFUSED', 'UNREACHABLE', 'CONNECT_TIMEOUT'];
/** Refusals that mean: the buyer asked for what nobody, or not they, may reach. */
export const BLOCKED_CODES: readonly string[] = ['TARGET_BLOCKED', 'PORT_BLOCKED', 'IP_PROHIBITED'];

/** Stands for destinations there was no room for at the gateway. */
const OTHER = '(other)';
const HOUR_MS = 3_600_000;

interface Activity {
  buyerId: string;
  hourMs: number;
  streams: number;
  hosts: Sketch;
  failedTargets: Sketch;
  failedSamples: string[];
  blockedSamples: string[];
}

/**
 * Adds what abuse detection looks at, in the caller's transaction: of each buyer and hour the connections, about how many
 * hosts and failed destinations there were, and a few of those. One row each, whatever the buyer does.
 */
export async function addActivity(
  client: Queryable,
  claims: readonly UsageClaim[],
  refusals: readonly RefusalClaim[],
): Promise<void> {
  const all = new Map<string, Activity>();
  const of = (buyerId: string, hourMs: number): Activity => {
    const key = `${buyerId} ${hourMs}`;
    let one = all.get(key);
    if (one === undefined) {
      const [hosts, failedTargets] = [new Sketch(), new Sketch()];
      one = { buyerId, hourMs, streams: 0, hosts, failedTargets, failedSamples: [], blockedSamples: [] };
      all.set(key, one);
    }
    return one;
  };
  for (const { buyerId, lastAtMs, host, streams } of claims) {
    if (streams === 0) continue; // bytes of a connection that was counted when it began
    const one = of(buyerId, lastAtMs - (lastAtMs % HOUR_MS));
    one.streams += streams;
    if (host !== OTHER) one.hosts.add(host);
  }
  for (const { buyerId, hourMs, code, targets, samples } of refusals) {
    if (targets === null) continue;
    if (FAILED_DIAL_CODES.includes(code)) {
      const one = of(buyerId, hourMs);
      one.failedTargets.merge(targets.registers);
      one.failedSamples.push(...samples);
    } else if (BLOCKED_CODES.includes(code)) of(buyerId, hourMs).blockedSamples.push(...samples);
  }
  if (all.size === 0) return;
  const rows = [...all.values()].map((one) => ({
    buyer_id: one.buyerId,
    hour: new Date(one.hourMs),
    streams: one.streams,
    hosts: registersOf(one.hosts),
    failed_targets: registersOf(one.failedTargets),
    failed_samples: one.failedSamples.slice(0, REFUSED_SAMPLES_MAX),
    blocked_samples: one.blockedSamples.slice(0, REFUSED_SAMPLES_MAX),
  }));
  const merged = (column: string) => `ARRAY(SELECT greatest(one, other) FROM
      unnest(b.${column}, excluded.${column}) WITH ORDINALITY AS u (one, other, n) ORDER BY n)`;
  const kept = (column: string) => `(b.${column} || excluded.${column})[:${REFUSED_SAMPLES_MAX}]`;
  // In one order for all, so that nobody deadlocks.
  await client.query(
    `INSERT INTO buyer_activity AS b
       (buyer_id, hour, streams, hosts, failed_targets, failed_samples, blocked_samples)
     SELECT buyer_id, hour, streams, hosts, failed_targets, failed_samples, blocked_samples
       FROM json_to_recordset($1::json) AS r
            (buyer_id uuid, hour timestamptz, streams bigint, hosts smallint[], failed_targets smallint[],
             failed_samples text[], blocked_samples text[])
      ORDER BY buyer_id, hour
     ON CONFLICT (buyer_id, hour) DO UPDATE
        SET streams = b.streams + excluded.streams, hosts = ${merged('hosts')},
            failed_targets = ${merged('failed_targets')}, failed_samples = ${kept('failed_samples')},
            blocked_samples = ${kept('blocked_samples')}`,
    [JSON.stringify(rows)],
  );
}

/** Nothing seen takes no room. */
function registersOf(sketch: Sketch): number[] {
  return sketch.estimate() === 0 ? [] : Array.from(sketch.registers);
}

/** Deletes what is older than refusals are kept; resolves to how many. A step of the job `cleanup`. */
export async function forgetOldActivity(db: Queryable): Promise<number> {
  const { rowCount } = await db.query(
    'DELETE FROM buyer_activity WHERE hour < now() - make_interval(hours => $1)',
    [REFUSALS_KEPT_HOURS],
  );
  return rowCount ?? 0;
}
