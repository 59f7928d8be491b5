import { pack } from 'msgpackr';
import { writeFrame } from '../agent-protocol/helpers/naive-websocket.js';
import type { Random } from '../sim/random.js';
import type { LaterFrame } from './input.js';
import { mutate, randomBytes, someLength } from './mutate.js';
import { address } from './socks-inputs.js';

const SUBPROTOCOLS = ['traffic-share.v1', 'traffic-share.v1, chat', 'chat', 'traffic-share.v2', ''];
const FRAME_TYPES = {
  HELLO: 1,
  STATUS: 3,
  OPENED: 5,
  DATA: 6,
  FIN: 7,
  RESET: 8,
  CREDIT: 9,
  DATAGRAM: 10,
  PING: 11,
};
const BINARY = 2;
/** Where the devices of fuzzed tunnels seem to be: X-Forwarded-For of a proxy in front of the tunnel port. */
export const FUZZED_DEVICE_NETWORK = '84.128';

/** The upgrade request of a device; `ticket` null: without one, or with one that was never issued. */
export function upgradeRequest(random: Random, ticket: string | null, sound: boolean): Buffer {
  const odd = (common: string, ...others: string[]) =>
    sound || random.chance(0.9) ? common : random.pick(others);
  const key = randomBytes(random, odd('16', '0', '15', '100') === '16' ? 16 : 15).toString('base64');
  const lines = [
    `${odd('GET', 'POST', 'HEAD', 'get')} ${odd('/tunnel', '/', '/tunnel?x=1', '/tunnel/', '*')} ${odd('HTTP/1.1', 'HTTP/1.0')}`,
    'Host: 127.0.0.1',
    `Upgrade: ${odd('websocket', 'WebSocket', 'h2c', 'websocket, h2c', '')}`,
    `Connection: ${odd('Upgrade', 'keep-alive, Upgrade', 'close')}`,
    `Sec-WebSocket-Version: ${odd('13', '8', '12', '', '99')}`,
    `Sec-WebSocket-Key: ${key}`,
    `Sec-WebSocket-Protocol: ${odd(SUBPROTOCOLS[0] as string, ...SUBPROTOCOLS)}`,
    `X-Forwarded-For: ${FUZZED_DEVICE_NETWORK}.${random.below(256)}.${1 + random.below(250)}`,
  ];
  if (random.chance(0.1)) lines.push('Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits');
  if (ticket !== null) lines.push(`Authorization: Bearer ${ticket}`);
  else if (random.chance(0.7))
    lines.push(
      `Authorization: ${random.pick(['Bearer', 'Bearer', 'bearer', 'Basic', ''])} ` +
        random.pick([random.hex(32), 'x'.repeat(random.below(600)), '', '\u00e9', 'a b c']),
    );
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

function hello(random: Random): Buffer {
  const message: Record<string, unknown> = {
    agent: 'fuzz',
    agent_version: '1.0.0',
    os: 'test',
    terms_version: '1',
    versions: [1],
  };
  if (random.chance(0.2)) {
    const key = random.pick(Object.keys(message));
    message[key] = random.pick([
      null,
      '',
      'x'.repeat(70),
      -1,
      2 ** 53,
      [],
      {},
      [0],
      [256],
      [2],
      [1, 'a'],
      true,
    ]);
  }
  if (random.chance(0.2))
    message[random.pick(['udp', 'model', '__proto__', 'constructor', 'other'])] = random.pick([1, '', true]);
  const packed = Buffer.from(pack(message));
  return random.chance(0.12) ? mutate(random, packed) : packed;
}

function status(random: Random): Buffer {
  return Buffer.from(
    pack({
      network: random.pick(['wifi', 'mobile', 'carrier pigeon', 7]),
      paused: random.pick([true, false, null, 'no']),
      cap_bytes_left: random.pick([0, 1, -1, 2 ** 60, 2 ** 40]),
      battery_percent: random.pick([0, 100, 101, 5.5]),
    }),
  );
}

function number(random: Random): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(random.pick([0, 1, 100, 65_536, 0x7fff_ffff, 0xffff_ffff]));
  return bytes;
}

/** The payload of a frame of the type, mostly of the right length. */
function payloadOf(random: Random, type: number): Buffer {
  if (random.chance(0.1)) return randomBytes(random, someLength(random, 400));
  switch (type) {
    case FRAME_TYPES.HELLO:
      return hello(random);
    case FRAME_TYPES.STATUS:
      return status(random);
    case FRAME_TYPES.OPENED:
      return Buffer.of(random.chance(0.7) ? 0 : random.below(256));
    case FRAME_TYPES.DATA:
      return randomBytes(random, random.chance(0.95) ? 1 + random.below(400) : 70_000);
    case FRAME_TYPES.FIN:
      return Buffer.alloc(0);
    case FRAME_TYPES.RESET:
      return Buffer.of(random.below(256));
    case FRAME_TYPES.CREDIT:
      return number(random);
    case FRAME_TYPES.DATAGRAM:
      return Buffer.concat([address(random, 'a.example'), number(random)]);
    case FRAME_TYPES.PING:
      return randomBytes(random, 8);
    default:
      return randomBytes(random, random.below(30));
  }
}

