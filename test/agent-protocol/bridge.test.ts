import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { bridgeSocket } from '../../agent-protocol/bridge.js';
import { adoptSocket } from '../../agent-protocol/raw-socket.js';
import { Verdict } from '../../agent-protocol/verdict.js';
import { listen, type Relay, readAll, startRelay } from './helpers/relay.js';

const sha256 = (...bytes: Buffer[]): string => {
  const hash = createHash('sha256');
  for (const piece of bytes) hash.update(piece);
  return hash.digest('hex');
};

/** Resolves with the error code of a socket that is reset, or 'closed'. */
function fate(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let code = 'closed';
    socket.on('error', (error: NodeJS.ErrnoException) => {
      code = error.code ?? 'error';
    });
    socket.once('close', () => resolve(code));
    socket.resume();
  });
}

async function freed(relay: Relay): Promise<boolean> {
  for (let i = 0; i < 500 && (relay.gateway.streamCount > 0 || relay.agent.streamCount > 0); i++)
    await new Promise((resolve) => setImmediate(resolve));
  return relay.gateway.streamCount === 0 && relay.agent.streamCount === 0;
}

t.test('half-close both ways: a request ended by FIN gets its whole answer', async (t) => {
  let destinationSawEnd = false;
  const relay = await startRelay(t, (socket) => {
    const pieces: Buffer[] = [];
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    socket.on('end', () => {
      destinationSawEnd = true;
      socket.write(sha256(...pieces));
      setTimeout(() => socket.end(' and more'), 20);
    });
  });
  const client = await relay.connect();
  const request = randomBytes(700_000);
  client.end(request);
  t.equal((await readAll(client)).toString(), `${sha256(request)} and more`);
  t.ok(destinationSawEnd);
  const counter = relay.counters[0];
  t.equal(await counter?.ended, 'finished');
  t.equal(counter?.bytesOut, request.length);
  t.equal(counter?.bytesIn, 64 + 9);
  t.same(counter?.ends, ['finished']);
  t.ok(await freed(relay));
});

t.test('the destination may end first', async (t) => {
  let received: Promise<Buffer> | undefined;
  const relay = await startRelay(t, (socket) => {
    socket.end('goodbye');
    received = readAll(socket);
  });
  const client = await relay.connect();
  t.equal((await readAll(client)).toString(), 'goodbye');
  const late = randomBytes(300_000);
  client.end(late);
  t.equal(await relay.counters[0]?.ended, 'finished');
  t.ok((await received)?.equals(late));
  t.ok(await freed(relay));
});

t.test('bytes read behind the request go first', async (t) => {
  const head = randomBytes(400_000);
  const relay = await startRelay(t, (socket) => socket.pipe(socket), { head });
  const client = await relay.connect();
  client.end('then this');
  const answer = await readAll(client);
  t.ok(
    answer.equals(Buffer.concat([head, Buffer.from('then this')])),
    'also when they are more than the window',
  );
  t.equal(await relay.counters[0]?.ended, 'finished');
  t.equal(relay.counters[0]?.bytesOut, head.length + 9);
  t.equal(relay.counters[0]?.bytesIn, head.length + 9);
});

t.test('a client that resets cuts the destination, and the reverse', async (t) => {
  let destinationFate: Promise<string> | undefined;
  let destination: Socket | undefined;
  const relay = await startRelay(t, (socket) => {
    destination = socket;
    destinationFate = fate(socket);
    socket.write('x');
  });
  const client = await relay.connect();
  await once(client, 'data');
  client.resetAndDestroy();
  t.equal(await relay.counters[0]?.ended, 'reset');
  t.equal(await destinationFate, 'ECONNRESET');

  const second = await relay.connect();
  await once(second, 'data');
  const secondFate = fate(second);
  destination?.resetAndDestroy();
  t.equal(await secondFate, 'ECONNRESET');
  t.equal(await relay.counters[1]?.ended, 'reset');
  t.same(relay.counters[1]?.ends, ['reset']);
  t.ok(await freed(relay));
});

t.test('the end of the tunnel resets both sides', async (t) => {
  let destinationFate: Promise<string> | undefined;
  const relay = await startRelay(t, (socket) => {
    destinationFate = fate(socket);
    socket.write('x');
  });
  const client = await relay.connect();
  await once(client, 'data');
  const clientFate = fate(client);
  relay.gateway.destroy();
  t.same(relay.counters[0]?.ends, ['reset'], 'in the same tick');
  t.equal(await clientFate, 'ECONNRESET');
  t.equal(await destinationFate, 'ECONNRESET');
  t.match(await relay.agentHandler.closed, { code: 'connection_lost' });
});

/** libuv says end of file for a reset behind a read that did not fill its buffer; what is written then tells. */
function tellReset(socket: Socket): void {
  socket.once('end', () => socket.write('x'));
}

async function refused(t: Test, direction: 'out' | 'in'): Promise<void> {
  let delivered = 0;
  let destinationFate: Promise<string> | undefined;
  const relay = await startRelay(
    t,
    (socket) => {
      destinationFate = fate(socket);
      tellReset(socket);
      socket.on('data', (piece: Buffer) => {
        delivered += piece.length;
      });
      if (direction === 'in') socket.write(Buffer.alloc(4_000_000));
    },
    { limitBytes: 1_000_000 },
  );
  const client = await relay.connect();
  if (direction === 'in')
    client.on('data', (piece: Buffer) => {
      delivered += piece.length;
    });
  const clientFate = fate(client);
  tellReset(client);
  if (direction === 'out') client.write(Buffer.alloc(4_000_000));
  t.equal(await relay.counters[0]?.ended, 'refused');
  t.match(await clientFate, /^(ECONNRESET|EPIPE)$/);
  t.match(await destinationFate, /^(ECONNRESET|EPIPE)$/);
  const counter = relay.counters[0];
  const counted = direction === 'out' ? counter?.bytesOut : counter?.bytesIn;
  t.ok((counted as number) <= 1_000_000);
  t.ok(delivered <= (counted as number), `${delivered} delivered of ${counted} counted`);
  t.same(counter?.ends, ['refused']);
  t.ok(await freed(relay));
}

