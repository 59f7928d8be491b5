import { isDeepStrictEqual } from 'node:util';
import { pack } from 'msgpackr';
import {
  type Decoded,
  decodeDrain,
  decodeGoaway,
  decodeHello,
  decodeOpen,
  decodeStatus,
  decodeWelcome,
  encodeControl,
} from '../../agent-protocol/control.js';
import { datagramHeadBytes, decodeDatagram, encodeDatagram } from '../../agent-protocol/datagram.js';
import { frameRules } from '../../agent-protocol/frame.js';
import { FrameReader } from '../../agent-protocol/frame-reader.js';
import { MESSAGE_BYTES_MAX } from '../../agent-protocol/limits.js';
import { CloseCode, WebSocketReader } from '../../agent-protocol/websocket-frames.js';
import { readHost } from '../../gateway/listeners/destination.js';
import { readUdpMessage } from '../../gateway/listeners/udp-header.js';
import type { Random } from '../sim/random.js';
import { mutate, perhapsSpoilt, randomBytes, someLength } from './mutate.js';
import { cuts } from './readings.js';
import { address } from './socks-inputs.js';
import { frameBytes, tunnelMessages, webSocketBytes } from './tunnel-inputs.js';

const CLOSE_CODES: ReadonlySet<number> = new Set(Object.values(CloseCode));

/** The messages and the end that a reader finds; pieces of a message are put together. */
function webSocketEvents(pieces: readonly Buffer[]): { events: string[]; problem: string | null } {
  const events: string[] = [];
  let message: Buffer[] = [];
  let over = false;
  let problem: string | null = null;
  const end = (event: string) => {
    if (over) problem ??= `after its end: ${event}`;
    over = true;
    events.push(event);
  };
  const reader = new WebSocketReader(
    {
      onMessageBytes: (buffer, start, stop, last) => {
        if (over) problem ??= 'bytes after the end';
        if (start < 0 || stop > buffer.length || start > stop) problem ??= `bytes ${start} to ${stop}`;
        message.push(Buffer.from(buffer.subarray(start, stop)));
        if (!last) return;
        const whole = Buffer.concat(message);
        if (whole.length > MESSAGE_BYTES_MAX) problem ??= `a message of ${whole.length} bytes`;
        events.push(`message ${whole.toString('hex')}`);
        message = [];
      },
      onWebSocketPing: (payload) => {
        if (payload.length > 125) problem ??= `a ping of ${payload.length} bytes`;
        events.push(`ping ${payload.toString('hex')}`);
      },
      onWebSocketClose: (code, reason) => end(`close ${code} ${reason}`),
      onWebSocketFault: (code, reason) => {
        if (!CLOSE_CODES.has(code)) problem ??= `close code ${code}`;
        end(`fault ${code} ${reason}`);
      },
    },
    true,
  );
  // It unmasks in place: it must not be given bytes that are read again.
  for (const piece of pieces) reader.read(Buffer.from(piece), 0, piece.length);
  return { events, problem };
}

export function webSocketProblem(random: Random): string | null {
  const make = () => Buffer.concat(tunnelMessages(random));
  const bytes = perhapsSpoilt(random, make(), make);
  const whole = webSocketEvents([bytes]);
  const pieces = webSocketEvents(piecesAt(bytes, cuts(random, bytes.length)));
  if (whole.problem ?? pieces.problem) return whole.problem ?? pieces.problem;
  return isDeepStrictEqual(whole.events, pieces.events) ? null : 'in pieces it finds something else';
}

function piecesAt(bytes: Buffer, ends: readonly number[]): Buffer[] {
  return ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
}

function frameEvents(messages: ReadonlyArray<readonly Buffer[]>): {
  events: string[];
  problem: string | null;
} {
  const events: string[] = [];
  let data: { stream: number; bytes: number } | null = null;
  let problem: string | null = null;
  let failed = false;
  const reader = new FrameReader({
    onDataBytes: (stream, buffer, start, end) => {
      if (failed || start >= end || end > buffer.length) problem ??= `bytes ${start} to ${end}`;
      if (stream === 0) problem ??= 'DATA of the session';
      if (data?.stream === stream) data.bytes += end - start;
      else data = { stream, bytes: end - start };
      if (data.bytes > reader.frameBytesMax) problem ??= `DATA of ${data.bytes} bytes`;
    },
    onFrame: (type, stream, payload) => {
      const rule = frameRules[type];
      if (failed || rule === undefined) problem ??= `frame of type ${type}`;
      else if (payload.length < rule.payloadBytesMin || payload.length > rule.payloadBytesMax)
        problem ??= `${rule.name} of ${payload.length} bytes`;
      else if ((rule.stream === 'session') !== (stream === 0)) problem ??= `${rule.name} on ${stream}`;
      events.push(`${type} ${stream} ${payload.toString('hex')}`);
    },
    onFrameFault: (reason) => {
      if (failed) problem ??= 'two faults';
      failed = true;
      events.push(`fault ${reason}`);
    },
  });
  for (const pieces of messages) {
    for (const [i, piece] of pieces.entries()) reader.read(piece, 0, piece.length, i === pieces.length - 1);
    if (data !== null) events.push(`data ${JSON.stringify(data)}`);
    data = null;
  }
  return { events, problem };
}

