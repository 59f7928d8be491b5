import type { ProxyErrorCode } from '../errors.js';
import type { StreamAccess } from '../relay/splice.js';
import { checkDestination, type DestinationPolicy } from './destination-policy.js';
import type { AccountEntry } from './directory.js';

/** Why an account sends no traffic whoever asks, or null. */
export function accountRefusal({ snapshot }: AccountEntry): ProxyErrorCode | null {
  if (snapshot.status !== 'active') return 'ACCOUNT_SUSPENDED';
  if (snapshot.kycStatus !== 'approved' || !snapshot.aupAccepted) return 'KYC_REQUIRED';
  return null;
}

/** Whether the address is on every list of client addresses that the account has; null: unreadable. */
export function isClientAllowed(entry: AccountEntry, clientAddress: string | null): boolean {
  return entry.allowedIps.every((allowed) => clientAddress !== null && allowed.has(clientAddress));
}

/** A connection that was let in: how, and where it leads. */
export interface OpenConnection {
  access: StreamAccess;
  destinationHost: string;
  destinationPort: number;
  /** `udp`: an association, whose datagrams name their destinations and are judged one by one. */
  network: 'tcp' | 'udp';
}

/** The part of `connectionRefusal` that has nothing to do with where the connection leads. */
export function accessRefusal(
  entry: AccountEntry,
  access: StreamAccess,
  nowMs: number,
): ProxyErrorCode | null {
  const barred = accountRefusal(entry);
  if (barred !== null) return barred;
  return isProofGood(entry, access, nowMs) && isClientAllowed(entry, access.clientAddress)
    ? null
    : 'AUTH_FAILED';
}

/**
 * Whether a connection that was let in may go on by what is known now, at `nowMs` (wall clock): the account in good
 * standing, its credential neither revoked nor expired, the client's address and the destination still allowed. The
 * code that it would be refused with, or null. Not judged here: how many streams there are (a lowered limit cuts
 * none), money and bytes (wallets do), a pulled package (its allocation is ended).
 */
export function connectionRefusal(
  entry: AccountEntry,
  { access, destinationHost, destinationPort, network }: OpenConnection,
  policy: DestinationPolicy,
  nowMs: number,
): ProxyErrorCode | null {
  const refusal = accessRefusal(entry, access, nowMs);
  if (refusal !== null) return refusal;
  const { snapshot, rules } = entry;
  if (network === 'udp') return snapshot.limits.udp === true ? null : 'UDP_NOT_ALLOWED';
  const decision = checkDestination(
    destinationHost,
    destinationPort,
    { limits: snapshot.limits, rules },
    policy,
  );
  return decision.ok ? null : decision.code;
}

function isProofGood(
  entry: AccountEntry,
  { proof, tokenId, clientAddress }: StreamAccess,
  nowMs: number,
): boolean {
  if (proof === 'package') return true;
  if (proof === 'address') return clientAddress !== null && entry.passwordlessIps.has(clientAddress);
  return entry.credentials.some(
    (credential) =>
      credential.tokenId === tokenId &&
      (credential.expiresAtMs === null || credential.expiresAtMs > nowMs) &&
      (credential.allowedIps === null ||
        (clientAddress !== null && credential.allowedIps.has(clientAddress))),
  );
}
