/** Ports that speak one protocol, and what turns connections away before they have said who they are. */
import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { AddressGate } from '../../../gateway/listeners/address-gate.js';
import { readDedicatedPort } from '../../../gateway/listeners/port-protocol.js';
import {
  basic,
  certificate,
  eventually,
  SOCKS_SUCCESS,
  socksRequest,
  startEchoServer,
  startListener,
  TestClient,
} from './fake-pipeline.js';

const LOGIN = `Proxy-Authorization: ${basic()}\r\n`;
const NO_METHOD = Buffer.from([5, 0xff]);
const SOCKS4_REFUSED = Buffer.from([0, 0x5b, 0, 0, 0, 0, 0, 0]);
const SOCKS4_REQUEST = Buffer.from([4, 1, 0, 80, 0, 0, 0, 1, 0]);
const TLS_ALERT = { code: 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE' };
const tlsOn = { certificate: () => certificate };
const HTTP_REFUSED = /^HTTP\/1\.1 400 BAD_PARAM protocol\r\n/;

/** What the port answers to bytes, until it ends. */
async function answer(t: Test, port: number, bytes: Buffer | string): Promise<Buffer> {
  const client = await TestClient.connect(t, port);
  client.send(bytes);
  return client.end();
}

t.test('socks5: everything else is refused in its own words', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port } = await startListener(t, { ...tlsOn, accepts: 'socks5' });
  const client = await TestClient.connect(t, port);
  client.send(socksRequest('a.test', destinationPort));
  t.same(await client.bytes(SOCKS_SUCCESS.length), SOCKS_SUCCESS);
  t.match(String(await answer(t, port, `CONNECT a.test:443 HTTP/1.1\r\n${LOGIN}\r\n`)), HTTP_REFUSED);
  t.same(await answer(t, port, SOCKS4_REQUEST), SOCKS4_REFUSED);
  await t.rejects(TestClient.connectTls(t, port), TLS_ALERT);
});

t.test('http: everything else is refused in its own words', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port } = await startListener(t, { ...tlsOn, accepts: 'http' });
  const client = await TestClient.connect(t, port);
  client.send(`CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
  t.match(await client.match(/\r\n\r\n$/), /^HTTP\/1\.1 200 /);
  t.same(await answer(t, port, socksRequest('a.test', 443)), NO_METHOD);
  t.same(await answer(t, port, SOCKS4_REQUEST), SOCKS4_REFUSED);
  await t.rejects(TestClient.connectTls(t, port), TLS_ALERT);
});

t.test('tls: SOCKS5 and HTTP inside, nothing in the clear', async (t) => {
  const destinationPort = await startEchoServer(t);
  const { port, pipeline } = await startListener(t, { ...tlsOn, accepts: 'tls' });
  const socks = await TestClient.connectTls(t, port);
  socks.send(socksRequest('a.test', destinationPort));
  t.same(await socks.bytes(SOCKS_SUCCESS.length), SOCKS_SUCCESS);
  const http = await TestClient.connectTls(t, port);
  http.send(`CONNECT a.test:${destinationPort} HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
  t.match(await http.match(/\r\n\r\n$/), /^HTTP\/1\.1 200 /);
  const { length } = pipeline.logins;
  t.match(String(await answer(t, port, `CONNECT a.test:443 HTTP/1.1\r\n${LOGIN}\r\n`)), HTTP_REFUSED);
  t.same(await answer(t, port, socksRequest('a.test', 443)), NO_METHOD);
  t.same(await answer(t, port, SOCKS4_REQUEST), SOCKS4_REFUSED);
  t.equal(pipeline.logins.length, length, 'no login was looked at in the clear');
});

t.test('the main port and others of one listener; both close with it', async (t) => {
  const { listener, port } = await startListener(t);
  const socks = await listener.listen({ host: '127.0.0.1', port: 0, accepts: 'socks5' });
  t.match(String(await answer(t, socks.port, 'GET / HTTP/1.1\r\n')), HTTP_REFUSED);
  t.match(String(await answer(t, port, 'nonsense\r\n\r\n')), /^HTTP\/1\.1 400 BAD_PARAM /);
  await listener.close(0);
  for (const closed of [port, socks.port]) {
    const socket = connect(closed, '127.0.0.1');
    await t.rejects(once(socket, 'connect'), { code: 'ECONNREFUSED' });
  }
});

t.test('how a port is written', async (t) => {
  t.same(readDedicatedPort('1080:socks5'), { port: 1080, protocol: 'socks5' });
  t.same(readDedicatedPort('0:tls'), { port: 0, protocol: 'tls' });
  for (const text of [
    '',
    '1080',
    'socks5:1080',
    '1080:any',
    '1080:SOCKS5',
    '65536:http',
    '-1:http',
    '1:http ',
  ])
    t.equal(readDedicatedPort(text), null, JSON.stringify(text));
});

t.test('early drop: none below the soft limit, a growing share above it, all at the hard one', async (t) => {
  let drawn = 0;
  const gate = new AddressGate({ strangersSoftMax: 10, strangersHardMax: 20 }, () => drawn);
  const fill = (count: number, address: string) => {
    const places = [];
    drawn = 0.999;
    for (let i = 0; i < count; i++) places.push(gate.enter(address));
    return places;
  };
  t.notOk(fill(10, '192.0.2.1').includes(null), 'ten get in however the dice fall');
  // With 10 + n there, a share of (n + 1) / 10 of the tries is dropped.
  for (let n = 0; n < 10; n++) {
    drawn = (n + 1) / 10 - 0.01;
    t.equal(gate.enter('192.0.2.1'), null, `${10 + n}: below the share`);
    drawn = 0.9999;
    if (n < 9) t.ok(gate.enter('192.0.2.1'), `${10 + n}: above it`);
  }
  t.equal(gate.count, 19);
  t.ok(gate.enter('192.0.2.2'), 'another address is not concerned');
  t.equal(gate.droppedTotal, 10);
});

