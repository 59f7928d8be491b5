/**
 * The PROXY protocol, versions 1 and 2 (HAProxy's specification "The PROXY protocol", sections 2.1 and 2.2): what a
 * load balancer says, ahead of a connection's own bytes, about the client behind it.
 */
import { isIP } from 'node:net';
import type { Reading } from './client-connection.js';

/** What the header says; `clientAddress` null: nothing of the client (LOCAL, UNKNOWN, unspecified or Unix sockets). */
export type ProxyHeader = { ok: true; clientAddress: string | null } | { ok: false; problem: string };

/** Longest line of version 1 with its CRLF, bytes (section 2.1). */
const V1_BYTES_MAX = 107;
/** Longest header of version 2 that is read, bytes; the specification would allow 64 KiB of TLVs. */
export const PROXY_HEADER_BYTES_MAX = 4_096;

const V1_START = Buffer.from('PROXY ', 'latin1');
const V2_START = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const V2_FIXED_BYTES = 16;
const COMMAND_LOCAL = 0;
const COMMAND_PROXY = 1;
/** By the upper half of the family byte: bytes of the two addresses and ports. */
const V2_ADDRESS_BYTES = [0, 12, 36, 216] as const;
const FAMILY_UNSPEC = 0;
const FAMILY_INET = 1;
const FAMILY_INET6 = 2;
const TRANSPORT_STREAM = 1;

/**
 * Reads the header at the start of `bytes`, which may arrive in any pieces; null: more is needed. Bytes that can not
 * become a header are a problem at once. Type-length-value fields behind the addresses are skipped.
 */
export function readProxyHeader(bytes: Buffer): Reading<ProxyHeader> {
  if (begins(bytes, V2_START)) return readV2(bytes);
  if (begins(bytes, V1_START)) return readV1(bytes);
  return bad(bytes, 'no PROXY header');
}

function begins(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

function readV1(bytes: Buffer): Reading<ProxyHeader> {
  const lineEnd = bytes.subarray(0, V1_BYTES_MAX).indexOf('\r\n', 0, 'latin1');
  if (lineEnd < 0) return bytes.length >= V1_BYTES_MAX ? bad(bytes, 'version 1: line too long') : null;
  const [protocol, source, target, sourcePort, targetPort, ...rest] = bytes
    .toString('latin1', V1_START.length, lineEnd)
    .split(' ');
  const end = lineEnd + 2;
  // What may follow UNKNOWN is to be ignored.
  if (protocol === 'UNKNOWN') return { value: { ok: true, clientAddress: null }, bytes: end };
  const version = protocol === 'TCP4' ? 4 : protocol === 'TCP6' ? 6 : null;
  if (version === null) return bad(bytes, 'version 1: protocol');
  if (source === undefined || target === undefined || rest.length > 0) return bad(bytes, 'version 1: fields');
  if (isIP(source) !== version || isIP(target) !== version || source.includes('%'))
    return bad(bytes, 'version 1: address');
  if (!isPort(sourcePort) || !isPort(targetPort)) return bad(bytes, 'version 1: port');
  return { value: { ok: true, clientAddress: source }, bytes: end };
}

function isPort(text: string | undefined): boolean {
  return text !== undefined && /^(0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= 65_535;
}

function readV2(bytes: Buffer): Reading<ProxyHeader> {
  // Each part is looked at as soon as it is there: a bad one costs no waiting.
  const versionAndCommand = bytes[12];
  if (versionAndCommand === undefined) return null;
  const command = versionAndCommand & 15;
  if (versionAndCommand >> 4 !== 2) return bad(bytes, 'version 2: version');
  if (command !== COMMAND_LOCAL && command !== COMMAND_PROXY) return bad(bytes, 'version 2: command');
  const familyByte = bytes[13];
  if (familyByte === undefined || bytes.length < V2_FIXED_BYTES) return null;
  const family = familyByte >> 4;
  const transport = familyByte & 15;
  const lengthBytes = bytes.readUInt16BE(14);
  const end = V2_FIXED_BYTES + lengthBytes;
  if (end > PROXY_HEADER_BYTES_MAX) return bad(bytes, 'version 2: header too long');
  if (command === COMMAND_PROXY) {
    const addressBytes = V2_ADDRESS_BYTES[family];
    if (addressBytes === undefined) return bad(bytes, 'version 2: address family');
    if (family !== FAMILY_UNSPEC && transport !== TRANSPORT_STREAM)
      return bad(bytes, 'version 2: transport is not a stream');
    if (lengthBytes < addressBytes) return bad(bytes, 'version 2: shorter than its addresses');
  }
  if (bytes.length < end) return null;
  // LOCAL is the balancer's own connection, a health check: whatever else the header says is to be ignored.
  const clientAddress = command === COMMAND_LOCAL ? null : v2Source(bytes, family);
  return { value: { ok: true, clientAddress }, bytes: end };
}

function v2Source(bytes: Buffer, family: number): string | null {
  if (family === FAMILY_INET) return bytes.subarray(V2_FIXED_BYTES, V2_FIXED_BYTES + 4).join('.');
  if (family !== FAMILY_INET6) return null;
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(bytes.readUInt16BE(V2_FIXED_BYTES + i).toString(16));
  return groups.join(':');
}

function bad(bytes: Buffer, problem: string): Reading<ProxyHeader> {
  return { value: { ok: false, problem }, bytes: bytes.length };
}
