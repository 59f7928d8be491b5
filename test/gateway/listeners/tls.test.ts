/** TLS on the proxy port: everything that works in the clear works inside it. */
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { WebSocketServer } from 'ws';
import type { RawSocket } from '../../../agent-protocol/raw-socket.js';
import type { Connected } from '../../../gateway/listeners/connect-pipeline.js';
import type { Log } from '../../../gateway/runtime/logging.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { stopwatch } from '../../helpers/stopwatch.js';
import { testCertificate } from '../../helpers/test-certificate.js';
import {
  basic,
  certificate,
  eventually,
  FakePipeline,
  SOCKS_SUCCESS,
  socksRequest,
  startEchoServer,
  startListener,
  startServer,
  TestClient,
} from './fake-pipeline.js';

const LOGIN = `Proxy-Authorization: ${basic()}\r\n`;
const tlsOn = { certificate: () => certificate };

t.test('SOCKS5, CONNECT and plain HTTP inside TLS; half-close both ways', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port } = await startListener(t, tlsOn);
  const payload = Buffer.alloc(1_000_000, 'abcdefg');

  const socks = await TestClient.connectTls(t, port);
  socks.send(socksRequest('a.test', destinationPort));
  t.same(await socks.bytes(SOCKS_SUCCESS.length), SOCKS_SUCCESS);
  socks.socket.end(payload);
  const received = (await socks.end()).subarray(SOCKS_SUCCESS.length);
  t.ok(received.equals(payload), 'what was sent before the end arrives, and the answer comes back');

  const connectClient = await TestClient.connectTls(t, port);
  connectClient.send(`CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\nearly`);
  t.match(await connectClient.match(/early$/), /^HTTP\/1\.1 200 Connection established\r\n/);

  const originPort = await startServer(
    t,
    createServer((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')),
    ),
  );
  const plain = await TestClient.connectTls(t, port);
  for (let i = 1; i <= 2; i++) {
    plain.send(`GET http://a.test:${originPort}/ HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
    await plain.until(() => plain.text.split('\r\n\r\nok').length === i + 1);
  }
  t.match(plain.text, /^HTTP\/1\.1 200 OK\r\n/);
});

t.test('upgrades and 100-continue inside TLS', async (t) => {
  const { port } = await startListener(t, tlsOn);
  const sockets = new WebSocketServer({ noServer: true });
  const origin = createHttpServer((req, res) => void req.pipe(res));
  origin.on('upgrade', (req, socket, head) =>
    sockets.handleUpgrade(req, socket, head, (ws) => ws.on('message', (data) => ws.send(data))),
  );
  const originPort = await startServer(t, origin);
  const upgraded = await TestClient.connectTls(t, port);
  upgraded.send(
    `GET http://a.test:${originPort}/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${LOGIN}\r\n`,
  );
  t.match(await upgraded.match(/\r\n\r\n$/), /^HTTP\/1\.1 101 Switching Protocols\r\n/);
  // A masked text frame with a mask of zeros, RFC 6455 section 5.2.
  upgraded.send(Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from('hello')]));
  await upgraded.match(/hello$/);

  const uploading = await TestClient.connectTls(t, port);
  uploading.send(
    `POST http://a.test:${originPort}/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n${LOGIN}\r\n`,
  );
  await uploading.match(/^HTTP\/1\.1 100 Continue\r\n\r\n$/);
  uploading.send('body');
  await uploading.match(/HTTP\/1\.1 200 OK\r\n[\s\S]*body/);
});

t.test('all at once, and byte by byte, on the TCP level', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port } = await startListener(t, tlsOn);
  // A middle man who forwards the client's bytes one at a time.
  const middlePort = await startServer(t, createServer(), (client) => {
    const proxy = connect({ port, host: '127.0.0.1', noDelay: true });
    t.teardown(() => proxy.destroy());
    proxy.on('error', () => {});
    proxy.pipe(client);
    client.on('data', (chunk) => {
      for (const byte of chunk) proxy.write(Buffer.from([byte]));
    });
  });
  const client = await TestClient.connectTls(t, middlePort);
  client.send(Buffer.concat([socksRequest('a.test', destinationPort), Buffer.from('early')]));
  const all = await client.bytes(SOCKS_SUCCESS.length + 5);
  t.same(all, Buffer.concat([SOCKS_SUCCESS, Buffer.from('early')]));
});

