/** What a connection is paid from: a part of `pipeline.ts`. */
import type { BuyerAccess } from './buyers/directory.js';
import { walletOwners } from './buyers/wallet-owners.js';
import type { ProxyFailure } from './errors.js';
import type { Admission, Wallet } from './metering/wallet.js';
import type { WalletBook } from './metering/wallet-book.js';
import { type Soon, soon } from './runtime/soon.js';

/** Everything that bounds the buyer's bytes, the money first. */
export function walletsOf(book: WalletBook, buyer: BuyerAccess): Wallet[] {
  const all = walletOwners(buyer).map((owner) => book.wallet(owner));
  const { packageRoute } = buyer;
  if (packageRoute) all.push(book.wallet({ kind: 'package', ownerId: packageRoute.allocationId }));
  return all;
}

/** Why nothing can be paid for (NO_BALANCE, QUOTA_REACHED, INTERNAL), or null. Known wallets cost no round trip. */
export function unpaid(book: WalletBook, buyer: BuyerAccess): Soon<ProxyFailure | null> {
  return unpaidFrom(walletsOf(book, buyer), 0, buyer.priceMicrosPerGb);
}

function unpaidFrom(
  wallets: readonly Wallet[],
  first: number,
  priceMicrosPerGb: bigint,
): Soon<ProxyFailure | null> {
  for (let i = first; i < wallets.length; i++) {
    const wallet = wallets[i] as Wallet;
    const asked = wallet.admit(wallet.owner.kind === 'buyer' ? priceMicrosPerGb : null);
    if (asked instanceof Promise)
      return soon(
        asked,
        (answer) => refusalOf(wallet, answer) ?? unpaidFrom(wallets, i + 1, priceMicrosPerGb),
      );
    const refused = refusalOf(wallet, asked);
    if (refused !== null) return refused;
  }
  return null;
}

function refusalOf(wallet: Wallet, admission: Admission): ProxyFailure | null {
  if (admission === 'exhausted') return { ok: false, code: wallet.refusal };
  return admission === 'unavailable'
    ? { ok: false, code: 'INTERNAL', detail: 'live state unavailable' }
    : null;
}
