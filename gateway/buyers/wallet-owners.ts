import type { WalletOwner } from '../live/records.js';
import type { BuyerAccess } from './directory.js';

type Bounded = Pick<BuyerAccess, 'buyerId' | 'limits' | 'subUser'>;

/** By the limits, which belong to one snapshot of an account and are replaced with it, never changed. */
const known = new WeakMap<Bounded['limits'], { of: Bounded; owners: readonly WalletOwner[] }>();

/** Everything that bounds an account's bytes whatever they go through, the money first. */
export function walletOwners(account: Bounded): readonly WalletOwner[] {
  const { buyerId, limits, subUser } = account;
  const before = known.get(limits);
  if (before?.of.buyerId === buyerId && before.of.subUser === subUser) return before.owners;
  const owners = ownersOf(account);
  known.set(limits, { of: { buyerId, limits, subUser }, owners });
  return owners;
}

function ownersOf({ buyerId, limits, subUser }: Bounded): WalletOwner[] {
  const owners: WalletOwner[] = [{ kind: 'buyer', ownerId: buyerId }];
  for (const kind of limits.quotas ?? []) owners.push({ kind, ownerId: buyerId });
  if (subUser === null) return owners;
  if (subUser.limited) owners.push({ kind: 'sub_user', ownerId: subUser.id });
  for (const kind of subUser.limits?.quotas ?? []) owners.push({ kind, ownerId: subUser.id });
  return owners;
}
