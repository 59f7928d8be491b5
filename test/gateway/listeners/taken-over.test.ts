/** Connections that another worker has handed over, at the listener that takes them. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { createRawServer, listen } from '../../../agent-protocol/raw-server.js';
import type { SocketHandle } from '../../../agent-protocol/raw-socket.js';
import type { HandedRequest } from '../../../gateway/listeners/hand-over.js';
import { ACCOUNT, eventually, PASSWORD, startEchoServer, startListener } from './fake-pipeline.js';

/** A client whose connection was accepted elsewhere, and that connection. */
async function elsewhere(t: Test): Promise<{ client: Socket; connection: SocketHandle }> {
  let got: (connection: SocketHandle) => void = () => {};
  const accepted = new Promise<SocketHandle>((resolve) => {
    got = resolve;
  });
  const server = createRawServer({
    keepAliveAfterMs: 1_000,
    onAccepted: (one) => got(one.adopt().detach() as SocketHandle),
  });
  const { port } = await listen(server, { host: '127.0.0.1', port: 0, backlog: 5 });
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  const connection = await accepted;
  server.close();
  return { client, connection };
}

function request(port: number, answer: 'connect' | 'socks5', password = PASSWORD): HandedRequest {
  return {
    asks: { answer, destination: { host: 'a.test', port } },
    requestId: 'request-1',
    credentials: { username: ACCOUNT, password },
    clientAddress: '192.0.2.7',
    localAddress: '127.0.0.1',
    head: Buffer.from('early ').toString('base64'),
    tried: [],
  };
}

/** All that comes until so much has come, or the end. */
async function read(client: Socket, until: RegExp): Promise<string> {
  let text = '';
  for await (const chunk of client) {
    text += (chunk as Buffer).toString('latin1');
    if (until.test(text)) break;
  }
  return text;
}

t.test('it is served as if it had been read here, the bytes that came early first', async (t) => {
  const port = await startEchoServer(t);
  const { listener } = await startListener(t);
  const { client, connection } = await elsewhere(t);
  listener.takeOver(request(port, 'connect'), connection);
  client.write('late');
  const answer = await read(client, /late$/);
  t.match(answer, /^HTTP\/1\.1 200 .*request-1.*\r\n\r\nearly late$/s);
  await eventually(() => listener.connectionCount === 0);

  const other = await elsewhere(t);
  listener.takeOver(request(port, 'socks5'), other.connection);
  const [reply] = (await once(other.client, 'data')) as [Buffer];
  t.same([...reply.subarray(0, 4)], [5, 0, 0, 1], 'the reply, and no second answer to the login');
});

t.test('its login is checked again', async (t) => {
  const { listener } = await startListener(t);
  const { client, connection } = await elsewhere(t);
  listener.takeOver(request(443, 'connect', 'wrong'), connection);
  t.match(await read(client, /\}\n$/), /^HTTP\/1\.1 407 /);
});

t.test('it takes a place as any other, and is closed when there is none', async (t) => {
  const port = await startEchoServer(t);
  const { listener } = await startListener(t, { settings: { connectionsMax: 1 } });
  const first = await elsewhere(t);
  listener.takeOver(request(port, 'connect'), first.connection);
  const [answer] = (await once(first.client, 'data')) as [Buffer];
  t.match(answer.toString(), /^HTTP\/1\.1 200 /);
  const second = await elsewhere(t);
  listener.takeOver(request(port, 'connect'), second.connection);
  await once(second.client.resume(), 'end');
  t.equal(listener.counts.dropped, 1);
});

t.test('a worker that can not keep up says so, in the words of the protocol', async (t) => {
  const { listener } = await startListener(t, { isOverloaded: () => true });
  const { client, connection } = await elsewhere(t);
  listener.takeOver(request(443, 'connect'), connection);
  t.match(await read(client, /\}\n$/), /^HTTP\/1\.1 503 .*DRAINING/s);
  t.equal(listener.counts.shed, 1);
  const socks = await elsewhere(t);
  listener.takeOver(request(443, 'socks5'), socks.connection);
  const [reply] = (await once(socks.client, 'data')) as [Buffer];
  t.equal(reply[0], 5);
  t.not(reply[1], 0);
});
