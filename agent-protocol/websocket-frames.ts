/**
 * WebSocket framing (RFC 6455 section 5) of a byte stream without reassembly: payload is handed on where it lies in
 * the read buffer. Handshake and sockets are websocket.ts.
 */
import { MESSAGE_BYTES_MAX, MESSAGE_FRAGMENTS_MAX } from './limits.js';

/** Close codes of RFC 6455 section 7.4.1 that this side sends. */
export const CloseCode = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL_ERROR: 1002,
  UNSUPPORTED_DATA: 1003,
  NO_STATUS: 1005,
  INVALID_PAYLOAD: 1007,
  POLICY: 1008,
  TOO_BIG: 1009,
} as const;

const CONTINUATION = 0x0;
const TEXT = 0x1;
const BINARY = 0x2;
const CLOSE = 0x8;
const PING = 0x9;
const PONG = 0xa;
const FIN_BIT = 0x80;
const RSV_BITS = 0x70;
const MASK_BIT = 0x80;
const CONTROL_PAYLOAD_BYTES_MAX = 125;

/** Takes what WebSocketReader finds. Buffers are valid during the call. */
export interface MessageSink {
  /** Bytes of a binary message, unmasked, in order; `last` with the end of the message (possibly without bytes). */
  onMessageBytes(buffer: Buffer, start: number, end: number, last: boolean): void;
  onWebSocketPing(payload: Buffer): void;
  /** The peer's close frame; code 1005 when it gave none. Nothing is read after it. */
  onWebSocketClose(code: number, reason: string): void;
  /** A violation of RFC 6455 or of a limit; the tunnel is to be closed with `closeCode`. Nothing is read after it. */
  onWebSocketFault(closeCode: number, reason: string): void;
}

/** Reads one direction of a WebSocket. Control frames may come between the fragments of a message. */
export class WebSocketReader {
  readonly #sink: MessageSink;
  readonly #expectMask: boolean;
  readonly #messageBytesMax: number;

  readonly #header = Buffer.allocUnsafeSlow(14);
  #headerBytes = 0;
  /** 0 until the first two bytes tell it. */
  #headerLength = 0;

  #opcode = 0;
  #final = false;
  /** Payload bytes of the frame at hand still to come. */
  #left = 0;
  #inPayload = false;
  /** Masking key as read, first byte highest; 0 means nothing to do. */
  #mask = 0;
  #maskOffset = 0;

  #inMessage = false;
  #messageBytes = 0;
  #fragments = 0;
  #control: Buffer | null = null;
  #controlBytes = 0;
  #stopped = false;

  /** @param expectMask true at the server: frames of a client must be masked, frames of a server must not. */
  constructor(sink: MessageSink, expectMask: boolean, messageBytesMax = MESSAGE_BYTES_MAX) {
    this.#sink = sink;
    this.#expectMask = expectMask;
    this.#messageBytesMax = messageBytesMax;
  }

  /** Nothing is handed on any more. */
  stop(): void {
    this.#stopped = true;
  }

