import type { WalletOwner } from '../live/records.js';
import type { BuyerAccess } from './directory.js';

/** Everything that bounds an account's bytes whatever they go through, the money first. */
export function walletOwners({
  buyerId,
  limits,
  subUser,
}: Pick<BuyerAccess, 'buyerId' | 'limits' | 'subUser'>): WalletOwner[] {
  const owners: WalletOwner[] = [{ kind: 'buyer', ownerId: buyerId }];
  for (const kind of limits.quotas ?? []) owners.push({ kind, ownerId: buyerId });
  if (subUser === null) return owners;
  if (subUser.limited) owners.push({ kind: 'sub_user', ownerId: subUser.id });
  for (const kind of subUser.limits?.quotas ?? []) owners.push({ kind, ownerId: subUser.id });
  return owners;
}
