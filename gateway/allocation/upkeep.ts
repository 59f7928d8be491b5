import { CLAIM_TTL_MS, type Claim, takeClaims } from '../live/claims.js';
import type { LiveRedis } from '../live/connection.js';
import type { GatewayRun } from '../live/records.js';
import { readPackageRoute } from '../live/store.js';
import type { Clock } from '../runtime/clock.js';
import type { Log } from '../runtime/logging.js';
import type { AllocationBook } from './allocation-book.js';
import type { AllocationEnd, LiveAllocation } from './live-allocation.js';

/** Claims renewed in one round trip: Redis serves nobody else meanwhile. */
const RENEWAL_BATCH = 500;

/** Ends what is over. */
export function sweepAllocations(book: AllocationBook, clock: Clock): void {
  const nowMs = clock.monotonicMs();
  const wallMs = clock.nowMs();
  for (const allocation of [...book.all()]) {
    const reason = over(allocation, nowMs, wallMs);
    if (reason) book.end(allocation, reason);
  }
  book.sweep();
}

function over(allocation: LiveAllocation, nowMs: number, wallMs: number): AllocationEnd | null {
  if (allocation.expiresAtMs !== null && allocation.expiresAtMs <= wallMs) return 'expired';
  if (allocation.streams > 0) return null; // the relay cuts them when the bytes are used up
  if (allocation.remainingBytes <= 0) return 'used_up';
  return nowMs - allocation.usedAtMs >= allocation.idleMs ? 'idle' : null;
}

/**
 * Renews every claim, asserting again those that Redis has lost. An allocation whose exit somebody else holds ends
 * (`claim_lost`); one whose device has moved ends with its streams. While Redis is away, allocations go on. Never rejects.
 */
export async function renewAllocations(
  book: AllocationBook,
  deps: { redis: LiveRedis; clock: Clock; log: Log; gateway: GatewayRun },
): Promise<void> {
  const live = [...book.all()].filter((allocation) => !allocation.isLeaving);
  for (let i = 0; i < live.length; i += RENEWAL_BATCH) {
    const batch = live.slice(i, i + RENEWAL_BATCH).filter((allocation) => allocation.endedBy === null);
    const nowMs = deps.clock.nowMs();
    try {
      const claims = batch.map((allocation) => allocation.claim(nowMs, deps.gateway));
      const outcomes = await takeClaims(deps.redis, claims);
      const again: Claim[] = [];
      batch.forEach((allocation, n) => {
        const outcome = outcomes[n];
        if (allocation.endedBy !== null) {
          if (outcome?.held) book.release(allocation); // it ended while its renewal was under way
        } else if (outcome?.held === false) {
          const { holder } = outcome;
          // After a wipe, the device's gateway of before was faster.
          if (holder && allocation.comesAfter(holder))
            again.push({ ...(claims[n] as Claim), displacesAllocationId: holder.allocationId });
          else if (holder && allocation.comesBefore(holder)) book.leave(allocation);
          else book.end(allocation, 'claim_lost');
        }
      });
      await takeClaims(deps.redis, again);
    } catch (error) {
      deps.log.warn({ reason: (error as Error).message, allocations: live.length }, 'claims_not_renewed');
      return;
    }
  }
}

/**
 * Reads the routes of pulled packages again: one that is used gets more time, whether new connections come or not.
 * Never rejects; while Redis is away the last known time holds.
 */
export async function followRoutes(
  book: AllocationBook,
  deps: { redis: LiveRedis; log: Log },
): Promise<void> {
  const pulled = [...book.all()].filter((allocation) => allocation.packageId !== null);
  for (let i = 0; i < pulled.length; i += RENEWAL_BATCH)
    await Promise.all(
      pulled.slice(i, i + RENEWAL_BATCH).map(async (allocation) => {
        const route = await readPackageRoute(deps.redis, allocation.packageId as string);
        if (route?.allocationId === allocation.allocationId) allocation.follow(route);
      }),
    ).catch((error: Error) => deps.log.warn({ reason: error.message }, 'package_routes_not_read'));
}

/** How often claims are renewed. */
export const RENEWAL_INTERVAL_MS = CLAIM_TTL_MS / 3;
