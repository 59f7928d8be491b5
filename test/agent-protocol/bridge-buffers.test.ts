/** Who may touch which bytes when: the bridge between a fake socket and a fake stream, step by step. */
import t from 'tap';
import { bridgeSocket } from '../../agent-protocol/bridge.js';
import { type BridgeObserver, unobserved } from '../../agent-protocol/bridge-observer.js';
import { FRAME_HEADROOM, RESET_TUNNEL_LOST } from '../../agent-protocol/frame.js';
import { DIRECT_WRITES_AFTER } from '../../agent-protocol/limits.js';
import type { RawSink, RawSocket } from '../../agent-protocol/raw-socket.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';

interface Sent {
  text: string;
  headroomBytes: number;
}

/** As at a gateway: pieces are counted and bounded. */
const counting: BridgeObserver = {
  onBytesOut: () => Verdict.GO,
  onBytesIn: () => Verdict.GO,
  onEnd: () => {},
};

function scene(observer: BridgeObserver = counting) {
  const sent: Sent[] = [];
  const socket = {
    sink: null as unknown as RawSink,
    paused: true,
    backlogBytes: 0,
    written: [] as Buffer[],
    setSink(sink: RawSink) {
      this.sink = sink;
    },
    reset() {},
    pause() {
      this.paused = true;
    },
    resume() {
      this.paused = false;
    },
    write(bytes: Buffer) {
      this.written.push(bytes);
      return this.backlogBytes === 0;
    },
    runs: 0,
    writeAll(pieces: Iterable<Buffer>) {
      this.runs++;
      this.written.push(...pieces);
      return this.backlogBytes === 0;
    },
  };
  const session = {
    backlogBytes: 0,
    heldDataBytes: 0,
    readHeadroomBytes: 0,
    kept: 0,
    keepReadBuffer: () => session.kept++,
    letGoOfReadBuffer: () => session.kept--,
  };
  const stream = {
    state: 'open',
    session,
    sendWindowBytes: 1_000,
    handler: null as unknown as MuxStream['handler'],
    consumedBytes: 0,
    fins: 0,
    send(buffer: Buffer, start: number, end: number, headroomBytes: number) {
      if (end - start > this.sendWindowBytes) throw new RangeError('beyond the window');
      this.sendWindowBytes -= end - start;
      sent.push({ text: buffer.toString('latin1', start, end), headroomBytes });
      if (headroomBytes >= FRAME_HEADROOM) buffer.fill(0x23, start - FRAME_HEADROOM, start);
      return this.sendWindowBytes > 0;
    },
    consumed(bytes: number) {
      this.consumedBytes += bytes;
    },
    fin() {
      this.fins++;
    },
    reset() {},
  };
  const bridge = bridgeSocket(socket as unknown as RawSocket, stream as unknown as MuxStream, observer);
  const writable = () => stream.handler.onWritable(stream as unknown as MuxStream);
  const arrive = (text: string) => {
    const buffer = Buffer.from(text);
    stream.handler.onData(stream as unknown as MuxStream, buffer, 0, buffer.length);
    return buffer;
  };
  const runEnds = () => stream.handler.onRunEnd?.(stream as unknown as MuxStream);
  return { sent, socket, session, stream, bridge, writable, arrive, runEnds };
}

/** Bytes in a read buffer of the socket's own. */
function read(text: string): [Buffer, number, number, number] {
  const buffer = Buffer.concat([Buffer.alloc(FRAME_HEADROOM), Buffer.from(text)]);
  return [buffer, FRAME_HEADROOM, buffer.length, FRAME_HEADROOM];
}

