/** Request bodies that two readers could end at different places: none is passed on as if it were whole. */
import t, { type Test } from 'tap';
import { eventually, startListener, TestClient } from './fake-pipeline.js';
import { get, LOGIN, startOrigin, startRawOrigin } from './origins.js';

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
const post = (port: number, more: string) => get(port, '/upload', `${LOGIN}${more}`).replace('GET', 'POST');
const chunked = (port: number) => post(port, 'Transfer-Encoding: chunked\r\n');

/** An origin that answers once a whole body is there, and tells what it took for requests. */
async function startJudge(t: Test) {
  const requests: string[] = [];
  const port = await startOrigin(t, (req, res) => {
    let body = '';
    req.on('data', (chunk: Buffer) => {
      body += chunk.toString('latin1');
    });
    req.on('end', () => {
      requests.push(`${req.method} ${req.url} ${body}`);
      res.end(`<${body}>`);
    });
    req.on('error', () => {});
  });
  return { port, requests };
}

t.test('chunked bodies that are not quite right never look whole', async (t) => {
  const judge = await startJudge(t);
  const { port, pipeline } = await startListener(t);
  const shapes: Array<[what: string, body: string]> = [
    ['no digits', '\r\nhello\r\n0\r\n\r\n'],
    ['0x', '0x5\r\nhello\r\n0\r\n\r\n'],
    ['plus sign', '+5\r\nhello\r\n0\r\n\r\n'],
    ['minus sign', '-5\r\nhello\r\n0\r\n\r\n'],
    ['underscore', '0_5\r\nhello\r\n0\r\n\r\n'],
    ['blank before the size', ' 5\r\nhello\r\n0\r\n\r\n'],
    ['more than 64 bits', '10000000000000005\r\nhello\r\n0\r\n\r\n'],
    ['other digits', '5g\r\nhello\r\n0\r\n\r\n'],
    ['bare LF behind the size', '5\nhello\r\n0\r\n\r\n'],
    ['bare CR behind the size', '5\rhello\r\n0\r\n\r\n'],
    ['bare LF behind an extension', '5;a\nhello\r\n0\r\n\r\n'],
    ['bare CR in an extension', '5;a\rb\r\nhello\r\n0\r\n\r\n'],
    ['NUL in an extension', '5;a\0b\r\nhello\r\n0\r\n\r\n'],
    ['bare LF behind the data', '5\r\nhello\n0\r\n\r\n'],
    ['data longer than the size', '4\r\nhello\r\n0\r\n\r\n'],
    ['data without an end of line', '5\r\nhello0\r\n\r\n'],
    ['other bytes behind the data', '5\r\nhelloXX0\r\n\r\n'],
    ['bare LF behind the last chunk', '5\r\nhello\r\n0\n\r\n'],
    ['bare LF behind everything', '5\r\nhello\r\n0\r\n\n'],
    ['folded trailer', '5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n'],
    ['blank before the colon of a trailer', '5\r\nhello\r\n0\r\nA : b\r\n\r\n'],
    ['NUL in a trailer', '5\r\nhello\r\n0\r\nA: b\0\r\n\r\n'],
    ['huge extension', `5;${'x'.repeat(70_000)}\r\nhello\r\n0\r\n\r\n`],
    ['huge extensions of small chunks', `1;${'x'.repeat(10_000)}\r\na\r\n`.repeat(12)],
    ['huge trailer', `5\r\nhello\r\n0\r\nA: ${'x'.repeat(70_000)}\r\n\r\n`],
    ['leading zeros without end', '0'.repeat(70_000)],
  ];
  for (const [what, body] of shapes) {
    const client = await TestClient.connect(t, port);
    client.send(chunked(judge.port) + body + SMUGGLED);
    const text = (await client.end()).toString('latin1');
    t.notMatch(text, / 200 /, `${what}: no answer to a body that nobody understood`);
    client.socket.destroy();
  }
  await eventually(() => pipeline.streams.size === 0);
  t.same(judge.requests, [], 'the origin saw no whole request');
});

