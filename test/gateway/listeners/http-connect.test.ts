import t from 'tap';
import { proxyErrors } from '../../../gateway/errors.js';
import { ACCOUNT, basic, PASSWORD, startEchoServer, startListener, TestClient } from './fake-pipeline.js';

const connectHead = (target: string, authorization: string | null = basic(), more = '') =>
  `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${
    authorization ? `Proxy-Authorization: ${authorization}\r\n` : ''
  }${more}\r\n`;

t.test('a tunnel: says its exit, then relays, early bytes first', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(`${connectHead(`example.test:${destinationPort}`, basic(`${ACCOUNT}-session-s1`))}early `);
  client.send('and late');
  const text = await client.match(/late$/);
  t.match(text, /^HTTP\/1\.1 200 Connection established\r\n/);
  t.match(text, /\r\nX-TS-Session: s1\r\n/);
  t.match(text, /\r\nX-TS-Exit-Country: US\r\n/);
  t.match(text, /\r\nX-TS-Exit-Id: exit1\r\n/);
  t.match(text, /\r\nX-TS-Request-Id: [0-9a-f]{12}\r\n/);
  t.notMatch(text, /Content-Length|Transfer-Encoding/i, 'RFC 9110 section 9.3.6');
  t.match(text, /\r\n\r\nearly and late$/);
  t.same(pipeline.destinations, [{ host: 'example.test', port: destinationPort }]);
});

t.test('the head works cut anywhere and byte by byte', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t);
  const all = Buffer.from(`${connectHead(`[2001:db8::1]:${destinationPort}`)}payload`);
  const converse = async (pieces: Buffer[]) => {
    const client = await TestClient.connect(t, port);
    for (const piece of pieces) {
      client.send(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const text = await client.match(/\r\n\r\npayload$/);
    client.socket.destroy();
    return text.startsWith('HTTP/1.1 200 ');
  };
  const cuts = Array.from({ length: all.length - 1 }, (_, i) => i + 1);
  const good = await Promise.all(cuts.map((cut) => converse([all.subarray(0, cut), all.subarray(cut)])));
  t.ok(good.every(Boolean), `all ${cuts.length} cuts`);
  t.ok(await converse([...all].map((byte) => Buffer.from([byte]))), 'byte by byte');
  t.ok(pipeline.destinations.every(({ host }) => host === '2001:db8::1'));
});

t.test('407 asks for a login and keeps the connection for it', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t);
  const client = await TestClient.connect(t, port);
  for (let i = 0; i < 2; i++) {
    const before = client.received.length;
    client.send(connectHead(`a.test:${destinationPort}`, null));
    await client.until(() => client.received.length > before && client.text.endsWith('}\n'));
    const text = client.text.slice(before);
    t.match(text, /^HTTP\/1\.1 407 AUTH_FAILED\r\n/);
    t.match(text, /\r\nProxy-Authenticate: Basic realm="traffic-share"\r\n/);
    t.match(text, /\r\nConnection: keep-alive\r\n/);
    const body = text.slice(text.indexOf('\r\n\r\n') + 4);
    t.equal(Number(/Content-Length: (\d+)/.exec(text)?.[1]), body.length);
  }
  t.ok(
    pipeline.logins.every(({ username, password }) => username === '' && password === null),
    'only the address was looked at',
  );
  const before = client.received.length;
  client.send(`${connectHead(`a.test:${destinationPort}`)}ping`);
  await client.match(/ping$/);
  t.match(client.text.slice(before), /^HTTP\/1\.1 200 /);
});

t.test('407 closes when the client does, or when its login is wrong', async (t) => {
  const { port, pipeline } = await startListener(t);
  const cases: Array<[string, string]> = [
    ['wrong password', connectHead('a.test:443', basic(ACCOUNT, 'wrong'))],
    ['no password', connectHead('a.test:443', basic(ACCOUNT, ''))],
    ['another scheme', connectHead('a.test:443', 'Bearer abc')],
    ['no login, Connection: close', connectHead('a.test:443', null, 'Connection: close\r\n')],
    ['no login, HTTP/1.0', 'CONNECT a.test:443 HTTP/1.0\r\n\r\n'],
  ];
  for (const [what, head] of cases) {
    const client = await TestClient.connect(t, port);
    client.send(head);
    const text = (await client.end()).toString('latin1');
    t.match(text, /^HTTP\/1\.1 407 AUTH_FAILED\r\n/, what);
    t.match(text, /\r\nConnection: close\r\n/, what);
  }
  t.equal(pipeline.logins.find((one) => one.password === null)?.username, ACCOUNT);
});

t.test('each refusal has its status, at the login and at the destination', async (t) => {
  const { port } = await startListener(t);
  for (const [code, row] of Object.entries(proxyErrors)) {
    for (const head of [
      connectHead('a.test:443', basic(ACCOUNT, code)),
      connectHead(`${code}.fail:443`, basic()),
    ]) {
      const client = await TestClient.connect(t, port);
      client.send(`${head}early payload`);
      const text = (await client.end()).toString('latin1');
      t.equal(text.slice(0, text.indexOf('\r\n')), `HTTP/1.1 ${row.httpStatus} ${code}`);
      t.match(
        text,
        new RegExp(`\\r\\nProxy-Status: traffic-share; error=${row.proxyStatusError}; details="${code}`),
      );
      t.match(text, new RegExp(`\\r\\nX-TS-Error: ${code}\\r\\n`));
    }
  }
});

t.test('malformed requests are 400 with the bad part, and the connection is closed', async (t) => {
  const { port, pipeline } = await startListener(t);
  const cases: Array<[string, string]> = [
    [connectHead('a.test'), 'BAD_PARAM target'],
    [connectHead('a.test:99999'), 'BAD_PARAM target'],
    [connectHead('http://a.test:443/'), 'BAD_PARAM host'],
    [connectHead('a.test:443', basic(`${ACCOUNT}-cuontry-us`)), 'BAD_PARAM cuontry'],
    [connectHead('a.test:443', basic(), 'Content-Length: 4\r\n'), 'BAD_PARAM content-length'],
    [connectHead('a.test:443', basic(), 'A: b\nC: d\r\n'), 'BAD_PARAM head'],
    [connectHead('a.test:443', basic(), `A: ${'x'.repeat(20_000)}\r\n`), 'BAD_PARAM head'],
    ['CONNECT a.test:443 HTTP/1.1\r\n\r\n', 'BAD_PARAM host'],
    ['hello\r\n\r\n', 'BAD_PARAM target'],
  ];
  for (const [head, reason] of cases) {
    const client = await TestClient.connect(t, port);
    client.send(head);
    const text = (await client.end()).toString('latin1');
    t.equal(text.slice(0, text.indexOf('\r\n')), `HTTP/1.1 400 ${reason}`);
  }
  t.equal(pipeline.destinations.length, 0);
});

t.test('a stage that throws is 500 INTERNAL and costs one request', async (t) => {
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.send(connectHead('throws.test:443'));
  t.match((await client.end()).toString(), /^HTTP\/1\.1 500 INTERNAL\r\n/);
  const next = await TestClient.connect(t, port);
  next.send(connectHead('refused.fail:443', basic(ACCOUNT, PASSWORD)));
  t.match((await next.end()).toString(), /^HTTP\/1\.1 502 REFUSED\r\n/);
});

t.test('half-close passes through the tunnel', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  client.socket.end(`${connectHead(`a.test:${destinationPort}`)}the whole question`);
  t.match((await client.end()).toString(), /\r\n\r\nthe whole question$/);
});
