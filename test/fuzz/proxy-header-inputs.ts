import type { Random } from '../sim/random.js';
import { randomBytes } from './mutate.js';

const V2_START = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);

/** A PROXY header, version 1 or 2, that announces a client at the address (IPv4), or one that says less or other. */
export function proxyHeader(random: Random, clientAddress: string): Buffer {
  return random.chance(0.5) ? version1(random, clientAddress) : version2(random, clientAddress);
}

function version1(random: Random, clientAddress: string): Buffer {
  const port = () =>
    random.chance(0.9) ? random.below(65_536) : random.pick(['65536', '-1', '', '01', 'x']);
  const protocol = random.chance(0.85) ? 'TCP4' : random.pick(['TCP6', 'UNKNOWN', 'UDP4', 'tcp4', '']);
  const source = protocol === 'TCP6' ? '2001:db8::1' : clientAddress;
  const target = protocol === 'TCP6' ? '2001:db8::2' : '192.0.2.1';
  const end = random.chance(0.95) ? '\r\n' : random.pick(['\n', '\r', '', `${' '.repeat(100)}\r\n`]);
  return Buffer.from(`PROXY ${protocol} ${source} ${target} ${port()} ${port()}${end}`, 'latin1');
}

function version2(random: Random, clientAddress: string): Buffer {
  const command = random.chance(0.85) ? 0x21 : random.pick([0x20, 0x22, 0x11, 0x31]);
  const family = random.chance(0.85) ? 0x11 : random.pick([0x21, 0x31, 0x00, 0x12, 0x41]);
  const source = Buffer.from(clientAddress.split('.').map(Number));
  const ports = randomBytes(random, 4);
  const addresses =
    family === 0x21
      ? randomBytes(random, 36)
      : family === 0x31
        ? randomBytes(random, 216)
        : Buffer.concat([source, Buffer.of(192, 0, 2, 1), ports]);
  const fields = random.chance(0.3) ? randomBytes(random, random.pick([3, 40, 300, 4_100])) : Buffer.alloc(0);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(
    random.chance(0.92) ? addresses.length + fields.length : random.pick([0, 1, 11, 13, 4_081, 65_535]),
  );
  return Buffer.concat([V2_START, Buffer.of(command, family), length, addresses, fields]);
}

/** An address that a balancer may announce: of nobody who is let in by it. */
export function announcedAddress(random: Random): string {
  return `198.18.${random.below(256)}.${random.below(256)}`;
}
