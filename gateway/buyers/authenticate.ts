import { hash, timingSafeEqual } from 'node:crypto';
import type { ProxyFailure } from '../errors.js';
import type { PackageRoute } from '../live/records.js';
import type { StreamAccess } from '../relay/splice.js';
import { plainAddress } from '../runtime/addresses.js';
import { type Soon, soon } from '../runtime/soon.js';
import type { AccountEntry, BuyerAccess, BuyerDirectory } from './directory.js';
import { accountRefusal, isClientAllowed } from './standing.js';
import type { RouteParams } from './username.js';

/** What a client offers to prove who it is. */
export interface ProxyCredentials {
  /** null or empty: none given, the client address must be allowlisted. */
  password: string | null;
  /** The address of the TCP peer (or what a trusted PROXY header says). */
  clientAddress: string;
}

/** Whose traffic it is, or AUTH_FAILED, ACCOUNT_SUSPENDED, KYC_REQUIRED, INTERNAL. */
export type Authentication = { ok: true; buyer: BuyerAccess } | ProxyFailure;

/**
 * Every attempt compares with at least this many hashes, so that the time does not tell whether an account exists
 * or how many credentials it has.
 */
const COMPARISONS_MIN = 8;
const NO_HASH = Buffer.alloc(32);

/**
 * Decides whether the credentials open the account that `params` name, at `nowMs` (wall clock). Until they do, the
 * answer is AUTH_FAILED whatever is wrong: nothing is told about an account to who does not own it.
 * AUTH_FAILED also: the username names a package that is not this buyer's, or none. INTERNAL: the live state is
 * away and the account is not in memory; trying again helps. Answered at once when both are in memory.
 */
export function authenticate(
  directory: Pick<BuyerDirectory, 'lookup' | 'lookupPackage'>,
  credentials: ProxyCredentials,
  params: Pick<RouteParams, 'account' | 'packageId'>,
  nowMs: number,
): Soon<Authentication> {
  const entry = directory.lookup(params.account);
  const route = params.packageId === null ? null : directory.lookupPackage(params.packageId);
  return soon(entry, (entry) =>
    soon(route, (route) => judge(entry, route, credentials, params.packageId !== null, nowMs)),
  );
}

function judge(
  entry: AccountEntry | null | 'unavailable',
  route: PackageRoute | null | 'unavailable',
  credentials: ProxyCredentials,
  namesPackage: boolean,
  nowMs: number,
): Authentication {
  if (entry === 'unavailable' || route === 'unavailable')
    return { ok: false, code: 'INTERNAL', detail: 'live state unavailable' };

  const access = findAccess(entry, route, credentials, nowMs);
  const routeIsOwn = !namesPackage || (entry !== null && isOwn(route, entry, nowMs));
  if (entry === null || access === null || !isClientAllowed(entry, access.clientAddress) || !routeIsOwn)
    return { ok: false, code: 'AUTH_FAILED' };

  const { snapshot } = entry;
  const refusal = accountRefusal(entry);
  if (refusal !== null) return { ok: false, code: refusal };
  return {
    ok: true,
    buyer: {
      account: snapshot.account,
      buyerId: snapshot.buyerId,
      subUser: snapshot.subUser,
      priceMicrosPerGb: entry.priceMicrosPerGb,
      limits: snapshot.limits,
      rules: entry.rules,
      access,
      packageRoute: route,
    },
  };
}

function findAccess(
  entry: AccountEntry | null,
  route: PackageRoute | null,
  { password, clientAddress }: ProxyCredentials,
  nowMs: number,
): StreamAccess | null {
  const address = plainAddress(clientAddress);
  const accessBy = (proof: StreamAccess['proof'], tokenId: string | null = null): StreamAccess => ({
    clientAddress: address,
    proof,
    tokenId,
  });
  const given = hash('sha256', password ?? '', 'buffer');
  const known = entry?.credentials ?? [];
  let access: StreamAccess | null = null;
  for (let i = 0; i < Math.max(COMPARISONS_MIN, known.length); i++) {
    const credential = known[i];
    const same = timingSafeEqual(given, credential?.sha256 ?? NO_HASH);
    if (!same || !credential) continue;
    const expired = credential.expiresAtMs !== null && credential.expiresAtMs <= nowMs;
    const fromHere =
      credential.allowedIps === null || (address !== null && credential.allowedIps.has(address));
    if (!expired && fromHere) access = accessBy('credential', credential.tokenId);
  }
  const packageHash = route ? Buffer.from(route.passwordSha256Hex, 'hex') : NO_HASH;
  if (timingSafeEqual(given, packageHash) && route) access ??= accessBy('package');
  if (password !== null && password !== '') return access;
  // No password: an empty one must not match by accident; the address alone decides.
  return entry && address !== null && entry.passwordlessIps.has(address) ? accessBy('address') : null;
}

function isOwn(route: PackageRoute | null, entry: AccountEntry, nowMs: number): boolean {
  return route !== null && route.buyerId === entry.snapshot.buyerId && route.expiresAtMs > nowMs;
}
