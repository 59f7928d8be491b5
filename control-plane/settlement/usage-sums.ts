import { plainArray } from '../db/plain-array.js';
import type { Queryable } from '../db/pool.js';
import type { BookedSession, MeterGain } from './booked.js';

interface Sum {
  up: bigint;
  down: bigint;
  money: bigint;
}

function add(sums: Map<string, Sum>, key: string, gain: MeterGain, money: bigint): void {
  const sum = sums.get(key) ?? { up: 0n, down: 0n, money: 0n };
  sum.up += gain.bytesUp;
  sum.down += gain.bytesDown;
  sum.money += money;
  sums.set(key, sum);
}

/** UTC day of the last byte of the report; earlier days got theirs with the reports of those days. */
const dayOf = (gain: MeterGain) => new Date(gain.claim.activeAtMs).toISOString().slice(0, 10);

/** Adds the gains to the daily sums of buyers (by country of the exit) and providers. */
export async function bookUsage(
  client: Queryable,
  gains: readonly MeterGain[],
  sessions: ReadonlyMap<string, BookedSession>,
): Promise<void> {
  if (gains.length === 0) return;
  const buyers = new Map<string, Sum>();
  const providers = new Map<string, Sum>();
  for (const gain of gains) {
    const session = sessions.get(gain.claim.sessionId) as BookedSession;
    const day = dayOf(gain);
    add(buyers, `${gain.claim.buyerId}|${day}|${session.country}`, gain, gain.chargedMicros);
    add(providers, `${session.userId}|${day}`, gain, gain.earnedMicros);
  }
  const columns = (sums: Map<string, Sum>) => {
    // One order for all workers, so that they wait for each other in a line.
    const sorted = [...sums.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
    const keys = sorted.map(([key]) => key.split('|'));
    return {
      key: (part: number) => keys.map((k) => k[part]),
      values: [
        plainArray(sorted.map(([, s]) => s.up)),
        plainArray(sorted.map(([, s]) => s.down)),
        plainArray(sorted.map(([, s]) => s.money)),
      ],
    };
  };
  const b = columns(buyers);
  await client.query(
    `INSERT INTO usage_daily_buyer AS u (buyer_id, day, country, bytes_up, bytes_down, charged_micros)
     SELECT * FROM unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
     ON CONFLICT (buyer_id, day, country) DO UPDATE
        SET bytes_up = u.bytes_up + excluded.bytes_up, bytes_down = u.bytes_down + excluded.bytes_down,
            charged_micros = u.charged_micros + excluded.charged_micros`,
    [b.key(0), b.key(1), b.key(2), ...b.values],
  );
  const p = columns(providers);
  await client.query(
    `INSERT INTO usage_daily_provider AS u (user_id, day, bytes_up, bytes_down, earned_micros)
     SELECT * FROM unnest($1::uuid[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[])
     ON CONFLICT (user_id, day) DO UPDATE
        SET bytes_up = u.bytes_up + excluded.bytes_up, bytes_down = u.bytes_down + excluded.bytes_down,
            earned_micros = u.earned_micros + excluded.earned_micros`,
    [p.key(0), p.key(1), ...p.values],
  );
}
