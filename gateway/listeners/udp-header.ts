import { decodeDatagram } from '../../agent-protocol/datagram.js';
import { type Destination, readHost } from './destination.js';

/** Bytes in front of address, port and data: RSV (two), FRAG. What follows them is the payload of a DATAGRAM frame. */
export const UDP_PREFIX_BYTES = 3;

/** A client's datagram, RFC 1928 section 7. */
export interface ClientDatagram extends Destination {
  /** Refers to the message. */
  bytes: Buffer;
}

/**
 * Takes a client's UDP message apart. `fragment`: FRAG is not 0; who does not put fragments together must drop them.
 * `malformed`: anything else that the RFC does not allow, or a host that is none. The host is neither resolved nor judged.
 */
export function readUdpMessage(message: Buffer): ClientDatagram | 'fragment' | 'malformed' {
  if (message.length <= UDP_PREFIX_BYTES || message[0] !== 0 || message[1] !== 0) return 'malformed';
  if (message[2] !== 0) return 'fragment';
  const datagram = decodeDatagram(message.subarray(UDP_PREFIX_BYTES));
  const host = datagram === null ? null : readHost(datagram.host);
  if (datagram === null || host === null) return 'malformed';
  return { host, port: datagram.port, bytes: datagram.bytes };
}

/** A UDP message to the client: the payload of a DATAGRAM frame behind RSV and FRAG. A copy. */
export function udpMessage(payload: Buffer): Buffer {
  const message = Buffer.allocUnsafe(UDP_PREFIX_BYTES + payload.length);
  message.fill(0, 0, UDP_PREFIX_BYTES);
  payload.copy(message, UDP_PREFIX_BYTES);
  return message;
}
