/**
 * What a port accepts. `any`: what the first byte says, TLS included. `socks5` and `http`: only that, not in TLS.
 * `tls`: only TLS, with SOCKS5 or HTTP inside.
 */
export type PortProtocol = 'any' | 'socks5' | 'http' | 'tls';

/** A port beside the main one. */
export interface DedicatedPort {
  /** 0: any free one. */
  port: number;
  protocol: Exclude<PortProtocol, 'any'>;
}

/** `1080:socks5`: null when it is not of that form. */
export function readDedicatedPort(text: string): DedicatedPort | null {
  const parts = /^([0-9]{1,5}):(socks5|http|tls)$/.exec(text);
  if (!parts || Number(parts[1]) > 65_535) return null;
  return { port: Number(parts[1]), protocol: parts[2] as DedicatedPort['protocol'] };
}
