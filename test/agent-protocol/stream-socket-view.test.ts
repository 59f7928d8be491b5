import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import { bridgeSocket } from '../../agent-protocol/bridge.js';
import type { RawSink } from '../../agent-protocol/raw-socket.js';
import { ignoringStream, type MuxStream } from '../../agent-protocol/stream.js';
import { StreamSocketView } from '../../agent-protocol/stream-socket-view.js';
import { openTunnel } from './helpers/tunnel.js';

/** Notes what a view tells. */
class Noted implements RawSink {
  readonly hash = createHash('sha256');
  bytes = 0;
  ended = false;
  closed: Error | null | undefined;
  drained = 0;
  onEvent = () => {};
  onBytes(buffer: Buffer, start: number, end: number): boolean {
    this.hash.update(buffer.subarray(start, end));
    this.bytes += end - start;
    this.onEvent();
    return false;
  }
  onDrain(): void {
    this.drained++;
    this.onEvent();
  }
  onEnd(): void {
    this.ended = true;
    this.onEvent();
  }
  onClose(error: Error | null): void {
    this.closed = error;
    this.onEvent();
  }
  async until(is: () => boolean): Promise<void> {
    while (!is())
      await new Promise<void>((resolve) => {
        this.onEvent = resolve;
      });
  }
}

/** A stream with a view at each end. */
async function views(t: Test) {
  let far: MuxStream | null = null;
  const { gateway } = await openTunnel(t, {
    agent: {
      onOpen: (_mux, stream) => {
        stream.opened(0);
        far = stream;
      },
    },
    limits: { streamWindowBytes: 32_768, streamWindowBytesMax: 65_536, tunnelWindowBytesMax: 65_536 },
  });
  const near = await new Promise<MuxStream>((resolve) => {
    gateway.open(
      { host: 'a.b', port: 1, network: 'tcp' },
      { onOpened: resolve, onData: () => {}, onFin: () => {}, onReset: () => {}, onWritable: () => {} },
    );
  });
  const [a, b] = [new StreamSocketView(near), new StreamSocketView(far as unknown as MuxStream)];
  const [atA, atB] = [new Noted(), new Noted()];
  a.setSink(atA);
  b.setSink(atB);
  return { a, b, atA, atB };
}

t.test('bytes both ways, each end in its time, whatever is paused', async (t) => {
  const { a, b, atA, atB } = await views(t);
  a.resume();
  const sent = createHash('sha256');
  const pieces = Array.from({ length: 40 }, (_, n) => Buffer.alloc(1 + n * 3_000, n));
  for (const piece of pieces) sent.update(piece);
  const total = pieces.reduce((sum, { length }) => sum + length, 0);
  t.equal(a.write(pieces[0] as Buffer), true, 'what goes at once is taken');
  t.equal(a.writeAll(pieces.slice(1)), false, 'what the window has no room for waits');
  t.ok(a.backlogBytes > total - 100_000, 'counted as backlog');
  a.end();
  t.equal(a.writable, false);
  t.equal(b.write(Buffer.from('back')), true);
  await atA.until(() => atA.bytes === 4);
  t.equal(atB.bytes, 0, 'paused: nothing comes');
  b.resume();
  await atB.until(() => atB.bytes >= 200_000);
  b.pause();
  const before = atB.bytes;
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(atB.bytes, before, 'paused again');
  b.resume();
  await atB.until(() => atB.ended);
  t.equal(atB.bytes, total);
  t.equal(atB.hash.digest('hex'), sent.digest('hex'));
  t.equal(a.backlogBytes, 0);
  t.equal(atA.drained, 1, 'told once when all has left');
  t.equal(a.closed || b.closed, false, 'half open');
  b.end();
  await Promise.all([atA.until(() => atA.closed !== undefined), atB.until(() => atB.closed !== undefined)]);
  t.same([atA.ended, atA.closed, atB.closed], [true, null, null], 'in order');
  t.equal(a.write(Buffer.of(1)), false);
});

