import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import t from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { encodeControl } from '../../agent-protocol/control.js';
import { encodeFrame, FrameType } from '../../agent-protocol/frame.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import type { StreamHandler } from '../../agent-protocol/stream.js';
import {
  connectTunnel,
  refuseUpgrade,
  TunnelRefused,
  ticketOf,
  upgradeTunnel,
} from '../../agent-protocol/websocket.js';
import { muxFrame } from './helpers/naive-websocket.js';
import { hello, serveTunnels, Watched, welcome } from './helpers/tunnel.js';

/** Messages of a plain ws socket, one at a time. */
function messagesOf(webSocket: WebSocket): () => Promise<ReturnType<typeof muxFrame>> {
  const messages: Buffer[] = [];
  webSocket.on('message', (message: Buffer) => messages.push(message));
  return async () => {
    while (messages.length === 0) await once(webSocket, 'message');
    return muxFrame(messages.shift() as Buffer);
  };
}

const collecting = (pieces: Buffer[]): StreamHandler => ({
  onData: (stream, buffer, start, end) => {
    pieces.push(Buffer.from(buffer.subarray(start, end)));
    stream.consumed(end - start);
  },
  onFin: () => {},
  onReset: () => {},
  onWritable: () => {},
});

t.test('a plain ws client is an agent: masks, fragments, pings, close', async (t) => {
  const handler = new Watched({ onHello: (session) => session.welcome(welcome()) });
  const { url, sessions } = await serveTunnels(t, () => handler);
  const client = new WebSocket(url, 'traffic-share.v1', { headers: { Authorization: 'Bearer x' } });
  t.teardown(() => client.terminate());
  const next = messagesOf(client);
  await once(client, 'open');
  t.equal(client.protocol, 'traffic-share.v1');
  client.send(encodeFrame(FrameType.HELLO, 0, encodeControl(hello)));
  t.equal((await next()).type, FrameType.WELCOME);
  t.equal((await next()).type, FrameType.PING);
  const session = sessions[0] as MuxSession;

  const pieces: Buffer[] = [];
  let finished!: () => void;
  const fin = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const opened = new Promise<number>((resolve) => {
    session.open(
      { host: 'example.com', port: 443, network: 'tcp' },
      { ...collecting(pieces), onOpened: (_stream, code) => resolve(code), onFin: finished },
    );
  });
  let frame = await next();
  if (frame.type === FrameType.PING) frame = await next();
  t.same([frame.type, frame.streamId], [FrameType.OPEN, 1]);
  client.send(encodeFrame(FrameType.OPENED, 1, Uint8Array.of(0)));
  t.equal(await opened, 0);

  const bytes = randomBytes(120_000);
  const data = encodeFrame(FrameType.DATA, 1, bytes);
  // One message in fragments whose borders fall into the frame header, with a ping between them.
  client.send(data.subarray(0, 3), { fin: false });
  client.ping('between');
  client.send(data.subarray(3, 4), { fin: false });
  client.send(data.subarray(4, 70_000), { fin: false });
  client.send(data.subarray(70_000), { fin: true });
  const [pong] = await once(client, 'pong');
  t.equal(String(pong), 'between');
  client.send(encodeFrame(FrameType.FIN, 1, Buffer.alloc(0)));
  await fin;
  t.ok(Buffer.concat(pieces).equals(bytes));

  client.close(1001, 'going');
  const [code] = await once(client, 'close');
  t.equal(code, 1001, 'the close is answered with its own code');
  t.match(await handler.closed, { code: 'connection_closed', reason: '1001 going', byPeer: true });
});

