/**
 * Control messages: msgpack maps with string keys. What comes is sized by FrameReader, walked by isPlainMsgpack,
 * decoded, and then checked field by field: known keys must have the right type and range, unknown ones are dropped
 * so that newer peers can say more.
 */
import { Packr, Unpackr } from 'msgpackr';
import type { GoawayCode } from './frame.js';
import { LINK_REQUEST_CHARS_MAX, limitsProblem, type SessionLimits } from './limits.js';
import { isPlainMsgpack } from './msgpack-scan.js';

export { DialCode, type GoawayCode, ResetCode } from './frame.js';

/** First frame of an agent. */
export interface Hello {
  /** Name of the implementation, such as `traffic-share-node`. */
  agent: string;
  agent_version: string;
  /** `android`, `ios`, `linux`, `macos`, `windows` or what fits. */
  os: string;
  model?: string | undefined;
  /** Version of the terms its owner accepted. */
  terms_version: string;
  /** false: it answers OPEN of network `udp` with UNSUPPORTED, so there is no use in asking. Absent: not said. */
  udp?: boolean | undefined;
  /** Wire versions the agent speaks. */
  versions: number[];
  /** On a link between gateways alone: the versions of requests and answers that it speaks. */
  link_versions?: number[] | undefined;
}

/** The gateway's answer to HELLO; opens the tunnel. */
export interface Welcome {
  /** The wire version in use, the highest both speak; absent means 1. */
  version?: number | undefined;
  session_id: string;
  gateway_id: string;
  limits: {
    stream_window_bytes: number;
    stream_window_bytes_max: number;
    tunnel_window_bytes_max: number;
    streams_max: number;
    frame_bytes_max: number;
  };
  policy_version: string;
  terms_version: string;
  ping_live_ms: number;
  ping_idle_ms: number;
  /** On a link: the version of requests and answers in use, the highest both speak. */
  link_version?: number | undefined;
}

/** What an agent tells of itself; all advice, nothing is paid by it. */
export interface Status {
  network?: 'wifi' | 'mobile' | 'ethernet' | 'unknown' | undefined;
  /** 0 to 100. */
  battery_percent?: number | undefined;
  charging?: boolean | undefined;
  /** true: the owner paused sharing; the gateway opens no new streams. */
  paused?: boolean | undefined;
  /** Bytes left of the owner's cap. */
  cap_bytes_left?: number | undefined;
  /** The agent's own counts since HELLO; buyer to destination, and back. */
  bytes_up?: number | undefined;
  bytes_down?: number | undefined;
}

/**
 * Asks the agent to reach a destination. On network `udp` it asks for an association, which has no destination of its
 * own: each datagram names one. Host and port are required all the same; `openAssociation` is what to send.
 */
export interface Open {
  /** A host name, an IPv4 address, or an IPv6 address without brackets. */
  host: string;
  /** 1 to 65535. */
  port: number;
  network: 'tcp' | 'udp';
  /** On a link: what the other gateway is asked for, in the link's own form. Host and port then mean nothing. */
  request?: string | undefined;
}

/** OPEN on a link; `udp` for what is answered, and goes on, in datagrams. */
export function openOnLink(request: string, network: Open['network'] = 'tcp'): Open {
  return { host: '0.0.0.0', port: 1, network, request };
}

/** OPEN of an association; an agent reads nothing out of its host and port. */
export const openAssociation: Open = { host: '0.0.0.0', port: 1, network: 'udp' };

/** Asks the agent to connect elsewhere; live streams may finish until the deadline. */
export interface Drain {
  reason: string;
  /** Time left from receipt of this frame. */
  deadline_ms: number;
}

/** Last frame before the WebSocket close. */
export interface Goaway {
  /** One of `goawayCodes`, or a newer one. */
  code: GoawayCode | (string & {});
  /** For people and logs. */
  reason: string;
  /** The earliest time to connect again; absent: the agent's own backoff. */
  reconnect_after_ms?: number | undefined;
}

export type Decoded<T> = { ok: true; message: T } | { ok: false; reason: string };

// int64 as number: agents on the JVM send longs; what does not fit a safe integer is refused by the check.
const unpackr = new Unpackr({ useRecords: false, int64AsType: 'number' });
const packr = new Packr({ useRecords: false, variableMapSize: true });

/** Encodes a control message; keys whose value is undefined are left out. */
export function encodeControl(message: Hello | Welcome | Status | Open | Drain | Goaway): Buffer {
  const values = Object.values(message);
  if (!values.includes(undefined)) return packr.pack(message);
  return packr.pack(Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined)));
}

type Check = (value: unknown) => boolean;
const text =
  (lengthMin: number, lengthMax: number): Check =>
  (value) =>
    typeof value === 'string' && value.length >= lengthMin && value.length <= lengthMax;
const integer =
  (min: number, max: number): Check =>
  (value) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
const oneOf =
  (...values: string[]): Check =>
  (value) =>
    typeof value === 'string' && values.includes(value);
const boolean: Check = (value) => typeof value === 'boolean';
const integers =
  (countMax: number, each: Check): Check =>
  (value) =>
    Array.isArray(value) && value.length >= 1 && value.length <= countMax && value.every(each);