t.test('out: the socket hears whether the tunnel still holds its buffer', async (t) => {
  const { sent, socket, session } = scene();
  t.notOk(socket.paused);
  t.equal(socket.sink.onBytes(...read('one')), false, 'all of it has gone');
  session.backlogBytes = 30;
  t.equal(socket.sink.onBytes(...read('two')), true, 'some of it has not');
  t.same(sent, [
    { text: 'one', headroomBytes: FRAME_HEADROOM },
    { text: 'two', headroomBytes: FRAME_HEADROOM },
  ]);
  t.notOk(socket.paused);
});

t.test('out: what the window does not allow is kept where it lies, until it is sent', async (t) => {
  const { sent, socket, session, stream, writable } = scene();
  stream.sendWindowBytes = 4;
  t.equal(socket.sink.onBytes(...read('abcdefghij')), true, 'the rest lies in the buffer');
  t.ok(socket.paused);
  socket.sink.onEnd();
  t.equal(stream.fins, 0, 'the FIN waits behind it');

  stream.sendWindowBytes = 3;
  // Of other streams: a stream is told that it is writable only when what it sent has left.
  session.backlogBytes = 30;
  writable();
  stream.sendWindowBytes = 2;
  session.backlogBytes = 0;
  writable();
  stream.sendWindowBytes = 100;
  writable();
  t.same(sent, [
    { text: 'abcd', headroomBytes: FRAME_HEADROOM },
    { text: 'efg', headroomBytes: FRAME_HEADROOM },
    { text: 'hi', headroomBytes: FRAME_HEADROOM },
    { text: 'j', headroomBytes: FRAME_HEADROOM },
  ]);
  t.equal(stream.fins, 1);
});

t.test('out: bytes of a shared buffer, and bytes that come while paused, are copied', async (t) => {
  const { sent, socket, stream, writable } = scene();
  stream.sendWindowBytes = 2;
  const shared = Buffer.from('abcd');
  t.equal(socket.sink.onBytes(shared, 0, 4, 0), false);
  shared.fill('X');
  t.equal(socket.sink.onBytes(...read('efgh')), false);
  stream.sendWindowBytes = 100;
  writable();
  t.same(
    sent.map(({ text }) => text),
    ['ab', 'cdefgh'],
  );
  t.notOk(socket.paused);
});

t.test(
  'in: what the socket has not taken lies in memory of its own, or in a buffer that is kept',
  async (t) => {
    const { socket, session, stream, arrive } = scene();
    session.readHeadroomBytes = 9;
    const large = 'L'.repeat(20_000);
    for (const text of ['small', large]) {
      socket.backlogBytes = 4;
      const before = stream.consumedBytes;
      arrive(text).fill('X');
      t.equal(stream.consumedBytes, before, 'no credit for what the socket has not taken');
      t.equal(session.kept, 0, 'a stream that may be about to stall keeps no buffer of the tunnel');
      arrive('queued').fill('X');
      socket.backlogBytes = 0;
      socket.sink.onDrain();
      t.equal(Buffer.concat(socket.written.splice(0)).toString(), `${text}queued`);
      t.equal(stream.consumedBytes, before + text.length + 6);
    }

    const direct = () => {
      const buffer = arrive('direct');
      const written = socket.written.at(-1);
      return written?.buffer === buffer.buffer && written.byteOffset === buffer.byteOffset;
    };
    for (let i = 0; i < DIRECT_WRITES_AFTER; i++) t.notOk(direct());
    t.ok(direct(), 'all was taken at once for long: it is written where it lies');
    socket.backlogBytes = 4;
    t.ok(direct());
    t.equal(session.kept, 1);
    arrive('queued').fill('X');
    t.equal(session.kept, 1, 'what is queued is a copy');
    socket.backlogBytes = 0;
    socket.sink.onDrain();
    t.equal(session.kept, 0, 'the buffer is let go of when the socket has taken the bytes');
    t.notOk(direct(), 'and the stream has to show anew that it is read');

    for (let i = 0; i < DIRECT_WRITES_AFTER; i++) arrive('direct');
    session.readHeadroomBytes = 0;
    t.notOk(direct(), 'others are copied');
    session.readHeadroomBytes = 9;
    socket.backlogBytes = 4;
    t.ok(direct());
    t.equal(session.kept, 1);
    stream.handler.onReset(stream as unknown as MuxStream, 1);
    t.equal(session.kept, 0, 'let go of at the end as well');
  },
);