export function framesProblem(random: Random): string | null {
  const messages = Array.from({ length: random.between(1, 4) }, () => {
    const length = random.chance(0.97) ? someLength(random, 20_000) : random.between(262_100, 262_200);
    const frame = frameBytes(
      random.below(17),
      random.pick([0, 1, 7, 0xffff_ffff]),
      randomBytes(random, length),
    );
    return random.chance(0.6) ? frame : mutate(random, frame);
  });
  const whole = frameEvents(messages.map((message) => [message]));
  const pieces = frameEvents(messages.map((message) => piecesAt(message, cuts(random, message.length))));
  if (whole.problem ?? pieces.problem) return whole.problem ?? pieces.problem;
  // A piece of DATA that is too long is refused where it becomes so: how much came before it depends on the pieces.
  const faulty = whole.events.some((event) => event.startsWith('fault DATA'));
  return faulty || isDeepStrictEqual(whole.events, pieces.events)
    ? null
    : 'in pieces it finds something else';
}

const VALUES: readonly unknown[] = [
  null,
  true,
  '',
  'x',
  'x'.repeat(300),
  -1,
  0,
  1,
  255,
  2 ** 31,
  2 ** 53,
  1e300,
  0.5,
  [],
  [1],
  [[[]]],
  {},
  { a: 1 },
];
const KEYS = [
  'agent',
  'agent_version',
  'os',
  'terms_version',
  'versions',
  'udp',
  'network',
  'paused',
  'host',
  'port',
  'code',
  'reason',
  'deadline_ms',
  'limits',
  'version',
  'session_id',
  '__proto__',
  'constructor',
  'toString',
] as const;
const SOUND: readonly object[] = [
  { agent: 'a', agent_version: '1', os: 'o', terms_version: '1', versions: [1] },
  { network: 'wifi', paused: true, cap_bytes_left: 5, battery_percent: 7 },
  { host: 'example.org', port: 443, network: 'tcp' },
  { reason: 'r', deadline_ms: 1_000 },
  { code: 'idle', reason: 'r', reconnect_after_ms: 5 },
];

export function controlProblem(random: Random): string | null {
  const message: Record<string, unknown> = { ...random.pick(SOUND) };
  for (let left = random.below(4); left > 0; left--)
    Object.defineProperty(message, random.pick(KEYS), {
      value: random.pick(VALUES),
      enumerable: true,
      writable: true,
      configurable: true,
    });
  const packed = Buffer.from(pack(message));
  const bytes = perhapsSpoilt(random, packed, () => Buffer.from(pack(random.pick(SOUND))));
  const decoders: ReadonlyArray<(payload: Buffer) => Decoded<object>> = [
    decodeHello,
    decodeStatus,
    decodeOpen,
    decodeDrain,
    decodeGoaway,
    decodeWelcome,
  ];
  for (const decode of decoders) {
    const decoded = decode(bytes);
    if (!decoded.ok) continue;
    if (Object.getPrototypeOf(decoded.message) !== Object.prototype)
      return 'a message with a prototype of its own';
    const again = decode(encodeControl(decoded.message as Parameters<typeof encodeControl>[0]));
    if (!again.ok || !isDeepStrictEqual(again.message, decoded.message))
      return `${JSON.stringify(decoded.message)} is read again as ${JSON.stringify(again)}`;
  }
  return null;
}

export function datagramProblem(random: Random): string | null {
  const port = random.pick([0, 1, 53, 65_535]);
  const message = Buffer.concat([
    Buffer.of(0, 0, random.chance(0.9) ? 0 : random.below(256)),
    address(random, 'a.fuzz.example'),
    Buffer.of(port >> 8, port & 255),
    randomBytes(random, someLength(random, 1_500)),
  ]);
  const bytes = perhapsSpoilt(random, message, () => webSocketBytes(random, message));
  const read = readUdpMessage(bytes);
  if (typeof read !== 'string') {
    if (readHost(read.host) !== read.host) return `host ${read.host} is read again as ${readHost(read.host)}`;
    if (read.port < 1 || read.port > 65_535) return `port ${read.port}`;
    if (read.bytes.length > bytes.length - 3) return `${read.bytes.length} bytes of ${bytes.length}`;
  }
  const payload = bytes.subarray(Math.min(3, bytes.length));
  const decoded = decodeDatagram(payload);
  const headBytes = datagramHeadBytes(payload);
  if ((decoded === null) !== (headBytes === 0)) return `a head of ${headBytes} bytes, and not of it`;
  if (decoded === null) return null;
  if (headBytes < 5 || headBytes > 259 || headBytes > payload.length) return `a head of ${headBytes} bytes`;
  // A name that is not UTF-8 is read with replacement characters, which readUdpMessage refuses or converts.
  if (decoded.host.includes('\ufffd')) return null;
  const again = decodeDatagram(encodeDatagram(decoded));
  return isDeepStrictEqual(again, decoded)
    ? null
    : `${JSON.stringify(decoded)} is read again as ${JSON.stringify(again)}`;
}