t.test('chunked bodies that are right, however they are written', async (t) => {
  const judge = await startJudge(t);
  const { port } = await startListener(t);
  const bodies = [
    '5\r\nhello\r\n0\r\n\r\n',
    '00005\r\nhello\r\n0000\r\n\r\n',
    '5;ext\r\nhello\r\n0\r\n\r\n',
    '5;a=b;c="d e"\r\nhello\r\n0;x=y\r\n\r\n',
    '2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n',
  ];
  for (const body of bodies) {
    const client = await TestClient.connect(t, port);
    // All in one piece with the next request, and byte by byte.
    client.send(chunked(judge.port) + body + get(judge.port, '/next'));
    t.match(await client.match(/<>/), /<hello>[\s\S]*<>/, JSON.stringify(body));
    client.send(chunked(judge.port));
    for (const byte of body) {
      client.send(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await client.match(/<hello>[\s\S]*<>[\s\S]*<hello>/);
  }
  t.equal(judge.requests.length, bodies.length * 3);
});

t.test('a body of a length is exactly that long, and what follows is the next request', async (t) => {
  const judge = await startJudge(t);
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  const inner = get(judge.port, '/inside');
  client.send(
    `${post(judge.port, `Content-Length: ${inner.length}\r\n`)}${inner}${get(judge.port, '/after')}`,
  );
  await client.match(/<>/);
  t.same(judge.requests, [`POST /upload ${inner}`, 'GET /after ']);

  for (const length of ['-1', '0x5', '5 ', '+5', '5;', '٥', '1e1', '5,5', '']) {
    const refused = await TestClient.connect(t, port);
    refused.send(`${post(judge.port, `Content-Length: ${length}x\r\n`)}hello`);
    t.match((await refused.end()).toString('latin1'), /^HTTP\/1\.1 400 BAD_PARAM /, `length ${length}x`);
  }
  t.equal(judge.requests.length, 2);
});

t.test('codings in odd spellings, on the first request and behind another', async (t) => {
  const judge = await startJudge(t);
  const { port } = await startListener(t);
  const spellings = [
    'Transfer-Encoding: chunked, chunked',
    'Transfer-Encoding: chunked;q=1',
    'Transfer-Encoding: "chunked"',
    'Transfer-Encoding: chunked,',
    'Transfer-Encoding: ,chunked',
    'Transfer-Encoding:',
    'Transfer-Encoding: identity',
    'Transfer-Encoding: x\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: chunked\r\nContent-Length: 0',
    'Content-Length: 0\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding\t: chunked',
    'Transfer-Encoding:\r\n chunked',
    'Transfer-Encoding: \x00chunked',
    '\x00Transfer-Encoding: chunked',
    ' Transfer-Encoding: chunked',
  ];
  for (const spelling of spellings)
    for (const first of ['', get(judge.port, '/first')]) {
      const client = await TestClient.connect(t, port);
      client.send(`${first}${post(judge.port, `${spelling}\r\n`)}0\r\n\r\n${SMUGGLED}`);
      const text = (await client.end()).toString('latin1');
      const answers = text.split('HTTP/1.1 ').slice(1);
      t.equal(answers.length, first ? 2 : 1, JSON.stringify(spelling));
      t.match(answers.at(-1), /^400 BAD_PARAM /, JSON.stringify(spelling));
    }
  const old = await TestClient.connect(t, port);
  old.send(`${chunked(judge.port).replace('HTTP/1.1', 'HTTP/1.0')}0\r\n\r\n${SMUGGLED}`);
  t.match((await old.end()).toString('latin1'), /^HTTP\/1\.1 400 BAD_PARAM transfer-encoding/, 'HTTP/1.0');
  t.same([...new Set(judge.requests)], ['GET /first ']);

  for (const fine of ['Transfer-Encoding: CHUNKED', 'transfer-encoding:\tchunked']) {
    const client = await TestClient.connect(t, port);
    client.send(`${post(judge.port, `${fine}\r\n`)}5\r\nhello\r\n0\r\n\r\n`);
    await client.match(/<hello>/);
  }
});

t.test('whatever Host says, the origin hears the one of the target', async (t) => {
  const origin = await startRawOrigin(t, (socket) =>
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  );
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  for (const host of ['b.test', 'b.test:81', '', '127.0.0.1', 'a.test']) {
    const before = client.received.length;
    client.send(`GET http://a.test:${origin.port}/ HTTP/1.1\r\nHost: ${host}\r\n${LOGIN}\r\n`);
    await client.until(() => client.text.slice(before).endsWith('ok'));
  }
  t.same(
    origin.connections.join('').match(/Host: .*\r\n/g),
    new Array(5).fill(`Host: a.test:${origin.port}\r\n`),
  );
  t.ok(pipeline.destinations.every(({ host }) => host === 'a.test'));
  for (const host of ['b test', 'b.test, a.test', 'u@b.test', 'b.test/x', 'b.test#x']) {
    const refused = await TestClient.connect(t, port);
    refused.send(`GET http://a.test/ HTTP/1.1\r\nHost: ${host}\r\n${LOGIN}\r\n`);
    t.match((await refused.end()).toString(), /^HTTP\/1\.1 400 BAD_PARAM host/, host);
  }
});
