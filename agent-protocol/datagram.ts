import { isIPv4, isIPv6, SocketAddress } from 'node:net';

/** A UDP datagram with the address it goes to or came from. */
export interface Datagram {
  /** A host name (only towards the agent), an IPv4 address, or an IPv6 address without brackets. */
  host: string;
  /** 1 to 65535. */
  port: number;
  bytes: Buffer;
}

/** Address types of SOCKS5, RFC 1928 section 5. */
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** Payload of a DATAGRAM frame: the head, then the bytes. Throws as `encodeDatagramHead` does. */
export function encodeDatagram({ host, port, bytes }: Datagram): Buffer {
  return Buffer.concat([encodeDatagramHead(host, port), bytes]);
}

/**
 * What stands in front of a datagram's bytes: address as in SOCKS5 (RFC 1928 section 5: type, address), port
 * big-endian. Throws RangeError when the host is empty or longer than 255 bytes, or the port out of range.
 */
export function encodeDatagramHead(host: string, port: number): Buffer {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`port ${port}`);
  return Buffer.concat([encodeAddress(host), Buffer.of(port >> 8, port & 0xff)]);
}

/** Bytes of the head that a DATAGRAM payload begins with, 5 to 259; 0 when it is malformed. */
export function datagramHeadBytes(payload: Buffer): number {
  const type = payload[0];
  const nameBytes = payload[1] ?? 0;
  let end: number;
  if (type === IPV4) end = 5;
  else if (type === IPV6) end = 17;
  else if (type === NAME && nameBytes > 0) end = 2 + nameBytes;
  else return 0;
  if (payload.length < end + 2 || (payload[end] === 0 && payload[end + 1] === 0)) return 0;
  return end + 2;
}

/** Whether the payload names a host instead of giving an address: allowed towards the agent only. */
export function isDatagramToName(payload: Buffer): boolean {
  return payload[0] === NAME;
}

function encodeAddress(host: string): Buffer {
  if (isIPv4(host)) return Buffer.of(IPV4, ...host.split('.').map(Number));
  if (isIPv6(host) && !host.includes('%')) return Buffer.concat([Buffer.of(IPV6), ipv6Bytes(host)]);
  const name = Buffer.from(host);
  if (name.length < 1 || name.length > 255) throw new RangeError('host name not of 1 to 255 bytes');
  return Buffer.concat([Buffer.of(NAME, name.length), name]);
}

/** Takes a DATAGRAM payload apart; null when it is malformed. `bytes` refers to the payload. */
export function decodeDatagram(payload: Buffer): Datagram | null {
  const headBytes = datagramHeadBytes(payload);
  if (headBytes === 0) return null;
  const type = payload[0] as number;
  const address = payload.subarray(type === NAME ? 2 : 1, headBytes - 2);
  const port = payload.readUInt16BE(headBytes - 2);
  return { host: hostOf(type, address), port, bytes: payload.subarray(headBytes) };
}

function hostOf(type: number, address: Buffer): string {
  if (type === NAME) return address.toString();
  if (type === IPV4) return address.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => address.readUInt16BE(i * 2).toString(16)).join(':');
  // Node writes IPv6 addresses in the form of RFC 5952.
  return new SocketAddress({ address: groups, family: 'ipv6' }).address;
}

function ipv6Bytes(address: string): Buffer {
  // Dotted quads at the end (`::ffff:1.2.3.4`) are two groups like any other.
  const plain = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_quad, a, b, c, d) => {
    return `${((Number(a) << 8) | Number(b)).toString(16)}:${((Number(c) << 8) | Number(d)).toString(16)}`;
  });
  const [head = '', tail] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...before, ...Array(8 - before.length - after.length).fill('0'), ...after];
  const bytes = Buffer.alloc(16);
  groups.forEach((group, index) => {
    bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2);
  });
  return bytes;
}
