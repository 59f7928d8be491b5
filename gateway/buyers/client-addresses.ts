import { BlockList, isIP } from 'node:net';

/**
 * The address in the form that lists are matched against: IPv4-mapped IPv6 (`::ffff:1.2.3.4`, how a dual-stack
 * listener shows IPv4 clients) as IPv4, without zone. null: not an IP address.
 */
export function plainAddress(address: string): string | null {
  const zone = address.indexOf('%');
  const bare = zone < 0 ? address : address.slice(0, zone);
  const mapped = /^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$/i.exec(bare);
  const plain = mapped?.[1] ?? bare;
  return isIP(plain) === 0 ? null : plain;
}

/** A set of networks. Unreadable entries match nothing. */
export class AddressSet {
  readonly #list = new BlockList();
  /** How many networks it holds. */
  readonly size: number = 0;

  /** CIDRs or single addresses, IPv4 and IPv6. */
  constructor(cidrs: readonly string[]) {
    for (const cidr of cidrs) {
      const [network = '', length, ...rest] = cidr.trim().split('/');
      const version = isIP(network);
      const bits = version === 4 ? 32 : 128;
      const prefix = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
      if (version === 0 || rest.length > 0 || prefix < 0 || prefix > bits) continue;
      this.#list.addSubnet(network, prefix, version === 4 ? 'ipv4' : 'ipv6');
      this.size++;
    }
  }

  /** `address` as `plainAddress` gives it. */
  has(address: string): boolean {
    const version = isIP(address);
    return version !== 0 && this.size > 0 && this.#list.check(address, version === 4 ? 'ipv4' : 'ipv6');
  }
}
