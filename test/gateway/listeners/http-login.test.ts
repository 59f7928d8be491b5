/** Whose request it is, on every request of a connection; and what an origin learns of it: nothing. */
import t from 'tap';
import type { ProxyFailure } from '../../../gateway/errors.js';
import type { Authenticated, Connected } from '../../../gateway/listeners/connect-pipeline.js';
import { ACCOUNT, basic, FakePipeline, startListener, TestClient } from './fake-pipeline.js';
import { LOGIN, startOrigin, startRawOrigin } from './origins.js';

/** Lets two accounts in, and remembers who went where. */
class TwoAccounts extends FakePipeline {
  readonly went: string[] = [];

  override async authenticate(credentials: Parameters<FakePipeline['authenticate']>[0]) {
    const other = credentials.username === 'other1' && credentials.password === 'Secret22';
    const known = await super.authenticate(
      other ? { ...credentials, username: ACCOUNT, password: 'Pa55w0rd' } : credentials,
    );
    if (!known.ok || !other) return known;
    return { ...known, buyer: { ...known.buyer, account: 'other1' } } satisfies Authenticated;
  }

  override async connect(
    auth: Authenticated,
    destination: { host: string; port: number },
  ): Promise<Connected | ProxyFailure> {
    this.went.push(`${auth.buyer.account} ${destination.host}`);
    return super.connect(auth, destination);
  }
}

const OTHER = `Proxy-Authorization: ${basic('other1', 'Secret22')}\r\n`;
const WRONG = `Proxy-Authorization: ${basic(ACCOUNT, 'wrong')}\r\n`;

t.test('each request of a connection goes by its own login', async (t) => {
  const seen: string[] = [];
  const originPort = await startOrigin(t, (req, res) => {
    seen.push(req.url ?? '');
    res.end(`<${req.url}>`);
  });
  const { port, pipeline } = await startListener(t, { pipeline: new TwoAccounts() });
  const client = await TestClient.connect(t, port);
  const ask = async (path: string, login: string, pattern: RegExp) => {
    const before = client.received.length;
    client.send(`GET http://a.test:${originPort}${path} HTTP/1.1\r\nHost: a\r\n${login}\r\n`);
    await client.until(() => pattern.test(client.text.slice(before)));
    return client.text.slice(before);
  };
  await ask('/1', LOGIN, /<\/1>/);
  await ask('/2', OTHER, /<\/2>/);
  await ask('/3', LOGIN, /<\/3>/);
  t.same(pipeline.went, [`${ACCOUNT} a.test`, 'other1 a.test'], 'the first account’s stream was kept for it');
  const refused = await ask('/4', '', /\}\n$/);
  t.match(refused, /^HTTP\/1\.1 407 AUTH_FAILED\r\n[\s\S]*Proxy-Authenticate: Basic /);
  t.notMatch(refused, /Connection: close/, 'it may ask again');
  await ask('/5', OTHER, /<\/5>/);
  t.match(await ask('/6', WRONG, /\}\n$/), /^HTTP\/1\.1 407 AUTH_FAILED\r\n/);
  t.same(seen, ['/1', '/2', '/3', '/5']);
});

t.test('pipelined: good, without, other, wrong, in order', async (t) => {
  const originPort = await startOrigin(t, (req, res) => res.end(`<${req.url}>`));
  const { port, pipeline } = await startListener(t, { pipeline: new TwoAccounts() });
  const client = await TestClient.connect(t, port);
  const logins = [LOGIN, '', OTHER, LOGIN, WRONG, LOGIN];
  client.send(
    logins
      .map((login, n) => `GET http://a.test:${originPort}/${n} HTTP/1.1\r\nHost: a\r\n${login}\r\n`)
      .join(''),
  );
  const text = (await client.end()).toString();
  t.same(text.match(/HTTP\/1\.1 \d+|<\/\d>/g), [
    ...['HTTP/1.1 200', '</0>', 'HTTP/1.1 407', 'HTTP/1.1 200', '</2>', 'HTTP/1.1 200', '</3>'],
    ...['HTTP/1.1 407'], // a wrong one ends the connection
  ]);
  t.same(
    pipeline.logins.map(({ username }) => username),
    [ACCOUNT, '', ACCOUNT, ACCOUNT, ACCOUNT],
  );
});

t.test('an origin sees the client’s own headers and nothing of the proxy', async (t) => {
  const origin = await startRawOrigin(t, (socket) =>
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  );
  const { port } = await startListener(t);
  const own =
    'Via: 1.0 mine\r\nX-Forwarded-For: 10.9.8.7\r\nForwarded: for=10.9.8.7\r\nAuthorization: Basic own\r\n' +
    'Cookie: c=1\r\nX-Real-IP: 10.9.8.7\r\n';
  const hops =
    'Connection: X-One, keep-alive\r\nX-One: 1\r\nConnection: X-Two\r\nX-Two: 2\r\nProxy-Connection: X-Three\r\n' +
    'X-Three: 3\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\nProxy-Authenticate: x\r\nProxy-Foo: kept\r\n';
  const keepAlive = 'Connection: keep-alive\r\n';
  for (const [headers, expected] of [
    ['', keepAlive],
    [own, own + keepAlive],
    [hops, `${keepAlive}Proxy-Foo: kept\r\n`],
  ] as const) {
    const client = await TestClient.connect(t, port);
    client.send(`GET http://a.test:${origin.port}/ HTTP/1.1\r\nHost: a\r\n${LOGIN}${headers}\r\n`);
    await client.match(/ok$/);
    const head = `GET / HTTP/1.1\r\nHost: a.test:${origin.port}\r\n${expected}\r\n`;
    t.equal(origin.connections.at(-1), head, JSON.stringify(headers));
  }
});

t.test('an expectation nobody here knows is the origin’s to answer', async (t) => {
  const origin = await startRawOrigin(t, (socket) =>
    socket.write('HTTP/1.1 417 Expectation Failed\r\nContent-Length: 5\r\n\r\nsorry'),
  );
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  const head = `GET http://a.test:${origin.port}/ HTTP/1.1\r\nHost: a\r\n`;
  client.send(`${head}Expect: a-miracle\r\n\r\n`);
  t.match(await client.match(/\}\n$/), /^HTTP\/1\.1 407 /, 'only for those who log in');
  client.send(`${head}${LOGIN}Expect: a-miracle\r\n\r\n`);
  await client.match(/sorry$/);
  t.match(origin.connections[0], /\r\nExpect: a-miracle\r\n/);
});
