import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';

/**
 * What an IP address is, by the IANA special-purpose registries (RFC 6890 and its updates). Only `global` may be
 * dialled through somebody's home; every other class is refused at the gateway and again at the device.
 */
export type AddressClass =
  | 'global'
  | 'unspecified'
  | 'this_network'
  | 'loopback'
  | 'private'
  | 'cgnat'
  | 'link_local'
  | 'metadata'
  | 'ietf_protocol'
  | 'documentation'
  | 'benchmarking'
  | 'multicast'
  | 'broadcast'
  | 'reserved'
  | 'unique_local'
  | 'site_local'
  | 'ipv4_compatible'
  | 'nat64_local'
  | '6to4'
  | 'teredo'
  | 'discard'
  | 'segment_routing'
  | 'invalid';

/** Network, prefix length, class. The first row that holds the address decides. */
const IPV4_CLASSES: readonly (readonly [string, number, AddressClass])[] = [
  // Cloud metadata services. 168.63.129.16 (Azure) looks like any public address; no registry knows it.
  ['169.254.169.254', 32, 'metadata'],
  ['168.63.129.16', 32, 'metadata'],
  ['100.100.100.200', 32, 'metadata'],
  ['192.0.0.192', 32, 'metadata'],
  ['0.0.0.0', 32, 'unspecified'],
  ['0.0.0.0', 8, 'this_network'], // many systems take 0.x for the host itself
  ['10.0.0.0', 8, 'private'],
  ['100.64.0.0', 10, 'cgnat'],
  ['127.0.0.0', 8, 'loopback'],
  ['169.254.0.0', 16, 'link_local'],
  ['172.16.0.0', 12, 'private'],
  ['192.0.0.0', 24, 'ietf_protocol'],
  ['192.0.2.0', 24, 'documentation'],
  ['192.88.99.0', 24, '6to4'],
  ['192.168.0.0', 16, 'private'],
  ['198.18.0.0', 15, 'benchmarking'],
  ['198.51.100.0', 24, 'documentation'],
  ['203.0.113.0', 24, 'documentation'],
  ['224.0.0.0', 4, 'multicast'],
  ['255.255.255.255', 32, 'broadcast'],
  ['240.0.0.0', 4, 'reserved'],
];

/** As above; `by_ipv4` means that the IPv4 address in the last 32 bits is what gets dialled, and it decides. */
const IPV6_CLASSES: readonly (readonly [string, number, AddressClass | 'by_ipv4'])[] = [
  ['::', 128, 'unspecified'],
  ['::1', 128, 'loopback'],
  ['::ffff:0:0', 96, 'by_ipv4'], // mapped, RFC 4291 2.5.5.2
  ['::', 96, 'ipv4_compatible'],
  ['64:ff9b::', 96, 'by_ipv4'], // NAT64, RFC 6052: what DNS64 gives a phone on an IPv6-only network
  ['64:ff9b:1::', 48, 'nat64_local'], // RFC 8215: the operator's own mapping, may well lead inside
  ['100::', 64, 'discard'],
  ['5f00::', 16, 'segment_routing'],
  ['fd00:ec2::254', 128, 'metadata'],
  ['fc00::', 7, 'unique_local'],
  ['fe80::', 10, 'link_local'],
  ['fec0::', 10, 'site_local'],
  ['ff00::', 8, 'multicast'],
  ['2001::', 32, 'teredo'],
  ['2001:2::', 48, 'benchmarking'],
  ['2001::', 23, 'ietf_protocol'],
  ['2001:db8::', 32, 'documentation'],
  ['2002::', 16, '6to4'],
  ['3fff::', 20, 'documentation'],
  ['2000::', 3, 'global'],
  ['::', 0, 'reserved'],
];

interface Ipv4Rule {
  readonly network: number;
  readonly mask: number;
  readonly class: AddressClass;
}

interface Ipv6Rule {
  readonly network: readonly number[];
  readonly prefixLength: number;
  readonly class: AddressClass | 'by_ipv4';
}

const IPV4_RULES: readonly Ipv4Rule[] = IPV4_CLASSES.map(([network, prefixLength, name]) => ({
  network: ipv4Number(network),
  mask: (-1 << (32 - prefixLength)) >>> 0,
  class: name,
}));

const IPV6_RULES: readonly Ipv6Rule[] = IPV6_CLASSES.map(([network, prefixLength, name]) => ({
  network: ipv6Words(network),
  prefixLength,
  class: name,
}));

/**
 * The class of an IP address in its usual text form (dotted quad, or RFC 4291 text). Anything else, other
 * spellings and zone ids included, is `invalid`: run text that comes from outside through `parseHost` first.
 */
export function classifyAddress(text: string): AddressClass {
  if (isIPv4(text)) return classifyIpv4(ipv4Number(text));
  if (isIPv6(text) && !text.includes('%')) return classifyIpv6(ipv6Words(text));
  return 'invalid';
}

