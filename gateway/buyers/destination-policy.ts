import { embeddedIpv4, parseHost } from '../../agent-protocol/address.js';
import type { ProxyFailure } from '../errors.js';
import type { LiveSettings, Restrictions } from '../live/records.js';
import { HostSet } from '../runtime/host-set.js';
import type { BuyerAccess } from './directory.js';

/** Open to every buyer. */
export const DEFAULT_PORTS: ReadonlySet<number> = new Set([80, 443]);

/** Open to every buyer who may use UDP: names (dns) and HTTP/3. */
export const DEFAULT_UDP_PORTS: ReadonlySet<number> = new Set([53, 443]);

/**
 * Never open without an admin's audited grant of that very port, whatever else a buyer is allowed: mail (spam from
 * somebody's home), remote shells and desktops, file sharing, databases and other services that are meant for a
 * network of one's own.
 */
export const NEVER_ALLOWED_PORTS: ReadonlySet<number> = new Set([
  0, // no port
  7, // echo
  9, // discard
  17, // qotd
  19, // chargen
  21, // ftp
  22, // ssh
  23, // telnet
  25, // smtp
  53, // dns
  69, // tftp
  111, // portmapper
  110, // pop3
  119, // nntp
  123, // ntp
  135, // msrpc
  136, // profile
  137, // netbios
  138, // netbios
  139, // netbios
  143, // imap
  161, // snmp
  162, // snmp trap
  179, // bgp
  389, // ldap
  445, // smb
  465, // smtps
  512, // rexec
  513, // rlogin
  514, // rsh, syslog
  515, // printer
  548, // afp
  554, // rtsp
  587, // submission
  631, // ipp
  636, // ldaps
  873, // rsync
  993, // imaps
  995, // pop3s
  1080, // socks
  1194, // openvpn
  1433, // mssql
  1521, // oracle
  1723, // pptp
  1900, // ssdp
  2049, // nfs
  2323, // telnet, favoured by botnets
  2375, // docker
  2376, // docker
  2525, // smtp
  3128, // proxies
  3306, // mysql
  3389, // rdp
  5060, // sip
  5061, // sip
  5353, // mdns
  5432, // postgres
  5555, // adb
  5900, // vnc
  5901, // vnc
  5985, // winrm
  5986, // winrm
  6379, // redis
  6660, // irc
  6661, // irc
  6662, // irc
  6663, // irc
  6664, // irc
  6665, // irc
  6666, // irc
  6667, // irc
  6668, // irc
  6669, // irc
  6697, // irc
  9100, // printer
  9200, // elasticsearch
  11211, // memcached
  27017, // mongodb
]);

/** Lists of `LiveSettings` compiled once for each of their versions, with the development exemptions. */
export interface DestinationPolicy {
  readonly denied: HostSet;
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
  live: Pick<LiveSettings, 'deniedDomains' | 'deniedIps'> | null,
  devAllow: DevAllow,
): DestinationPolicy {
  return { denied: new HostSet([...(live?.deniedDomains ?? []), ...(live?.deniedIps ?? [])]), devAllow };
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
 * PORT_BLOCKED: not open to everybody (80 and 443; 53 and 443 by UDP) nor allowed to this buyer, whose ports hold for
 * both networks, or not on a list of the only ports. `exempt`: a development exemption applied; a buyer's own rules
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
    if (!isPortAllowed(port, buyer, network)) return { ok: false, code: 'PORT_BLOCKED' };
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
  network: 'tcp' | 'udp',
): boolean {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return false;
  if (limits.grantedPorts.includes(port)) return true;
  const open = network === 'tcp' ? DEFAULT_PORTS : DEFAULT_UDP_PORTS;
  if (open.has(port)) return true;
  if (NEVER_ALLOWED_PORTS.has(port)) return false;
  return limits.extraPorts.includes(port);
}

function normalName(host: string): string | null {
  const parsed = parseHost(host);
  if (parsed.kind === 'invalid') return null;
  return parsed.kind === 'name' || parsed.kind === 'local_name' ? parsed.name : parsed.address;
}
