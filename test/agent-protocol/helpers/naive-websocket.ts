/** One WebSocket frame as a whole. */
export interface NaiveFrame {
  final: boolean;
  opcode: number;
  masked: boolean;
  payload: Buffer;
}

/** Reads whole frames out of one buffer, the obvious way; what is left over is returned as `rest`. */
export function readFrames(bytes: Buffer): { frames: NaiveFrame[]; rest: Buffer } {
  const frames: NaiveFrame[] = [];
  let at = 0;
  for (;;) {
    let head = at + 2;
    if (bytes.length < head) break;
    const first = bytes.readUInt8(at);
    const second = bytes.readUInt8(at + 1);
    let length = second & 0x7f;
    if (length === 126) {
      if (bytes.length < head + 2) break;
      length = bytes.readUInt16BE(head);
      head += 2;
    } else if (length === 127) {
      if (bytes.length < head + 8) break;
      length = Number(bytes.readBigUInt64BE(head));
      head += 8;
    }
    const masked = (second & 0x80) !== 0;
    const key = bytes.subarray(head, head + (masked ? 4 : 0));
    head += key.length;
    if (bytes.length < head + length) break;
    const payload = Buffer.from(bytes.subarray(head, head + length));
    if (masked)
      for (let i = 0; i < length; i++) payload.writeUInt8(payload.readUInt8(i) ^ key.readUInt8(i % 4), i);
    frames.push({ final: (first & 0x80) !== 0, opcode: first & 0x0f, masked, payload });
    at = head + length;
  }
  return { frames, rest: bytes.subarray(at) };
}

/** Writes one frame the obvious way; `key` null: unmasked. */
export function writeFrame(frame: Omit<NaiveFrame, 'masked'>, key: Buffer | null, rsv = 0): Buffer {
  const length = frame.payload.length;
  const maskBit = key === null ? 0 : 0x80;
  const head = [(frame.final ? 0x80 : 0) | rsv | frame.opcode];
  if (length < 126) head.push(maskBit | length);
  else if (length < 65_536) head.push(maskBit | 126, length >> 8, length & 255);
  else
    head.push(
      maskBit | 127,
      0,
      0,
      0,
      0,
      (length >>> 24) & 255,
      (length >>> 16) & 255,
      (length >>> 8) & 255,
      length & 255,
    );
  const payload = Buffer.from(frame.payload);
  if (key !== null)
    for (let i = 0; i < length; i++) payload.writeUInt8(payload.readUInt8(i) ^ key.readUInt8(i % 4), i);
  return Buffer.concat([Buffer.from(head), key ?? Buffer.alloc(0), payload]);
}

/** The mux frame in a message. */
export function muxFrame(message: Buffer): { type: number; streamId: number; payload: Buffer } {
  return { type: message.readUInt8(0), streamId: message.readUInt32BE(1), payload: message.subarray(5) };
}
