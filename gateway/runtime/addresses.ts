import { isIP } from 'node:net';
import { parseHost } from '../../agent-protocol/address.js';

/**
 * An IP address in its one usual form: RFC 5952 text, IPv4-mapped IPv6 (`::ffff:1.2.3.4`, how a dual-stack listener
 * shows IPv4 peers) as IPv4, without zone. null: not an IP address.
 */
export function plainAddress(text: string): string | null {
  const zone = text.indexOf('%');
  const bare = zone < 0 ? text : text.slice(0, zone);
  const version = isIP(bare);
  if (version === 4) return bare;
  const parsed = version === 6 ? parseHost(bare) : null;
  if (parsed?.kind !== 'ipv6') return null;
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(parsed.address);
  if (!mapped) return parsed.address;
  const high = Number.parseInt(mapped[1] as string, 16);
  const low = Number.parseInt(mapped[2] as string, 16);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** The 32 bits of a dotted quad. */
export function ipv4Number(address: string): number {
  let bits = 0;
  for (const part of address.split('.')) bits = bits * 256 + Number(part);
  return bits;
}

/** The 128 bits of a valid IPv6 address without a dotted quad in it (as `plainAddress` gives it). */
export function ipv6Bits(address: string): bigint {
  const [head = '', tail] = address.split('::');
  const words = (part: string | undefined) => (part ? part.split(':') : []);
  const before = words(head);
  const after = words(tail);
  const zeros = new Array<string>(8 - before.length - after.length).fill('0');
  let bits = 0n;
  for (const word of [...before, ...zeros, ...after]) bits = (bits << 16n) | BigInt(`0x${word}`);
  return bits;
}

/**
 * What a client can not change at will: an IPv4 address as it is, an IPv6 address by its /64, of which whoever has one
 * address has all. Text that is no address is its own group.
 */
export function addressGroup(address: string): string {
  if (isIP(address) === 4) return address;
  const plain = plainAddress(address);
  if (plain === null || isIP(plain) === 4) return plain ?? address;
  return `${(ipv6Bits(plain) >> 64n).toString(16)}/64`;
}

interface Network {
  version: 4 | 6;
  prefixLength: number;
  /** The leading `prefixLength` bits. */
  prefix: number | bigint;
}

function readNetwork(cidr: string): Network | null {
  const [text = '', lengthText, ...rest] = cidr.split('/');
  if (rest.length > 0 || (lengthText !== undefined && !/^\d{1,3}$/.test(lengthText))) return null;
  const address = plainAddress(text);
  if (address === null || text.includes('%')) return null;
  const written = isIP(text) === 4 ? 32 : 128;
  const length = lengthText === undefined ? written : Number(lengthText);
  if (length > written) return null;
  const version = isIP(address) === 4 ? 4 : 6;
  if (version === 6)
    return { version, prefixLength: length, prefix: ipv6Bits(address) >> BigInt(128 - length) };
  const prefixLength = length - (written - 32); // a mapped network counts from its 96th bit
  return prefixLength < 0 ? null : { version, prefixLength, prefix: ipv4Prefix(address, prefixLength) };
}

function ipv4Prefix(address: string, length: number): number {
  return Math.floor(ipv4Number(address) / 2 ** (32 - length));
}

/** Whether the text is an address or a network in CIDR notation. */
export function isCidr(text: string): boolean {
  return readNetwork(text) !== null;
}

/** A set of networks, each with a label; looking up costs one step for each prefix length in it, not one a network. */
export class AddressSet {
  readonly #ipv4 = new Map<number, Map<number, string>>();
  readonly #ipv6 = new Map<number, Map<bigint, string>>();
  #size = 0;

  /** CIDRs or single addresses, IPv4 and IPv6. Unreadable ones match nothing: check with `isCidr` before. */
  constructor(cidrs: Iterable<string> = []) {
    for (const cidr of cidrs) this.add(cidr, cidr);
  }

  get size(): number {
    return this.#size;
  }

  /** False: not readable, nothing added. */
  add(cidr: string, label: string): boolean {
    const network = readNetwork(cidr);
    if (network === null) return false;
    const { version, prefixLength, prefix } = network;
    const lengths = (version === 4 ? this.#ipv4 : this.#ipv6) as Map<number, Map<number | bigint, string>>;
    let networks = lengths.get(prefixLength);
    if (!networks) {
      networks = new Map();
      lengths.set(prefixLength, networks);
    }
    networks.set(prefix, label);
    this.#size++;
    return true;
  }

  /** The label of a network that holds the address (as `plainAddress` gives it), or undefined. */
  find(address: string): string | undefined {
    const version = isIP(address);
    if (version === 4) {
      for (const [length, networks] of this.#ipv4) {
        const label = networks.get(ipv4Prefix(address, length));
        if (label !== undefined) return label;
      }
    } else if (version === 6 && this.#ipv6.size > 0) {
      const bits = ipv6Bits(address);
      for (const [length, networks] of this.#ipv6) {
        const label = networks.get(bits >> BigInt(128 - length));
        if (label !== undefined) return label;
      }
    }
    return undefined;
  }

  has(address: string): boolean {
    return this.find(address) !== undefined;
  }
}
