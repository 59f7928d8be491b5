import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { FRAME_HEADROOM, FrameType, frameRules } from '../../agent-protocol/frame.js';
import { FrameReader } from '../../agent-protocol/frame-reader.js';
import { FrameWriter } from '../../agent-protocol/frame-writer.js';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import { WebSocketReader } from '../../agent-protocol/websocket-frames.js';

/** A tunnel's socket that keeps what is written. */
function writerOn(socket: { writable: boolean } = { writable: true }) {
  const writes: Buffer[] = [];
  const raw = Object.assign(socket, {
    write: (bytes: Buffer) => {
      writes.push(Buffer.from(bytes));
      return true;
    },
  });
  return { writer: new FrameWriter(raw as unknown as RawSocket, false), writes, socket };
}

/** The frames of what was written, as `type stream bytes`. */
function framesOf(writes: Buffer[]): string[] {
  const frames: string[] = [];
  const reader = new FrameReader({
    onDataBytes: (id, _buffer, start, end) => frames.push(`DATA ${id} ${end - start}`),
    onFrame: (type, id, payload) => frames.push(`${frameRules[type]?.name} ${id} ${payload.length}`),
    onFrameFault: (reason) => frames.push(reason),
  });
  const messages = new WebSocketReader(
    {
      onMessageBytes: (buffer, start, end, last) => reader.read(buffer, start, end, last),
      onWebSocketPing() {},
      onWebSocketClose() {},
      onWebSocketFault: (_code, reason) => frames.push(reason),
    },
    false,
  );
  const all = Buffer.concat(writes);
  messages.read(all, 0, all.length);
  return frames;
}

const data = (bytes: number) => Buffer.alloc(FRAME_HEADROOM + bytes);

test('short frames of streams leave together, at the end of the turn', async (t) => {
  const { writer, writes } = writerOn();
  writer.frame(FrameType.OPENED, 1, Uint8Array.of(0));
  writer.frame(FrameType.FIN, 2, null);
  writer.frame(FrameType.RESET, 3, Uint8Array.of(1));
  t.equal(writes.length, 0, 'not before');
  await nextTurn();
  t.equal(writes.length, 1, 'one write');
  t.strictSame(framesOf(writes), ['OPENED 1 1', 'FIN 2 0', 'RESET 3 1']);
  t.equal(writer.bytesOut, writes[0]?.length);
  await nextTurn();
  t.equal(writes.length, 1, 'and no other');
});

test('what is held goes in front of every other frame', async (t) => {
  const { writer, writes } = writerOn();
  const small = data(100);
  writer.frame(FrameType.FIN, 1, null);
  writer.data(2, small, FRAME_HEADROOM, small.length, FRAME_HEADROOM);
  t.equal(writes.length, 1, 'a little data joins it in one write');
  const large = data(60_000);
  writer.frame(FrameType.FIN, 3, null);
  writer.data(4, large, FRAME_HEADROOM, large.length, FRAME_HEADROOM);
  t.equal(writes.length, 3, 'much is not copied');
  writer.frame(FrameType.FIN, 5, null);
  writer.frame(FrameType.PING, 0, Buffer.alloc(8));
  t.equal(writes.length, 4, 'frames of the session do not wait');
  writer.frame(FrameType.FIN, 6, null);
  writer.webSocketClose(1_000, '');
  t.equal(writes.length, 5);
  t.strictSame(framesOf(writes), [
    'FIN 1 0',
    'DATA 2 100',
    'FIN 3 0',
    'DATA 4 60000',
    'FIN 5 0',
    'PING 0 8',
    'FIN 6 0',
  ]);
  await nextTurn();
  t.equal(writes.length, 5, 'nothing twice');
});

test('much leaves before the end of the turn, so that the other end can begin', async (t) => {
  const { writer, writes } = writerOn();
  for (let id = 1; id <= 400; id++) writer.frame(FrameType.FIN, id, null);
  t.ok(writes.length >= 2, `${writes.length} writes`);
  await nextTurn();
  t.equal(framesOf(writes).length, 400);
  t.ok(writes.length < 10, `${writes.length} writes for 400 frames`);
});

test('a socket that takes nothing more gets nothing', async (t) => {
  const { writer, writes, socket } = writerOn();
  writer.frame(FrameType.FIN, 1, null);
  socket.writable = false;
  writer.frame(FrameType.FIN, 2, null);
  await nextTurn();
  t.equal(writes.length, 0);
});
