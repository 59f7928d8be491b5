/** What a killed gateway may have counted too much: bytes counted that the operating system does not have. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t, { type Test } from 'tap';
import { COUNT_BYTES_KEPT, COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import { type Counter, type Relay, startRelay } from './helpers/relay.js';

const STREAMS = 8;
/** More than the kernel holds for two loopback sockets. */
const STREAM_BYTES = 20_000_000;
const blob = randomBytes(STREAM_BYTES);
const blobHash = createHash('sha256').update(blob).digest('hex');

/** What of a stream was counted and is still in user space, in each direction, at its worst. */
class Watch {
  readonly worstBytes = { out: 0, in: 0 };
  worstBothBytes = 0;
  /** Pieces that the operating system did not take at once: without them nothing is shown. */
  stalls = 0;
  /** Where the stream's latest piece ends in all that was written to the tunnel; what is being sent. */
  #leftAtBytes = 0;
  #sentBytes = 0;

  constructor(counter: Counter, stream: MuxStream, relay: () => Relay) {
    const send = stream.send.bind(stream);
    stream.send = (buffer, start, end, headroomBytes) => {
      const more = send(buffer, start, end, headroomBytes);
      this.#leftAtBytes = relay().gateway.bytesOut;
      this.#sentBytes = end - start;
      if (relay().gateway.backlogBytes > 0) this.stalls++;
      return more;
    };
    const raw = counter.raw as RawSocket;
    const write = raw.write.bind(raw);
    raw.write = (bytes) => {
      const taken = write(bytes);
      if (!taken) this.stalls++;
      return taken;
    };
    counter.verdict = (direction, bytes) => {
      const { bytesOut, backlogBytes } = relay().gateway;
      const left = bytesOut - backlogBytes >= this.#leftAtBytes;
      const outBytes = left ? 0 : this.#sentBytes;
      const inBytes = counter.bytesIn - (raw.socket.bytesWritten - raw.socket.writableLength);
      this.#see(direction, bytes + (direction === 'out' ? outBytes : inBytes));
      this.worstBothBytes = Math.max(this.worstBothBytes, bytes + outBytes + inBytes);
      return Verdict.GO;
    };
  }

  #see(direction: 'out' | 'in', bytes: number): void {
    this.worstBytes[direction] = Math.max(this.worstBytes[direction], bytes);
  }
}

/** SHA-256 of all that comes. A slow reader rests whenever the one before it has not stalled since. */
async function digest(socket: Socket, stalls?: () => number): Promise<string> {
  const hash = createHash('sha256');
  let seen = 0;
  let bytes = 0;
  socket.on('data', (piece: Buffer) => {
    hash.update(piece);
    bytes += piece.length;
    if (stalls === undefined || bytes < 2_000_000) return;
    bytes = 0;
    socket.pause();
    const until = performance.now() + 250;
    const timer = setInterval(() => {
      if (stalls() === seen && performance.now() < until) return;
      seen = stalls();
      clearInterval(timer);
      socket.resume();
    }, 2);
  });
  await once(socket, 'end');
  return hash.digest('hex');
}

async function watched(t: Test, destination: (socket: Socket) => void): Promise<[Relay, Watch[]]> {
  const watches: Watch[] = [];
  const relay: Relay = await startRelay(t, destination, {
    onStream: (counter, stream) => watches.push(new Watch(counter, stream, () => relay)),
  });
  return [relay, watches];
}

/** Every third stream is a fast one. */
const isSlow = (index: number): boolean => index % 3 > 0;

function check(t: Test, relay: Relay, watches: Watch[], direction: 'out' | 'in'): void {
  const counted = relay.counters.map(({ bytesOut, bytesIn }) => (direction === 'out' ? bytesOut : bytesIn));
  t.same(counted, Array(STREAMS).fill(STREAM_BYTES), 'counted is what was delivered');
  const worst = Math.max(...watches.map((watch) => watch.worstBytes[direction]));
  t.equal(worst, COUNT_BYTES_MAX - COUNT_BYTES_KEPT, 'one piece of the largest size, and never more');
  const both = Math.max(...watches.map((watch) => watch.worstBothBytes));
  t.ok(both >= worst && both <= COUNT_BYTES_MAX, `both directions together: ${both}`);
  const stalls = watches.map((watch) => watch.stalls);
  t.ok(stalls.filter((count) => count > 1).length > 2, `stalls of the streams: ${stalls}`);
}

t.test('down: slow buyers, many streams on one tunnel', async (t) => {
  const [relay, watches] = await watched(t, (socket) => socket.end(blob));
  const read = async (_: unknown, index: number): Promise<string> => {
    const client = await relay.connect();
    const watch = watches[index];
    const hash = await digest(client, isSlow(index) ? () => watch?.stalls ?? 0 : undefined);
    client.end();
    return hash;
  };
  t.same(await Promise.all(Array.from({ length: STREAMS }, read)), Array(STREAMS).fill(blobHash));
  for (const counter of relay.counters) t.equal(await counter.ended, 'finished');
  check(t, relay, watches, 'in');
});

t.test('both ways at once', async (t) => {
  const half = blob.subarray(0, STREAM_BYTES / 4);
  const halfHash = createHash('sha256').update(half).digest('hex');
  const received: Promise<string>[] = [];
  const allStalls = () => watches.reduce((sum, watch) => sum + watch.stalls, 0);
  const [relay, watches] = await watched(t, (socket) => {
    socket.end(half);
    received.push(digest(socket, allStalls));
  });
  const exchange = async (): Promise<string> => {
    const client = await relay.connect();
    client.end(half);
    return digest(client, allStalls);
  };
  t.same(await Promise.all(Array.from({ length: STREAMS }, exchange)), Array(STREAMS).fill(halfHash));
  t.same(await Promise.all(received), Array(STREAMS).fill(halfHash));
  const worst = Math.max(...watches.map((watch) => watch.worstBothBytes));
  // Whether both hold bytes at one moment is up to the machine here; the test below makes them.
  t.ok(worst <= COUNT_BYTES_MAX, `${worst} bytes`);
});

t.test('a direction that is stuck leaves room for the other', async (t) => {
  const received: Promise<string>[] = [];
  const [relay, watches] = await watched(t, (socket) => {
    socket.write(blob);
    received.push(digest(socket));
  });
  const client = await relay.connect();
  client.pause();
  while ((watches[0]?.stalls ?? 0) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const half = blob.subarray(0, 2_000_000);
  client.end(half);
  t.equal(
    await received[0],
    createHash('sha256').update(half).digest('hex'),
    'though the client reads nothing',
  );
  t.equal(watches[0]?.worstBothBytes, COUNT_BYTES_MAX, 'both use all there is, and never more');
  client.resetAndDestroy();
});

t.test('up: slow destinations, many streams on one tunnel', async (t) => {
  const received: Promise<string>[] = [];
  const [relay, watches] = await watched(t, (socket) => {
    const slow = isSlow(received.length);
    const stalls = () => watches.reduce((sum, watch) => sum + watch.stalls, 0);
    received.push(digest(socket, slow ? stalls : undefined).finally(() => socket.end()));
  });
  const write = async (): Promise<void> => {
    const client = await relay.connect();
    client.resume();
    client.end(blob);
    await once(client, 'end');
  };
  await Promise.all(Array.from({ length: STREAMS }, write));
  t.same(await Promise.all(received), Array(STREAMS).fill(blobHash));
  for (const counter of relay.counters) t.equal(await counter.ended, 'finished');
  check(t, relay, watches, 'out');
});
