import { parseHost } from '../../agent-protocol/address.js';
import { AddressSet, isCidr } from './addresses.js';

/**
 * One entry of a list of destinations: a name, `.suffix` (or `*.suffix`) for a name and everything below it, an IP
 * address in any spelling, or a CIDR. Unicode names become punycode, everything lower case.
 */
export type HostPattern =
  | { readonly kind: 'name' | 'suffix'; readonly name: string }
  | { readonly kind: 'network'; readonly cidr: string };

/** null: not an entry that could ever match. */
export function readHostPattern(text: string): HostPattern | null {
  const isSuffix = /^(\*?\.)/.test(text);
  const parsed = parseHost(isSuffix ? text.replace(/^\*?\./, '') : text);
  if (parsed.kind === 'name' || parsed.kind === 'local_name')
    return { kind: isSuffix ? 'suffix' : 'name', name: parsed.name };
  if (isSuffix) return null;
  if (parsed.kind !== 'invalid') return { kind: 'network', cidr: parsed.address };
  return isCidr(text) ? { kind: 'network', cidr: text } : null;
}

/** The entry in its one form, as lists keep it; null: it is none. */
export function normalHostPattern(text: string): string | null {
  const pattern = readHostPattern(text);
  if (pattern === null) return null;
  if (pattern.kind === 'network') return pattern.cidr;
  return pattern.kind === 'suffix' ? `.${pattern.name}` : pattern.name;
}

/** A list of destinations, compiled: looking up costs one step a label of the name, not one an entry. */
export class HostSet {
  readonly #names = new Set<string>();
  readonly #suffixes = new Set<string>();
  readonly #networks = new AddressSet();

  /** Entries that are none match nothing: check with `readHostPattern` before. */
  constructor(entries: Iterable<string>) {
    for (const entry of entries) {
      const pattern = readHostPattern(entry);
      if (pattern === null) continue;
      if (pattern.kind === 'network') this.#networks.add(pattern.cidr, pattern.cidr);
      else (pattern.kind === 'suffix' ? this.#suffixes : this.#names).add(pattern.name);
    }
  }

  /** `name` as `parseHost` gives it. */
  hasName(name: string): boolean {
    if (this.#names.has(name)) return true;
    if (this.#suffixes.size === 0) return false;
    for (let at = 0; at >= 0; at = name.indexOf('.', at) + 1 || -1)
      if (this.#suffixes.has(name.slice(at))) return true;
    return false;
  }

  /**
   * `address` as `parseHost` gives it. Mapped and NAT64 (RFC 6052) addresses lead to the IPv4 address inside: they are
   * in the set when that is, too.
   */
  hasAddress(address: string): boolean {
    if (this.#networks.size === 0) return false;
    if (this.#networks.has(address)) return true;
    const embedded = embeddedIpv4(address);
    return embedded !== null && this.#networks.has(embedded);
  }
}

/** The IPv4 address in a mapped (`::ffff:…`) or NAT64 (`64:ff9b::…`) address in RFC 5952 text, or null. */
function embeddedIpv4(address: string): string | null {
  const words = /^(?:::ffff|64:ff9b:):(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,4})$/.exec(address);
  if (!words) return null;
  const high = Number.parseInt(words[1] ?? '0', 16);
  const low = Number.parseInt(words[2] as string, 16);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}