/** Whether the address may be dialled: global unicast and none of the exceptions. See `classifyAddress`. */
export function isGlobalUnicast(text: string): boolean {
  return classifyAddress(text) === 'global';
}

/** The IPv4 address in a mapped one (`::ffff:1.2.3.4` in any spelling), as a dotted quad; null when it is none. */
export function mappedIpv4(text: string): string | null {
  if (!isIPv6(text) || text.includes('%')) return null;
  const words = ipv6Words(text);
  if (words[5] !== 0xffff || words.slice(0, 5).some((word) => word !== 0)) return null;
  return ipv4Text((((words[6] as number) << 16) | (words[7] as number)) >>> 0);
}

function classifyIpv4(address: number): AddressClass {
  for (const rule of IPV4_RULES) if ((address & rule.mask) >>> 0 === rule.network) return rule.class;
  return 'global';
}

function classifyIpv6(words: readonly number[]): AddressClass {
  for (const rule of IPV6_RULES) {
    if (!sharesPrefix(words, rule.network, rule.prefixLength)) continue;
    if (rule.class !== 'by_ipv4') return rule.class;
    return classifyIpv4((((words[6] as number) << 16) | (words[7] as number)) >>> 0);
  }
  return 'reserved';
}

function sharesPrefix(words: readonly number[], network: readonly number[], prefixLength: number): boolean {
  for (let i = 0, left = prefixLength; left > 0; i++, left -= 16) {
    const mask = left >= 16 ? 0xffff : (0xffff << (16 - left)) & 0xffff;
    if ((((words[i] as number) ^ (network[i] as number)) & mask) !== 0) return false;
  }
  return true;
}

function ipv4Number(dottedQuad: string): number {
  const [a, b, c, d] = dottedQuad.split('.').map(Number) as [number, number, number, number];
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

function ipv4Text(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/**
 * The IPv4 address that an IPv6 address leads to, mapped (`::ffff:…`) or by NAT64 (`64:ff9b::…`): whoever blocks the one
 * means the other as well. Null for every other address. `address`: as `parseHost` gives it.
 */
export function embeddedIpv4(address: string): string | null {
  const parts = /^(?:::ffff|64:ff9b:):(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,4})$/.exec(address);
  if (!parts) return null;
  const high = Number.parseInt(parts[1] ?? '0', 16);
  return ipv4Text(((high << 16) | Number.parseInt(parts[2] as string, 16)) >>> 0);
}

/** Eight 16-bit words of a valid IPv6 text. */
function ipv6Words(text: string): number[] {
  const lastColon = text.lastIndexOf(':');
  const tail = text.slice(lastColon + 1);
  if (tail.includes('.')) {
    const address = ipv4Number(tail);
    return ipv6Words(
      `${text.slice(0, lastColon + 1)}${(address >>> 16).toString(16)}:${(address & 0xffff).toString(16)}`,
    );
  }
  const [head = '', rest] = text.split('::');
  const words = (part: string) =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const before = words(head);
  if (rest === undefined) return before;
  const after = words(rest);
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
}

/** RFC 5952 text. */
function ipv6Text(words: readonly number[]): string {
  let bestStart = -1;
  let bestLength = 1; // a single zero word is not shortened
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && words[end] === 0) end++;
    if (end - start > bestLength) {
      bestStart = start;
      bestLength = end - start;
    }
  }
  const hex = words.map((word) => word.toString(16));
  if (bestStart < 0) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}

/** Why a host is no host. */
export type InvalidHost =
  | 'empty'
  | 'too_long'
  | 'percent_encoding'
  | 'zone_id'
  | 'bad_ipv4'
  | 'bad_ipv6'
  | 'bad_character'
  | 'bad_label';

/**
 * A destination host as it came from a client, in one form.
 * `address` is the usual text of the address, `name` is lower case ASCII without a final dot. Hand on these, never
 * the client's text: another spelling could mean another thing to the next reader.
 */
export type ParsedHost =
  | { readonly kind: 'ipv4'; readonly address: string; readonly class: AddressClass }
  | { readonly kind: 'ipv6'; readonly address: string; readonly class: AddressClass }
  | { readonly kind: 'name'; readonly name: string }
  /** A name that only means something inside somebody's network: refused like a private address. */
  | { readonly kind: 'local_name'; readonly name: string }
  | { readonly kind: 'invalid'; readonly why: InvalidHost };

/** RFC 1035 2.3.4, without the final dot. */
const NAME_BYTES_MAX = 253;
const LABEL_BYTES_MAX = 63;

/**
 * Names that are answered by a local resolver, router or cloud host (RFC 6761, 6762, 7686, 8375, ICANN's
 * `.internal`, and what home routers and offices are known to use).
 */
const LOCAL_SUFFIXES: readonly string[] = [
  'localhost',
  'localdomain',
  'localdomain4', // what some distributions write into the hosts file
  'localdomain6',
  'local',
  'internal',
  'home.arpa',
  'onion',
  'lan',
  'home',
  'corp',
  'intranet',
  'private',
];