t.test('ALPN: http/1.1 is chosen; who offers only others is told so; none is fine', async (t) => {
  const { port } = await startListener(t, tlsOn);
  const chosen = async (protocols: string[]) => {
    const client = connectTls({
      port,
      host: '127.0.0.1',
      ca: testCertificate.cert,
      ALPNProtocols: protocols,
    });
    t.teardown(() => client.destroy());
    await once(client, 'secureConnect');
    return client.alpnProtocol;
  };
  t.equal(await chosen(['h2', 'http/1.1']), 'http/1.1');
  t.equal(await chosen([]), false);
  await t.rejects(chosen(['h2']), { code: 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL' });
});

t.test('versions before TLS 1.2 are refused', async (t) => {
  const { port, listener } = await startListener(t, tlsOn);
  await t.rejects(
    TestClient.connectTls(t, port, {
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT:@SECLEVEL=0',
    }),
    /alert|protocol/i,
  );
  await eventually(() => listener.counts.tlsFailures === 1);
});

t.test('no certificate: a TLS alert, one warning for the operator, nothing left', async (t) => {
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (_fields, event) => warnings.push(event) };
  const { port, listener } = await startListener(t, { log });
  for (let i = 0; i < 2; i++)
    await t.rejects(TestClient.connectTls(t, port), { code: 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE' });
  await eventually(() => listener.connectionCount === 0);
  t.same(warnings, ['tls_refused_no_certificate']);
  t.equal(listener.counts.tlsFailures, 2);
});

t.test('TLS inside TLS is not spoken; SOCKS4 inside gets its refusal', async (t) => {
  const { port, listener } = await startListener(t, tlsOn);
  const twice = await TestClient.connectTls(t, port);
  twice.send(Buffer.from([0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]));
  t.equal((await twice.end()).length, 0);
  const socks4 = await TestClient.connectTls(t, port);
  socks4.send(Buffer.from([4, 1, 0, 80, 0, 0, 0, 1, 0]));
  t.same(await socks4.end(), Buffer.from([0, 0x5b, 0, 0, 0, 0, 0, 0]));
  socks4.socket.end();
  await eventually(() => listener.connectionCount === 0);
});

t.test('who ends in the middle of the handshake is not waited for', async (t) => {
  const { port, listener } = await startListener(t, { ...tlsOn, settings: { handshakeTimeoutMs: 60_000 } });
  // The beginning of a ClientHello, of which the rest can not come any more.
  const hello = Buffer.from([0x16, 3, 1, 0, 100, 1, 0, 0, 96, 3, 3]);
  for (const part of [hello.subarray(0, 1), hello]) {
    const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    client.on('error', () => {});
    await once(client, 'connect');
    client.write(part);
    await eventually(() => listener.connectionCount === 1);
    client.end();
    client.resume();
    await once(client, 'close');
    await eventually(() => listener.connectionCount === 0);
  }
  t.match(listener.counts, { deadlines: 0, tlsFailures: 2 });
});

t.test('who resets the connection behind a request inside TLS leaves nothing behind', async (t) => {
  const originPort = await startServer(
    t,
    createServer((socket) =>
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')),
    ),
  );
  const { port, listener } = await startListener(t, tlsOn);
  const tcp = connect({ port, host: '127.0.0.1' });
  tcp.on('error', () => {});
  const client = connectTls({ socket: tcp, rejectUnauthorized: false });
  client.on('error', () => {});
  await once(client, 'secureConnect');
  client.write(`GET http://a.test:${originPort}/ HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
  tcp.resetAndDestroy();
  await eventually(() => listener.connectionCount === 0);
  t.equal(listener.strangerCount, 0);
});

t.test('one deadline for handshake and request together', async (t) => {
  const { port, listener } = await startListener(t, { ...tlsOn, settings: { handshakeTimeoutMs: 400 } });
  const tookMs = stopwatch();
  const silent = await TestClient.connect(t, port);
  silent.send(Buffer.from([0x16, 3, 1, 2, 0, 1]));
  const trickling = await TestClient.connect(t, port);
  const hello = Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, ...new Array<number>(200).fill(7)]);
  const timer = setInterval(() => {
    if (!trickling.closed) trickling.send(Buffer.from([hello[trickling.socket.bytesWritten] ?? 7]));
  }, 20);
  t.teardown(() => clearInterval(timer));
  // The handshake takes most of the time: what is left for the request is not the whole again.
  const late = connect({ port, host: '127.0.0.1' });
  t.teardown(() => late.destroy());
  await once(late, 'connect');
  await new Promise((resolve) => setTimeout(resolve, 250));
  const inside = connectTls({ socket: late, ca: testCertificate.cert, servername: 'localhost' });
  inside.on('error', () => {});
  await once(inside, 'secureConnect');
  inside.write('CONNECT a.test:443 HTTP/1.1\r\n');
  await Promise.all([silent.end(), trickling.end(), once(inside, 'close')]);
  t.ok(tookMs() < 400 + 250, 'not 250 ms and then 400 more');
  await eventually(() => listener.connectionCount === 0);
  t.equal(listener.counts.deadlines, 3);
});

/** A relay that has the client's socket and does as it likes with it. */
class Relaying extends FakePipeline {
  readonly sockets: RawSocket[] = [];
  override async connect(): Promise<Connected> {
    return {
      ok: true,
      exit: { id: 'exit1', country: 'US', session: null },
      splice: (socket) => this.sockets.push(socket),
      duplex: () => new PassThrough(),
      abandon() {},
    };
  }
}

async function relayed(t: Test): Promise<{ tcp: Socket; client: TLSSocket; raw: RawSocket }> {
  const pipeline = new Relaying();
  const { port } = await startListener(t, { ...tlsOn, pipeline });
  const tcp = connect({ port, host: '127.0.0.1' });
  const client = connectTls({ socket: tcp, ca: testCertificate.cert, servername: 'localhost' });
  t.teardown(() => tcp.destroy());
  await once(client, 'secureConnect');
  client.write(socksRequest('a.test', 443));
  await eventually(() => pipeline.sockets.length === 1);
  return { tcp, client, raw: pipeline.sockets[0] as RawSocket };
}

t.test('what the relay resets is a reset to the client inside TLS, too, not an end', async (t) => {
  const { client, raw } = await relayed(t);
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once('error', resolve));
  let receivedBytes = 0;
  client.on('data', (chunk: Buffer) => {
    receivedBytes += chunk.length;
  });
  raw.write(Buffer.from('half an answ'));
  // libuv tells of a reset behind unread bytes as of an end: so it reads them first.
  await eventually(() => receivedBytes >= 12);
  raw.reset();
  t.equal((await failed).code, 'ECONNRESET');
});

t.test('what the socket calls written is with the operating system, encrypted', async (t) => {
  const { client, raw } = await relayed(t);
  // Not a public thing: libuv's queue of the TCP socket below the session.
  const handle = (raw.socket as unknown as { _parent: { _handle: { writeQueueSize: number } } })._parent
    ._handle;
  const queuedBytes = () => handle.writeQueueSize;
  let drained = () => {};
  const queuedAtDrain: number[] = [];
  raw.setSink({
    onBytes: () => false,
    onDrain: () => {
      if (raw.backlogBytes > 0) return;
      queuedAtDrain.push(queuedBytes());
      drained();
    },
    onEnd() {},
    onClose() {},
  });
  // As the relay does: one counted piece after the other, each when the one before is gone.
  const piece = Buffer.alloc(60 * 1024);
  let pieces = 0;
  let stuck = false;
  client.pause();
  while (!stuck) {
    const gone = new Promise<void>((resolve) => {
      drained = resolve;
    });
    pieces += 1;
    if (!raw.write(piece)) {
      const timer = new Promise<'stuck'>((resolve) => setTimeout(resolve, 300, 'stuck'));
      stuck = (await Promise.race([gone, timer])) === 'stuck';
    }
  }
  t.equal(raw.backlogBytes, piece.length, 'exactly one piece is counted and not gone');
  t.ok(queuedBytes() > 0 && queuedBytes() <= piece.length + 4 * 64, `${queuedBytes()} bytes encrypted`);
  let receivedBytes = 0;
  client.on('data', (chunk: Buffer) => {
    receivedBytes += chunk.length;
  });
  client.resume();
  await eventually(() => receivedBytes >= pieces * piece.length);
  t.equal(raw.backlogBytes, 0);
  t.ok(queuedAtDrain.length >= pieces && queuedAtDrain.every((bytes) => bytes === 0), 'gone is gone');
});