function frame(random: Random): Buffer {
  const draw = random.below(20);
  const type = draw < 17 ? random.pick(Object.values(FRAME_TYPES)) : random.below(20);
  const ofSession = type === FRAME_TYPES.HELLO || type === FRAME_TYPES.STATUS || type >= FRAME_TYPES.PING;
  const stream = random.chance(0.9) === ofSession ? 0 : random.pick([1, 1, 2, 3, 1_000, 0xffff_ffff]);
  return frameBytes(type, stream, payloadOf(random, type));
}

/** Type, stream id and payload. */
export function frameBytes(type: number, stream: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(5 + payload.length);
  bytes[0] = type;
  bytes.writeUInt32BE(stream, 1);
  payload.copy(bytes, 5);
  return bytes;
}

/** The frame in WebSocket messages: mostly one, sometimes in fragments, sometimes against RFC 6455. */
export function webSocketBytes(random: Random, payload: Buffer): Buffer {
  const key = random.chance(0.5) ? randomBytes(random, 4) : Buffer.alloc(4);
  const draw = random.below(100);
  if (draw < 86) return writeFrame({ final: true, opcode: BINARY, payload }, key);
  if (draw < 92) {
    const cut = random.below(payload.length + 1);
    const ping = writeFrame({ final: true, opcode: 9, payload: randomBytes(random, random.below(126)) }, key);
    return Buffer.concat([
      writeFrame({ final: false, opcode: BINARY, payload: payload.subarray(0, cut) }, key),
      ...(random.chance(0.5) ? [ping] : []),
      writeFrame({ final: true, opcode: 0, payload: payload.subarray(cut) }, key),
    ]);
  }
  if (draw < 94) return writeFrame({ final: true, opcode: BINARY, payload }, null);
  if (draw < 96) return writeFrame({ final: random.chance(0.5), opcode: random.below(16), payload }, key);
  if (draw < 97)
    return writeFrame({ final: true, opcode: BINARY, payload }, key, random.pick([0x10, 0x20, 0x40]));
  if (draw < 98) {
    // Long announced, little sent: 32 bits and more.
    const header = Buffer.of(0x82, 0xff, ...randomBytes(random, 8), ...key);
    return Buffer.concat([header, payload]);
  }
  const code = Buffer.alloc(2);
  code.writeUInt16BE(random.pick([1000, 1001, 1005, 1006, 999, 3000, 5000]));
  return writeFrame(
    { final: true, opcode: 8, payload: Buffer.concat([code, randomBytes(random, random.below(8))]) },
    key,
  );
}

/** What a device with a tunnel sends: HELLO, then frames of every kind. */
export function tunnelMessages(random: Random): Buffer[] {
  const messages: Buffer[] = [];
  if (random.chance(0.95))
    messages.push(webSocketBytes(random, frameBytes(FRAME_TYPES.HELLO, 0, hello(random))));
  for (let left = random.below(8); left > 0; left--) messages.push(webSocketBytes(random, frame(random)));
  return messages;
}

/** What a device does with a stream it is asked for: mostly opens it, then breaks the rules of streams. */
export function framesOfStream(random: Random): LaterFrame[] {
  const frames: LaterFrame[] = [];
  if (random.chance(0.9))
    frames.push({
      type: FRAME_TYPES.OPENED,
      stream: null,
      payload: Buffer.of(random.chance(0.85) ? 0 : random.below(256)),
    });
  for (let left = random.between(1, 8); left > 0; left--) {
    const type = random.pick([
      FRAME_TYPES.OPENED,
      FRAME_TYPES.DATA,
      FRAME_TYPES.DATA,
      FRAME_TYPES.FIN,
      FRAME_TYPES.RESET,
      FRAME_TYPES.CREDIT,
      FRAME_TYPES.DATAGRAM,
    ]);
    const stream = random.chance(0.9) ? null : random.pick([0, 2, 99, 0xffff_ffff]);
    frames.push({ type, stream, payload: payloadOf(random, type) });
  }
  // More than the window: 256 KiB and one more piece.
  if (random.chance(0.08))
    for (let i = 0; i < 5; i++)
      frames.push({ type: FRAME_TYPES.DATA, stream: null, payload: Buffer.alloc(65_536, 7) });
  return frames;
}
