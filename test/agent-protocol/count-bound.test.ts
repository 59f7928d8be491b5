/** What a killed gateway may have counted too much: bytes counted that the operating system does not have. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { COUNT_BYTES_KEPT, COUNT_BYTES_MAX } from '../../agent-protocol/limits.js';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import type { MuxStream } from '../../agent-protocol/stream.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import { type Counter, listen, type Relay, startRelay } from './helpers/relay.js';

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
  /** Given to the buyer's socket. */
  #writtenBytes = 0;

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
      this.#writtenBytes += bytes.length;
      const taken = write(bytes);
      if (!taken) this.stalls++;
      return taken;
    };
    counter.verdict = (direction, bytes) => {
      const { bytesOut, backlogBytes, heldDataBytes } = relay().gateway;
      const left = bytesOut - backlogBytes >= this.#leftAtBytes;
      const outBytes = heldDataBytes + (left ? 0 : this.#sentBytes);
      const inBytes = counter.bytesIn - (this.#writtenBytes - raw.backlogBytes);
      this.#see(direction, bytes + (direction === 'out' ? outBytes : inBytes));
      this.worstBothBytes = Math.max(this.worstBothBytes, bytes + outBytes + inBytes);
      return Verdict.GO;
    };
  }

  #see(direction: 'out' | 'in', bytes: number): void {
    this.worstBytes[direction] = Math.max(this.worstBytes[direction], bytes);
  }
}

