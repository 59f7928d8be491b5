import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import t from 'tap';
import { proxyErrors } from '../../../gateway/errors.js';
import { ACCOUNT, basic, eventually, startListener, startServer, TestClient } from './fake-pipeline.js';
import { get, LOGIN, startOrigin, startRawOrigin } from './origins.js';

t.test('the origin sees what the client would have sent itself', async (t) => {
  const origin = await startRawOrigin(t, (socket) =>
    socket.write(
      'HTTP/1.1 200 Fine\r\nX-one: 1\r\nCONTENT-length: 2\r\nx-ONE: 2\r\nX-TS-Error: lie\r\n\r\nok',
    ),
  );
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(
    `GET http://a.test:${origin.port}/p//x?q=%41&r HTTP/1.1\r\nuser-AGENT: me\r\nHOST: wrong.test\r\n` +
      `Proxy-Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nACCEPT: a\r\n${LOGIN}Accept: b\r\nTE: trailers\r\n\r\n`,
  );
  const text = await client.match(/ok$/);
  t.equal(
    origin.connections[0],
    `GET /p//x?q=%41&r HTTP/1.1\r\nuser-AGENT: me\r\nHOST: a.test:${origin.port}\r\nConnection: keep-alive\r\n` +
      'ACCEPT: a\r\nAccept: b\r\n\r\n',
  );
  t.match(
    text,
    /^HTTP\/1\.1 200 Fine\r\nX-one: 1\r\nCONTENT-length: 2\r\nx-ONE: 2\r\nX-TS-Exit-Country: US\r\nX-TS-Exit-Id: exit1\r\nX-TS-Request-Id: \w+\r\n/,
  );
  t.notMatch(text, /lie|Via|Date/i);
});

