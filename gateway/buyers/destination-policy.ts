import { embeddedIpv4, parseHost } from '../../agent-protocol/address.js';
import type { ProxyFailure } from '../errors.js';
import type { LiveSettings, Restrictions } from '../live/records.js';
import { HostSet } from '../runtime/host-set.js';
import { DEFAULT_PORTS, DEFAULT_UDP_PORTS, NEVER_ALLOWED_PORTS } from '../runtime/ports.js';
import type { BuyerAccess } from './directory.js';

/** Lists of `LiveSettings` compiled once for each of their versions, with the development exemptions. */
export interface DestinationPolicy {
  readonly denied: HostSet;
  /** Open to every buyer, by network. */
  readonly openPorts: Readonly<Record<'tcp' | 'udp', ReadonlySet<number>>>;
  /** Beside NEVER_ALLOWED_PORTS: only open to whom an admin granted that very port. */
  readonly neverAllowedPorts: ReadonlySet<number>;
  readonly devAllow: DevAllow;
}

/** A buyer's or sub-user's own rules, compiled once for each version of the account's snapshot. */
export interface DestinationRules {
  /** null: any port that is open to the buyer. */
  readonly ports: ReadonlySet<number> | null;
  /** null: any destination. */
  readonly allowed: HostSet | null;
  readonly denied: HostSet | null;
}

/** null: nothing is restricted. */
export function compileDestinationRules(restrictions: Restrictions): DestinationRules | null {
  const { ports = [], allowedDomains = [], deniedDomains = [] } = restrictions;
  if (ports.length + allowedDomains.length + deniedDomains.length === 0) return null;
  return {
    ports: ports.length > 0 ? new Set(ports) : null,
    allowed: allowedDomains.length > 0 ? new HostSet(allowedDomains) : null,
    denied: deniedDomains.length > 0 ? new HostSet(deniedDomains) : null,
  };
}

/** `host:port` pairs, hosts in the form that `parseHost` gives. */
export type DevAllow = ReadonlySet<string>;

/**
 * Reads `TS_DEV_ALLOW`: `host:port` each, IPv6 in brackets. Throws an Error that names the item: a development
 * setting that silently does nothing costs an afternoon. Refused in production by `config.ts`.
 */
export function parseDevAllow(items: readonly string[]): DevAllow {
  return new Set(
    items.map((item) => {
      const parts = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(item);
      const host = parts && normalName(parts[1] as string);
      const port = Number(parts?.[2]);
      if (!host || port < 1 || port > 65_535) throw new Error(`${item} is not host:port`);
      return `${host}:${port}`;
    }),
  );
}

/** `live` null: not read yet; only what is built in applies. */
export function compileDestinationPolicy(
  live: Pick<LiveSettings, 'deniedDomains' | 'deniedIps' | 'ports'> | null,
  devAllow: DevAllow,
): DestinationPolicy {
  const { openTcp, openUdp, neverAllowed } = live?.ports ?? {};
  return {
    denied: new HostSet([...(live?.deniedDomains ?? []), ...(live?.deniedIps ?? [])]),
    openPorts: {
      tcp: openTcp === undefined ? DEFAULT_PORTS : new Set(openTcp),
      udp: openUdp === undefined ? DEFAULT_UDP_PORTS : new Set(openUdp),
    },
    neverAllowedPorts: new Set(neverAllowed),
    devAllow,
  };
}

/** Where the stream may go: `host` in normal form, the only one to be handed on. */
export type DestinationDecision = { ok: true; host: string; exempt: boolean } | ProxyFailure;

/** What of a buyer decides on destinations. */
export type DestinationBuyer = Pick<BuyerAccess, 'limits' | 'rules'>;

/**
 * Whether the buyer may reach `host:port`. Every spelling of an IP address counts as that address; names are
 * checked again at the device once they are resolved.
 * IP_PROHIBITED: an address that is not global unicast, or a name that only means something inside a network.
 * TARGET_BLOCKED: on a deny list, not on an allow list of the buyer or sub-user, or text that is no host at all
 * (nothing a device should try to resolve).
 * PORT_BLOCKED: not open to everybody (80 and 443, by UDP 53 and 443, unless an admin said otherwise) nor allowed to this
 * buyer, whose ports hold for both networks, or not on a list of the only ports. `exempt`: a development exemption applied; a buyer's own rules
 * hold all the same.
 */
export function checkDestination(
  host: string,
  port: number,
  buyer: DestinationBuyer,
  policy: DestinationPolicy,
  network: 'tcp' | 'udp' = 'tcp',
): DestinationDecision {
  const parsed = parseHost(host);
  if (parsed.kind === 'invalid') return { ok: false, code: 'TARGET_BLOCKED', detail: 'host' };
  const isName = parsed.kind === 'name' || parsed.kind === 'local_name';
  const normal = isName ? parsed.name : parsed.address;
  // NAT64 (RFC 6052) addresses lead to the IPv4 address inside: the lists apply to that as well.
  const embedded = isName ? null : embeddedIpv4(normal);
  const isIn = (hosts: HostSet) =>
    isName
      ? hosts.hasName(normal)
      : hosts.hasAddress(normal) || (embedded !== null && hosts.hasAddress(embedded));
  const exempt = policy.devAllow.has(`${normal}:${port}`);
  if (!exempt) {
    if (parsed.kind === 'local_name') return { ok: false, code: 'IP_PROHIBITED' };
    if (!isName && parsed.class !== 'global') return { ok: false, code: 'IP_PROHIBITED' };
    if (!isPortAllowed(port, buyer, policy, network)) return { ok: false, code: 'PORT_BLOCKED' };
    if (isIn(policy.denied)) return { ok: false, code: 'TARGET_BLOCKED' };
  }
  for (const { ports, allowed, denied } of buyer.rules) {
    if (ports !== null && !ports.has(port)) return { ok: false, code: 'PORT_BLOCKED' };
    if (denied !== null && isIn(denied)) return { ok: false, code: 'TARGET_BLOCKED' };
    if (allowed !== null && !isIn(allowed)) return { ok: false, code: 'TARGET_BLOCKED' };
  }
  return { ok: true, host: normal, exempt };
}

function isPortAllowed(
  port: number,
  { limits }: Pick<BuyerAccess, 'limits'>,
  { openPorts, neverAllowedPorts }: DestinationPolicy,
  network: 'tcp' | 'udp',
): boolean {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return false;
  if (limits.grantedPorts.includes(port)) return true;
  if (neverAllowedPorts.has(port)) return false;
  if (openPorts[network].has(port)) return true;
  if (NEVER_ALLOWED_PORTS.has(port)) return false;
  return limits.extraPorts.includes(port);
}

function normalName(host: string): string | null {
  const parsed = parseHost(host);
  if (parsed.kind === 'invalid') return null;
  return parsed.kind === 'name' || parsed.kind === 'local_name' ? parsed.name : parsed.address;
}
