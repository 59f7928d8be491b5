/** What a buyer's bounds leave it: a part of `pipeline.ts`. */
import type { LiveAllocation } from './allocation/live-allocation.js';
import type { BuyerAccess } from './buyers/directory.js';
import type { Wallet } from './metering/wallet.js';

/**
 * The least that any of the buyer's bounds allows, bytes: of a balance or quota, what is set aside for this gateway and
 * what nobody had set aside at the latest answer. Null: nothing bounds it.
 */
export function leastLeft(
  { packageRoute, priceMicrosPerGb }: Pick<BuyerAccess, 'packageRoute' | 'priceMicrosPerGb'>,
  wallets: readonly Wallet[],
  allocation: LiveAllocation,
): number | null {
  let least = packageRoute === null ? Number.POSITIVE_INFINITY : allocation.remainingBytes;
  for (const wallet of wallets) {
    const { owner } = wallet;
    if (owner.kind === 'package') continue; // of a package more is known than what is set aside
    const left = wallet.left + wallet.beyond;
    if (owner.kind !== 'buyer') least = Math.min(least, left);
    else if (priceMicrosPerGb > 0n)
      least = Math.min(least, Number((BigInt(left) * 1_000_000_000n) / priceMicrosPerGb));
  }
  return Number.isFinite(least) ? Math.max(0, least) : null;
}
