import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  connect as connectTls,
  createSecureContext,
  createServer as createTlsServer,
  TLSSocket,
} from 'node:tls';
import t, { type Test } from 'tap';
import { FRAME_HEADROOM } from '../../agent-protocol/frame.js';
import {
  adoptSocket,
  adoptTls,
  dialSocket,
  dialTlsSocket,
  type RawSink,
  type RawSocket,
} from '../../agent-protocol/raw-socket.js';
import { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import { connectTunnel, upgradeTunnel } from '../../agent-protocol/websocket.js';
import { listen } from './helpers/relay.js';
import { hello, Watched, welcome } from './helpers/tunnel.js';

class Sink implements RawSink {
  readonly pieces: Buffer[] = [];
  bytes = 0;
  drains = 0;
  ends = 0;
  keep = false;
  readonly kept: Array<{ view: Buffer; copy: Buffer }> = [];
  headrooms = new Set<number>();
  readonly closed: Promise<Error | null>;
  #resolve!: (error: Error | null) => void;
  constructor() {
    this.closed = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
    const view = buffer.subarray(start, end);
    const copy = Buffer.from(view);
    this.pieces.push(copy);
    this.bytes += copy.length;
    this.headrooms.add(headroomBytes);
    if (headroomBytes > 0) buffer.fill(0xee, start - headroomBytes, start);
    if (!this.keep || headroomBytes === 0) return false;
    this.kept.push({ view, copy });
    return true;
  }
  onDrain(): void {
    this.drains++;
  }
  onEnd(): void {
    this.ends++;
  }
  onClose(error: Error | null): void {
    this.#resolve(error);
  }
  get text(): string {
    return Buffer.concat(this.pieces).toString();
  }
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

/** A self-signed certificate for localhost. */
function certificate(): { key: Buffer; cert: Buffer } {
  const folder = mkdtempSync(join(tmpdir(), 'wire-'));
  try {
    const args = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost';
    execFileSync(
      'openssl',
      [
        ...args.split(' '),
        '-addext',
        'subjectAltName=DNS:localhost,IP:127.0.0.1',
        '-keyout',
        join(folder, 'k'),
        '-out',
        join(folder, 'c'),
      ],
      { stdio: 'ignore' },
    );
    return { key: readFileSync(join(folder, 'k')), cert: readFileSync(join(folder, 'c')) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

t.test('an adopted socket: paused until asked, sinks swap, half-close, its server may close', async (t) => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  t.teardown(() => client.destroy());
  client.write('first');
  const raw = adoptSocket((await accepted)[0]);
  t.match(raw.socket.remoteAddress, /127\.0\.0\.1$/);
  const one = new Sink();
  raw.setSink(one);
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(one.bytes, 0, 'nothing comes before resume()');
  raw.resume();
  await until(() => one.text === 'first');
  raw.pause();
  client.write('second');
  client.end();
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(one.text, 'first');
  const two = new Sink();
  raw.setSink(two);
  raw.resume();
  await until(() => two.ends === 1);
  t.equal(two.text, 'second');
  t.ok(raw.ended);
  const three = new Sink();
  raw.setSink(three);
  await until(() => three.ends === 1);
  t.pass('an end that has been is told to a later sink');
  raw.write(Buffer.from('answer'));
  raw.end();
  const [answer] = await once(client, 'data');
  t.equal(String(answer), 'answer');
  t.equal(await three.closed, null);
  server.close();
  await once(server, 'close');
});

t.test('buffers: small reads share one, large ones grow, kept ones are left alone', async (t) => {
  const bytes = randomBytes(8 * 1024 * 1024);
  const port = await listen(
    t,
    createServer((socket) => socket.once('data', () => socket.end(bytes))),
  );
  for (const keep of [false, true]) {
    const raw = dialSocket({ port, host: '127.0.0.1' });
    const sink = new Sink();
    sink.keep = keep;
    raw.setSink(sink);
    raw.resume();
    await once(raw.socket, 'connect');
    raw.write(Buffer.from('go'));
    await until(() => sink.ends === 1);
    t.ok(Buffer.concat(sink.pieces).equals(bytes));
    t.ok(sink.headrooms.has(0), 'the first reads are small');
    t.ok(
      [...sink.headrooms].some((headroom) => headroom >= FRAME_HEADROOM),
      'later ones have headroom',
    );
    t.ok(Math.max(...sink.pieces.map(({ length }) => length)) > 64 * 1024, 'and are large');
    if (keep) t.ok(sink.kept.length > 0 && sink.kept.every(({ view, copy }) => view.equals(copy)));
    raw.end();
    await sink.closed;
  }
});

t.test('buffers grow also where each read is kept and pauses, as before a tunnel with backlog', async (t) => {
  const bytes = randomBytes(8 * 1024 * 1024);
  const port = await listen(
    t,
    createServer((socket) => socket.once('data', () => socket.end(bytes))),
  );
  const raw = dialSocket({ port, host: '127.0.0.1' });
  let intact = true;
  class Pausing extends Sink {
    override onBytes(buffer: Buffer, start: number, end: number, headroomBytes: number): boolean {
      super.onBytes(buffer, start, end, headroomBytes);
      const copy = this.pieces.at(-1) as Buffer;
      raw.pause();
      setImmediate(() => {
        if (headroomBytes > 0 && !buffer.subarray(start, end).equals(copy)) intact = false;
        raw.resume();
      });
      return true;
    }
  }
  const sink = new Pausing();
  raw.setSink(sink);
  raw.resume();
  await once(raw.socket, 'connect');
  raw.write(Buffer.from('go'));
  await until(() => sink.ends === 1);
  t.ok(Buffer.concat(sink.pieces).equals(bytes));
  t.ok(intact, 'kept bytes are left alone until resume()');
  t.ok(Math.max(...sink.pieces.map(({ length }) => length)) > 64 * 1024, 'reads become large');
  raw.end();
  await sink.closed;
});

t.test('onDrain comes after a write of any size that did not go at once', async (t) => {
  const sockets: Socket[] = [];
  const port = await listen(
    t,
    createServer({ pauseOnConnect: true }, (socket) => sockets.push(socket)),
  );
  const raw = dialSocket({ port, host: '127.0.0.1' });
  t.teardown(() => raw.destroy());
  const sink = new Sink();
  raw.setSink(sink);
  await once(raw.socket, 'connect');
  while (raw.write(Buffer.alloc(256 * 1024)));
  const before = sink.drains;
  t.ok(raw.backlogBytes > 0);
  await until(() => sockets.length === 1);
  sockets[0]?.resume();
  await until(() => sink.drains > before);
  t.equal(raw.backlogBytes, 0);
  sockets[0]?.pause();
  while (raw.write(Buffer.alloc(100)));
  t.notOk(
    raw.socket.writableNeedDrain && raw.socket.writableLength < 16_000,
    'a backlog below the high-water mark',
  );
  const small = sink.drains;
  sockets[0]?.resume();
  await until(() => sink.drains > small);
  t.equal(raw.backlogBytes, 0);
});

t.test('a failed dial and a reset come as onClose', async (t) => {
  const unused = createServer().listen(0, '127.0.0.1');
  await once(unused, 'listening');
  const { port } = unused.address() as AddressInfo;
  unused.close();
  await once(unused, 'close');
  const sink = new Sink();
  dialSocket({ port, host: '127.0.0.1' }).setSink(sink);
  t.match(await sink.closed, { code: 'ECONNREFUSED' });

  const resetting = await listen(
    t,
    createServer((socket) => socket.resetAndDestroy()),
  );
  const second = new Sink();
  const raw = dialSocket({ port: resetting, host: '127.0.0.1' });
  raw.setSink(second);
  raw.resume();
  t.match(await second.closed, { code: 'ECONNRESET' });
  const late = new Sink();
  raw.setSink(late);
  t.match(await late.closed, { code: 'ECONNRESET' }, 'a later sink hears of it too');
});

t.test('TLS: bulk is gathered, small messages are not delayed, pause holds, FIN comes last', async (t) => {
  const { key, cert } = certificate();
  const bytes = randomBytes(3 * 1024 * 1024);
  const server = createTlsServer({ key, cert, allowHalfOpen: true });
  const accepted = once(server, 'secureConnection') as Promise<[TLSSocket]>;
  const port = await listen(t, server);
  const raw = dialTlsSocket({ port, host: '127.0.0.1', ca: cert });
  t.teardown(() => raw.destroy());
  const sink = new Sink();
  raw.setSink(sink);
  const [peer] = await accepted;
  peer.write('hello');
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(sink.bytes, 0, 'paused');
  raw.resume();
  await until(() => sink.text === 'hello');
  peer.write(bytes);
  await until(() => sink.bytes > 200_000);
  raw.pause();
  await new Promise((resolve) => setImmediate(resolve));
  const paused = sink.bytes;
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(sink.bytes, paused, 'nothing comes while paused');
  peer.end();
  raw.resume();
  await until(() => sink.ends === 1);
  t.ok(Buffer.concat(sink.pieces.slice(1)).equals(bytes), 'every byte before the end');
  t.ok(Math.max(...sink.pieces.map(({ length }) => length)) > 16_384, 'several records at a time');
  raw.write(Buffer.from('bye'));
  const [bye] = await once(peer, 'data');
  t.equal(String(bye), 'bye');

  // The accepting side, adopted.
  const client = connectTls({ port, host: '127.0.0.1', ca: cert });
  t.teardown(() => client.destroy());
  const [second] = (await once(server, 'secureConnection')) as [TLSSocket];
  const adopted = adoptSocket(second);
  t.equal(second.listenerCount('data'), 0, 'this Node lets a TLS socket read into our memory: see readInto');
  const adoptedSink = new Sink();
  adopted.setSink(adoptedSink);
  adopted.resume();
  client.write('ping');
  await until(() => adoptedSink.text === 'ping');
  adopted.write(Buffer.from('pong'));
  const [pong] = await once(client, 'data');
  t.equal(String(pong), 'pong');
});

t.test('a tunnel in TLS', async (t) => {
  const { key, cert } = certificate();
  const gatewayHandler = new Watched({ onHello: (session) => session.welcome(welcome()) });
  const server = createHttpsServer({ key, cert });
  server.on('upgrade', (request, socket, head) => {
    const session = upgradeTunnel(request, socket, head, gatewayHandler);
    t.teardown(() => session?.destroy());
  });
  const port = await listen(t, server);
  let isOpen!: () => void;
  const open = new Promise<void>((resolve) => {
    isOpen = resolve;
  });
  const untrusted = await connectTunnel(
    { url: `wss://127.0.0.1:${port}/tunnel`, ticket: 't' },
    new Watched(),
  ).catch((error) => error);
  t.match(untrusted, { code: 'connect_failed' }, 'certificates are verified');
  const agentHandler = new Watched({ onWelcome: () => isOpen() });
  const agent = await connectTunnel(
    { url: `wss://127.0.0.1:${port}/tunnel`, ticket: 't', tls: { ca: cert } },
    agentHandler,
  );
  agent.hello(hello);
  await open;
  agent.close({ code: 'stopped', reason: 'owner' });
  t.match(await gatewayHandler.closed, { code: 'stopped', byPeer: true });
});

t.test('as a stream: node:http serves over it, and it can be given back', async (t) => {
  const web = createHttpServer((request, response) => {
    let bytes = 0;
    request.on('data', (piece: Buffer) => {
      bytes += piece.length;
    });
    request.on('end', () => response.end(`${request.method} ${request.url} ${bytes} ${'x'.repeat(300_000)}`));
  });
  t.teardown(() => web.close());
  const port = await listen(
    t,
    createServer({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) => {
      web.emit('connection', new SocketDuplex(adoptSocket(accepted)));
    }),
  );
  const answer = await new Promise<string>((resolve, reject) => {
    const request = httpRequest({ port, host: '127.0.0.1', path: '/a', method: 'POST', agent: false });
    request.on('error', reject);
    request.on('response', (response) => {
      let text = '';
      response.on('data', (piece: Buffer) => {
        text += piece;
      });
      response.on('end', () => resolve(text));
    });
    request.end(Buffer.alloc(500_000));
  });
  t.equal(answer, `POST /a 500000 ${'x'.repeat(300_000)}`);

  let given!: (raw: RawSocket, unread: Buffer) => void;
  const back = new Promise<{ raw: RawSocket; unread: Buffer }>((resolve) => {
    given = (raw, unread) => resolve({ raw, unread });
  });
  const second = await listen(
    t,
    createServer({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) => {
      const duplex = new SocketDuplex(adoptSocket(accepted));
      duplex.once('readable', () => {
        const first = duplex.read(3) as Buffer;
        t.equal(String(first), 'abc');
        given(duplex.raw, duplex.release());
      });
    }),
  );
  const client = connect(second, '127.0.0.1');
  t.teardown(() => client.destroy());
  client.write('abcdef');
  const { raw, unread } = await back;
  t.equal(String(unread), 'def');
  const sink = new Sink();
  raw.setSink(sink);
  raw.resume();
  client.write('ghi');
  await until(() => sink.text === 'ghi');
  raw.write(Buffer.from('still here'));
  const [still] = await once(client, 'data');
  t.equal(String(still), 'still here');
});

t.test('a reset behind unread bytes is no regular end', async (t) => {
  for (const how of ['reset', 'fin'] as const) {
    const server = createServer({ pauseOnConnect: true });
    t.teardown(() => server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const raw = dialSocket({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
    const sink = new Sink();
    raw.setSink(sink);
    const [[sender]] = await Promise.all([accepted, once(raw.socket, 'connect')]);
    await new Promise<void>((resolve) => sender.write(Buffer.alloc(20_000), () => resolve()));
    if (how === 'reset') sender.resetAndDestroy();
    else sender.end();
    // On loopback both are with the receiver when the sender's calls have returned.
    await new Promise((resolve) => setImmediate(resolve));
    raw.resume();
    if (how === 'reset') {
      t.match(await sink.closed, { code: 'ECONNRESET' });
      t.equal(sink.ends, 0);
    } else {
      await until(() => sink.ends > 0);
      raw.end();
      sender.resume();
      t.equal(await sink.closed, null);
      t.equal(sink.ends, 1);
    }
    t.equal(sink.bytes, 20_000, 'what came before is delivered');
  }
});

/** Both ends of a connection in TLS, the accepted one adopted below TLS as the gateway does it. */
async function adoptedTls(t: Test): Promise<{ raw: RawSocket; peer: TLSSocket }> {
  const { key, cert } = certificate();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const port = await listen(t, server);
  const peer = connectTls({ port, host: '127.0.0.1', ca: cert, servername: 'localhost' });
  t.teardown(() => peer.destroy());
  peer.allowHalfOpen = true;
  const tcp = adoptSocket((await accepted)[0]);
  const secureContext = createSecureContext({ key, cert });
  const tls = new TLSSocket(tcp.socket, { isServer: true, secureContext });
  await Promise.all([once(tls, 'secure'), once(peer, 'secureConnect')]);
  return { raw: adoptTls(tls, tcp), peer };
}

async function adoptedTcp(t: Test): Promise<{ raw: RawSocket; peer: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const peer = connect({ port: await listen(t, server), host: '127.0.0.1', allowHalfOpen: true });
  t.teardown(() => peer.destroy());
  return { raw: adoptSocket((await accepted)[0]), peer };
}

t.test('a reset right behind an end closes all the same', async (t) => {
  for (const adopted of [adoptedTcp, adoptedTls]) {
    const { raw, peer } = await adopted(t);
    const sink = new Sink();
    raw.setSink(sink);
    const peerClosed = new Promise<void>((resolve) => {
      peer.on('error', () => {});
      peer.once('close', () => resolve());
    });
    raw.end();
    raw.reset();
    t.equal(await sink.closed, null, `${adopted.name}: gone`);
    // Reads what there is until it is told.
    peer.resume();
    peer.write('on');
    await peerClosed;
  }
});

t.test('an end behind our own is told before the close', async (t) => {
  for (const adopted of [adoptedTcp, adoptedTls]) {
    const { raw, peer } = await adopted(t);
    const sink = new Sink();
    raw.setSink(sink);
    raw.resume();
    raw.end();
    peer.resume();
    await once(peer, 'end');
    peer.end('bye');
    t.equal(await sink.closed, null);
    t.equal(sink.text, 'bye');
    t.equal(sink.ends, 1, `${adopted.name}: in order`);
  }
});