  /** Takes the next bytes of the stream, in pieces of any size; masked payload is unmasked in place. */
  read(buffer: Buffer, start: number, end: number): void {
    let at = start;
    while (!this.#stopped) {
      if (!this.#inPayload) {
        if (at === end) return;
        at = this.#readHeader(buffer, at, end);
        if (!this.#inPayload) continue;
      }
      const bytes = Math.min(this.#left, end - at);
      if (bytes === 0 && this.#left > 0) return;
      if (this.#mask !== 0 && bytes > 0) {
        unmask(buffer, at, at + bytes, this.#mask, this.#maskOffset);
        this.#maskOffset = (this.#maskOffset + bytes) & 3;
      }
      this.#left -= bytes;
      if (this.#left === 0) this.#inPayload = false;
      if (this.#opcode >= CLOSE) this.#readControl(buffer, at, at + bytes);
      else {
        const last = this.#left === 0 && this.#final;
        if (last) this.#inMessage = false;
        this.#sink.onMessageBytes(buffer, at, at + bytes, last);
      }
      at += bytes;
    }
  }

  #readHeader(buffer: Buffer, start: number, end: number): number {
    const header = this.#header;
    let at = start;
    while (at < end) {
      header[this.#headerBytes++] = buffer[at++] as number;
      if (this.#headerBytes === 2) {
        const length = (header[1] as number) & 0x7f;
        this.#headerLength =
          2 + (length === 126 ? 2 : length === 127 ? 8 : 0) + ((header[1] as number) & MASK_BIT ? 4 : 0);
        if (!this.#startAllowed(header[0] as number, header[1] as number)) return at;
      }
      if (this.#headerBytes >= 2 && this.#headerBytes === this.#headerLength) {
        this.#startPayload();
        return at;
      }
    }
    return at;
  }

  #startAllowed(first: number, second: number): boolean {
    const opcode = first & 0x0f;
    const final = (first & FIN_BIT) !== 0;
    if ((first & RSV_BITS) !== 0) return this.#fault(CloseCode.PROTOCOL_ERROR, 'reserved bit set');
    if (((second & MASK_BIT) !== 0) !== this.#expectMask)
      return this.#fault(
        CloseCode.PROTOCOL_ERROR,
        this.#expectMask ? 'frame without mask' : 'masked frame from the server',
      );
    if (opcode === TEXT) return this.#fault(CloseCode.UNSUPPORTED_DATA, 'text message');
    if (opcode === CONTINUATION ? !this.#inMessage : opcode === BINARY && this.#inMessage)
      return this.#fault(CloseCode.PROTOCOL_ERROR, 'fragments out of order');
    if (opcode > BINARY && (opcode < CLOSE || opcode > PONG))
      return this.#fault(CloseCode.PROTOCOL_ERROR, `reserved opcode ${opcode}`);
    if (opcode >= CLOSE && (!final || (second & 0x7f) > CONTROL_PAYLOAD_BYTES_MAX))
      return this.#fault(CloseCode.PROTOCOL_ERROR, 'control frame fragmented or too long');
    return true;
  }

  #startPayload(): void {
    const header = this.#header;
    const total = this.#headerLength;
    const length7 = (header[1] as number) & 0x7f;
    const length =
      length7 === 126
        ? header.readUInt16BE(2)
        : length7 === 127
          ? header.readUInt32BE(2) * 0x1_0000_0000 + header.readUInt32BE(6)
          : length7;
    this.#opcode = (header[0] as number) & 0x0f;
    this.#final = ((header[0] as number) & FIN_BIT) !== 0;
    this.#left = length;
    this.#mask = this.#expectMask ? header.readUInt32BE(total - 4) : 0;
    this.#maskOffset = 0;
    this.#headerBytes = 0;
    this.#headerLength = 0;
    if (this.#opcode < CLOSE) {
      if (this.#opcode === BINARY) {
        this.#inMessage = true;
        this.#messageBytes = 0;
        this.#fragments = 0;
      }
      this.#messageBytes += length;
      if (this.#messageBytes > this.#messageBytesMax) {
        this.#fault(CloseCode.TOO_BIG, `message longer than ${this.#messageBytesMax} bytes`);
        return;
      }
      if (++this.#fragments > MESSAGE_FRAGMENTS_MAX) {
        this.#fault(CloseCode.POLICY, `message of more than ${MESSAGE_FRAGMENTS_MAX} fragments`);
        return;
      }
    }
    this.#inPayload = true;
  }

  #readControl(buffer: Buffer, start: number, end: number): void {
    let payload = buffer.subarray(start, end);
    if (this.#left > 0 || this.#control !== null) {
      this.#control ??= Buffer.allocUnsafe(CONTROL_PAYLOAD_BYTES_MAX);
      payload.copy(this.#control, this.#controlBytes);
      this.#controlBytes += payload.length;
      if (this.#left > 0) return;
      payload = this.#control.subarray(0, this.#controlBytes);
      this.#control = null;
      this.#controlBytes = 0;
    }
    if (this.#opcode === PING) this.#sink.onWebSocketPing(payload);
    else if (this.#opcode === CLOSE) this.#readClose(payload);
  }

  #readClose(payload: Buffer): void {
    if (payload.length === 0) {
      this.#stopped = true;
      this.#sink.onWebSocketClose(CloseCode.NO_STATUS, '');
      return;
    }
    const code = payload.length === 1 ? 0 : payload.readUInt16BE(0);
    if (!closeCodeAllowed(code)) {
      this.#fault(CloseCode.PROTOCOL_ERROR, 'bad close code');
      return;
    }
    let reason: string;
    try {
      reason = new TextDecoder('utf-8', { fatal: true }).decode(payload.subarray(2));
    } catch {
      this.#fault(CloseCode.INVALID_PAYLOAD, 'close reason is not UTF-8');
      return;
    }
    this.#stopped = true;
    this.#sink.onWebSocketClose(code, reason);
  }

  #fault(closeCode: number, reason: string): false {
    this.#stopped = true;
    this.#sink.onWebSocketFault(closeCode, reason);
    return false;
  }
}

function closeCodeAllowed(code: number): boolean {
  return (
    (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) ||
    (code >= 3000 && code <= 4999)
  );
}

/** XORs `buffer[start, end)` with the key, whose first used byte is the one at `offset`. */
function unmask(buffer: Buffer, start: number, end: number, key: number, offset: number): void {
  let at = start;
  let shift = offset;
  const byteAt = (index: number) => (key >>> (24 - 8 * (index & 3))) & 0xff;
  // Four bytes at a time where the memory is aligned: standard clients mask with random keys, and all their
  // traffic passes here.
  if (end - start >= 64) {
    while (((buffer.byteOffset + at) & 3) !== 0) {
      buffer[at] = (buffer[at] as number) ^ byteAt(shift++);
      at++;
    }
    const words = new Int32Array(buffer.buffer, buffer.byteOffset + at, (end - at) >>> 2);
    // Int32Array has the machine's byte order, little-endian on every platform Node supports but s390x.
    const word = new Int32Array(
      Uint8Array.of(byteAt(shift), byteAt(shift + 1), byteAt(shift + 2), byteAt(shift + 3)).buffer,
    )[0] as number;
    for (let i = 0; i < words.length; i++) words[i] = (words[i] as number) ^ word;
    at += words.length * 4;
  }
  while (at < end) {
    buffer[at] = (buffer[at] as number) ^ byteAt(shift++);
    at++;
  }
}

/** Length of the header of a message of `payloadBytes` bytes. */
export function messageHeaderBytes(payloadBytes: number, masked: boolean): number {
  const lengthBytes = payloadBytes < 126 ? 0 : payloadBytes < 0x1_0000 ? 2 : 8;
  return 2 + lengthBytes + (masked ? 4 : 0);
}

/**
 * Writes the header of a binary message of `payloadBytes` bytes so that it ends at `end`; returns where it starts.
 * A client's mask bit is set with key 0: the payload stays as it is and the receiver has nothing to undo, which is
 * sound because masking protects only against scripts that choose bytes for a proxy to misread.
 */
export function writeMessageHeader(
  buffer: Buffer,
  end: number,
  payloadBytes: number,
  masked: boolean,
): number {
  return writeHeader(buffer, end, BINARY, payloadBytes, masked);
}

function writeHeader(
  buffer: Buffer,
  end: number,
  opcode: number,
  payloadBytes: number,
  masked: boolean,
): number {
  const maskBit = masked ? MASK_BIT : 0;
  let at = end;
  if (masked) {
    at -= 4;
    buffer[at] = 0;
    buffer[at + 1] = 0;
    buffer[at + 2] = 0;
    buffer[at + 3] = 0;
  }
  if (payloadBytes < 126) {
    at -= 2;
    buffer[at + 1] = maskBit | payloadBytes;
  } else if (payloadBytes < 0x1_0000) {
    at -= 4;
    buffer[at + 1] = maskBit | 126;
    buffer[at + 2] = payloadBytes >>> 8;
    buffer[at + 3] = payloadBytes & 0xff;
  } else {
    at -= 10;
    buffer[at + 1] = maskBit | 127;
    buffer.writeUInt32BE(0, at + 2);
    buffer.writeUInt32BE(payloadBytes, at + 6);
  }
  buffer[at] = FIN_BIT | opcode;
  return at;
}

function encodeControl(opcode: number, payload: Uint8Array, masked: boolean): Buffer {
  const room = masked ? 6 : 2;
  const frame = Buffer.allocUnsafe(room + payload.length);
  writeHeader(frame, room, opcode, payload.length, masked);
  frame.set(payload, room);
  return frame;
}

/** The answer to a WebSocket ping, with the same payload (at most 125 bytes). */
export function encodePong(payload: Uint8Array, masked: boolean): Buffer {
  return encodeControl(PONG, payload, masked);
}

/** A close frame; without a code when `code` is 1005. The reason is cut to what fits (123 bytes of UTF-8). */
export function encodeClose(code: number, reason: string, masked: boolean): Buffer {
  if (code === CloseCode.NO_STATUS) return encodeControl(CLOSE, new Uint8Array(0), masked);
  const payload = new Uint8Array(CONTROL_PAYLOAD_BYTES_MAX);
  payload[0] = code >>> 8;
  payload[1] = code & 0xff;
  const { written } = new TextEncoder().encodeInto(reason, payload.subarray(2));
  return encodeControl(CLOSE, payload.subarray(0, 2 + written), masked);
}
