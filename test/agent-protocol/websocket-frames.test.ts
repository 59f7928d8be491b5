import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import {
  encodeClose,
  encodePong,
  type MessageSink,
  WebSocketReader,
  writeMessageHeader,
} from '../../agent-protocol/websocket-frames.js';
import { type NaiveFrame, readFrames, writeFrame } from './helpers/naive-websocket.js';

/** What a reader told, with the pieces of a message put together. */
class Heard implements MessageSink {
  readonly events: string[] = [];
  #message: Buffer[] = [];
  onMessageBytes(buffer: Buffer, start: number, end: number, last: boolean): void {
    this.#message.push(Buffer.from(buffer.subarray(start, end)));
    if (!last) return;
    this.events.push(`message ${Buffer.concat(this.#message).toString('hex')}`);
    this.#message = [];
  }
  onWebSocketPing(payload: Buffer): void {
    this.events.push(`ping ${payload.toString('hex')}`);
  }
  onWebSocketClose(code: number, reason: string): void {
    this.events.push(`close ${code} ${reason}`);
  }
  onWebSocketFault(closeCode: number): void {
    this.events.push(`fault ${closeCode}`);
  }
}

function heardFrom(pieces: Buffer[], expectMask: boolean, messageBytesMax?: number): string[] {
  const heard = new Heard();
  const reader = new WebSocketReader(heard, expectMask, messageBytesMax);
  for (const piece of pieces) {
    // Read buffers are reused: nothing may depend on their content after the call.
    const buffer = Buffer.concat([Buffer.alloc(3), piece]);
    reader.read(buffer, 3, buffer.length);
    buffer.fill(0xee);
  }
  return heard.events;
}

const payload = fc
  .oneof(
    { weight: 5, arbitrary: fc.nat(130) },
    { weight: 1, arbitrary: fc.constantFrom(65_535, 65_536, 70_000) },
  )
  .map((bytes) => Buffer.from(Array.from({ length: bytes }, (_, i) => (i * 7 + bytes) & 255)));

/** A message in fragments with pings and pongs between them. */
const exchange = fc
  .array(
    fc.record({
      fragments: fc.array(payload, { minLength: 1, maxLength: 4 }),
      control: fc.option(
        fc.record({ opcode: fc.constantFrom(9, 10), payload: fc.uint8Array({ maxLength: 125 }) }),
      ),
    }),
    { maxLength: 5 },
  )
  .map((messages) => {
    const frames: Array<Omit<NaiveFrame, 'masked'>> = [];
    for (const { fragments, control } of messages) {
      for (const [index, fragment] of fragments.entries()) {
        frames.push({
          final: index === fragments.length - 1,
          opcode: index === 0 ? 2 : 0,
          payload: fragment,
        });
        if (control !== null)
          frames.push({ final: true, opcode: control.opcode, payload: Buffer.from(control.payload) });
      }
    }
    return frames;
  });

function expectedEvents(frames: Array<Omit<NaiveFrame, 'masked'>>): string[] {
  const events: string[] = [];
  let message = Buffer.alloc(0);
  for (const frame of frames) {
    if (frame.opcode === 9) events.push(`ping ${frame.payload.toString('hex')}`);
    if (frame.opcode > 2) continue;
    message = Buffer.concat([message, frame.payload]);
    if (!frame.final) continue;
    events.push(`message ${message.toString('hex')}`);
    message = Buffer.alloc(0);
  }
  return events;
}

t.test('a stream in any pieces, masked or not, reads as a naive reader reads it whole', async (t) => {
  fc.assert(
    fc.property(
      exchange,
      fc.option(fc.uint8Array({ minLength: 4, maxLength: 4 })),
      fc.array(fc.nat(40), { maxLength: 200 }),
      (frames, key, cuts) => {
        const bytes = Buffer.concat(
          frames.map((frame) => writeFrame(frame, key === null ? null : Buffer.from(key))),
        );
        const pieces: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          pieces.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        pieces.push(bytes.subarray(Math.min(at, bytes.length)));
        t.same(heardFrom(pieces, key !== null), expectedEvents(frames));
      },
    ),
    { numRuns: 300 },
  );
});

t.test('byte by byte', async (t) => {
  const frames: Array<Omit<NaiveFrame, 'masked'>> = [
    { final: false, opcode: 2, payload: randomBytes(300) },
    { final: true, opcode: 9, payload: Buffer.from('are you there') },
    { final: true, opcode: 0, payload: Buffer.alloc(0) },
    { final: true, opcode: 2, payload: Buffer.alloc(0) },
    { final: true, opcode: 2, payload: randomBytes(65_536) },
    { final: true, opcode: 10, payload: Buffer.alloc(0) },
    { final: true, opcode: 9, payload: Buffer.alloc(0) },
  ];
  const bytes = Buffer.concat(frames.map((frame) => writeFrame(frame, randomBytes(4))));
  const pieces = Array.from(bytes, (byte) => Buffer.of(byte));
  t.same(heardFrom(pieces, true), expectedEvents(frames));
});