t.test(
  'early drop counts IPv4 by address, IPv6 by /64, however it is written; places come back',
  async (t) => {
    const gate = new AddressGate({ strangersSoftMax: 2, strangersHardMax: 2 });
    const first = gate.enter('2001:db8:0:1::1');
    t.ok(first && gate.enter('2001:db8:0:1:ffff:ffff:ffff:ffff'));
    t.equal(gate.enter('2001:0db8:0000:0001:5::'), null, 'the same /64');
    t.ok(gate.enter('2001:db8:0:2::1'), 'the next /64');
    t.ok(gate.enter('192.0.2.1') && gate.enter('::ffff:192.0.2.1'));
    t.equal(gate.enter('192.0.2.1'), null, 'mapped addresses are IPv4');
    t.ok(gate.enter('192.0.2.2'));
    first?.leave();
    first?.leave();
    t.ok(gate.enter('2001:db8:0:1::2'), 'one place, not two');
    t.equal(gate.enter('2001:db8:0:1::3'), null);
  },
);

t.test('who has logged in holds no place of strangers, whichever way', async (t) => {
  const destinationPort = await startEchoServer(t);
  const settings = { strangersSoftMax: 1, strangersHardMax: 1 };
  const { port, listener } = await startListener(t, { settings });
  for (let i = 0; i < 3; i++) {
    const socks = await TestClient.connect(t, port);
    socks.send(socksRequest('a.test', destinationPort));
    await socks.bytes(SOCKS_SUCCESS.length);
  }
  const plain = await TestClient.connect(t, port);
  plain.send(`GET http://refused.fail/ HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
  await plain.match(/\}\n$/);
  t.equal(listener.strangerCount, 0);
  t.equal(listener.connectionCount, 4, 'all of them are open');

  const stranger = await TestClient.connect(t, port);
  stranger.send(`GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  t.match(await stranger.match(/\}\n$/), /^HTTP\/1\.1 407 /);
  t.equal(listener.strangerCount, 1, 'a 407 is no login');
  t.equal((await (await TestClient.connect(t, port)).end()).length, 0, 'closed unread');
  stranger.send(`GET http://refused.fail/ HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
  await stranger.match(/502 REFUSED[\s\S]*\}\n$/);
  t.equal(listener.strangerCount, 0);
  for (const socket of [plain, stranger]) socket.socket.destroy();
  t.equal(listener.counts.droppedEarly, 1);
});

t.test('a stranger on a kept-open connection has the time of a handshake for its next request', async (t) => {
  const { port, listener } = await startListener(t, { settings: { handshakeTimeoutMs: 150 } });
  const stranger = await TestClient.connect(t, port);
  stranger.send('GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n');
  await stranger.match(/\}\n$/);
  const known = await TestClient.connect(t, port);
  known.send(`GET http://refused.fail/ HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`);
  await known.match(/\}\n$/);
  await stranger.end();
  await eventually(() => listener.connectionCount === 1);
  t.notOk(known.ended, 'who has logged in keeps it');
});

t.test('overloaded: 503 with Retry-After to HTTP, closed otherwise; open streams go on', async (t) => {
  const destinationPort = await startEchoServer(t);
  let overloaded = false;
  const { port, listener } = await startListener(t, { ...tlsOn, isOverloaded: () => overloaded });
  const open = await TestClient.connect(t, port);
  open.send(socksRequest('a.test', destinationPort));
  await open.bytes(SOCKS_SUCCESS.length);
  const waiting = await TestClient.connect(t, port);
  waiting.send('CONNECT a.test:443 HTTP/1.1\r\n');
  await eventually(() => listener.connectionCount === 2);

  overloaded = true;
  const refused = String(await answer(t, port, `CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n${LOGIN}\r\n`));
  t.match(
    refused,
    /^HTTP\/1\.1 503 DRAINING\r\n[\s\S]*details="DRAINING overloaded: [\s\S]*Retry-After: 1\r\n/,
  );
  t.equal((await answer(t, port, socksRequest('a.test', 443))).length, 0);
  await t.rejects(TestClient.connectTls(t, port), { code: 'ECONNRESET' });
  open.send('still relayed');
  await open.bytes(SOCKS_SUCCESS.length + 13);
  waiting.send('Host: a\r\n\r\n');
  t.match(await waiting.match(/\}\n$/), /^HTTP\/1\.1 407 /, 'who was let in is served');
  t.equal(listener.counts.shed, 3);

  overloaded = false;
  t.match(String(await answer(t, port, 'GET / HTTP/1.1\r\n\r\n')), /^HTTP\/1\.1 400 /);
});

t.test('overloaded: who says nothing is dropped soon', async (t) => {
  const { port, listener } = await startListener(t, {
    isOverloaded: () => true,
    settings: { lingerTimeoutMs: 50 },
  });
  const client = await TestClient.connect(t, port);
  await client.end();
  await eventually(() => listener.connectionCount === 0);
  t.equal(listener.counts.shed, 1);
});

t.test('overloaded: a balancer is closed unread, since what it begins with is not its client', async (t) => {
  const { port, listener } = await startListener(t, {
    isOverloaded: () => true,
    settings: { proxyProtocolFrom: ['127.0.0.1'] },
  });
  const client = await TestClient.connect(t, port);
  client.send('PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\nGET / HTTP/1.1\r\n');
  t.equal((await client.end()).length, 0);
  t.equal(listener.counts.shed, 1);
});
