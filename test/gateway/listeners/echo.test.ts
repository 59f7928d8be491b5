import t from 'tap';
import { prefersHtml } from '../../../gateway/listeners/echo.js';
import {
  ACCOUNT,
  basic,
  certificate,
  SOCKS_SUCCESS,
  socksRequest,
  startListener,
  TestClient,
} from './fake-pipeline.js';

const HOST = 'echo.traffic-share.internal';
const LOGIN = (username = ACCOUNT) => `Proxy-Authorization: ${basic(username)}\r\n`;
const INSIDE = `GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;
/** Everything the page tells, and nothing else. */
const FACTS =
  '{"exit_id":"exit0","country":"DE","city":"Köln <3","asn":64500,"session":"cart7","bytes_left":1000}\n';

function bodyOf(answer: string): string {
  return Buffer.from(answer.slice(answer.lastIndexOf('\r\n\r\n') + 4), 'latin1').toString();
}

t.test('plain HTTP, CONNECT and SOCKS5, each in the clear and in TLS', async (t) => {
  const { port, pipeline } = await startListener(t, { certificate: () => certificate });
  const username = `${ACCOUNT}-session-cart7`;
  const connects = [
    () => TestClient.connect(t, port),
    () => TestClient.connectTls(t, port, { ALPNProtocols: ['http/1.1'] }),
  ];
  for (const connect of connects) {
    for (const host of [HOST, HOST.toUpperCase(), `${HOST}.`]) {
      const forwarded = await connect();
      forwarded.send(`GET http://${host}/ HTTP/1.1\r\nHost: x\r\n${LOGIN(username)}\r\n`);
      const answer = await forwarded.match(/\}\n$/);
      t.match(answer, /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/json\r\n/);
      t.match(answer, /\r\nX-TS-Session: cart7\r\nX-TS-Exit-Country: DE\r\nX-TS-Exit-Id: exit0\r\n/);
      t.equal(bodyOf(answer), FACTS);
    }
    const tunnelled = await connect();
    tunnelled.send(`CONNECT ${HOST}:80 HTTP/1.1\r\nHost: x\r\n${LOGIN(username)}\r\n${INSIDE}`);
    const answer = await tunnelled.match(/\}\n$/);
    t.match(
      answer,
      /^HTTP\/1\.1 200 Connection established\r\nX-TS-Session: cart7\r\nX-TS-Exit-Country: DE\r\nX-TS-Exit-Id: exit0\r\n/,
    );
    t.equal(bodyOf(answer), FACTS);

    const socks = await connect();
    socks.send(Buffer.concat([socksRequest(HOST, 80, username), Buffer.from(INSIDE)]));
    t.equal(bodyOf(await socks.match(/\}\n$/)), FACTS);
    t.same(socks.received.subarray(0, SOCKS_SUCCESS.length), SOCKS_SUCCESS);
  }
  t.equal(pipeline.destinations.length, 0, 'no device is asked');
});

t.test('a refusal is that of a connection of the same login, in the place of each protocol', async (t) => {
  const { port } = await startListener(t);
  const forwarded = await TestClient.connect(t, port);
  forwarded.send(`GET http://${HOST}/ HTTP/1.1\r\nHost: x\r\n\r\n`);
  t.match(await forwarded.match(/\}\n$/), /^HTTP\/1\.1 407 AUTH_FAILED\r\n/);

  const username = `${ACCOUNT}-tag-NO_PEER`;
  const plain = await TestClient.connect(t, port);
  plain.send(`GET http://${HOST}/ HTTP/1.1\r\nHost: x\r\n${LOGIN(username)}\r\n`);
  t.match(await plain.match(/\}\n$/), /^HTTP\/1\.1 503 NO_PEER\r\n[\s\S]*\r\nRetry-After: 5\r\n/);
  const tunnelled = await TestClient.connect(t, port);
  tunnelled.send(`CONNECT ${HOST}:80 HTTP/1.1\r\nHost: x\r\n${LOGIN(username)}\r\n`);
  t.match(await tunnelled.match(/\}\n$/), /^HTTP\/1\.1 503 NO_PEER\r\n/);
  const socks = await TestClient.connect(t, port);
  socks.send(socksRequest(HOST, 80, username));
  t.same((await socks.end()).subarray(4, 6), Buffer.from([5, 3]));
});

t.test('the reserved name is never dialled, whatever the port', async (t) => {
  const { port, pipeline } = await startListener(t);
  const plain = await TestClient.connect(t, port);
  plain.send(`GET http://${HOST}:8080/ HTTP/1.1\r\nHost: x\r\n${LOGIN()}\r\n`);
  t.match(await plain.match(/\}\n$/), /^HTTP\/1\.1 403 PORT_BLOCKED\r\n/);
  const tunnelled = await TestClient.connect(t, port);
  tunnelled.send(`CONNECT ${HOST}:443 HTTP/1.1\r\nHost: x\r\n${LOGIN()}\r\n`);
  t.match(await tunnelled.match(/\}\n$/), /^HTTP\/1\.1 403 PORT_BLOCKED\r\n/);
  const upgraded = await TestClient.connect(t, port);
  upgraded.send(
    `GET http://${HOST}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${LOGIN()}\r\n`,
  );
  t.match(await upgraded.match(/\}\n$/), /^HTTP\/1\.1 400 BAD_PARAM upgrade\r\n/);
  t.equal(pipeline.destinations.length, 0);
});

t.test('HTML for browsers, with everything escaped; HEAD has no body', async (t) => {
  const { port } = await startListener(t);
  const client = await TestClient.connect(t, port);
  const accept = 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n';
  client.send(`GET http://${HOST}/ HTTP/1.1\r\nHost: x\r\n${accept}${LOGIN()}\r\n`);
  const answer = await client.match(/<\/html>\n$/);
  t.match(answer, /\r\nContent-Type: text\/html; charset=utf-8\r\n/);
  t.match(bodyOf(answer), /<th>City<td>Köln &#60;3<tr>/);
  t.match(bodyOf(answer), /<th>Session<td>–<tr>/);

  const head = await TestClient.connect(t, port);
  head.send(`HEAD http://${HOST}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${LOGIN()}\r\n`);
  t.match((await head.end()).toString('latin1'), /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n$/);
});

t.test('what Accept prefers', async (t) => {
  const cases: Array<[string | undefined, boolean]> = [
    [undefined, false],
    ['*/*', false],
    ['application/json', false],
    ['text/html', true],
    ['text/*', true],
    ['text/html;q=0.5, application/json', false],
    ['application/json;q=0.1, TEXT/HTML ; Q=0.2', true],
    ['*/*;q=0.9, application/json;q=0.1', true],
    ['*/*;q=0.9, text/html;q=0', false],
    ['text/html;q=nonsense', false],
  ];
  for (const [accept, html] of cases) t.equal(prefersHtml(accept), html, String(accept));
});
