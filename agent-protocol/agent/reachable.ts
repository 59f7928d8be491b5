import { classifyAddress, parseHost } from '../address.js';
import type { Resolve } from './resolve.js';

/** By what a destination is judged. */
export interface ReachSettings {
  /** For destinations under the address policy. */
  readonly resolve: Resolve;
  /** For exempt destinations: names of the machine itself. */
  readonly resolveExempt: Resolve;
  /** Destinations that skip the address policy, exactly as asked for (development). */
  isExempt(host: string, port: number): boolean;
  /** Addresses that the owner blocks. */
  isBlockedAddress(address: string): boolean;
}

/**
 * Addresses of a destination that may be reached, in the order to try them, at least one. PROHIBITED: none of its
 * addresses is global unicast, or it is no host; BLOCKED: the owner blocks them all.
 */
export type Reachable =
  | { readonly ok: true; readonly addresses: readonly string[] }
  | { readonly ok: false; readonly why: 'DNS_FAIL' | 'PROHIBITED' | 'BLOCKED' };

/**
 * Judges a destination; a name is resolved first, once. Only the very addresses that come out may be used: an answer
 * that changes between two look-ups (DNS rebinding) then changes nothing. Never rejects.
 */
export function reachable(
  settings: ReachSettings,
  host: string,
  port: number,
): Reachable | Promise<Reachable> {
  if (settings.isExempt(host, port)) {
    if (classifyAddress(host) !== 'invalid') return unblocked(settings, [host]);
    return resolved(settings, settings.resolveExempt, host, (addresses) => addresses);
  }
  const parsed = parseHost(host);
  if (parsed.kind === 'name') return resolved(settings, settings.resolve, parsed.name, globalOnly);
  if (parsed.kind === 'ipv4' || parsed.kind === 'ipv6')
    return unblocked(settings, globalOnly([parsed.address]));
  return unblocked(settings, []); // local names, and what no resolver should ever see
}

async function resolved(
  settings: ReachSettings,
  resolve: Resolve,
  name: string,
  allowed: (addresses: readonly string[]) => readonly string[],
): Promise<Reachable> {
  try {
    const resolution = await resolve(name);
    return resolution.ok
      ? unblocked(settings, allowed(resolution.addresses))
      : { ok: false, why: 'DNS_FAIL' };
  } catch {
    return { ok: false, why: 'DNS_FAIL' };
  }
}

function globalOnly(addresses: readonly string[]): readonly string[] {
  return addresses.filter((address) => classifyAddress(address) === 'global');
}

function unblocked(settings: ReachSettings, allowed: readonly string[]): Reachable {
  if (allowed.length === 0) return { ok: false, why: 'PROHIBITED' };
  const addresses = allowed.filter((address) => !settings.isBlockedAddress(address));
  return addresses.length === 0 ? { ok: false, why: 'BLOCKED' } : { ok: true, addresses };
}