t.test(
  'one connection reuses one stream per origin and login, and takes it along when it ends',
  async (t) => {
    const seen: string[] = [];
    const originPort = await startOrigin(t, (req, res) => {
      seen.push(req.url ?? '');
      res.end(`<${req.url}>`);
    });
    const otherPort = await startOrigin(t, (_req, res) => res.end('<other>'));
    const { port, pipeline } = await startListener(t);
    const client = await TestClient.connect(t, port);
    client.send(get(originPort, '/1'));
    t.match(await client.match(/<\/1>/), /X-TS-Exit-Id: exit1\r/);
    client.send(get(originPort, '/2'));
    await client.match(/<\/2>/);
    t.equal(pipeline.destinations.length, 1, 'the same stream');
    client.send(get(otherPort, '/'));
    t.match(await client.match(/<other>/), /X-TS-Exit-Id: exit2\r/);
    client.send(get(originPort, '/3', `Proxy-Authorization: ${basic(`${ACCOUNT}-country-de`)}\r\n`));
    await client.match(/<\/3>/);
    t.equal(pipeline.destinations.length, 3, 'another route is another stream');
    t.equal(pipeline.logins.length, 4, 'each request is authenticated');
    client.send(get(originPort, '/4', `Proxy-Authorization: ${basic(ACCOUNT, 'wrong')}\r\n`));
    t.match(await client.match(/AUTH_FAILED"/), /HTTP\/1\.1 407 AUTH_FAILED\r\n/);
    t.same(seen, ['/1', '/2', '/3']);
    client.socket.destroy();
    await eventually(() => pipeline.streams.size === 0);
    t.pass('no stream outlives its client');
  },
);

t.test('pipelined requests are answered, and carried out, in order', async (t) => {
  const seen: string[] = [];
  const originPort = await startOrigin(t, (req, res) => {
    seen.push(req.url ?? '');
    setTimeout(() => res.end(`<${req.url}>`), req.url === '/0' ? 50 : 0);
  });
  const { port, pipeline } = await startListener(t, { settings: { pipelinedMax: 4 } });
  const client = await TestClient.connect(t, port);
  const paths = Array.from({ length: 40 }, (_, i) => `/${i}`);
  client.send(paths.map((path) => get(originPort, path)).join(''));
  await client.match(/<\/39>/);
  t.same(
    client.text.match(/<\/\d+>/g),
    paths.map((path) => `<${path}>`),
  );
  t.same(seen, paths);
  t.equal(pipeline.destinations.length, 1);
});

t.test('chunks and trailers pass both ways', async (t) => {
  const origin = await startRawOrigin(t, (socket, received) => {
    if (!received.endsWith('0\r\nX-Sum: 7\r\n\r\n')) return;
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n3\r\nabc\r\n');
    setTimeout(() => socket.write('2;ext=1\r\nde\r\n0\r\nX-Back: 8\r\nSet-Cookie: evil\r\n\r\n'), 10);
  });
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(
    `POST http://a.test:${origin.port}/ HTTP/1.1\r\nHost: a\r\n${LOGIN}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nWiki\r\n`,
  );
  await eventually(() => (origin.connections[0] ?? '').includes('Wiki'));
  client.send('5\r\npedia\r\n0\r\nX-Sum: 7\r\nHost: evil.test\r\n\r\n');
  const text = await client.match(/X-Back: 8\r\n\r\n$/);
  t.match(
    origin.connections[0],
    /\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n[\s\S]*\r\n\r\n4\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Sum: 7\r\n\r\n$/,
  );
  t.match(text, /\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n/);
  t.match(text, /\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Back: 8\r\n\r\n$/);
  t.notMatch(text, /evil/);
});

t.test('answers without a body keep their framing, and the connection', async (t) => {
  const originPort = await startOrigin(t, (req, res) => {
    const status = Number(req.url?.slice(1));
    res.writeHead(status, req.method === 'HEAD' || status === 304 ? { 'Content-Length': 1234 } : {});
    res.end();
  });
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  for (const [method, status] of [
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
    ['HEAD', 404],
  ] as const) {
    const before = client.received.length;
    client.send(get(originPort, `/${status}`).replace('GET', method));
    await client.until(() => client.text.slice(before).endsWith('\r\n\r\n'));
    const text = client.text.slice(before);
    t.match(text, new RegExp(`^HTTP/1\\.1 ${status} `));
    t.equal(/Content-Length: 1234/.test(text), method === 'HEAD' || status === 304, `${method} ${status}`);
    t.notMatch(text, /Transfer-Encoding|Connection: close/, `${method} ${status}`);
  }
});

t.test('bodies arrive whole, in both directions at once', async (t) => {
  const originPort = await startOrigin(t, (req, res) => {
    res.writeHead(200);
    req.pipe(res);
  });
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  const body = Buffer.alloc(3 * 1024 * 1024);
  for (let i = 0; i < body.length; i += 4) body.writeUInt32LE((i * 2654435761) >>> 0, i);
  // HTTP/1.0: the answer comes without chunks and ends with the connection.
  client.send(`POST http://a.test:${originPort}/ HTTP/1.0\r\n${LOGIN}Content-Length: ${body.length}\r\n\r\n`);
  client.send(body);
  const received = await client.end();
  const at = received.indexOf('\r\n\r\n') + 4;
  t.match(received.subarray(0, at).toString(), /^HTTP\/1\.1 200 OK\r\n/);
  t.notMatch(received.subarray(0, at).toString(), /Transfer-Encoding/i);
  t.ok(received.subarray(at).equals(body));
});

t.test('Expect: 100-continue waits for the origin; a final answer instead ends the connection', async (t) => {
  const server = createHttpServer({ keepAliveTimeout: 0 });
  server.on('checkContinue', (req, res) => {
    if (req.url === '/no') {
      res.writeHead(403);
      res.end('no');
      return;
    }
    res.writeContinue();
    req.on('data', (chunk: Buffer) => res.end(`got ${chunk}`));
  });
  const originPort = await startServer(t, server);
  const { port } = await startListener(t);
  const post = (path: string) =>
    `POST http://a.test:${originPort}${path} HTTP/1.1\r\nHost: a\r\n${LOGIN}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n`;

  const client = await TestClient.connect(t, port);
  client.send(post('/yes'));
  t.equal(await client.match(/\r\n\r\n$/), 'HTTP/1.1 100 Continue\r\n\r\n');
  client.send('body');
  await client.match(/got body/);
  await client.send(post('/no'));
  t.match((await client.end()).toString(), /HTTP\/1\.1 403 Forbidden\r\n[\s\S]*Connection: close\r\n/);

  const refused = await TestClient.connect(t, port);
  refused.send(post('/').replace('a.test', 'no_peer.fail'));
  t.match((await refused.end()).toString(), /^HTTP\/1\.1 503 NO_PEER\r\n[\s\S]*\r\nConnection: close\r\n/);
});

t.test('other interim answers pass', async (t) => {
  const origin = await startRawOrigin(t, (socket) =>
    socket.write(
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    ),
  );
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/'));
  t.match(
    await client.match(/ok$/),
    /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n/,
  );
});

t.test('WebSocket upgrades pass, refused ones too', async (t) => {
  const origin = await startRawOrigin(t, (socket, received) => {
    if (/^GET \/no /.test(received))
      socket.write('HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n');
    else if (received.endsWith('\r\n\r\n'))
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello ',
      );
    else if (received.endsWith('ping')) socket.write('pong');
  });
  const { port, pipeline } = await startListener(t);
  const upgrade = (path: string) =>
    get(
      origin.port,
      path,
      `${LOGIN}Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n`,
    );
  const client = await TestClient.connect(t, port);
  client.send(upgrade('/yes'));
  await client.match(/hello $/);
  client.send('ping');
  const text = await client.match(/pong$/);
  t.match(text, /^HTTP\/1\.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n/);
  t.match(
    origin.connections[0],
    /\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n/,
  );
  t.notMatch(origin.connections[0], /Proxy-Authorization/);
  client.socket.end();
  await client.end();
  await eventually(() => pipeline.streams.size === 0);

  const refused = await TestClient.connect(t, port);
  refused.send(upgrade('/no'));
  const answer = (await refused.end()).toString();
  t.match(answer, /^HTTP\/1\.1 426 Upgrade Required\r\n[\s\S]*Connection: close\r\n\r\nno$/);

  for (const [more, status] of [
    ['', '407 AUTH_FAILED'],
    [`Proxy-Authorization: ${basic(ACCOUNT, 'NO_BALANCE')}\r\n`, '402 NO_BALANCE'],
  ]) {
    const denied = await TestClient.connect(t, port);
    denied.send(upgrade('/').replace(LOGIN, more as string));
    t.match((await denied.end()).toString(), new RegExp(`^HTTP/1\\.1 ${status}\r\n`));
  }
  const lost = await TestClient.connect(t, port);
  lost.send(upgrade('/').replace('a.test', 'peer_dropped.fail'));
  t.match((await lost.end()).toString(), /^HTTP\/1\.1 502 PEER_DROPPED\r\n/);
});

t.test('an offer of h2c is declined and the request answered as any other', async (t) => {
  const originPort = await startOrigin(t, (req, res) => {
    req.on('data', () => {});
    req.on('end', () => res.end(`<${req.method} ${req.headers.upgrade} ${req.headers['http2-settings']}>`));
  });
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n';
  const post = get(originPort, '/', `${LOGIN}${offer}Content-Length: 4\r\n`).replace('GET', 'POST');
  client.send(`${get(originPort, '/', LOGIN + offer)}${post}body${get(originPort, '/last')}`);
  const text = await client.match(/<POST[\s\S]*<GET[^>]*>/);
  t.same(text.match(/<.*?>/g), [
    '<GET undefined undefined>',
    '<POST undefined undefined>',
    '<GET undefined undefined>',
  ]);
});

t.test('407 first, then the request again with a login on the same connection', async (t) => {
  const originPort = await startOrigin(t, (req, res) => {
    let body = '';
    req.on('data', (chunk: Buffer) => {
      body += chunk;
    });
    req.on('end', () => res.end(`<${body}>`));
  });
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  const post = (more: string) =>
    `${get(originPort, '/', `${more}Content-Length: 4\r\n`).replace('GET', 'POST')}body`;
  client.send(post(''));
  const text = await client.match(/\}\n$/);
  t.match(text, /^HTTP\/1\.1 407 AUTH_FAILED\r\n[\s\S]*Proxy-Authenticate: Basic realm="traffic-share"\r\n/);
  t.notMatch(text, /Connection: close/);
  t.same(
    pipeline.logins.map(({ username, password }) => [username, password]),
    [['', null]],
    'only the address was looked at',
  );
  client.send(post(LOGIN));
  await client.match(/<body>/);
});

