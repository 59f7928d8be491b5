import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { adoptSocket, type RawSink, type RawSocket } from '../../agent-protocol/raw-socket.js';
import { tcpHandles } from '../../agent-protocol/tcp-handle.js';
import { testCertificate } from '../helpers/test-certificate.js';
import { listen } from './helpers/relay.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

class Drains implements RawSink {
  drains = 0;
  ends = 0;
  read = 0;
  onDrained: () => void = () => {};
  readonly closed: Promise<Error | null>;
  #resolve!: (error: Error | null) => void;
  constructor() {
    this.closed = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  onBytes(_buffer: Buffer, start: number, end: number): boolean {
    this.read += end - start;
    return false;
  }
  onDrain(): void {
    this.drains++;
    this.onDrained();
  }
  onEnd(): void {
    this.ends++;
  }
  onClose(error: Error | null): void {
    this.#resolve(error);
  }
}

/** A TLS client of node:tls, and the other end, which `before` uses as a stream until it is adopted. */
async function pair(
  t: Test,
  before: (socket: TLSSocket) => void = () => {},
): Promise<{ client: TLSSocket; accepted: TLSSocket; raw: RawSocket; sink: Drains }> {
  const server = createServer({ ...testCertificate, allowHalfOpen: true });
  const port = await listen(t, server);
  const client = connectTls({ port, host: '127.0.0.1', ca: testCertificate.cert });
  t.teardown(() => client.destroy());
  const [accepted] = (await once(server, 'secureConnection')) as [TLSSocket];
  before(accepted);
  const raw = adoptSocket(accepted);
  t.teardown(() => raw.destroy());
  const sink = new Drains();
  raw.setSink(sink);
  return { client, accepted, raw, sink };
}

t.test('this Node lets TLS be written below node:stream', async (t) => {
  t.not(tcpHandles, null);
  const { accepted, raw, sink, client } = await pair(t);
  let streamWrites = 0;
  const write = accepted.write.bind(accepted) as (...args: unknown[]) => boolean;
  accepted.write = (...args: unknown[]) => {
    streamWrites++;
    return write(...args);
  };
  for (const word of ['one', 'two']) {
    const drained = new Promise<void>((resolve) => {
      sink.onDrained = resolve;
    });
    t.equal(raw.write(Buffer.from(word)), false, 'never taken at once');
    t.equal(raw.backlogBytes, 3);
    await drained;
    t.equal(raw.backlogBytes, 0);
  }
  // The first write went by way of node:stream, behind whatever that still had.
  t.equal(streamWrites, 1, 'node:stream knows of the first one alone');
  client.resume();
});

t.test(
  'every byte in order, behind what node:stream had; memory is free after a drain; FIN last',
  async (t) => {
    const early = randomBytes(300_000);
    const { client, raw, sink } = await pair(t, (socket) => {
      socket.write(early);
    });
    const sent: Buffer[] = [early];
    const lent: Buffer[] = [];
    sink.onDrained = () => {
      t.equal(raw.backlogBytes, 0);
      for (const piece of lent.splice(0)) piece.fill(0xee);
    };
    const came: Buffer[] = [];
    client.on('data', (chunk: Buffer) => came.push(chunk));
    const ended = once(client, 'end');
    let seed = 7;
    for (let n = 0; n < 300; n++) {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      const piece = randomBytes(1 + (seed % (n % 10 === 0 ? 400_000 : 9_000)));
      sent.push(Buffer.from(piece));
      lent.push(piece);
      if (n % 7 === 0) raw.writeAll([piece.subarray(0, 1), piece.subarray(1)]);
      else raw.write(piece);
      if (seed % 5 === 0) await turn();
    }
    raw.end();
    t.equal(raw.writable, false);
    t.equal(raw.write(Buffer.from('late')), false, 'nothing follows the end');
    await ended;
    t.ok(Buffer.concat(came).equals(Buffer.concat(sent)));
    t.ok(sink.drains > 0);
  },
);

t.test('pieces of one turn leave as one record', async (t) => {
  const { client, raw, sink } = await pair(t);
  const first = once(client, 'data');
  const drained = new Promise<void>((resolve) => {
    sink.onDrained = resolve;
  });
  raw.write(Buffer.from('first'));
  await Promise.all([first, drained]);
  const chunks: number[] = [];
  const all = new Promise<void>((resolve) => {
    client.on('data', (chunk: Buffer) => {
      chunks.push(chunk.length);
      if (chunks.reduce((sum, bytes) => sum + bytes, 0) === 5_000) resolve();
    });
  });
  for (let n = 0; n < 50; n++) raw.write(Buffer.alloc(100, n));
  await all;
  t.same(chunks, [5_000]);
});

t.test('an end in order, and a cut in the middle of a write, close', async (t) => {
  const inOrder = await pair(t);
  inOrder.raw.resume();
  inOrder.raw.write(randomBytes(100_000));
  inOrder.raw.end();
  inOrder.client.resume().end();
  t.equal(await inOrder.sink.closed, null);
  const cut = await pair(t);
  // Nobody reads: what the kernel holds is soon full.
  for (let n = 0; n < 100; n++) cut.raw.write(randomBytes(200_000));
  await turn();
  t.ok(cut.raw.backlogBytes > 0);
  cut.raw.end();
  cut.raw.destroy();
  t.equal(await cut.sink.closed, null);
});

t.test('a timeout of the socket is told of what is read and written', async (t) => {
  const { client, accepted, raw, sink } = await pair(t);
  raw.resume();
  const written = async (): Promise<void> => {
    const drained = new Promise<void>((resolve) => {
      sink.onDrained = resolve;
    });
    raw.write(Buffer.from('x'));
    await drained;
  };
  const read = async (): Promise<void> => {
    const before = sink.read;
    client.write('y');
    while (sink.read === before) await turn();
  };
  // The first one goes by way of node:stream, which tells by itself.
  await written();
  let told = 0;
  const fields = accepted as unknown as { _unrefTimer(): void };
  const tell = fields._unrefTimer;
  fields._unrefTimer = () => {
    told++;
    tell.call(accepted);
  };
  await written();
  await read();
  t.equal(told, 0, 'there is none: nothing is done for it');
  accepted.setTimeout(60_000);
  await written();
  t.equal(told, 1);
  await read();
  t.equal(told, 2);
});
