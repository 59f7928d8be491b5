/** Answers of origins that lie, or are broken: a client never takes one for another, or a cut one for a whole. */
import t, { type Test } from 'tap';
import { eventually, startListener, TestClient } from './fake-pipeline.js';
import { get, startRawOrigin } from './origins.js';

/** An origin that answers each request head with the bytes for its path. */
function startScripted(t: Test, answers: Record<string, string>) {
  return startRawOrigin(t, (socket, received) => {
    if (!received.endsWith('\r\n\r\n')) return;
    const path = /([^ ]+) HTTP\/1\.[01]\r\n(?:[^\r\n]+\r\n)*\r\n$/.exec(received)?.[1] ?? '';
    socket.write(answers[path] ?? 'HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n', 'latin1');
  });
}

t.test('answers that two readers could understand differently are 502', async (t) => {
  const shapes: Record<string, string> = {
    '/length-and-chunks': 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    '/two-lengths': 'Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
    '/list-of-lengths': 'Content-Length: 5, 6\r\n\r\nhello!',
    '/negative-length': 'Content-Length: -1\r\n\r\nhello',
    '/hex-length': 'Content-Length: 0x5\r\n\r\nhello',
    '/gzip-coding': 'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    '/blank-before-colon': 'Content-Length : 5\r\n\r\nhello',
    '/nul': 'A: b\0c\r\nContent-Length: 5\r\n\r\nhello',
    '/no-colon': 'AB\r\nContent-Length: 5\r\n\r\nhello',
    '/bare-cr': 'A: b\rContent-Length: 5\r\n\r\nhello',
  };
  const origin = await startScripted(
    t,
    Object.fromEntries(Object.entries(shapes).map(([path, rest]) => [path, `HTTP/1.1 200 OK\r\n${rest}`])),
  );
  const { port, pipeline } = await startListener(t);
  for (const path of Object.keys(shapes)) {
    const client = await TestClient.connect(t, port);
    client.send(get(origin.port, path));
    const text = await client.match(/\}\n$/);
    t.match(text, /^HTTP\/1\.1 502 PEER_DROPPED\r\n/, path);
    t.equal(text.split('HTTP/1.1').length, 2, `${path}: one answer`);
    t.match(text, /"detail":"response"/, path);
  }
  await eventually(() => pipeline.streams.size === 0);
});

t.test('bytes behind an answer are nobody’s', async (t) => {
  const evil = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';
  const origin = await startScripted(t, {
    '/split': `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${evil}`,
    '/none': `HTTP/1.1 204 No Content\r\n\r\n${evil}`,
    '/head': `HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n${evil}`,
    '/chunks': `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${evil}`,
    '/good': 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood',
  });
  const { port } = await startListener(t);
  for (const path of ['/split', '/none', '/head', '/chunks']) {
    const client = await TestClient.connect(t, port);
    const first = get(origin.port, path);
    client.send((path === '/head' ? first.replace('GET', 'HEAD') : first) + get(origin.port, '/good'));
    const text = await client.match(/good$|PEER_DROPPED/);
    t.notMatch(text, /evil/, path);
    t.equal(text.split('HTTP/1.1 ').length, 3, `${path}: two answers`);
  }
});

t.test('interim answers: any number, each passed on once, none to HTTP/1.0', async (t) => {
  const hint = (n: number) => `HTTP/1.1 103 Early Hints\r\nLink: </${n}>\r\nX-TS-Exit-Id: lie\r\n\r\n`;
  const origin = await startScripted(t, {
    '/': `HTTP/1.1 100 Continue\r\n\r\n${hint(1)}HTTP/1.1 102 Processing\r\n\r\n${hint(2)}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
  });
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/'));
  const text = await client.match(/ok$/);
  t.same(
    text.match(/HTTP\/1\.1 \d+|Link: .*?>/g),
    ['HTTP/1.1 103', 'Link: </1>', 'HTTP/1.1 102', 'HTTP/1.1 103', 'Link: </2>', 'HTTP/1.1 200'],
    'a 100 that nobody asked for stays here',
  );
  t.notMatch(text, /lie/);
  const old = await TestClient.connect(t, port);
  old.send(get(origin.port, '/').replace('HTTP/1.1', 'HTTP/1.0'));
  t.match((await old.end()).toString(), /^HTTP\/1\.1 200 OK\r\n[\s\S]*ok$/);
});

t.test('no switch of protocols that nobody asked for', async (t) => {
  const origin = await startScripted(t, {
    '/': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw bytes',
  });
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/'));
  t.match(await client.match(/\}\n$/), /^HTTP\/1\.1 502 PEER_DROPPED\r\n/);
  t.notMatch(client.text, /raw bytes/);
  await eventually(() => pipeline.streams.size === 0);
});

t.test('hop-by-hop headers and the gateway’s own names of an origin stay behind, trailers too', async (t) => {
  const origin = await startScripted(t, {
    '/':
      'HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n' +
      'Proxy-Authenticate: Basic realm="phish"\r\nProxy-Connection: x\r\nProxy-Authentication-Info: x\r\n' +
      'X-TS-Error: NO_BALANCE\r\nx-ts-exit-id: lie\r\nUpgrade: h2c\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n' +
      'Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n' +
      '2\r\nok\r\n0\r\nX-Sum: 1\r\nX-TS-Exit-Id: lie\r\nX-Hop: 2\r\nSet-Cookie: c\r\n\r\n',
  });
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/'));
  const text = await client.match(/0\r\n[\s\S]*\r\n\r\n$/);
  t.notMatch(text, /hop:|phish|proxy-|NO_BALANCE|lie|h2c|timeout=5|content-length/i);
  t.match(text, /\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n/);
  t.match(text, /\r\n0\r\nX-Sum: 1\r\n\r\n$/);
});

t.test('answers without a length end with their stream', async (t) => {
  const origin = await startRawOrigin(t, (socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nuntil the end'));
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/1'));
  await client.match(/d\r\nuntil the end\r\n0\r\n\r\n$/);
  client.send(get(origin.port, '/2'));
  await client.match(/until the end[\s\S]*until the end\r\n0\r\n\r\n$/);
  const old = await TestClient.connect(t, port);
  old.send(get(origin.port, '/').replace('HTTP/1.1', 'HTTP/1.0'));
  t.match((await old.end()).toString(), /\r\n\r\nuntil the end$/);
});

t.test('an error in the middle resets, also with answers waiting behind it', async (t) => {
  let goOn = () => {};
  const origin = await startRawOrigin(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n');
    goOn = () => socket.write('zz\r\n');
  });
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  let reset = false;
  client.socket.on('error', (error: NodeJS.ErrnoException) => {
    reset = error.code === 'ECONNRESET';
  });
  client.send(get(origin.port, '/1') + get(origin.port, '/2'));
  await client.match(/hello/);
  goOn();
  await client.until(() => client.closed);
  t.ok(reset, 'a reset');
  t.equal(client.text.split('HTTP/1.1 ').length, 2);
  t.notMatch(client.text, /\r\n0\r\n\r\n/, 'no last chunk');
  await eventually(() => pipeline.streams.size === 0);
});
