/** Datagrams between the two ends of a tunnel: order, bounds, ends; and that no bytes break the parsers. */
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { openAssociation } from '../../agent-protocol/control.js';
import {
  datagramHeadBytes,
  decodeDatagram,
  encodeDatagram,
  encodeDatagramHead,
} from '../../agent-protocol/datagram.js';
import { ResetCode } from '../../agent-protocol/frame.js';
import { STREAM_DATAGRAM_BYTES_MAX, TUNNEL_DATAGRAM_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { openTunnel } from './helpers/tunnel.js';

/** An end of an association that keeps what comes. */
class End implements StreamHandler {
  readonly datagrams: Buffer[] = [];
  resetCode: number | null = null;
  readonly opened: Promise<void>;
  readonly reset: Promise<void>;
  #onOpened: () => void = () => {};
  #onReset: () => void = () => {};
  #onMore: () => void = () => {};
  constructor() {
    this.opened = new Promise((resolve) => {
      this.#onOpened = resolve;
    });
    this.reset = new Promise((resolve) => {
      this.#onReset = resolve;
    });
  }
  onOpened(): void {
    this.#onOpened();
  }
  onDatagram(_stream: MuxStream, payload: Buffer): void {
    this.datagrams.push(Buffer.from(payload));
    this.#onMore();
  }
  onReset(_stream: MuxStream, code: number): void {
    this.resetCode = code;
    this.#onReset();
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}
  async received(count: number): Promise<Buffer[]> {
    while (this.datagrams.length < count)
      await new Promise<void>((resolve) => {
        this.#onMore = resolve;
      });
    return this.datagrams;
  }
}

async function association(t: Test, via?: (port: number) => Promise<number>) {
  const far = new End();
  const farStreams: MuxStream[] = [];
  const tunnel = await openTunnel(t, {
    agent: {
      onOpen: (_session, stream, open) => {
        t.match(open, openAssociation);
        stream.handler = far;
        farStreams.push(stream);
        stream.opened(0);
      },
    },
    ...(via === undefined ? {} : { via }),
  });
  const near = new End();
  const stream = tunnel.gateway.open(openAssociation, near);
  await near.opened;
  return { ...tunnel, near, stream, far, farStreams, farStream: farStreams[0] as MuxStream };
}

t.test('datagrams both ways, of every size, in order', async (t) => {
  const { near, stream, far, farStream } = await association(t);
  const to = encodeDatagramHead('example.com', 53);
  const from = encodeDatagramHead('192.0.2.1', 53);
  const sizes = [0, 1, 508, 1_400, 9_000, 65_507];
  for (const [i, size] of sizes.entries()) {
    const bytes = Buffer.alloc(size, i + 1);
    t.ok(stream.sendDatagram(to, bytes));
    t.ok((await far.received(i + 1))[i]?.equals(Buffer.concat([to, bytes])), `${size} bytes up`);
    t.ok(farStream.sendDatagram(from, bytes));
    t.ok((await near.received(i + 1))[i]?.equals(Buffer.concat([from, bytes])), `${size} bytes down`);
  }
  stream.fin();
  t.ok(stream.sendDatagram(to, Buffer.from('still open')), 'there is no half-close');
  stream.reset(ResetCode.CANCELLED);
  await far.reset;
  t.equal(far.resetCode, ResetCode.CANCELLED);
  t.notOk(stream.sendDatagram(to, Buffer.from('late')));
  t.notOk(farStream.sendDatagram(from, Buffer.from('late')));
});

/** A way for the tunnel that can be held up: nothing is read from the gateway's side while it is. */
async function holdable(t: Test) {
  const sockets: Array<{ near: Socket; far: Socket }> = [];
  const way = {
    hold: () => {
      for (const { far } of sockets) far.pause();
    },
    release: () => {
      for (const { far } of sockets) far.resume();
    },
    via: (port: number) =>
      new Promise<number>((resolve) => {
        const server = createServer((near) => {
          const far = tcpConnect({ port, host: '127.0.0.1' });
          sockets.push({ near, far });
          near.on('error', () => far.destroy());
          far.on('error', () => near.destroy());
          near.pipe(far);
          far.on('data', (bytes) => near.write(bytes));
          far.on('close', () => near.destroy());
          near.on('close', () => far.destroy());
        });
        t.teardown(() => {
          server.close();
          for (const { near, far } of sockets) {
            near.destroy();
            far.destroy();
          }
        });
        server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
      }),
  };
  return way;
}

t.test(
  'what the socket does not take is bounded: the newest is dropped, and it goes on afterwards',
  async (t) => {
    const way = await holdable(t);
    const { gateway, stream, far } = await association(t, way.via);
    way.hold();
    const head = encodeDatagramHead('192.0.2.1', 53);
    const numbered = (n: number) => {
      const bytes = Buffer.alloc(1_200, 7);
      bytes.writeUInt32BE(n);
      return bytes;
    };
    let sent = 0;
    let fullBytes = 0;
    let took = true;
    // Until the kernels hold all they want to, and the stream's share of the backlog is full: they may make room later,
    // so what waits is looked at in the moment of the refusal.
    for (let refused = 0; refused < 3; ) {
      if (stream.sendDatagram(head, numbered(sent))) {
        sent++;
        refused = 0;
      } else {
        refused++;
        fullBytes = stream.unsentDatagramBytes;
        took = stream.takesDatagram(1_200);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    t.ok(fullBytes <= STREAM_DATAGRAM_BYTES_MAX, `${fullBytes} bytes wait`);
    t.ok(fullBytes > STREAM_DATAGRAM_BYTES_MAX - 1_200);
    t.notOk(took);

    const others = Array.from({ length: 8 }, () => new End());
    const streams = others.map((end) => gateway.open(openAssociation, end));
    t.equal(streams.filter((other) => other.takesDatagram(1)).length, 0, 'nothing goes before OPENED');
    way.release();
    await far.received(sent);
    for (const end of others) await end.opened;
    t.same(
      far.datagrams.slice(0, sent).map((payload) => payload.readUInt32BE(head.length)),
      Array.from({ length: sent }, (_, i) => i),
      'all that were taken arrive, in order',
    );
    t.equal(stream.unsentDatagramBytes, 0);

    way.hold();
    let taken = 0;
    let waiting = 0;
    for (let refused = 0; refused < 3; ) {
      const before = taken;
      for (const other of streams) while (other.sendDatagram(head, numbered(0))) taken++;
      if (taken > before) refused = 0;
      else {
        refused++;
        waiting = streams.reduce((sum, other) => sum + other.unsentDatagramBytes, 0);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    t.ok(waiting <= TUNNEL_DATAGRAM_BYTES_MAX, `${waiting} bytes of 8 streams wait`);
    t.ok(waiting > TUNNEL_DATAGRAM_BYTES_MAX - 16 * 1_300);
    way.release();
    await far.received(sent + taken);
    t.ok(stream.takesDatagram(1_200));
  },
);

t.test('any bytes: the parsers never throw, and agree', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.option(fc.constantFrom(1, 3, 4)), (bytes, type) => {
      const payload = Buffer.from(bytes);
      if (type !== null && payload.length > 0) payload[0] = type;
      const headBytes = datagramHeadBytes(payload);
      const decoded = decodeDatagram(payload);
      if ((headBytes === 0) !== (decoded === null)) return false;
      if (decoded === null) return true;
      if (headBytes < 5 || headBytes > 259) return false;
      if (!decoded.bytes.equals(payload.subarray(headBytes))) return false;
      // A name of bytes that are not UTF-8 has no text that leads back to them.
      if (decoded.host.includes('\ufffd')) return true;
      const again = decodeDatagram(encodeDatagram(decoded));
      return again?.host === decoded.host && again.port === decoded.port && again.bytes.equals(decoded.bytes);
    }),
    { numRuns: 20_000 },
  );
  t.pass();
});