t.test('what the observer refuses does not go on, and both sides are reset', async (t) => {
  await t.test('out', async (t) => refused(t, 'out'));
  await t.test('in', async (t) => refused(t, 'in'));
});

t.test('a stalled reader is bounded by its window and holds nobody up', async (t) => {
  const flood = Buffer.alloc(1024 * 1024, 7);
  const windowBytesMax = 512 * 1024;
  const relay = await startRelay(
    t,
    (socket) => {
      const more = (): void => {
        while (!socket.destroyed && socket.write(flood));
      };
      socket.on('drain', more);
      socket.on('data', () => more());
    },
    { limits: { streamWindowBytesMax: windowBytesMax } },
  );
  const stalled = await relay.connect();
  stalled.write('go');
  const reading = await relay.connect();
  reading.write('go');
  let readBytes = 0;
  const enough = new Promise<void>((resolve) => {
    reading.on('data', (piece: Buffer) => {
      readBytes += piece.length;
      if (readBytes > 96 * 1024 * 1024) resolve();
    });
  });
  await enough;
  const counter = relay.counters[0];
  const before = counter?.bytesIn as number;
  const until = readBytes + 16 * 1024 * 1024;
  while (readBytes < until) await new Promise((resolve) => setImmediate(resolve));
  t.equal(counter?.bytesIn, before, 'nothing is counted that the stalled client does not take');
  t.ok(counter?.largestPieceBytes, 'something had come');
  const stream = relay.streams[0];
  t.ok((stream?.windowBytes as number) <= windowBytesMax);

  // It wakes up: what was held comes, exactly counted.
  let late = 0;
  stalled.on('data', (piece: Buffer) => {
    late += piece.length;
  });
  while (late < before + 4 * 1024 * 1024) await new Promise((resolve) => setImmediate(resolve));
  stalled.resetAndDestroy();
  reading.destroy();
  t.equal(await counter?.ended, 'reset');
  t.ok(late <= (counter?.bytesIn as number));
});

t.test('a FIN waits behind what a slow reader has not taken yet', async (t) => {
  const block = randomBytes(64 * 1024);
  let written = 0;
  let heldBack = false;
  const relay = await startRelay(
    t,
    (socket) => {
      const more = (): void => {
        const counted = relay.counters[0]?.bytesIn ?? 0;
        if (written - counted > 300 * 1024) {
          heldBack = true;
          socket.end();
          return;
        }
        written += block.length;
        socket.write(block, () => setTimeout(more, 1));
      };
      socket.once('data', more);
    },
    // Up to half of it may be taken but not yet given back, and the rest must hold what the test holds back.
    { limits: { streamWindowBytes: 4 * 1024 * 1024 } },
  );
  const client = await relay.connect();
  client.pause();
  client.write('go');
  while (relay.streams[0]?.state !== 'finReceived') await new Promise((resolve) => setTimeout(resolve, 5));
  t.ok(heldBack, `${written} bytes written, ${relay.counters[0]?.bytesIn} taken`);
  client.resume();
  const received = await readAll(client);
  client.end();
  t.equal(received.length, written);
  t.equal(await relay.counters[0]?.ended, 'finished');
  t.equal(relay.counters[0]?.bytesIn, written);
  t.ok(relay.counters[0]?.largestPieceBytes as number);
});

t.test('bytes counted are bytes delivered, whatever the pace', async (t) => {
  const relay = await startRelay(t, (socket) => socket.pipe(socket));
  for (const pauseMs of [0, 1, 5]) {
    const client = await relay.connect();
    const bytes = randomBytes(3_000_000);
    const pieces: Buffer[] = [];
    client.on('data', (piece: Buffer) => {
      pieces.push(piece);
      if (pauseMs === 0) return;
      client.pause();
      setTimeout(() => client.resume(), pauseMs);
    });
    client.end(bytes);
    await once(client, 'end');
    const counter = relay.counters.at(-1);
    t.equal(await counter?.ended, 'finished');
    t.ok(Buffer.concat(pieces).equals(bytes));
    t.equal(counter?.bytesIn, bytes.length);
    t.equal(counter?.bytesOut, bytes.length);
  }
});

t.test('a stream that is cut before the bridge resets the socket', async (t) => {
  const relay = await startRelay(t, () => {});
  const stream = relay.gateway.open(
    { host: '127.0.0.1', port: 1, network: 'tcp' },
    { onData: () => {}, onFin: () => {}, onReset: () => {}, onWritable: () => {} },
  );
  stream.reset(0);
  const ends: string[] = [];
  const port = await listen(
    t,
    createServer({ pauseOnConnect: true }, (accepted) => {
      bridgeSocket(adoptSocket(accepted), stream, {
        onBytesIn: () => Verdict.GO,
        onBytesOut: () => Verdict.GO,
        onEnd: (how) => ends.push(how),
      });
    }),
  );
  t.equal(await fate(connect(port, '127.0.0.1')), 'ECONNRESET');
  t.same(ends, ['reset']);
});
