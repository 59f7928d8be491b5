import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import {
  basic,
  eventually,
  FakePipeline,
  startEchoServer,
  startListener,
  TestClient,
} from './fake-pipeline.js';

t.test('SOCKS4 and SOCKS4a get a refusal in their own protocol', async (t) => {
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(Buffer.from([4, 1, 0, 80, 0, 0, 0, 1, ...Buffer.from('me\0a.test\0')]));
  t.same(await client.end(), Buffer.from([0, 0x5b, 0, 0, 0, 0, 0, 0]));
});

t.test('a client that does not state its request in time is closed, however it trickles', async (t) => {
  const { port, listener } = await startListener(t, { settings: { handshakeTimeoutMs: 150 } });
  const cases: Array<[string, Buffer[]]> = [
    ['silence', []],
    ['half a SOCKS greeting', [Buffer.from([5])]],
    ['SOCKS without login', [Buffer.from([5, 1, 2])]],
    ['slow head', [...Buffer.from('CONNECT a.test:443 HTTP/1.1\r\nA: ')].map((byte) => Buffer.from([byte]))],
  ];
  await Promise.all(
    cases.map(async ([what, pieces]) => {
      const client = await TestClient.connect(t, port);
      const trickle = setInterval(() => {
        const piece = pieces.shift();
        if (piece && !client.closed) client.send(piece);
      }, 20);
      t.teardown(() => clearInterval(trickle));
      const startedAt = performance.now();
      const answer = await client.end();
      clearInterval(trickle);
      t.ok(answer.length <= 2 && performance.now() - startedAt < 5_000, what);
    }),
  );
  await eventually(() => listener.connectionCount === 0);
  t.pass('none is left');
});

t.test('the deadline ends with the request: a slow dial is not cut by it', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t, { settings: { handshakeTimeoutMs: 60 } });
  pipeline.gate = new Promise((resolve) => setTimeout(resolve, 200));
  const client = await TestClient.connect(t, port);
  client.send(
    `CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: ${basic()}\r\n\r\nhi`,
  );
  t.match(await client.match(/hi$/), /^HTTP\/1\.1 200 /);
});

t.test('above the cap connections are closed unread; freed places are used again', async (t) => {
  const { port, listener } = await startListener(t, { settings: { connectionsMax: 2 } });
  const first = await TestClient.connect(t, port);
  await TestClient.connect(t, port);
  await eventually(() => listener.connectionCount === 2);
  const third = connect(port, '127.0.0.1');
  third.on('error', () => {});
  await once(third, 'close');
  t.equal(listener.counts.dropped, 1);
  first.socket.destroy();
  await eventually(() => listener.connectionCount === 1);
  const fourth = await TestClient.connect(t, port);
  fourth.send('CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n');
  t.match(await fourth.match(/\}\n$/), /^HTTP\/1\.1 407 /);
});

t.test('a refused client that does not close is dropped', async (t) => {
  const { port, listener } = await startListener(t, { settings: { lingerTimeoutMs: 50 } });
  const client = await TestClient.connect(t, port);
  client.send('nonsense\r\n\r\n');
  await client.end();
  t.equal(client.socket.writable, true, 'the client has not closed its side');
  await eventually(() => listener.connectionCount === 0);
  t.pass('dropped');
});

t.test('early payload of a slow dial is read ahead only so far', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t, { settings: { headBytesMax: 4_096 } });
  let dialled = () => {};
  pipeline.gate = new Promise((resolve) => {
    dialled = resolve;
  });
  const client = await TestClient.connect(t, port);
  client.send(
    `CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: ${basic()}\r\n\r\n`,
  );
  await eventually(() => pipeline.destinations.length === 1);
  const payload = Buffer.alloc(2 * 1024 * 1024, 'x');
  client.send(payload);
  await new Promise((resolve) => setTimeout(resolve, 50));
  dialled();
  await client.until(() => client.received.length > payload.length);
  t.ok((pipeline.heads[0] as Buffer).length < 256 * 1024, 'the rest stayed with the client');
  t.ok(client.received.subarray(-payload.length).equals(payload), 'and all of it arrived');
});

t.test('close: requests are refused with DRAINING, live tunnels end within the grace time', async (t) => {
  const destinationPort = await startEchoServer(t);
  const pipeline = new FakePipeline();
  const { port, listener } = await startListener(t, { pipeline });
  const head = `CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: ${basic()}\r\n\r\n`;
  const finishing = await TestClient.connect(t, port);
  finishing.send(head);
  await finishing.match(/\r\n\r\n$/);
  const staying = await TestClient.connect(t, port);
  staying.send(head);
  await staying.match(/\r\n\r\n$/);
  const waiting = await TestClient.connect(t, port);
  waiting.send(head.slice(0, 20));
  await eventually(() => listener.connectionCount === 3);

  const closed = listener.close(300);
  const refused = connect(port, '127.0.0.1');
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
  t.equal(error.code, 'ECONNREFUSED');
  waiting.send(head.slice(20));
  t.match((await waiting.end()).toString(), /^HTTP\/1\.1 503 DRAINING\r\n/);
  waiting.socket.destroy();
  const before = finishing.received.length;
  finishing.send('still relayed');
  await finishing.bytes(before + 13);
  finishing.socket.end();
  await closed;
  t.equal(listener.connectionCount, 0);
  await staying.until(() => staying.closed);
  t.pass('the tunnel that stayed was cut');
});
