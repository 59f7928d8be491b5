/**
 * The mux frame: `type u8, stream id u32 big-endian, payload`; exactly one frame a WebSocket binary message.
 * SPEC.md tells the same in the same order; the two change in one commit.
 */
import { CONTROL_PAYLOAD_BYTES_MAX, DATAGRAM_PAYLOAD_BYTES_MAX } from './limits.js';

/** WebSocket subprotocol; its suffix is the wire's major version. */
export const SUBPROTOCOL = 'traffic-share.v1';
/** Versions of the frame layer this code speaks, as listed in HELLO. */
export const WIRE_VERSIONS: readonly number[] = [1];

/** Versions of what gateways ask each other on a link, as listed in HELLO there: 2 has associations beside all of 1. */
export const LINK_VERSIONS: readonly number[] = [1, 2];

export const FRAME_HEADER_BYTES = 5;
/** Largest WebSocket header: 2 bytes, 8 bytes of length, 4 bytes of mask. */
export const WEBSOCKET_HEADER_BYTES_MAX = 14;
/** Bytes in front of a payload that hold any frame header and any WebSocket header. */
export const FRAME_HEADROOM = FRAME_HEADER_BYTES + WEBSOCKET_HEADER_BYTES_MAX;

export const FrameType = {
  HELLO: 1,
  WELCOME: 2,
  STATUS: 3,
  OPEN: 4,
  OPENED: 5,
  DATA: 6,
  FIN: 7,
  RESET: 8,
  CREDIT: 9,
  DATAGRAM: 10,
  PING: 11,
  PONG: 12,
  DRAIN: 13,
  GOAWAY: 14,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

/** What a frame type may look like: which stream it belongs to, who sends it, how long its payload is. */
export interface FrameRule {
  readonly name: keyof typeof FrameType;
  readonly stream: 'session' | 'stream';
  readonly sender: 'agent' | 'gateway' | 'both';
  readonly payloadBytesMin: number;
  /** DATA is bounded by `frame_bytes_max` of WELCOME as well. */
  readonly payloadBytesMax: number;
}

const rule = (
  name: keyof typeof FrameType,
  stream: FrameRule['stream'],
  sender: FrameRule['sender'],
  payloadBytesMin: number,
  payloadBytesMax: number,
): FrameRule => ({ name, stream, sender, payloadBytesMin, payloadBytesMax });

/** Indexed by frame type; an index without a rule is an unknown type and a protocol error. */
export const frameRules: readonly (FrameRule | undefined)[] = [
  undefined,
  rule('HELLO', 'session', 'agent', 1, CONTROL_PAYLOAD_BYTES_MAX),
  rule('WELCOME', 'session', 'gateway', 1, CONTROL_PAYLOAD_BYTES_MAX),
  rule('STATUS', 'session', 'agent', 1, CONTROL_PAYLOAD_BYTES_MAX),
  rule('OPEN', 'stream', 'gateway', 1, CONTROL_PAYLOAD_BYTES_MAX),
  rule('OPENED', 'stream', 'agent', 1, 1),
  rule('DATA', 'stream', 'both', 1, Number.MAX_SAFE_INTEGER),
  rule('FIN', 'stream', 'both', 0, 0),
  rule('RESET', 'stream', 'both', 1, 1),
  rule('CREDIT', 'stream', 'both', 4, 4),
  rule('DATAGRAM', 'stream', 'both', 1, DATAGRAM_PAYLOAD_BYTES_MAX),
  rule('PING', 'session', 'both', 8, 8),
  rule('PONG', 'session', 'both', 8, 8),
  rule('DRAIN', 'session', 'gateway', 1, CONTROL_PAYLOAD_BYTES_MAX),
  rule('GOAWAY', 'session', 'both', 1, CONTROL_PAYLOAD_BYTES_MAX),
];

/** The agent's answer to OPEN. A code a gateway does not know counts as INTERNAL. */
export const DialCode = {
  OK: 0,
  /** The name did not resolve. */
  DNS_FAIL: 1,
  /** The destination answered with RST. */
  REFUSED: 2,
  /** No route, network or host unreachable. */
  UNREACHABLE: 3,
  /** The destination did not answer in time. */
  TIMEOUT: 4,
  /** The address after resolution is not a global unicast one. */
  PROHIBITED: 5,
  /** The owner's data cap is used up. */
  CAP_REACHED: 6,
  /** The owner paused sharing. */
  PAUSED: 7,
  /** This agent can not do it, such as network `udp`. */
  UNSUPPORTED: 8,
  /** The agent failed for a reason of its own. */
  INTERNAL: 9,
  /** The owner's block list names the destination. */
  BLOCKED: 10,
} as const;
export type DialCode = (typeof DialCode)[keyof typeof DialCode];

/** Turns the byte of an OPENED frame into a dial code; unknown ones become INTERNAL. */
export function dialCodeOf(value: number): DialCode {
  return value <= DialCode.BLOCKED ? (value as DialCode) : DialCode.INTERNAL;
}

/** Why a stream was cut. A code a receiver does not know counts as CANCELLED. */
export const ResetCode = {
  /** The sender of the RESET no longer wants the stream. */
  CANCELLED: 0,
  /** Its socket was reset or failed. */
  CONNECTION_RESET: 1,
  /** It may not go on: policy, balance, quota. */
  REFUSED: 2,
  /** Idle or stalled too long. */
  TIMEOUT: 3,
  INTERNAL: 4,
  /** The owner's data cap was reached in the middle of it. */
  CAP_REACHED: 5,
  /** The owner paused sharing. */
  PAUSED: 6,
} as const;
export type ResetCode = (typeof ResetCode)[keyof typeof ResetCode];

/** Given to `onReset` when the whole tunnel went away; never on the wire. */
export const RESET_TUNNEL_LOST = 255;

/** Codes of GOAWAY. Receivers must accept codes they do not know. */
export const goawayCodes = [
  'replaced',
  'stopped',
  'consent_withdrawn',
  'banned',
  'ip_changed',
  'protocol_error',
  'shutting_down',
  'paused',
  'client_too_old',
  'gateway_too_old',
  'idle',
  'unpaid_region',
] as const;
export type GoawayCode = (typeof goawayCodes)[number];

/** Writes the 5 header bytes so that they end at `end`; returns where they start. */
export function writeFrameHeader(buffer: Buffer, end: number, type: number, streamId: number): number {
  const start = end - FRAME_HEADER_BYTES;
  buffer[start] = type;
  buffer[start + 1] = streamId >>> 24;
  buffer[start + 2] = (streamId >>> 16) & 0xff;
  buffer[start + 3] = (streamId >>> 8) & 0xff;
  buffer[start + 4] = streamId & 0xff;
  return start;
}

/** One frame as its own buffer, without the WebSocket around it; for vectors and tests. */
export function encodeFrame(type: number, streamId: number, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  writeFrameHeader(frame, FRAME_HEADER_BYTES, type, streamId);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}