t.test('a mask is undone at every alignment and length', async (t) => {
  for (let offset = 0; offset < 8; offset++) {
    for (const length of [1, 3, 4, 63, 64, 65, 66, 67, 68, 200]) {
      const message = randomBytes(length);
      const bytes = writeFrame({ final: true, opcode: 2, payload: message }, randomBytes(4));
      const memory = Buffer.alloc(offset + bytes.length);
      bytes.copy(memory, offset);
      const heard = new Heard();
      new WebSocketReader(heard, true).read(memory, offset, memory.length);
      t.same(heard.events, [`message ${message.toString('hex')}`]);
    }
  }
});

t.test('what RFC 6455 forbids, and what the limits forbid, is a fault with its close code', async (t) => {
  const key = Buffer.from('01020304', 'hex');
  const frame = (opcode: number, bytes: Buffer, final = true, rsv = 0) =>
    writeFrame({ final, opcode, payload: bytes }, key, rsv);
  const small = Buffer.from('x');
  const cases: Array<[string, Buffer, number]> = [
    ['frame without mask', writeFrame({ final: true, opcode: 2, payload: small }, null), 1002],
    ['RSV1', frame(2, small, true, 0x40), 1002],
    ['RSV2', frame(2, small, true, 0x20), 1002],
    ['RSV3', frame(2, small, true, 0x10), 1002],
    ['text', frame(1, small), 1003],
    ['opcode 3', frame(3, small), 1002],
    ['opcode 7', frame(7, small), 1002],
    ['opcode 11', frame(11, small), 1002],
    ['opcode 15', frame(15, small), 1002],
    ['continuation of nothing', frame(0, small), 1002],
    ['new message within a message', Buffer.concat([frame(2, small, false), frame(2, small)]), 1002],
    ['fragmented ping', frame(9, small, false), 1002],
    ['ping of 126 bytes', frame(9, Buffer.alloc(126)), 1002],
    ['close of one byte', frame(8, Buffer.from([3])), 1002],
    ['close code 1005', frame(8, Buffer.from([3, 237])), 1002],
    ['close code 999', frame(8, Buffer.from([3, 231])), 1002],
    ['close code 2000', frame(8, Buffer.from([7, 208])), 1002],
    ['close reason not UTF-8', frame(8, Buffer.from([3, 232, 0xff])), 1007],
    ['message of 101 bytes', frame(2, Buffer.alloc(101)), 1009],
    [
      'fragments of 101 bytes',
      Buffer.concat([frame(2, Buffer.alloc(60), false), frame(0, Buffer.alloc(41))]),
      1009,
    ],
    ['length 2^63', Buffer.from('82ff8000000000000000', 'hex'), 1009],
    [
      'endless fragments',
      Buffer.concat([frame(2, small, false), ...Array(4_096).fill(frame(0, Buffer.alloc(0), false))]),
      1008,
    ],
  ];
  for (const [name, bytes, closeCode] of cases) {
    const after = frame(9, Buffer.from('too late'));
    const padded = name === 'length 2^63' ? Buffer.concat([bytes, key]) : Buffer.concat([bytes, after]);
    t.same(heardFrom([padded], true, 100), [`fault ${closeCode}`], name);
    t.same(
      heardFrom(
        Array.from(padded, (byte) => Buffer.of(byte)),
        true,
        100,
      ),
      [`fault ${closeCode}`],
      `${name}, bytewise`,
    );
  }
  t.same(heardFrom([frame(2, small)], false), ['fault 1002'], 'masked frame from the server');
});

t.test('close frames', async (t) => {
  const close = (bytes: Buffer) => writeFrame({ final: true, opcode: 8, payload: bytes }, null);
  t.same(heardFrom([close(Buffer.alloc(0))], false), ['close 1005 ']);
  t.same(heardFrom([close(Buffer.from([3, 232]))], false), ['close 1000 ']);
  t.same(heardFrom([close(Buffer.from([15, 160, ...Buffer.from('gone ✓')]))], false), ['close 4000 gone ✓']);
  t.same(
    heardFrom([close(Buffer.from([3, 233])), close(Buffer.alloc(0))], false),
    ['close 1001 '],
    'nothing is read after it',
  );
});

t.test('what is written reads back, by the naive reader too', async (t) => {
  for (const masked of [false, true]) {
    for (const length of [0, 1, 125, 126, 65_535, 65_536, 300_000]) {
      const message = randomBytes(length);
      const buffer = Buffer.concat([Buffer.alloc(20), message]);
      const start = writeMessageHeader(buffer, 20, length, masked);
      const bytes = buffer.subarray(start);
      const { frames, rest } = readFrames(bytes);
      t.equal(rest.length, 0);
      t.same(frames, [{ final: true, opcode: 2, masked, payload: message }]);
      t.same(heardFrom([bytes], masked), [`message ${message.toString('hex')}`]);
    }
    const [pong] = readFrames(encodePong(Buffer.from('ping'), masked)).frames;
    t.same(pong, { final: true, opcode: 10, masked, payload: Buffer.from('ping') });
    const [close] = readFrames(encodeClose(1002, 'ä'.repeat(100), masked)).frames;
    t.equal(close?.payload.readUInt16BE(0), 1002);
    t.equal(close?.payload.subarray(2).toString(), 'ä'.repeat(61), 'the reason is cut between characters');
    t.same(readFrames(encodeClose(1005, 'no status', masked)).frames[0]?.payload, Buffer.alloc(0));
  }
});