/** SHA-256 of all that comes. A slow reader rests before each piece that `rest` gives a promise for. */
async function digest(socket: Socket, rest?: (bytes: number) => Promise<void> | null): Promise<string> {
  const hash = createHash('sha256');
  let bytes = 0;
  const pauseIfAsked = (): void => {
    const over = rest?.(bytes);
    if (!over) return;
    socket.pause();
    void over.then(() => socket.resume());
  };
  pauseIfAsked();
  socket.on('data', (piece: Buffer) => {
    hash.update(piece);
    bytes += piece.length;
    pauseIfAsked();
  });
  await once(socket, 'end');
  return hash.digest('hex');
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/**
 * Rests until the stream has stalled, reads 2 MB, more than the third of its send buffer that the kernel wants
 * free before it takes more, and rests until it has stalled again. Reading no more than that, the receive buffer has
 * no reason to grow until all fits in.
 */
function twoRests(stalls: () => number): (bytes: number) => Promise<void> | null {
  let rests = 0;
  return (bytes) => {
    if (rests === 2 || bytes < rests * 2_000_000) return null;
    rests++;
    const wanted = rests;
    return until(() => stalls() >= wanted);
  };
}

type Options = Pick<NonNullable<Parameters<typeof startRelay>[2]>, 'limits' | 'via'>;

async function watched(
  t: Test,
  destination: (socket: Socket) => void,
  options: Options = {},
): Promise<[Relay, Watch[]]> {
  const watches: Watch[] = [];
  const relay: Relay = await startRelay(t, destination, {
    ...options,
    onStream: (counter, stream) => watches.push(new Watch(counter, stream, () => relay)),
  });
  return [relay, watches];
}

/** Every third stream is a fast one. */
const isSlow = (index: number): boolean => index % 3 > 0;
const SLOW_STREAMS = Array.from({ length: STREAMS }, (_, index) => index).filter(isSlow).length;

function check(t: Test, relay: Relay, watches: Watch[], direction: 'out' | 'in'): void {
  const counted = relay.counters.map(({ bytesOut, bytesIn }) => (direction === 'out' ? bytesOut : bytesIn));
  t.same(counted, Array(STREAMS).fill(STREAM_BYTES), 'counted is what was delivered');
  const worst = Math.max(...watches.map((watch) => watch.worstBytes[direction]));
  // Small frames of others that wait for more to leave with count, too: less than what is kept for them.
  const piece = COUNT_BYTES_MAX - COUNT_BYTES_KEPT;
  t.ok(
    worst >= piece && worst < COUNT_BYTES_MAX,
    `one piece of the largest size and less than ${COUNT_BYTES_KEPT} bytes: ${worst}`,
  );
  const both = Math.max(...watches.map((watch) => watch.worstBothBytes));
  t.ok(both >= worst && both <= COUNT_BYTES_MAX, `both directions together: ${both}`);
  const stalls = watches.map((watch) => watch.stalls);
  t.ok(stalls.filter((count) => count > 1).length >= SLOW_STREAMS, `stalls of the streams: ${stalls}`);
}

t.test('down: slow buyers, many streams on one tunnel', async (t) => {
  const [relay, watches] = await watched(t, (socket) => socket.end(blob));
  const read = async (_: unknown, index: number): Promise<string> => {
    const client = await relay.connect();
    // The streams open in the order in which their clients were accepted.
    const stalls = () => watches[index]?.stalls ?? 0;
    const hash = await digest(client, isSlow(index) ? twoRests(stalls) : undefined);
    client.end();
    return hash;
  };
  t.same(await Promise.all(Array.from({ length: STREAMS }, read)), Array(STREAMS).fill(blobHash));
  for (const counter of relay.counters) t.equal(await counter.ended, 'finished');
  check(t, relay, watches, 'in');
});

/** Rests for a moment after each megabyte. */
function everyMegabyte(): (bytes: number) => Promise<void> | null {
  let nextBytes = 1_000_000;
  return (bytes) => {
    if (bytes < nextBytes) return null;
    nextBytes += 1_000_000;
    return new Promise((resolve) => setTimeout(resolve, 5));
  };
}

t.test('both ways at once', async (t) => {
  const half = blob.subarray(0, STREAM_BYTES / 4);
  const halfHash = createHash('sha256').update(half).digest('hex');
  const received: Promise<string>[] = [];
  const [relay, watches] = await watched(t, (socket) => {
    socket.end(half);
    received.push(digest(socket, everyMegabyte()));
  });
  const exchange = async (): Promise<string> => {
    const client = await relay.connect();
    client.end(half);
    return digest(client, everyMegabyte());
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
  await until(() => (watches[0]?.stalls ?? 0) > 0);
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

/** A forwarder in front of the gateway whose bytes towards the agent can be held. */
class Link {
  #toAgent: Socket | null = null;
  #toGateway: Socket | null = null;

  /** Returns the port that leads to `gatewayPort`. */
  async open(t: Test, gatewayPort: number): Promise<number> {
    const server = createServer((toAgent) => {
      const toGateway = connect({ port: gatewayPort, host: '127.0.0.1' });
      toGateway.on('error', () => {}).on('close', () => toAgent.destroy());
      toAgent.on('close', () => toGateway.destroy());
      toAgent.pipe(toGateway);
      this.#toAgent = toAgent;
      this.#toGateway = toGateway;
      this.release();
    });
    return listen(t, server);
  }
  hold(): void {
    if (this.#toAgent !== null) this.#toGateway?.unpipe(this.#toAgent).pause();
  }
  release(): void {
    if (this.#toAgent !== null) this.#toGateway?.pipe(this.#toAgent);
  }
}

t.test('up: a link that stands still twice, many streams on one tunnel', async (t) => {
  const received: Promise<string>[] = [];
  const link = new Link();
  const [relay, watches] = await watched(
    t,
    (socket) => void received.push(digest(socket).finally(() => socket.end())),
    {
      via: (port) => link.open(t, port),
      // Windows are not in the way: what is sent is more than the kernel takes.
      limits: {
        streamWindowBytes: STREAM_BYTES,
        streamWindowBytesMax: STREAM_BYTES,
        tunnelWindowBytesMax: STREAMS * STREAM_BYTES,
      },
    },
  );
  const clients = await Promise.all(Array.from({ length: STREAMS }, () => relay.connect()));
  const ends = clients.map(async (client) => {
    client.resume();
    client.write(blob.subarray(0, 1_000));
    await once(client, 'end');
  });
  await until(
    () => relay.counters.length === STREAMS && relay.counters.every((counter) => counter.bytesOut > 0),
  );
  for (const client of clients) client.end(blob.subarray(1_000));
  for (const stalls of [1, 2]) {
    link.hold();
    await until(() => watches.every((watch) => watch.stalls >= stalls));
    link.release();
    await until(() => relay.gateway.backlogBytes === 0);
  }
  await Promise.all(ends);
  t.same(await Promise.all(received), Array(STREAMS).fill(blobHash));
  for (const counter of relay.counters) t.equal(await counter.ended, 'finished');
  check(t, relay, watches, 'out');
});
