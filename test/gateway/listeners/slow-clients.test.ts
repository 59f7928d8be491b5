/** 5 000 clients that never finish their request beside 1 000 good ones, at the listener's own default limits. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  basic,
  certificate,
  eventually,
  SOCKS_SUCCESS,
  socksRequest,
  startEchoServer,
  startListener,
} from './fake-pipeline.js';

const SLOW = 5_000;
const GOOD = 1_000;
/** Between two connections of a good client. They go on as long as there are slow ones. */
const GOOD_PAUSE_MS = 2_500;
const SLOW_GONE_WITHIN_MS = 15_000;
const SERVED_MIN = 0.999;

/** What slow clients begin with; then comes a byte now and then. */
const SLOW_STARTS = [
  Buffer.from(`CONNECT a.test:443 HTTP/1.1\r\nProxy-Authorization: ${basic()}\r\nX-Slow: `),
  Buffer.from('GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX-Slow: '),
  Buffer.from([5, 255]),
  Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
  Buffer.alloc(0),
];

interface SlowClient {
  socket: Socket;
  /** When it was closed, ms after it had been opened. */
  gone: Promise<number>;
}

/** Opens sockets a few at a time: thousands of SYNs at once would wait for each other in the kernel. */
async function openSlowClients(t: Test, port: number): Promise<SlowClient[]> {
  const clients: SlowClient[] = [];
  t.teardown(() => clients.forEach(({ socket }) => void socket.destroy()));
  while (clients.length < SLOW) {
    const some = Array.from({ length: 250 }, (_, i) => {
      const host = `127.0.1.${1 + ((clients.length + i) % 10)}`;
      return connect({ port, host: '127.0.0.1', localAddress: host, noDelay: true });
    });
    await Promise.all(some.map((socket) => once(socket, 'connect')));
    for (const socket of some) {
      socket.on('error', () => {});
      socket.resume();
      socket.write(SLOW_STARTS[clients.length % SLOW_STARTS.length] as Buffer);
      const openedAtMs = performance.now();
      // Not `once` of node:events, for which an error comes first: a byte on its way to who closes makes it a reset.
      const gone = new Promise<number>((resolve) => {
        socket.once('close', () => resolve(performance.now() - openedAtMs));
      });
      clients.push({ socket, gone });
    }
  }
  return clients;
}

/** One good connection: login, request, a kilobyte there and back. */
async function serveOne(port: number, client: number, destinationPort: number): Promise<boolean> {
  const localAddress = `127.0.2.${1 + (client % 4)}`;
  const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true });
  socket.on('error', () => {});
  const payload = Buffer.alloc(1_024, client & 255);
  const request =
    client % 2 === 0
      ? socksRequest('a.test', destinationPort)
      : Buffer.from(
          `CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: ${basic()}\r\n\r\n`,
        );
  socket.write(Buffer.concat([request, payload]));
  let received = Buffer.alloc(0);
  const served = await new Promise<boolean>((resolve) => {
    socket.once('close', () => resolve(false));
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      const head = client % 2 === 0 ? SOCKS_SUCCESS.length : received.indexOf('\r\n\r\n') + 4;
      if (received.length >= head + payload.length && received.subarray(-payload.length).equals(payload))
        resolve(true);
    });
  });
  socket.destroy();
  return served;
}

t.test('slow clients are gone within their time, and good ones are served meanwhile', async (t) => {
  const destinationPort = await startEchoServer(t);
  // The clients take most of this process's time: that they have to wait is not what is looked at.
  const settings = { acceptWaitMsMax: 0 };
  const { port, listener } = await startListener(t, { certificate: () => certificate, settings });
  let attackOver = false;
  t.teardown(() => {
    attackOver = true;
  });
  const served: boolean[] = [];
  const good = Promise.all(
    Array.from({ length: GOOD }, async (_, client) => {
      await delay((client * GOOD_PAUSE_MS) / GOOD);
      while (!attackOver) {
        served.push(await serveOne(port, client, destinationPort));
        await delay(GOOD_PAUSE_MS);
      }
    }),
  );
  let strangersMost = 0;
  const watch = setInterval(() => {
    strangersMost = Math.max(strangersMost, listener.strangerCount);
  }, 20);
  t.teardown(() => clearInterval(watch));

  const slow = await openSlowClients(t, port);
  const trickle = setInterval(() => {
    for (const { socket } of slow) if (socket.writable) socket.write('x');
  }, 2_000);
  t.teardown(() => clearInterval(trickle));
  const tookMs = await Promise.all(slow.map(({ gone }) => gone));
  attackOver = true;
  await good;

  const longestMs = Math.round(tookMs.reduce((longest, ms) => Math.max(longest, ms), 0));
  t.equal(tookMs.length, SLOW);
  t.ok(longestMs <= SLOW_GONE_WITHIN_MS, `the last slow one was gone after ${longestMs} ms`);
  t.ok(strangersMost > SLOW / 5, `at most ${strangersMost} strangers at once`);
  t.ok(served.length > 2 * GOOD, `${served.length} good connections meanwhile`);
  const share = served.filter(Boolean).length / served.length;
  t.ok(share >= SERVED_MIN, `${share * 100} % of them served`);
  await eventually(() => listener.connectionCount === 0);
  const { deadlines, droppedEarly, dropped } = listener.counts;
  t.equal(deadlines, SLOW, 'each slow one went by its deadline');
  t.same([droppedEarly, dropped], [0, 0]);
});
