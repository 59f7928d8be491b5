import { once } from 'node:events';
import {
  Agent,
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
} from 'node:http';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { SocksProxyAgent } from 'socks-proxy-agent';
import t from 'tap';
import { ProxyAgent, request as undiciRequest } from 'undici';
import { WebSocket, WebSocketServer } from 'ws';
import { hasProgram, runProgram } from '../../helpers/programs.js';
import { ACCOUNT, basic, eventually, PASSWORD, startListener, startServer } from './fake-pipeline.js';

/** Answers with what it was sent: method, path, bytes of the body, login headers (of which there must be none). */
function answer(req: IncomingMessage, res: ServerResponse): void {
  let bytes = 0;
  req.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  req.on('end', () => {
    const logins = req.rawHeaders.filter((one) => /^proxy-/i.test(one));
    res.end(`<${req.method} ${req.url} ${bytes} [${logins}]>`);
  });
}

const curl = (args: string[]) => runProgram('curl', ['-sS', '-m', '10', ...args]);

t.test('curl', async (t) => {
  if (!(await hasProgram(t, 'curl'))) return;
  const originPort = await startServer(t, createServer(answer));
  const { port, pipeline } = await startListener(t);
  const at = (scheme: string, password = PASSWORD) => `${scheme}://${ACCOUNT}:${password}@127.0.0.1:${port}`;
  const url = (path: string) => `http://example.test:${originPort}${path}`;

  const ways: Array<[string, string[]]> = [
    ['plain HTTP', ['-x', at('http')]],
    ['CONNECT', ['-p', '-x', at('http')]],
    ['HTTP/1.0 CONNECT', ['-p', '--proxy1.0', `127.0.0.1:${port}`, '-U', `${ACCOUNT}:${PASSWORD}`]],
    ['SOCKS5, name resolved here', ['-x', at('socks5h')]],
    ['plain HTTP, asked for the login', ['--proxy-anyauth', '-x', at('http')]],
    ['CONNECT, asked for the login', ['-p', '--proxy-anyauth', '-x', at('http')]],
  ];
  for (const [way, args] of ways) {
    const got = await curl([...args, url('/1'), url('/2')]);
    t.same(got, { code: 0, out: '<GET /1 0 []><GET /2 0 []>', err: '' }, way);
    const upload = await curl([
      ...args,
      '-H',
      'Expect: 100-continue',
      '--data-binary',
      'x'.repeat(70_000),
      url('/'),
    ]);
    t.equal(upload.out, '<POST / 70000 []>', `${way}: upload`);
    const chunked = await curl([...args, '-H', 'Transfer-Encoding: chunked', '-d', 'abc', url('/')]);
    t.equal(chunked.out, '<POST / 3 []>', `${way}: chunked upload`);
  }
  t.ok(
    pipeline.destinations.every(({ host }) => host === 'example.test'),
    'names are never resolved here',
  );

  const wrong = await curl(['-x', at('http', 'nope'), '-w', '%{http_code}', '-o', '/dev/null', url('/')]);
  t.equal(wrong.out, '407');
  const tunnel = await curl(['-p', '-x', at('http', 'NO_BALANCE'), url('/')]);
  t.match(tunnel.err, /402/);
  const socks = await curl(['-x', at('socks5h', 'nope'), url('/')]);
  t.equal(socks.code, 97);
  const refused = await curl(['-x', at('socks5h'), 'http://refused.fail/']);
  t.match(refused.err, /\(5\)/, 'the SOCKS reply is shown');
});

function viaAgent(options: RequestOptions): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const req = request(options, (res) => {
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (chunk: string) => {
        text += chunk;
      });
      res.on('end', () => resolve({ status: res.statusCode ?? 0, text }));
      res.on('error', reject);
    });
    req.on('error', reject);
    req.end();
  });
}

t.test('node:http with a keep-alive agent, absolute form', async (t) => {
  const originPort = await startServer(t, createServer(answer));
  const { port, pipeline, listener } = await startListener(t);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const send = (i: number) =>
    viaAgent({
      agent,
      host: '127.0.0.1',
      port,
      path: `http://example.test:${originPort}/${i}`,
      headers: { 'Proxy-Authorization': basic() },
    });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => send(i)));
  t.same(
    answers.map(({ text }) => text),
    answers.map((_, i) => `<GET /${i} 0 []>`),
  );
  t.equal(pipeline.destinations.length, 1, 'one connection, one stream');
  t.equal(listener.connectionCount, 1);
});

t.test('socks-proxy-agent', async (t) => {
  const originPort = await startServer(t, createServer(answer));
  const { port } = await startListener(t);
  const get = (password: string, host = 'example.test') => {
    const agent = new SocksProxyAgent(`socks5h://${ACCOUNT}:${password}@127.0.0.1:${port}`);
    t.teardown(() => agent.destroy());
    return viaAgent({ agent, host, port: originPort, path: '/x' });
  };
  t.same(await get(PASSWORD), { status: 200, text: '<GET /x 0 []>' });
  await t.rejects(get('wrong'), /authentication failed/i);
  await t.rejects(get(PASSWORD, 'refused.fail'), /refused/i);
});

t.test('https-proxy-agent, and a WebSocket through it', async (t) => {
  const server = createServer(answer);
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) =>
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })),
  );
  const originPort = await startServer(t, server);
  const { port, proxyUrl } = await startListener(t);
  const agent = new HttpsProxyAgent(proxyUrl);
  t.teardown(() => agent.destroy());
  t.same(await viaAgent({ agent, host: 'example.test', port: originPort, path: '/x' }), {
    status: 200,
    text: '<GET /x 0 []>',
  });
  const client = new WebSocket(`ws://example.test:${originPort}/`, { agent });
  t.teardown(() => client.terminate());
  await once(client, 'open');
  client.send('through the tunnel');
  t.equal(String((await once(client, 'message'))[0]), 'through the tunnel');

  const denied = new HttpsProxyAgent(`http://${ACCOUNT}:NO_PEER@127.0.0.1:${port}`);
  t.teardown(() => denied.destroy());
  t.equal((await viaAgent({ agent: denied, host: 'example.test', port: originPort })).status, 503);
});

t.test('undici, tunnelling and forwarding', async (t) => {
  const originPort = await startServer(t, createServer(answer));
  const { port, pipeline, listener } = await startListener(t);
  for (const proxyTunnel of [true, false]) {
    const dispatcher = new ProxyAgent({ uri: `http://127.0.0.1:${port}`, token: basic(), proxyTunnel });
    const before = pipeline.destinations.length;
    for (let i = 0; i < 5; i++) {
      const { statusCode, body } = await undiciRequest(`http://example.test:${originPort}/${i}`, {
        dispatcher,
        method: 'POST',
        body: 'x'.repeat(i * 10_000),
      });
      t.equal(statusCode, 200);
      t.equal(await body.text(), `<POST /${i} ${i * 10_000} []>`);
    }
    t.ok(pipeline.destinations.length - before < 5, 'streams are reused');
    await dispatcher.close();
  }
  await eventually(() => listener.connectionCount === 0 && pipeline.streams.size === 0);
  t.pass('nothing is left');
});
