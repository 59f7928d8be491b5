import { randomUUID } from 'node:crypto';
import { Allocator } from '../../../gateway/allocation/allocator.js';
import { CandidateIndex } from '../../../gateway/allocation/candidate-index.js';
import type { Candidate, RouteWish } from '../../../gateway/allocation/candidates.js';
import type { LiveRedis } from '../../../gateway/live/connection.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { buyer, wish } from '../../gateway/allocation/world.js';
import { percentile } from '../load/statistics.js';
import type { Figures } from '../phases.js';

export interface AllocationLoad {
  /** Devices of one gateway, each at an exit of its own. */
  devices: number;
  /** Connections of buyers whose exits are held already. */
  connections: number;
  /** New exits, each with a claim in Redis, so many at a time; not more than devices. */
  claims: number;
  concurrency: number;
}

const COUNTRIES = ['DE', 'US', 'FR', 'IT', 'PL'];
const CITIES_PER_COUNTRY = 40;
const BUYERS = 4;

/**
 * How many connections a second find their exit: in memory, where their buyer holds some (anywhere, and in one city),
 * and with a claim in Redis for each, as the first connection of a session needs. What comes before and after it, of
 * a connection, is not in it. Throws when one is refused.
 */
export async function measureAllocation(redis: LiveRedis, load: AllocationLoad): Promise<Figures> {
  const index = new CandidateIndex<Candidate>();
  for (let n = 0; n < load.devices; n++) index.add(deviceAt(n));
  const gateway = { gatewayId: `bench-${randomUUID()}`, epoch: randomUUID().replaceAll('-', '') };
  const allocator = new Allocator<Candidate>({
    redis,
    index,
    clock: systemClock,
    gateway,
    log: silentLog,
    onAllocationEnded: () => {},
  });
  try {
    const visit = async (account: string, wanted: Partial<RouteWish>): Promise<void> => {
      const outcome = await allocator.allocate(buyer(account), wish(wanted));
      if (!outcome.ok) throw new Error(`allocation: ${outcome.code} ${outcome.detail ?? ''}`);
      outcome.release();
    };
    const held = async (wishOf: (n: number) => Partial<RouteWish>): Promise<number> => {
      const round = async (count: number) => {
        for (let n = 0; n < count; n++) await visit(`account-${n % BUYERS}`, wishOf(n));
      };
      await round(Math.min(load.connections, BUYERS * 200)); // exits are taken
      const startMs = performance.now();
      await round(load.connections);
      return (load.connections * 1_000) / (performance.now() - startMs);
    };
    const anywhere = await held(() => ({}));
    const inCity = await held((n) => placeOf(n % (COUNTRIES.length * CITIES_PER_COUNTRY)));
    return {
      allocation_held_per_s: anywhere,
      allocation_city_per_s: inCity,
      ...(await claim(visit, load)),
    };
  } finally {
    await allocator.stop();
  }
}

/** Each connection begins a session of its own. */
async function claim(
  visit: (account: string, wish: Partial<RouteWish>) => Promise<void>,
  { claims, concurrency }: AllocationLoad,
): Promise<Figures> {
  const timesMs: number[] = [];
  let begun = 0;
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (begun < claims) {
        const session = `s${begun++}`;
        const beganMs = performance.now();
        await visit(`claims-${begun % BUYERS}`, { session });
        timesMs.push(performance.now() - beganMs);
      }
    }),
  );
  return {
    allocation_claims_per_s: (claims * 1_000) / (performance.now() - startMs),
    allocation_claim_p99_ms: percentile(timesMs, 0.99),
  };
}

function placeOf(n: number): { country: string; city: string } {
  const country = COUNTRIES[n % COUNTRIES.length] as string;
  return { country, city: `${country} ${Math.floor(n / COUNTRIES.length) % CITIES_PER_COUNTRY}` };
}

function deviceAt(n: number): Candidate {
  return {
    deviceId: `device-${n}`,
    providerId: `provider-${n}`,
    sessionId: `session-${n}`,
    exitIp: `198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`,
    ...placeOf(n),
    asn: 7_922,
    networkType: 'wifi',
    offerBytes: 1_000_000_000,
    status: 'sharing',
  };
}
