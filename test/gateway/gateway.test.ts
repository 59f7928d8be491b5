/** The gateway as a whole, with devices that know only SPEC.md: plain `ws` and msgpack. */
import { once } from 'node:events';
import { connect as dialTcp, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { unpack } from 'msgpackr';
import t from 'tap';
import { publishCommand } from '../../gateway/live/commands.js';
import { writeAccount, writeProviderPrice } from '../../gateway/live/store.js';
import { type GatewayRig, startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';
import { stopwatch } from '../helpers/stopwatch.js';

const HOST = 'example.org';
let rig: GatewayRig;

t.before(async () => {
  rig = await startGatewayRig();
});
t.teardown(() => rig?.stop());

async function device(fields: Parameters<GatewayRig['ticket']>[0] = {}) {
  const { text, record } = await rig.ticket(fields);
  const plain = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  const welcome = await plain.greet();
  return { plain, record, welcome };
}

function connect(username = rig.username) {
  return socksConnect({
    proxyPort: rig.gateway.proxyPort,
    username,
    password: rig.password,
    host: HOST,
    port: 443,
  });
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {});
  await new Promise<void>((resolve) => {
    socket.once('end', resolve);
    socket.once('close', () => resolve());
  });
  return Buffer.concat(chunks);
}

/** `events.once` would reject on the reset that these tests provoke. */
function closed(socket: Socket): Promise<void> {
  socket.on('error', () => {});
  return new Promise((resolve) => {
    socket.once('close', () => resolve());
  });
}

async function until<T>(probe: () => Promise<T | undefined | false | null>, what: string): Promise<T> {
  for (let tries = 0; tries < 200; tries++) {
    const value = await probe();
    if (value) return value;
    await delay(25);
  }
  throw new Error(`never: ${what}`);
}

/** No device left from a subtest: the next one finds only its own. */
async function gone(plain: PlainDevice): Promise<void> {
  plain.socket.terminate();
  await until(async () => (await rig.status()).tunnels === 0, 'the tunnel is gone');
}

t.test('a device on plain ws carries streams: data, half-close, counts', async (t) => {
  const { plain, record, welcome } = await device({ country: 'US' });
  plain.echo();
  t.equal(welcome.session_id, record.sessionId);
  t.equal(welcome.gateway_id, 'test');
  const { socket, reply } = await connect();
  t.equal(reply, 0);
  const open = await plain.next((frame) => frame.type === 4);
  t.match(unpack(open.payload), { host: HOST, port: 443, network: 'tcp' });
  const sent = Buffer.alloc(700_000, 'abc');
  socket.end(sent);
  t.ok(sent.equals(await readAll(socket)), 'echoed, also after the buyer closed its side');
  const meter = await until(
    async () =>
      (await rig.meters()).find((m) => m.sessionId === record.sessionId && m.bytesDown === sent.length),
    'the counts are in Redis',
  );
  t.match(meter, {
    bytesUp: sent.length,
    bytesDown: sent.length,
    buyerId: rig.account.buyerId,
    providerPriceMicrosPerGb: '500000',
    buyerPriceMicrosPerGb: '2000000',
    final: false,
  });
  await gone(plain);
});

t.test(
  'a device that opens and resets in one breath: plain HTTP is told, and does not wait for ever',
  async (t) => {
    const { plain } = await device();
    plain.onFrame = ({ type, streamId }) => {
      if (type !== 4) return;
      plain.sendTogether([
        [5, streamId, Buffer.of(0)],
        [8, streamId, Buffer.of(1)],
      ]);
    };
    const login = Buffer.from(`${rig.username}:${rig.password}`).toString('base64');
    for (let i = 0; i < 5; i++) {
      const socket = dialTcp(rig.gateway.proxyPort, '127.0.0.1');
      socket.write(
        `GET http://${HOST}/ HTTP/1.1\r\nHost: ${HOST}\r\nProxy-Authorization: Basic ${login}\r\n\r\n`,
      );
      const [answer] = (await once(socket, 'data')) as [Buffer];
      t.match(answer.toString(), /^HTTP\/1\.1 502 .*\r\n[\s\S]*PEER_DROPPED/);
      socket.destroy();
    }
    await until(async () => (await rig.status()).connections === 0, 'no connection is left');
    await gone(plain);
  },
);

t.test('a buyer that resets while its device takes nothing is gone within seconds', async (t) => {
  const { plain, record } = await device();
  plain.onFrame = ({ type, streamId }) => {
    if (type === 4) plain.send(5, streamId, Buffer.of(0));
  };
  const { socket, reply } = await connect();
  t.equal(reply, 0);
  const counted = async () =>
    (await rig.meters()).find((m) => m.sessionId === record.sessionId)?.bytesUp ?? 0;
  // More than window and read buffers: the device gives no credit, so the gateway stops to read.
  socket.write(Buffer.alloc(8 << 20));
  const arrived = () =>
    plain.frames.filter(({ type }) => type === 6).reduce((n, f) => n + f.payload.length, 0);
  const stopped = await until(
    async () => arrived() > 0 && (await counted()) === arrived() && arrived(),
    'stalled',
  );
  socket.resetAndDestroy();
  const took = stopwatch();
  await plain.next((frame) => frame.type === 8);
  t.ok(took() < 8_000, 'and the device is told');
  t.equal(arrived(), stopped, 'nothing else came');
  await until(async () => (await rig.status()).connections === 0, 'no connection is left');
  await gone(plain);
});

t.test('a stream that is ended and reset in one breath leaves no connection behind', async (t) => {
  const { plain } = await device();
  plain.echo();
  const { socket, reply } = await connect();
  t.equal(reply, 0);
  socket.write('ping');
  await once(socket, 'data');
  const { streamId } = await plain.next((frame) => frame.type === 4);
  const left = closed(socket);
  plain.sendTogether([
    [7, streamId],
    [8, streamId, Buffer.of(1)],
  ]);
  socket.resume();
  await until(async () => (await rig.status()).connections === 0, 'the connection is gone');
  socket.write('on');
  await left;
  await gone(plain);
});

t.test('tickets: none, unknown, used', async (t) => {
  const refused = Object.assign(new Error('refused'), { status: 401 });
  await t.rejects(PlainDevice.connect(rig.gateway.tunnelPort, null), refused);
  await t.rejects(PlainDevice.connect(rig.gateway.tunnelPort, 'made-up'), refused);
  const { text } = await rig.ticket();
  const first = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  await t.rejects(PlainDevice.connect(rig.gateway.tunnelPort, text), refused);
  first.socket.terminate();
});

t.test('a second tunnel of the same device replaces the first', async (t) => {
  const { plain: first, record } = await device();
  first.echo();
  const { socket } = await connect();
  const lost = readAll(socket);
  socket.on('error', () => {});
  const { plain: second } = await device(record);
  await first.untilClosed();
  t.match(first.goaway, { code: 'replaced' });
  await lost;
  t.equal((await rig.status()).tunnels, 1);
  second.echo();
  t.equal((await connect()).reply, 0, 'the new tunnel serves');
  await gone(second);
});

t.test('a device that pauses gets no new streams', async (t) => {
  const { plain } = await device();
  plain.echo();
  plain.status({ paused: true });
  t.ok(await until(async () => (await connect()).reply === 3, 'NO_PEER while paused'));
  plain.status({ paused: false });
  t.ok(await until(async () => (await connect()).reply === 0, 'served again'));
  await gone(plain);
});

t.test('a package that is used up ends its streams at its size', async (t) => {
  const size = 300_000;
  const { plain, record } = await device({ offerBytes: size });
  plain.echo();
  const { socket } = await connect();
  socket.on('error', () => {});
  const got = readAll(socket);
  for (let i = 0; i < 10 && !socket.destroyed; i++) {
    socket.write(Buffer.alloc(50_000));
    await delay(20);
  }
  await got;
  const counted = await until(async () => {
    const meters = (await rig.meters()).filter((m) => m.sessionId === record.sessionId);
    const bytes = meters.reduce((sum, m) => sum + m.bytesUp + m.bytesDown, 0);
    return bytes > size / 2 ? bytes : null;
  }, 'what was let through is delivered');
  t.ok(counted <= size, `${counted} of ${size} bytes`);
  await gone(plain);
});

t.test('stop_session: GOAWAY, streams cut, meters FINAL', async (t) => {
  const { plain, record } = await device();
  plain.echo();
  const { socket } = await connect();
  socket.on('error', () => {});
  socket.write('hello');
  await once(socket, 'data');
  const ended = closed(socket);
  const tookMs = stopwatch();
  await publishCommand(rig.redis, { kind: 'stop_session', sessionId: record.sessionId, reason: 'stopped' });
  await plain.untilClosed();
  await ended;
  t.ok(tookMs() < 1_000, 'within a second');
  t.match(plain.goaway, { code: 'stopped' });
  const meter = await until(
    async () => (await rig.meters()).find((m) => m.sessionId === record.sessionId && m.final),
    'a final report',
  );
  t.match(meter, { bytesUp: 5, bytesDown: 5, allocationEnded: true });
});

t.test('a suspended account loses its open streams within a second', async (t) => {
  const { plain } = await device();
  plain.echo();
  const { socket } = await connect();
  socket.on('error', () => {});
  const ended = closed(socket);
  const tookMs = stopwatch();
  await writeAccount(rig.redis, { ...rig.account, status: 'suspended', version: 2 });
  await publishCommand(rig.redis, { kind: 'account_changed', account: rig.account.account });
  await ended;
  t.ok(tookMs() < 1_000);
  t.equal((await connect()).auth, 3, 'ACCOUNT_SUSPENDED');
  await writeAccount(rig.redis, { ...rig.account, version: 3 });
  await publishCommand(rig.redis, { kind: 'account_changed', account: rig.account.account });
  await until(async () => (await connect()).reply === 0, 'let in again');
  await gone(plain);
});

t.test('a price change closes the meter and opens another; no byte is in both', async (t) => {
  const { plain, record } = await device();
  plain.echo();
  const { socket } = await connect();
  socket.write('before');
  await once(socket, 'data');
  await writeProviderPrice(rig.redis, { microsPerGb: '600000', effectiveFromMs: Date.now() });
  await publishCommand(rig.redis, { kind: 'price_changed' });
  await until(
    async () => (await rig.meters()).some((m) => m.sessionId === record.sessionId && m.final),
    'the old meter is final',
  );
  socket.write('afterwards');
  await once(socket, 'data');
  const meters = await until(async () => {
    const mine = (await rig.meters()).filter((m) => m.sessionId === record.sessionId);
    return mine.length === 2 && mine.some((m) => m.bytesUp === 10) && mine;
  }, 'two meters');
  const byPrice = new Map(meters.map((m) => [m.providerPriceMicrosPerGb, m]));
  t.match(byPrice.get('500000'), { bytesUp: 6, bytesDown: 6, final: true, allocationEnded: false });
  t.match(byPrice.get('600000'), { bytesUp: 10, bytesDown: 10, final: false });
  socket.destroy();
  await gone(plain);
});

t.test('a destination that speaks first in the same message burst as OPENED is not cut short', async (t) => {
  const { plain } = await device();
  plain.onFrame = ({ type, streamId }) => {
    if (type !== 4) return;
    plain.send(5, streamId, Buffer.from([0]));
    plain.send(6, streamId, Buffer.from('220 greeting\r\n'));
    plain.send(7, streamId);
  };
  const { socket, reply } = await connect();
  t.equal(reply, 0);
  t.equal((await readAll(socket)).toString(), '220 greeting\r\n');
  await gone(plain);
});

t.test('each dial code is the error that buyers see', async (t) => {
  const { plain } = await device();
  // REFUSED, PROHIBITED end it; the others may be tried elsewhere, but there is no other device.
  const replies: Array<[number, number]> = [
    [1, 4],
    [2, 5],
    [3, 3],
    [4, 4],
    [5, 2],
    [9, 1],
  ];
  for (const [dialCode, reply] of replies) {
    plain.onFrame = ({ type, streamId }) => {
      if (type === 4) plain.send(5, streamId, Buffer.from([dialCode]));
    };
    t.equal((await connect()).reply, reply, `dial code ${dialCode}`);
  }
  await gone(plain);
});

t.test('drain: devices are told, a live stream finishes, then the gateway ends', async (t) => {
  const { plain, record } = await device();
  plain.echo();
  const { socket } = await connect();
  socket.write('before');
  await once(socket, 'data');
  const stopped = rig.gateway.stop(10_000);
  const drain = await plain.next((frame) => frame.type === 13);
  // What is left of the ten seconds when it is told.
  const { deadline_ms: deadlineMs } = unpack(drain.payload) as { deadline_ms: number };
  t.ok(deadlineMs > 5_000 && deadlineMs <= 10_000, `${deadlineMs}`);
  socket.write('during');
  t.equal(String((await once(socket, 'data'))[0]), 'during', 'the live stream goes on');
  await t.rejects(connect(), { code: 'ECONNREFUSED' }, 'no new connections');
  const endedMs = performance.now();
  socket.end();
  await readAll(socket);
  await stopped;
  t.ok(performance.now() - endedMs < 8_000, 'it does not wait for the deadline');
  const meter = (await rig.meters()).find((m) => m.sessionId === record.sessionId);
  t.match(meter, { bytesUp: 12, bytesDown: 12, final: true }, 'the last counts were delivered');
  await rig.restart();
});

t.test('counts survive a restart of the gateway and are delivered as FINAL', async (t) => {
  const { plain, record } = await device();
  plain.echo();
  const { socket } = await connect();
  socket.on('error', () => {});
  socket.write('kept');
  await once(socket, 'data');
  await rig.restart();
  const meter = await until(
    async () => (await rig.meters()).find((m) => m.sessionId === record.sessionId && m.final),
    'the meter is FINAL',
  );
  t.match(meter, { bytesUp: 4, bytesDown: 4 });
});

t.test('what came of it is in the metrics', async (t) => {
  const metrics = async () => {
    const url = `http://127.0.0.1:${rig.gateway.metricsPort}/metrics`;
    const text = await (await fetch(url, { headers: { connection: 'close' } })).text();
    return (series: string) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.split(' ')[1],
      );
  };
  const reached = async (series: string, value: number) =>
    until(async () => (await metrics())(series) === value, `${series} is ${value}`);
  t.ok(Number.isNaN((await metrics())('ts_devices{country="US",state="sharing"}')), 'no device, no series');
  const start = await metrics();

  const { plain } = await device({ country: 'US' });
  plain.echo();
  t.equal((await metrics())('ts_devices{country="US",state="sharing"}'), 1);
  const served = await connect();
  served.socket.end(Buffer.alloc(700_000));
  t.equal((await readAll(served.socket)).length, 700_000);
  const ended = 'ts_streams_ended_total{how="finished"}';
  await reached(ended, start(ended) + 1);
  const throughput = 'ts_stream_throughput_bytes_per_second_count{direction="down"}';
  await reached(throughput, start(throughput) + 1);

  plain.onFrame = ({ type, streamId }) => {
    if (type === 4) plain.send(5, streamId, Buffer.of(0));
  };
  const stalled = await connect();
  stalled.socket.on('error', () => {});
  const stalls = 'ts_credit_stalls_total{direction="up"}';
  const stallsBefore = (await metrics())(stalls);
  stalled.socket.write(Buffer.alloc(8 << 20)); // the device gives no credit
  await reached(stalls, stallsBefore + 1);
  stalled.socket.resetAndDestroy();
  const cut = 'ts_streams_ended_total{how="reset"}';
  await reached(cut, start(cut) + 1);

  const before = await metrics();
  t.equal(before('ts_dials_total{result="ok"}') - start('ts_dials_total{result="ok"}'), 2);
  t.equal(before('ts_redis_connected{connection="live"}'), 1);
  t.equal(before('ts_redis_connected{connection="commands"}'), 1);

  plain.onFrame = ({ type, streamId }) => {
    if (type === 4) plain.send(5, streamId, Buffer.of(2));
  };
  t.equal((await connect()).reply, 5);
  const after = await metrics();
  const gained = (series: string) => after(series) - before(series);
  t.equal(gained('ts_dials_total{result="refused"}'), 1);
  t.equal(gained('ts_refusals_total{code="REFUSED"}'), 1);
  t.equal(gained('ts_connections_total{outcome="REFUSED"}'), 1);
  t.equal(gained('ts_dials_total{result="ok"}'), 0);
  const { reply } = await socksConnect({
    proxyPort: rig.gateway.proxyPort,
    username: rig.username,
    password: 'wrong',
    host: HOST,
    port: 443,
  }).catch(() => ({ reply: -1 }));
  t.not(reply, 0);
  t.equal(
    (await metrics())('ts_refusals_total{code="AUTH_FAILED"}') -
      before('ts_refusals_total{code="AUTH_FAILED"}'),
    1,
  );
  await gone(plain);
  await reached(stalls, stallsBefore + 1); // a tunnel that is gone keeps its counts here
});