t.test(
  'each refusal before the answer, with the connection kept where the client is not at fault',
  async (t) => {
    const { port } = await startListener(t);
    for (const [code, row] of Object.entries(proxyErrors)) {
      const client = await TestClient.connect(t, port);
      client.send(get(80, '/').replace('a.test:80', `${code}.fail`));
      const text = await client.match(/\}\n$/);
      t.equal(text.slice(0, text.indexOf('\r\n')), `HTTP/1.1 ${row.httpStatus} ${code}`);
      t.match(text, new RegExp(`\\r\\nX-TS-Error: ${code}\\r\\n`));
      t.equal(!/Connection: close/.test(text), ['destination', 'device'].includes(row.fault), `${code} kept`);
      const login = await TestClient.connect(t, port);
      login.send(get(80, '/', `Proxy-Authorization: ${basic(ACCOUNT, code)}\r\n`));
      t.match(await login.match(/\}\n$/), new RegExp(`^HTTP/1\\.1 ${row.httpStatus} ${code}\\r\\n`));
    }
  },
);

t.test('requests that are not for a proxy, or not for plain HTTP, are 400', async (t) => {
  const { port, pipeline } = await startListener(t);
  for (const target of [
    '/',
    'https://a.test/',
    'http://u:p@a.test/',
    '*',
    'http://a.test:99999/',
    'ftp://a/',
  ]) {
    const client = await TestClient.connect(t, port);
    client.send(`OPTIONS ${target} HTTP/1.1\r\nHost: a.test\r\n${LOGIN}\r\n`);
    t.match((await client.end()).toString(), /^HTTP\/1\.1 400 BAD_PARAM (target|head)\r\n/, target);
  }
  t.equal(pipeline.destinations.length, 0);
});

