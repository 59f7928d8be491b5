import type { Random } from '../sim/random.js';
import { randomBytes, someLength } from './mutate.js';

const u16 = (value: number) => Buffer.of((value >> 8) & 255, value & 255);
const withLength16 = (bytes: Buffer) => Buffer.concat([u16(bytes.length), bytes]);

function extension(type: number, body: Buffer): Buffer {
  return Buffer.concat([u16(type), withLength16(body)]);
}

/** A ClientHello in its record (RFC 8446 sections 4.1.2 and 5.1), of which many fields may be wrong. */
export function clientHello(random: Random, host: string): Buffer {
  const name = Buffer.from(host);
  const extensions = Buffer.concat([
    extension(0, withLength16(Buffer.concat([Buffer.of(0), withLength16(name)]))),
    extension(10, withLength16(Buffer.concat([u16(29), u16(23)]))),
    extension(13, withLength16(Buffer.concat([u16(0x0403), u16(0x0804)]))),
    extension(16, withLength16(Buffer.from('\x08http/1.1\x02h2', 'latin1'))),
    extension(43, Buffer.of(4, 3, 4, 3, 3)),
    extension(51, withLength16(Buffer.concat([u16(29), withLength16(randomBytes(random, 32))]))),
    ...(random.chance(0.2)
      ? [extension(random.below(65_536), randomBytes(random, someLength(random, 500)))]
      : []),
  ]);
  const sessionId = randomBytes(random, random.pick([0, 32, 32, 33, 255]));
  const body = Buffer.concat([
    u16(random.pick([0x0303, 0x0303, 0x0301, 0x0304, 0xffff])),
    randomBytes(random, 32),
    Buffer.of(sessionId.length),
    sessionId,
    withLength16(Buffer.concat([u16(0x1301), u16(0xc02b), u16(random.below(65_536))])),
    Buffer.of(1, 0),
    withLength16(extensions),
  ]);
  const handshake = Buffer.concat([Buffer.of(1, 0), u16(body.length), body]);
  const record = (payload: Buffer) =>
    Buffer.concat([Buffer.of(0x16, 3, random.pick([1, 3, 4, 0])), withLength16(payload)]);
  if (random.chance(0.8)) return record(handshake);
  const cut = random.below(handshake.length);
  return Buffer.concat([record(handshake.subarray(0, cut)), record(handshake.subarray(cut))]);
}

/** Records that may follow, or come instead: alerts, early data, an SSL 2.0 hello, nothing but a type byte. */
export function tlsRecord(random: Random): Buffer {
  const type = random.pick([0x14, 0x15, 0x16, 0x17, 0x18, 0x80]);
  const length = random.pick([0, 1, 2, 100, 16_384, 16_640, 65_535]);
  const payload = randomBytes(random, Math.min(length, someLength(random, 2_000)));
  return Buffer.concat([Buffer.of(type, 3, 3), u16(length), payload]);
}