t.test('a plain ws server is a gateway: our zero mask, large frames, pings, GOAWAY and close', async (t) => {
  const server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    handleProtocols: () => 'traffic-share.v1',
  });
  t.teardown(() => server.close());
  await once(server, 'listening');
  const connection = once(server, 'connection') as Promise<[WebSocket]>;
  const bytes = randomBytes(120_000);
  const pieces: Buffer[] = [];
  const handler = new Watched({
    onOpen: (_session, stream, open) => {
      t.same(open, { host: '93.184.216.34', port: 80, network: 'tcp' });
      stream.handler = collecting(pieces);
      stream.opened(0);
      stream.send(bytes, 0, bytes.length, 0);
      stream.fin();
    },
  });
  const agent = await connectTunnel(
    { url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/tunnel`, ticket: 't' },
    handler,
  );
  t.teardown(() => agent.destroy());
  const [peer] = await connection;
  const next = messagesOf(peer);
  agent.hello(hello);
  t.equal((await next()).type, FrameType.HELLO);
  peer.send(encodeFrame(FrameType.WELCOME, 0, encodeControl(welcome())));
  peer.send(
    encodeFrame(FrameType.OPEN, 1, encodeControl({ host: '93.184.216.34', port: 80, network: 'tcp' })),
  );
  peer.send(encodeFrame(FrameType.DATA, 1, Buffer.from('hello ')));
  peer.send(encodeFrame(FrameType.DATA, 1, Buffer.from('there')));
  const seen = [await next(), await next(), await next(), await next()];
  t.same(
    seen.map(({ type }) => type),
    [FrameType.PING, FrameType.OPENED, FrameType.DATA, FrameType.FIN],
  );
  t.ok(seen[2]?.payload.equals(bytes));
  peer.ping('p');
  const [pong] = await once(peer, 'pong');
  t.equal(String(pong), 'p');
  t.equal(Buffer.concat(pieces).toString(), 'hello there');
  peer.send(
    encodeFrame(
      FrameType.GOAWAY,
      0,
      encodeControl({ code: 'replaced', reason: 'newer', reconnect_after_ms: 250 }),
    ),
  );
  peer.close(1000);
  t.same(await handler.closed, { code: 'replaced', reason: 'newer', byPeer: true, reconnectAfterMs: 250 });
  const [code] = await once(peer, 'close');
  t.equal(code, 1000);
});

t.test('the ticket is looked at first, and a refusal has a code', async (t) => {
  const server = createServer();
  const tickets: Array<string | null> = [];
  server.on('upgrade', (request, socket) => {
    tickets.push(ticketOf(request));
    refuseUpgrade(socket, 503, 'gateway_full', 'no room', 7);
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/tunnel`;
  const refusal = await connectTunnel({ url, ticket: 'abc.DEF-1' }, new Watched()).catch((error) => error);
  t.type(refusal, TunnelRefused);
  t.match(refusal, { status: 503, code: 'gateway_full', message: 'no room', retryAfterMs: 7_000 });
  t.same(tickets, ['abc.DEF-1']);
});

t.test('answers that are no tunnel', async (t) => {
  const server = createServer((_request, response) => response.writeHead(404).end('<html>'));
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  t.match(
    await connectTunnel({ url: `ws://127.0.0.1:${port}/`, ticket: 't' }, new Watched()).catch((e) => e),
    {
      status: 404,
      code: 'refused',
    },
  );
  server.on('upgrade', () => {});
  t.match(
    await connectTunnel({ url: `ws://127.0.0.1:${port}/`, ticket: 't', timeoutMs: 100 }, new Watched()).catch(
      (e) => e,
    ),
    { status: null, code: 'connect_timeout' },
  );
  const unused = createServer().listen(0, '127.0.0.1');
  await once(unused, 'listening');
  const unusedPort = (unused.address() as AddressInfo).port;
  unused.close();
  await once(unused, 'close');
  const failed = await connectTunnel(
    { url: `ws://127.0.0.1:${unusedPort}/`, ticket: 't' },
    new Watched(),
  ).catch((e) => e);
  t.match(failed, { status: null, code: 'connect_failed', cause: { code: 'ECONNREFUSED' } });
});

t.test('without the subprotocol, or not a WebSocket at all: 400', async (t) => {
  const { port } = await serveTunnels(t, () => new Watched());
  for (const extra of [
    '',
    'Sec-WebSocket-Protocol: other\r\n',
    'Sec-WebSocket-Protocol: traffic-share.v1\r\nX-Key: no',
  ]) {
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    const key = extra.includes('X-Key') ? '' : 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
    socket.write(
      `GET /tunnel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n${key}${extra}\r\n\r\n`,
    );
    const [answer] = await once(socket, 'data');
    t.match(String(answer), /^HTTP\/1.1 400 /);
    socket.resume();
    await once(socket, 'end');
  }
});

t.test(
  'a frame glued to the handshake is not lost, and the server closes when its tunnels have',
  async (t) => {
    const server = createServer();
    const handler = new Watched({ onHello: (session) => session.welcome(welcome()) });
    let upgraded!: () => void;
    const done = new Promise<void>((resolve) => {
      upgraded = resolve;
    });
    server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => {});
      // As a gateway does that looks the ticket up first: meanwhile more may come.
      setTimeout(() => {
        upgradeTunnel(request, socket, head, handler);
        upgraded();
      }, 50);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    const frame = encodeFrame(FrameType.HELLO, 0, encodeControl(hello));
    const message = Buffer.concat([Buffer.from([0x82, 0x80 | frame.length, 0, 0, 0, 0]), frame]);
    const request = Buffer.from(
      'GET /tunnel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' +
        'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: traffic-share.v1\r\n\r\n',
    );
    socket.write(Buffer.concat([request, message.subarray(0, 10)]));
    setTimeout(() => socket.write(message.subarray(10)), 10);
    await done;
    let answer: Buffer = Buffer.alloc(0);
    while (!answer.includes('session-1'))
      answer = Buffer.concat([answer, (await once(socket, 'data'))[0] as Buffer]);
    t.pass('HELLO was answered with WELCOME');
    server.close();
    socket.end();
    await once(server, 'close');
    t.match(await handler.closed, { code: 'connection_lost' });
  },
);
