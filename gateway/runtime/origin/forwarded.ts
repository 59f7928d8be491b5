import { type AddressSet, plainAddress } from '../addresses.js';

/**
 * The address a request really came from. The peer's own, unless the peer is a trusted proxy: then the right-most
 * hop of `X-Forwarded-For` that is not one (what stands left of it, anybody may have written). A hop that cannot be
 * read ends the walk: the answer is the trusted proxy that reported it. null: the peer has no IP address.
 */
export function forwardedAddress(
  remoteAddress: string | undefined,
  xForwardedFor: string | readonly string[] | undefined,
  trustedProxies: AddressSet,
): string | null {
  let address = remoteAddress === undefined ? null : plainAddress(remoteAddress);
  if (address === null || !trustedProxies.has(address)) return address;
  const header = typeof xForwardedFor === 'string' ? xForwardedFor : (xForwardedFor ?? []).join(',');
  const hops = header.split(',');
  for (let i = hops.length - 1; i >= 0; i--) {
    const hop = readHop(hops[i] as string);
    if (hop === null) return address;
    address = hop;
    if (!trustedProxies.has(hop)) return hop;
  }
  return address;
}

/** `1.2.3.4`, `1.2.3.4:567`, `2001:db8::1`, `[2001:db8::1]:567`: some proxies write the port as well. */
function readHop(text: string): string | null {
  const hop = text.trim();
  const bracketed = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(hop);
  const withPort = /^(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}$/.exec(hop);
  return plainAddress(bracketed?.[1] ?? withPort?.[1] ?? hop);
}
