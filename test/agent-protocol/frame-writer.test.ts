import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { FRAME_HEADROOM, FrameType, frameRules } from '../../agent-protocol/frame.js';
import { FrameReader } from '../../agent-protocol/frame-reader.js';
import { FrameWriter } from '../../agent-protocol/frame-writer.js';
import { HELD_DATA_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import { WebSocketReader } from '../../agent-protocol/websocket-frames.js';

/** A tunnel's socket that keeps what is written; with `stalled` it has taken nothing of it. */
function writerOn(socket = { writable: true, stalled: false, backlogBytes: 0 }) {
  const writes: Buffer[] = [];
  const raw = Object.assign(socket, {
    write: (bytes: Buffer) => {
      writes.push(Buffer.from(bytes));
      if (socket.stalled) socket.backlogBytes += bytes.length;
      return !socket.stalled;
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

/** As a stream with little to say does. */
function send(writer: FrameWriter, streamId: number, bytes: number): boolean {
  const buffer = data(bytes);
  return writer.data(streamId, buffer, FRAME_HEADROOM, buffer.length, FRAME_HEADROOM);
}

test('little data waits for the end of the turn with them, bounded and told of', async (t) => {
  const { writer, writes, socket } = writerOn();
  const buffer = data(100);
  t.equal(writer.data(1, buffer, FRAME_HEADROOM, buffer.length, FRAME_HEADROOM), true);
  buffer.fill(0xff); // it is free at once
  writer.frame(FrameType.FIN, 1, null);
  t.equal(send(writer, 2, 300), true);
  t.equal(writer.heldDataBytes, 400);
  t.equal(writes.length, 0);
  await nextTurn();
  t.equal(writes.length, 1, 'one write');
  t.strictSame(framesOf(writes), ['DATA 1 100', 'FIN 1 0', 'DATA 2 300']);
  t.equal(writes[0]?.includes(0xff), false);
  t.equal(writer.heldDataBytes, 0);

  for (let i = 0; i < 200; i++) {
    send(writer, 3, i);
    if (writer.heldDataBytes > HELD_DATA_BYTES_MAX) t.fail(`${writer.heldDataBytes} bytes held`);
  }
  await nextTurn();
  t.ok(writes.length < 30, `${writes.length} writes for 200 frames`);

  // What a socket does not take when its turn comes is told of until it has; meanwhile nothing more is held.
  send(writer, 4, 500);
  socket.stalled = true;
  await nextTurn();
  t.equal(writer.heldDataBytes, 500);
  const before = writes.length;
  t.equal(send(writer, 4, 10), false, 'whoever sends must stop');
  t.equal(writes.length, before + 1);
  socket.backlogBytes = 0;
  t.equal(writer.heldDataBytes, 0);
});

test('what is held keeps to the largest frame of the tunnel', async (t) => {
  const { writer, writes } = writerOn();
  writer.frameBytesMax = 1_024;
  t.equal(send(writer, 1, 1_024), true);
  t.equal(send(writer, 1, 1_025), true);
  await nextTurn();
  t.strictSame(framesOf(writes), ['DATA 1 1024', 'DATA 1 1024', 'DATA 1 1']);
});

test('what was held and has left no longer counts, also before a backlog of later bytes', async (t) => {
  const { writer, socket } = writerOn();
  send(writer, 1, 500);
  socket.stalled = true;
  await nextTurn();
  t.equal(writer.heldDataBytes, 500);
  const heldBytes = socket.backlogBytes;
  send(writer, 1, 60_000);
  socket.backlogBytes -= heldBytes - 1;
  t.equal(writer.heldDataBytes, 500, 'all but a byte has left');
  socket.backlogBytes -= 1;
  t.equal(writer.heldDataBytes, 0);
});

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
  writer.frame(FrameType.FIN, 1, null);
  send(writer, 2, 2_000);
  writer.frame(FrameType.OPENED, 2, Uint8Array.of(0));
  t.equal(send(writer, 2, 2_000), true);
  t.equal(writes.length, 1, 'more data than may be held takes along what is');
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
    'DATA 2 2000',
    'OPENED 2 1',
    'DATA 2 2000',
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
  for (let id = 1; id <= 2_000; id++) writer.frame(FrameType.FIN, id, null);
  t.ok(writes.length >= 2, `${writes.length} writes`);
  await nextTurn();
  t.equal(framesOf(writes).length, 2_000);
  t.ok(writes.length < 10, `${writes.length} writes for 2000 frames`);
});

test('a socket that takes nothing more gets nothing', async (t) => {
  const { writer, writes, socket } = writerOn();
  writer.frame(FrameType.FIN, 1, null);
  socket.writable = false;
  writer.frame(FrameType.FIN, 2, null);
  await nextTurn();
  t.equal(writes.length, 0);
});

test('what a socket has not taken stays as it was, whatever is held next', async (t) => {
  const writes: Buffer[] = [];
  const socket = { writable: true, backlogBytes: 0, takes: false };
  const raw = Object.assign(socket, {
    write: (bytes: Buffer) => {
      writes.push(bytes); // as a socket does that is still sending it
      return socket.takes;
    },
  });
  const writer = new FrameWriter(raw as unknown as RawSocket, false);
  for (let turn = 0; turn < 4; turn++) {
    writer.frame(FrameType.CREDIT, 10 + turn, Buffer.from([0, 0, turn, 7]));
    writer.frame(FrameType.RESET, 20 + turn, Uint8Array.of(1));
    await nextTurn();
  }
  const all = [0, 1, 2, 3].flatMap((turn) => [`CREDIT ${10 + turn} 4`, `RESET ${20 + turn} 1`]);
  t.strictSame(framesOf(writes), all);

  // Taken at once, the memory is used again: two tunnels in one turn have their own.
  socket.takes = true;
  const { writer: other, writes: others } = writerOn();
  for (let turn = 0; turn < 3; turn++) {
    writes.length = 0;
    others.length = 0;
    writer.frame(FrameType.FIN, 30 + turn, null);
    other.frame(FrameType.FIN, 40 + turn, null);
    writer.frame(FrameType.FIN, 50 + turn, null);
    await nextTurn();
    t.strictSame(framesOf(writes), [`FIN ${30 + turn} 0`, `FIN ${50 + turn} 0`]);
    t.strictSame(framesOf(others), [`FIN ${40 + turn} 0`]);
  }
});

test('a long frame and those before it keep their order', async (t) => {
  const { writer, writes } = writerOn();
  writer.frame(FrameType.FIN, 1, null);
  writer.frame(FrameType.OPEN, 2, Buffer.alloc(4_096));
  writer.frame(FrameType.OPEN, 3, Buffer.alloc(16_000));
  writer.frame(FrameType.FIN, 4, null);
  await nextTurn();
  t.strictSame(framesOf(writes), ['FIN 1 0', 'OPEN 2 4096', 'OPEN 3 16000', 'FIN 4 0']);
});