/** A device's stream whose socket has taken everything at once for long, in a buffer that may be kept. */
function fast(observer: BridgeObserver = unobserved) {
  const device = scene(observer);
  device.session.readHeadroomBytes = 9;
  for (let i = 0; i < DIRECT_WRITES_AFTER; i++) {
    device.arrive('.');
    device.runEnds();
  }
  device.socket.written.length = 0;
  device.stream.consumedBytes = 0;
  const text = () => device.socket.written.map(String).join('|');
  return { ...device, text };
}

t.test('in, at a device: what one read brings of a stream leaves in one write, where it lies', async (t) => {
  const { socket, session, stream, arrive, runEnds, text } = fast();
  const first = arrive('first');
  session.readHeadroomBytes = 0; // nothing but DATA lies in front of it
  arrive('second');
  t.equal(text(), '', 'what follows may be more of it');
  t.equal(stream.consumedBytes, 0);
  runEnds();
  t.equal(text(), 'first|second');
  t.equal(socket.runs, 1);
  t.equal(socket.written[0]?.buffer, first.buffer, 'no copy');
  t.equal(stream.consumedBytes, 11);
  runEnds();
  t.equal(socket.written.length, 2, 'a run ends once');

  session.readHeadroomBytes = 9;
  arrive('alone');
  runEnds();
  t.equal(text(), 'first|second|alone');
  t.equal(socket.runs, 1, 'a single piece needs no list');
  t.equal(session.kept, 0);
});

t.test('in, at a device: a run that the socket does not take is kept, and waits for its turn', async (t) => {
  const { socket, session, stream, arrive, runEnds, text } = fast();
  socket.backlogBytes = 4;
  arrive('first');
  arrive('second');
  runEnds();
  t.equal(session.kept, 1, 'one buffer holds all of it');
  arrive('third').fill('X');
  runEnds();
  t.equal(text(), 'first|second', 'what comes then is queued');
  t.equal(stream.consumedBytes, 0);
  socket.backlogBytes = 0;
  socket.sink.onDrain();
  t.equal(text(), 'first|second|third');
  t.equal(session.kept, 0);
  t.equal(stream.consumedBytes, 16);
});

t.test('in, at a device: what may not go on yet waits behind the run; a refusal ends it', async (t) => {
  let verdict: Verdict = Verdict.GO;
  const ends: string[] = [];
  const observer = { ...unobserved, onBytesIn: () => verdict, onEnd: (how: string) => ends.push(how) };
  const { bridge, arrive, runEnds, text } = fast(observer);
  arrive('first');
  verdict = Verdict.WAIT;
  arrive('second').fill('X');
  t.equal(text(), 'first', 'the run leaves before it');
  arrive('third');
  runEnds();
  t.equal(text(), 'first');
  verdict = Verdict.GO;
  bridge.retry();
  t.equal(text(), 'first|secondthird');
  arrive('fourth');
  verdict = Verdict.REFUSE;
  arrive('fifth');
  runEnds();
  t.equal(text(), 'first|secondthird|fourth', 'what was counted goes on, what was refused does not');
  t.same(ends, ['refused']);
});

t.test('in, at a device: a tunnel that is lost within a read loses no run', async (t) => {
  const { stream, arrive, runEnds, text, socket } = fast({ ...unobserved, lingerMs: 60_000 });
  arrive('first');
  arrive('second');
  stream.handler.onReset(stream as unknown as MuxStream, RESET_TUNNEL_LOST);
  t.equal(text(), 'first|second');
  runEnds();
  t.equal(socket.written.length, 2);
  socket.sink.onClose(null);
});
