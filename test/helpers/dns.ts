import type { UdpPeer } from './udp-peer.js';

/** A DNS query for the A record of a name (RFC 1035 section 4), recursion desired. */
export function dnsQuery(id: number, name: string): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(0x0100, 2);
  header.writeUInt16BE(1, 4);
  const labels = name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)]));
  return Buffer.concat([header, ...labels, Buffer.of(0, 0, 1, 0, 1)]);
}

/** The address in the first answer of a response to `query`; null when it is none to that query. */
export function dnsAnswer(query: Buffer, response: Buffer): string | null {
  const isResponse = response.length >= query.length + 16 && (response.readUInt16BE(2) & 0x8000) !== 0;
  if (!isResponse || response.readUInt16BE(0) !== query.readUInt16BE(0)) return null;
  if (!response.subarray(12, query.length).equals(query.subarray(12))) return null;
  return response.subarray(response.length - 4).join('.');
}

/** Makes the peer a name server that has this address for every name. */
export function serveDns(peer: UdpPeer, address: string): UdpPeer {
  peer.socket.on('message', (query, { address: from, port }) => {
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(0x8180, 2);
    header.writeUInt16BE(1, 6);
    // A pointer to the name of the question, type A, class IN, 60 s, 4 bytes
    const answer = Buffer.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split('.').map(Number));
    peer.socket.send(Buffer.concat([header, query.subarray(12), answer]), port, from);
  });
  return peer;
}