interface Field {
  readonly check: Check;
  readonly required: boolean;
}
/** Keys with what they may hold. */
type Schema = readonly (readonly [key: string, field: Field])[];
const schema = (fields: Readonly<Record<string, Field>>): Schema => Object.entries(fields);
const must = (check: Check): Field => ({ check, required: true });
const may = (check: Check): Field => ({ check, required: false });

const byteCount = integer(0, Number.MAX_SAFE_INTEGER);
const durationMs = integer(0, 0x7fffffff);

const helloSchema = schema({
  agent: must(text(1, 64)),
  agent_version: must(text(1, 64)),
  os: must(text(1, 64)),
  model: may(text(0, 128)),
  terms_version: must(text(0, 64)),
  udp: may(boolean),
  versions: must(integers(16, integer(1, 255))),
  link_versions: may(integers(16, integer(1, 255))),
});
const limitsSchema = schema({
  stream_window_bytes: must(integer(1, 0x7fffffff)),
  stream_window_bytes_max: must(integer(1, 0x7fffffff)),
  tunnel_window_bytes_max: must(byteCount),
  streams_max: must(integer(1, 0x7fffffff)),
  frame_bytes_max: must(integer(1, 0x7fffffff)),
});
const welcomeSchema = schema({
  version: may(integer(1, 255)),
  session_id: must(text(1, 128)),
  gateway_id: must(text(1, 128)),
  limits: must((value) => pick(value, limitsSchema).ok),
  policy_version: must(text(0, 64)),
  terms_version: must(text(0, 64)),
  ping_live_ms: must(integer(1, 3_600_000)),
  ping_idle_ms: must(integer(1, 3_600_000)),
  link_version: may(integer(1, 255)),
});
const statusSchema = schema({
  network: may(oneOf('wifi', 'mobile', 'ethernet', 'unknown')),
  battery_percent: may(integer(0, 100)),
  charging: may(boolean),
  paused: may(boolean),
  cap_bytes_left: may(byteCount),
  bytes_up: may(byteCount),
  bytes_down: may(byteCount),
});
const openSchema = schema({
  host: must(text(1, 255)),
  port: must(integer(1, 65_535)),
  network: must(oneOf('tcp', 'udp')),
  request: may(text(1, LINK_REQUEST_CHARS_MAX)),
});
const drainSchema = schema({ reason: must(text(0, 256)), deadline_ms: must(durationMs) });
const goawaySchema = schema({
  code: must(text(1, 64)),
  reason: must(text(0, 1_024)),
  reconnect_after_ms: may(durationMs),
});

/** Takes the known keys out of a decoded map; a null counts as absent. */
function pick<T>(value: unknown, schema: Schema): Decoded<T> {
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype)
    return { ok: false, reason: 'not a map' };
  const given = value as Record<string, unknown>;
  const message: Record<string, unknown> = {};
  for (const [key, field] of schema) {
    const entry = Object.hasOwn(given, key) ? given[key] : undefined;
    if (entry === undefined || entry === null) {
      if (field.required) return { ok: false, reason: `${key} missing` };
    } else if (!field.check(entry)) return { ok: false, reason: `${key} not allowed` };
    else message[key] = entry;
  }
  return { ok: true, message: message as T };
}

function decode<T>(payload: Buffer, schema: Schema): Decoded<T> {
  if (!isPlainMsgpack(payload)) return { ok: false, reason: 'not plain msgpack' };
  try {
    return pick<T>(unpackr.unpack(payload), schema);
  } catch {
    return { ok: false, reason: 'not msgpack' };
  }
}

export const decodeHello = (payload: Buffer): Decoded<Hello> => decode(payload, helloSchema);
export const decodeStatus = (payload: Buffer): Decoded<Status> => decode(payload, statusSchema);
export const decodeOpen = (payload: Buffer): Decoded<Open> => decode(payload, openSchema);
export const decodeDrain = (payload: Buffer): Decoded<Drain> => decode(payload, drainSchema);
export const decodeGoaway = (payload: Buffer): Decoded<Goaway> => decode(payload, goawaySchema);
/** Refuses limits that contradict each other as well. */
export function decodeWelcome(payload: Buffer): Decoded<Welcome> {
  const decoded = decode<Welcome>(payload, welcomeSchema);
  if (!decoded.ok) return decoded;
  const problem = limitsProblem(limitsOf(decoded.message));
  return problem === null ? decoded : { ok: false, reason: problem };
}

/** The limits of a WELCOME in the names this code uses. */
export function limitsOf(welcome: Pick<Welcome, 'limits'>): SessionLimits {
  return {
    streamWindowBytes: welcome.limits.stream_window_bytes,
    streamWindowBytesMax: welcome.limits.stream_window_bytes_max,
    tunnelWindowBytesMax: welcome.limits.tunnel_window_bytes_max,
    streamsMax: welcome.limits.streams_max,
    frameBytesMax: welcome.limits.frame_bytes_max,
  };
}

/** The `limits` part of a WELCOME. */
export function limitsMessage(limits: SessionLimits): Welcome['limits'] {
  return {
    stream_window_bytes: limits.streamWindowBytes,
    stream_window_bytes_max: limits.streamWindowBytesMax,
    tunnel_window_bytes_max: limits.tunnelWindowBytesMax,
    streams_max: limits.streamsMax,
    frame_bytes_max: limits.frameBytesMax,
  };
}
