/** A reader that does not read: it is held to a bound, told the truth when it reads again, and cut when it never does. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import t, { type Test } from 'tap';
import type { LiveActor } from '../../../control-plane/live-feed/actors.js';
import type { EventStream } from '../../../control-plane/live-feed/event-stream.js';
import type { LiveFigures } from '../../../control-plane/live-feed/figures.js';
import { LiveHub } from '../../../control-plane/live-feed/hub.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';

const SETTINGS = {
  intervalMs: 20,
  heartbeatMs: 60_000,
  stallMs: 60_000,
  lifeMs: 60_000,
  streamsMax: 10,
  streamsPerActorMax: 10,
};
const ACTOR: LiveActor = { role: 'user', userId: 'u1', loginId: null };
/** Of one event: more than any buffer between two sockets of one machine grows to in a few looks. */
const BIG = 2_000_000;

function startHub(settings: Partial<typeof SETTINGS> = {}): { hub: LiveHub; looks: () => number } {
  let looks = 0;
  const hub = new LiveHub({
    clock: systemClock,
    log: silentLog,
    settings: { ...SETTINGS, ...settings },
    findEnded: async () => new Map(),
    read: async (): Promise<LiveFigures> => {
      looks++;
      const members = { nth: looks, ballast: String(looks % 10).repeat(BIG) };
      return new Map([['user:u1', { bytesToday: 0n, members }]]);
    },
  });
  return { hub, looks: () => looks };
}

async function serve(t: Test, hub: LiveHub): Promise<{ port: number; streams: EventStream[] }> {
  const streams: EventStream[] = [];
  const server = createServer((_request, response) => {
    const stream = hub.join(ACTOR) as EventStream;
    streams.push(stream);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    stream.pipe(response);
    response.once('close', () => stream.destroy());
    stream.once('close', () => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.closeAllConnections());
  t.teardown(() => server.close());
  t.teardown(() => hub.stop());
  return { port: (server.address() as AddressInfo).port, streams };
}

function deaf(port: number) {
  const socket = connect(port, '127.0.0.1');
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  socket.on('error', () => {});
  return socket;
}

t.test('what waits for it is one event, and later it is told what is true then', async (t) => {
  const { hub, looks } = startHub();
  const { port, streams } = await serve(t, hub);
  const socket = deaf(port);
  t.teardown(() => socket.destroy());
  while (!streams[0] || streams[0].fullForMs === 0) await new Promise((done) => setTimeout(done, 10));
  const [stream] = streams as [EventStream];
  const before = looks();
  while (looks() < before + 20) await new Promise((done) => setTimeout(done, 10));
  t.ok(stream.readableLength < BIG + 100_000, `${stream.readableLength} bytes wait after 20 more looks`);
  let text = '';
  const since = looks();
  socket.on('data', (chunk: Buffer) => {
    text = (text + chunk).slice(-3 * BIG);
  });
  socket.resume();
  const nthOf = () => [...text.matchAll(/"nth":(\d+)/g)].map(([, nth]) => Number(nth));
  while (Math.max(0, ...nthOf()) < since) await once(socket, 'data');
  t.pass('it is up to date again');
});

t.test('one that never reads is cut', async (t) => {
  const { hub } = startHub({ stallMs: 200 });
  const { port, streams } = await serve(t, hub);
  const socket = deaf(port);
  t.teardown(() => socket.destroy());
  while (!streams[0]) await new Promise((done) => setTimeout(done, 10));
  await once(streams[0], 'close');
  t.equal(hub.size, 0);
});

t.test('the end of the hub does not wait for one that never reads', async (t) => {
  const { hub } = startHub();
  const { port, streams } = await serve(t, hub);
  const socket = deaf(port);
  t.teardown(() => socket.destroy());
  while (!streams[0] || streams[0].fullForMs === 0) await new Promise((done) => setTimeout(done, 10));
  const startMs = performance.now();
  await hub.stop();
  t.ok(performance.now() - startMs < 3_000);
  t.equal(hub.join(ACTOR), null, 'and takes no more');
});

t.test('what can not be read is looked for at the usual pace, and told when it can be again', async (t) => {
  let [looks, away] = [0, true];
  const hub = new LiveHub({
    clock: systemClock,
    log: silentLog,
    settings: { ...SETTINGS, intervalMs: 200, heartbeatMs: 100 },
    findEnded: async () => new Map(),
    read: async (): Promise<LiveFigures> => {
      looks++;
      if (away) throw new Error('away');
      return new Map([['user:u1', { bytesToday: 0n, members: { looks } }]]);
    },
  });
  t.teardown(() => hub.stop());
  const stream = hub.join(ACTOR) as EventStream;
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk;
  });
  const startMs = performance.now();
  while (looks < 4) await new Promise((done) => setTimeout(done, 10));
  t.ok(performance.now() - startMs > 2.5 * 200, 'not at once again');
  t.notMatch(text, /data:/);
  t.match(text, /^: $/m, 'the connection is kept alive meanwhile');
  away = false;
  // The hub's timer keeps no process alive: in life the sockets do.
  while (!text.includes('event: snapshot')) await new Promise((done) => setTimeout(done, 10));
  t.pass('the state, as soon as it is known');
});

t.test('nobody listens: nothing is looked at', async (t) => {
  const { hub, looks } = startHub();
  const stream = hub.join(ACTOR) as EventStream;
  stream.resume();
  while (looks() < 3) await new Promise((done) => setTimeout(done, 10));
  stream.destroy();
  await once(stream, 'close');
  await new Promise((done) => setTimeout(done, 50)); // a look that was under way
  const after = looks();
  await new Promise((done) => setTimeout(done, 10 * SETTINGS.intervalMs));
  t.equal(looks(), after);
  await hub.stop();
});