t.test('smuggling shapes are refused on the first request and on later ones', async (t) => {
  const seen: string[] = [];
  const originPort = await startOrigin(t, (req, res) => {
    seen.push(`${req.method} ${req.url}`);
    res.end('<ok>');
  });
  const { port } = await startListener(t);
  const shapes: Array<[string, string]> = [
    ['length and chunks', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX'],
    ['chunks and length', 'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nX'],
    ['two lengths', 'Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello'],
    ['equal lengths', 'Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello'],
    ['list of lengths', 'Content-Length: 5, 5\r\n\r\nhello'],
    ['xchunked', 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
    ['chunked, identity', 'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n'],
    ['gzip, chunked', 'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'],
    ['tab before chunked', 'Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n'],
    ['blank before the colon', 'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n'],
    ['folded line', 'A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['bare LF', 'A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['bare CR', 'A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['NUL', 'A: b\0c\r\n\r\n'],
    ['two Hosts', 'Host: b.test\r\n\r\n'],
    ['two logins', `${LOGIN}\r\n`],
    ['length nominated away', 'Content-Length: 5\r\nConnection: Content-Length\r\n\r\nhello'],
    ['oversized head', `A: ${'x'.repeat(20_000)}\r\n\r\n`],
  ];
  for (const [what, rest] of shapes) {
    const smuggling = `POST http://a.test:${originPort}/bad HTTP/1.1\r\nHost: a\r\n${LOGIN}${rest}`;
    const first = await TestClient.connect(t, port);
    first.send(smuggling + get(originPort, '/smuggled'));
    const alone = (await first.end()).toString('latin1');
    t.match(alone, /^HTTP\/1\.1 400 BAD_PARAM [\w-]+\r\n/, what);
    t.equal(alone.split('HTTP/1.1 ').length, 2, `${what}: one answer`);

    const later = await TestClient.connect(t, port);
    later.send(get(originPort, '/good'));
    await later.match(/<ok>/);
    const before = later.received.length;
    later.send(smuggling + get(originPort, '/smuggled'));
    const text = (await later.end()).toString('latin1').slice(before);
    t.match(text, /^HTTP\/1\.1 400 BAD_PARAM [\w-]+\r\n/, `${what}, second request`);
    t.equal(text.split('HTTP/1.1 ').length, 2, `${what}, second request: one answer`);
  }
  t.same([...new Set(seen)], ['GET /good']);
});

t.test('a malformed request behind good ones is answered in its turn', async (t) => {
  const originPort = await startOrigin(t, (_req, res) => setTimeout(() => res.end('<ok>'), 30));
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(`${get(originPort, '/')}nonsense\r\n\r\n`);
  t.match(
    (await client.end()).toString(),
    /^HTTP\/1\.1 200 [\s\S]*<ok>[\s\S]*HTTP\/1\.1 400 BAD_PARAM head\r\n/,
  );
});

t.test('a malformed body ends the exchange on both sides', async (t) => {
  const origin = await startRawOrigin(t, () => {});
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/', `${LOGIN}Transfer-Encoding: chunked\r\n`).replace('GET', 'POST'));
  await eventually(() => origin.connections.length === 1);
  client.send('zz\r\n');
  await client.end();
  await eventually(() => pipeline.streams.size === 0);
  t.notMatch(client.text, /200/);
});

t.test('an origin that fails before its answer is 502; after it, the client is cut off', async (t) => {
  const origin = await startRawOrigin(t, (socket, received) => {
    if (received.includes('/close')) socket.destroy();
    else if (received.includes('/garbage')) socket.write('hello\r\n\r\n');
    else if (received.includes('/coding'))
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx');
    else if (received.includes('/long')) socket.write(`HTTP/1.1 200 OK\r\nA: ${'x'.repeat(100_000)}\r\n\r\n`);
    else {
      const length = received.includes('/chunked') ? 'Transfer-Encoding: chunked' : 'Content-Length: 100';
      const framing = received.includes('/until-close') ? 'A: b' : length;
      socket.write(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n5\r\nhello\r\n`);
      setTimeout(() => socket.resetAndDestroy(), 20);
    }
  });
  const { port, pipeline } = await startListener(t);
  for (const path of ['/close', '/garbage', '/coding', '/long']) {
    const client = await TestClient.connect(t, port);
    client.send(get(origin.port, path));
    t.match(await client.match(/\}\n$/), /^HTTP\/1\.1 502 PEER_DROPPED\r\n/, path);
  }
  for (const path of ['/length', '/chunked', '/until-close']) {
    const client = await TestClient.connect(t, port);
    let reset = false;
    client.socket.on('error', (error: NodeJS.ErrnoException) => {
      reset = error.code === 'ECONNRESET';
    });
    client.send(
      get(origin.port, path).replace('HTTP/1.1', path === '/until-close' ? 'HTTP/1.0' : 'HTTP/1.1'),
    );
    await client.match(/hello/);
    await client.until(() => client.closed);
    t.ok(reset, `${path}: reset, not a regular end`);
  }
  await eventually(() => pipeline.streams.size === 0);
});

t.test('a reused stream that turns out closed: repeated when that is safe', async (t) => {
  let count = 0;
  const originPort = await startServer(t, createServer({ allowHalfOpen: true }), (socket) => {
    let requests = 0;
    socket.on('data', () => {
      count += 1;
      if (++requests === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      else socket.destroy(); // closes while the second request is on its way
    });
  });
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(originPort, '/'));
  await client.match(/ok$/);
  const before = client.received.length;
  client.send(get(originPort, '/'));
  await client.until(() => client.text.slice(before).endsWith('ok'));
  t.equal(pipeline.destinations.length, 2);
  client.send(get(originPort, '/', `${LOGIN}Content-Length: 0\r\n`).replace('GET', 'POST'));
  await client.match(/HTTP\/1\.1 502 PEER_DROPPED\r\n/);
  t.equal(count, 4, 'the POST went out once');
});

t.test('an origin that closes an idle stream costs nothing', async (t) => {
  const originPort = await startOrigin(t, (req, res) => {
    res.end('ok');
    setTimeout(() => req.socket.end(), 5);
  });
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(originPort, '/'));
  await client.match(/ok/);
  await eventually(() => pipeline.streams.size === 0);
  const before = client.received.length;
  client.send(get(originPort, '/').replace('GET', 'POST'));
  await client.until(() => client.text.slice(before).includes('ok'));
  t.equal(pipeline.destinations.length, 2);
});

t.test('idle streams of a connection are limited over all origins', async (t) => {
  const originPort = await startOrigin(t, (req, res) => res.end(`<${req.url}>`));
  const { port, pipeline } = await startListener(t, { settings: { idleStreamsMax: 2 } });
  const client = await TestClient.connect(t, port);
  for (let i = 0; i < 6; i++) {
    client.send(get(originPort, `/${i}`).replace('a.test', `a${i}.test`));
    await client.match(new RegExp(`</${i}>`));
  }
  await eventually(() => pipeline.streams.size === 2);
  client.send(get(originPort, '/again').replace('a.test', 'a5.test'));
  await client.match(/<\/again>/);
  t.equal(pipeline.destinations.length, 6, 'the newest are kept');
});

t.test('a client that leaves takes its request along', async (t) => {
  const origin = await startRawOrigin(t, () => {});
  const { port, pipeline, listener } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(origin.port, '/'));
  await eventually(() => origin.connections.length === 1);
  client.socket.resetAndDestroy();
  await eventually(() => pipeline.streams.size === 0 && listener.connectionCount === 0);

  let dialled = () => {};
  pipeline.gate = new Promise((resolve) => {
    dialled = resolve;
  });
  const early = await TestClient.connect(t, port);
  early.send(get(origin.port, '/'));
  await eventually(() => pipeline.destinations.length === 2);
  early.socket.resetAndDestroy();
  await eventually(() => listener.connectionCount === 0);
  dialled();
  await eventually(() => pipeline.abandoned === 1);
  t.pass('also while it is dialled');
});

t.test('a client may end its side before the answer', async (t) => {
  const originPort = await startOrigin(t, (_req, res) => setTimeout(() => res.end('<ok>'), 20));
  const { port, listener } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.socket.end(get(originPort, '/'));
  t.match((await client.end()).toString(), /^HTTP\/1\.1 200 [\s\S]*<ok>/);
  await eventually(() => listener.connectionCount === 0);
});

t.test('a refusal is readable although the client is still uploading; then it is cut off', async (t) => {
  const { port, listener } = await startListener(t, { settings: { lingerTimeoutMs: 100 } });
  const client = await TestClient.connect(t, port);
  client.send(
    get(
      80,
      '/',
      `Proxy-Authorization: ${basic(ACCOUNT, 'NO_BALANCE')}\r\nContent-Length: 99999999\r\n`,
    ).replace('GET', 'POST'),
  );
  const upload = setInterval(() => client.send(Buffer.alloc(50_000)), 5);
  t.teardown(() => clearInterval(upload));
  t.match(await client.match(/\}\n$/), /^HTTP\/1\.1 402 NO_BALANCE\r\n/);
  await eventually(() => listener.connectionCount === 0);
});

t.test('a slow next head and an idle connection are closed', async (t) => {
  const originPort = await startOrigin(t, (_req, res) => res.end('<ok>'));
  const { port, listener } = await startListener(t, { settings: { keepAliveTimeoutMs: 120 } });
  const idle = await TestClient.connect(t, port);
  idle.send(get(originPort, '/'));
  const slow = await TestClient.connect(t, port);
  slow.send(`${get(originPort, '/')}GET http://a`);
  const trickle = setInterval(() => slow.closed || slow.send('a'), 20);
  t.teardown(() => clearInterval(trickle));
  await slow.match(/<ok>/);
  await eventually(() => listener.connectionCount === 0);
  t.equal(slow.text.split('HTTP/1.1 ').length, 2);
});

t.test('closing the listener closes idle connections and lets a running answer finish', async (t) => {
  let finish = () => {};
  const originPort = await startOrigin(t, (req, res) => {
    if (req.url === '/idle') return res.end('<ok>');
    res.write('<begin');
    finish = () => res.end('end>');
  });
  const { port, listener } = await startListener(t);
  const idle = await TestClient.connect(t, port);
  idle.send(get(originPort, '/idle'));
  await idle.match(/<ok>/);
  const busy = await TestClient.connect(t, port);
  busy.send(get(originPort, '/busy'));
  await busy.match(/<begin/);
  const closed = listener.close(60_000);
  await idle.until(() => idle.ended);
  finish();
  await busy.match(/end>/);
  await busy.end();
  busy.socket.destroy();
  await closed;
  t.equal(listener.connectionCount, 0);
});

t.test('CONNECT after a plain request on the same connection', async (t) => {
  const originPort = await startOrigin(t, (req, res) => res.end(`<${req.url}>`));
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(get(originPort, '/plain'));
  await client.match(/<\/plain>/);
  client.send(`CONNECT b.test:${originPort} HTTP/1.1\r\nHost: b\r\n\r\n`);
  await client.match(/HTTP\/1\.1 407 AUTH_FAILED[\s\S]*\}\n$/);
  client.send(
    `CONNECT b.test:${originPort} HTTP/1.1\r\nHost: b\r\n${LOGIN}\r\nGET /inside HTTP/1.1\r\nHost: b\r\n\r\n`,
  );
  await client.match(/200 Connection established[\s\S]*<\/inside>/);
  t.same(
    pipeline.destinations.map(({ host }) => host),
    ['a.test', 'b.test'],
  );
  client.socket.destroy();
  await eventually(() => pipeline.streams.size === 0);
});