t.test('a cut is told at once, also to who reads nothing', async (t) => {
  const { a, b, atA, atB } = await views(t);
  b.write(Buffer.alloc(20_000));
  let told = 0;
  a.onceClosed(() => told++);
  b.reset();
  await atA.until(() => atA.closed !== undefined);
  t.match(atA.closed, { code: 'ECONNRESET' });
  t.equal(told, 1);
  t.equal(atA.bytes, 0);
  await atB.until(() => atB.closed !== undefined);
  t.equal(atB.closed, null);
  t.same([a.detach(), a.socket.destroyed], [null, true], 'there is no socket below');
});

/** Streams over a tunnel of their own, both ends of each. */
async function openStreams(t: Test, count: number): Promise<Array<{ near: MuxStream; far: MuxStream }>> {
  const farEnds = new Map<number, MuxStream>();
  const { gateway } = await openTunnel(t, {
    agent: {
      onOpen: (_mux, stream) => {
        farEnds.set(stream.id, stream);
        stream.opened(0);
      },
    },
  });
  const open = () =>
    new Promise<MuxStream>((resolve) => {
      gateway.open({ host: 'a.b', port: 1, network: 'tcp' }, { ...ignoringStream, onOpened: resolve });
    });
  const nearEnds = await Promise.all(Array.from({ length: count }, open));
  return nearEnds.map((near) => ({ near, far: farEnds.get(near.id) as MuxStream }));
}

t.test('what came by one tunnel goes on by another where it lies', async (t) => {
  const STREAMS = 4;
  const BYTES = 24_000_000;
  const [first, second] = await Promise.all([openStreams(t, STREAMS), openStreams(t, STREAMS)]);
  let [inPlaceBytes, copiedBytes, kept] = [0, 0, 0];
  const session = (first[0] as (typeof first)[0]).far.session;
  const keep = session.keepReadBuffer.bind(session);
  session.keepReadBuffer = () => {
    kept++;
    keep();
  };
  const done = first.map(async ({ near, far }, n) => {
    const out = (second[n] as (typeof second)[0]).near;
    const send = out.send.bind(out);
    out.send = (buffer, start, end, headroomBytes) => {
      if (headroomBytes > 0) inPlaceBytes += end - start;
      else copiedBytes += end - start;
      return send(buffer, start, end, headroomBytes);
    };
    bridgeSocket(new StreamSocketView(far), out);
    const source = new StreamSocketView(near);
    const sink = new StreamSocketView((second[n] as (typeof second)[0]).far);
    const at = new Noted();
    sink.setSink(at);
    const sent = createHash('sha256');
    const piece = Buffer.from(
      Array.from({ length: 61_440 }, (_, at) => (at * 31 + n * 7 + (at >> 8)) & 0xff),
    );
    // Turns of reading nothing: what is kept meanwhile must stay as it is.
    let readUntil = 1_000_000;
    const reads = () => {
      sink.resume();
      if (at.bytes < readUntil) return;
      readUntil += 5_000_000;
      sink.pause();
      setTimeout(() => sink.resume(), 20);
    };
    source.setSink({ onBytes: () => false, onDrain: () => write(), onEnd: () => {}, onClose: () => {} });
    let written = 0;
    const write = () => {
      while (written < BYTES) {
        const bytes = piece.subarray(0, Math.min(piece.length - (written % 977), BYTES - written));
        sent.update(bytes);
        written += bytes.length;
        if (!source.write(bytes)) return;
      }
      source.end();
    };
    write();
    reads();
    await at.until(() => {
      if (!at.ended) reads();
      return at.ended;
    });
    t.equal(at.hash.digest('hex'), sent.digest('hex'), 'every byte, in order');
  });
  await Promise.all(done);
  t.ok(kept > 0, 'some had to wait and were kept');
  const share = inPlaceBytes / (inPlaceBytes + copiedBytes);
  t.ok(share > 0.8, `${Math.round(share * 100)} % in place`);
});