/**
 * Reads a destination host. Every spelling of an IPv4 address that `inet_aton` or a URL parser takes (decimal,
 * octal, hexadecimal, short, full-width digits, a final dot) is recognised as that address, so that `0x7f.1` is
 * refused as loopback instead of being resolved as a name. Names: letters, digits, `-` and `_`; Unicode names
 * are converted to punycode first.
 */
export function parseHost(text: string): ParsedHost {
  const known = recentHosts.get(text) ?? earlierHosts.get(text);
  if (known !== undefined) return known;
  if (text.length > NAME_BYTES_MAX + 1) return parseNewHost(text);
  // A copy: the text may be part of a whole head, which would be remembered with it.
  const host = Buffer.from(text, 'utf16le').toString('utf16le');
  const parsed = parseNewHost(host);
  if (recentHosts.size >= HOSTS_REMEMBERED) {
    earlierHosts = recentHosts;
    recentHosts = new Map();
  }
  recentHosts.set(host, parsed);
  return parsed;
}

/** The hosts asked for lately, and those before them: a connection has its host read at several places. */
const HOSTS_REMEMBERED = 1_000;
let recentHosts = new Map<string, ParsedHost>();
let earlierHosts: ReadonlyMap<string, ParsedHost> = new Map();

function parseNewHost(host: string): ParsedHost {
  if (host === '') return invalid('empty');
  if (host.length > NAME_BYTES_MAX + 1) return invalid('too_long');
  const bracketed = host.startsWith('[') || host.endsWith(']');
  if (bracketed || host.includes(':')) return parseIpv6(host, bracketed);
  if (host.includes('%')) return invalid('percent_encoding');

  const ascii = toAscii(host);
  if (ascii === null) return invalid('bad_character');
  const name = ascii.endsWith('.') ? ascii.slice(0, -1) : ascii;
  if (name === '') return invalid('empty');
  if (name.length > NAME_BYTES_MAX) return invalid('too_long');

  const labels = name.split('.');
  const last = labels[labels.length - 1] as string;
  if (/^(\d+|0x[\da-f]*)$/.test(last)) {
    const address = parseLooseIpv4(labels);
    if (address === null) return invalid('bad_ipv4');
    return { kind: 'ipv4', address: ipv4Text(address), class: classifyIpv4(address) };
  }
  for (const label of labels) {
    if (label === '' || label.length > LABEL_BYTES_MAX) return invalid('bad_label');
    if (!/^[a-z0-9_-]+$/.test(label)) return invalid('bad_character');
    if (label.startsWith('-') || label.endsWith('-')) return invalid('bad_label');
  }
  return { kind: isLocalName(name, labels.length) ? 'local_name' : 'name', name };
}

function invalid(why: InvalidHost): ParsedHost {
  return { kind: 'invalid', why };
}

function parseIpv6(host: string, bracketed: boolean): ParsedHost {
  if (bracketed && !(host.startsWith('[') && host.endsWith(']'))) return invalid('bad_ipv6');
  const text = bracketed ? host.slice(1, -1) : host;
  if (text.includes('%')) return invalid('zone_id');
  if (!isIPv6(text)) return invalid('bad_ipv6');
  const words = ipv6Words(text);
  return { kind: 'ipv6', address: ipv6Text(words), class: classifyIpv6(words) };
}

/** Lower case ASCII, or null when the text is no host name. */
function toAscii(host: string): string | null {
  // Before the conversion: it takes `/`, `?`, `#` and `\` for the end of the host and drops what follows
  if (!/^[A-Za-z0-9._\u0080-\uffff-]+$/.test(host)) return null;
  if (!/[^\0-\x7f]/.test(host)) return host.toLowerCase();
  const ascii = domainToASCII(host);
  return ascii === '' ? null : ascii;
}

/** One to four numbers in base 8, 10 or 16, the last one filling what is left (inet_aton, WHATWG URL 3.5). */
function parseLooseIpv4(labels: readonly string[]): number | null {
  if (labels.length > 4) return null;
  let address = 0;
  for (let i = 0; i < labels.length; i++) {
    const value = parseIpv4Part(labels[i] as string);
    if (value === null) return null;
    const last = i === labels.length - 1;
    if (value >= (last ? 2 ** (8 * (4 - i)) : 256)) return null;
    address += last ? value : value * 2 ** (8 * (3 - i));
  }
  return address;
}

function parseIpv4Part(part: string): number | null {
  if (/^0x[\da-f]*$/.test(part)) return part.length === 2 ? 0 : Number.parseInt(part.slice(2), 16);
  if (/^0[0-7]+$/.test(part)) return Number.parseInt(part, 8);
  // `08` is octal to one reader, decimal to another and an error to a third
  if (/^(0|[1-9]\d*)$/.test(part)) return Number(part);
  return null;
}

function isLocalName(name: string, labelCount: number): boolean {
  if (labelCount === 1) return true;
  return LOCAL_SUFFIXES.some((suffix) => name === suffix || name.endsWith(`.${suffix}`));
}
