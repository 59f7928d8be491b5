/**
 * What SPEC.md asks of an agent, tried on a running one. `AGENT_CMD` is the command of the agent under test (default:
 * the reference agent); it is started with these variables and must connect by itself, again and again:
 *
 * - TS_TUNNEL_URL, TS_TICKET: where to, and with what in `Authorization: Bearer`
 * - TS_DEV_ALLOW: `host:port,…`, addresses and names exactly as the gateway asks for them, that it may dial and send
 *   datagrams to though they are not global addresses
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t, { type Test } from 'tap';
import { decodeGoaway, decodeStatus, encodeControl } from '../../agent-protocol/control.js';
import { decodeDatagram, encodeDatagram } from '../../agent-protocol/datagram.js';
import { DialCode, encodeFrame, FrameType, ResetCode } from '../../agent-protocol/frame.js';
import { compiledPath } from '../helpers/compiled.js';
import { UdpPeer } from '../helpers/udp-peer.js';
import { Arrivals, startTcp } from './agent/harness.js';
import { LIMITS, type Peer, startConformanceGateway } from './conformance-gateway.js';

const command = process.env.AGENT_CMD?.split(' ') ?? [
  process.execPath,
  compiledPath('agent-protocol/agent/main'),
];
const WINDOW = LIMITS.stream_window_bytes;

/** An agent on a gateway of its own, and a destination that it may reach. */
async function agentUnderTest(t: Test) {
  const gateway = await startConformanceGateway();
  t.teardown(() => gateway.stop());
  const connections = new Arrivals<Socket>();
  const destination = await startTcp((socket) => connections.add(socket));
  t.teardown(() => destination.stop());
  const nobody = await startTcp(() => {});
  await nobody.stop();
  const udpEcho = (await UdpPeer.open(t)).echo();
  const udpInside = await UdpPeer.open(t);
  const agent = spawn(command[0] as string, command.slice(1), {
    env: {
      PATH: process.env.PATH,
      TS_TUNNEL_URL: gateway.url,
      TS_TICKET: 'the-ticket',
      TS_DEV_ALLOW: [
        `127.0.0.1:${destination.port}`,
        `127.0.0.1:${nobody.port}`,
        `127.0.0.1:${udpEcho.port}`,
        `localhost:${udpEcho.port}`,
      ].join(),
    },
    stdio: ['ignore', 'ignore', process.env.AGENT_LOG === undefined ? 'ignore' : 'inherit'],
  });
  t.teardown(() => agent.kill('SIGKILL'));
  const exited = once(agent, 'exit');
  const { peer, hello } = await gateway.greeted();

  /** A stream through the agent, with the destination's end of it. */
  const through = async (peer: Peer): Promise<{ id: number; socket: Socket }> => {
    const { id, code } = await peer.open('127.0.0.1', destination.port);
    if (code !== DialCode.OK) throw new Error(`dial code ${code}`);
    return { id, socket: await connections.next() };
  };
  return { gateway, peer, hello, through, connections, destination, nobody, udpEcho, udpInside, exited };
}

async function text(socket: Socket, bytes: number): Promise<string> {
  let text = '';
  while (text.length < bytes) text += ((await once(socket, 'data')) as [Buffer])[0].toString('latin1');
  return text;
}

/** Resolves when the socket is gone, by a reset as well. */
const closeOf = (socket: Socket) => new Promise((resolve) => socket.once('close', resolve));

/** Resolves after a moment in which nothing was to happen. */
const moment = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

t.test('one tunnel', async (t) => {
  const world = await agentUnderTest(t);
  const { gateway, peer, hello, through, connections, destination, nobody, exited } = world;
  const { udpEcho, udpInside } = world;

  await t.test('handshake', async (t) => {
    const { headers, url } = peer.request;
    t.equal(url, '/tunnel');
    t.equal(headers.authorization, 'Bearer the-ticket');
    t.match(headers['sec-websocket-protocol'], /\btraffic-share\.v1\b/);
    t.notMatch(headers['sec-websocket-extensions'] ?? '', /permessage-deflate/);
    t.ok(hello.versions.includes(1));
    t.ok(hello.agent.length > 0 && hello.agent_version.length > 0 && hello.os.length > 0);
    const status = decodeStatus((await peer.statuses.next()).payload);
    t.ok(status.ok, 'a STATUS follows');
  });

  await t.test('bytes both ways', async (t) => {
    const { id, socket } = await through(peer);
    peer.send(FrameType.DATA, id, Buffer.from('question'));
    t.equal(await text(socket, 8), 'question');
    socket.write('answer');
    t.equal(await peer.data(id, 6), 'answer');
    peer.sendFragmented(FrameType.DATA, id, Buffer.alloc(3_000, 'f'), 7);
    t.equal(await text(socket, 3_000), 'f'.repeat(3_000), 'a message in fragments');
    socket.destroy();
  });

  await t.test('OPEN in fragments, between other frames', async (t) => {
    const id = peer.nextId();
    peer.sendFragmented(
      FrameType.OPEN,
      id,
      encodeControl({ host: '127.0.0.1', port: destination.port, network: 'tcp' }),
      5,
    );
    const opened = await peer.stream(id).next();
    t.same([opened.type, ...opened.payload], [FrameType.OPENED, DialCode.OK]);
    const gone = closeOf(await connections.next());
    peer.send(FrameType.RESET, id, Uint8Array.of(ResetCode.CANCELLED));
    await gone;
  });

  await t.test('half-close, the buyer first', async (t) => {
    const { id, socket } = await through(peer);
    peer.send(FrameType.DATA, id, Buffer.from('x'));
    socket.resume();
    peer.send(FrameType.FIN, id);
    await once(socket, 'end');
    socket.write('late answer');
    t.equal(await peer.data(id, 11), 'late answer');
    socket.end();
    t.equal((await peer.stream(id).nextWhere((f) => f.type !== FrameType.CREDIT)).type, FrameType.FIN);
  });

  await t.test('half-close, the destination first', async (t) => {
    const { id, socket } = await through(peer);
    socket.end('goodbye');
    t.equal(await peer.data(id, 7), 'goodbye');
    t.equal((await peer.stream(id).nextWhere((f) => f.type !== FrameType.CREDIT)).type, FrameType.FIN);
    peer.send(FrameType.DATA, id, Buffer.from('one more'));
    t.equal(await text(socket, 8), 'one more');
    peer.send(FrameType.FIN, id);
    await once(socket, 'end');
  });

  await t.test('RESET both ways', async (t) => {
    const first = await through(peer);
    const gone = closeOf(first.socket);
    peer.send(FrameType.RESET, first.id, Uint8Array.of(ResetCode.CANCELLED));
    await gone;
    t.pass('RESET closes the connection');
    peer.send(FrameType.DATA, first.id, Buffer.from('crossed on the way'));

    const second = await through(peer);
    second.socket.resetAndDestroy();
    const frame = await peer.stream(second.id).next();
    t.equal(frame.type, FrameType.RESET, 'a reset connection becomes RESET');
    t.equal(frame.payload.length, 1);
  });

  await t.test('never sends beyond the window', async (t) => {
    const { id, socket } = await through(peer);
    socket.write(Buffer.alloc(4 * WINDOW, 'd'));
    let received = 0;
    let largest = 0;
    const take = async (upTo: number) => {
      while (received < upTo) {
        const frame = await peer.stream(id).next();
        if (frame.type !== FrameType.DATA) throw new Error(`frame ${frame.type}`);
        largest = Math.max(largest, frame.payload.length);
        received += frame.payload.length;
      }
    };
    const waiting = () => peer.stream(id).all.reduce((sum, f) => sum + f.payload.length, 0);
    await take(WINDOW);
    await moment(150);
    // `all` begins with OPENED, whose payload is one byte
    t.equal(waiting() - 1, WINDOW, 'the whole window and not a byte more');
    peer.credit(id, 1);
    await take(WINDOW + 1);
    peer.credit(id, 10_000);
    await take(WINDOW + 10_001);
    await moment(100);
    t.equal(waiting() - 1, WINDOW + 10_001);
    peer.credit(id, 3 * WINDOW);
    await take(4 * WINDOW);
    t.ok(largest <= LIMITS.frame_bytes_max, `frames of at most ${largest} bytes`);
    socket.end();
    t.equal((await peer.stream(id).next()).type, FrameType.FIN);
    peer.send(FrameType.FIN, id);
  });

  await t.test('returns credit when the destination has taken the bytes, not before', async (t) => {
    const { id, socket } = await through(peer);
    const frames = peer.stream(id);
    const credit = () =>
      frames.all.reduce((sum, f) => sum + (f.type === FrameType.CREDIT ? f.payload.readUInt32BE(0) : 0), 0);
    let sent = 0;
    const piece = Buffer.alloc(LIMITS.frame_bytes_max, 'u');
    // The destination does not read: what the kernels do not hold must stay with the sender
    const fill = async () => {
      for (let quietSince = Date.now(); Date.now() - quietSince < 400; await moment(5))
        while (sent + piece.length <= WINDOW + credit()) {
          peer.send(FrameType.DATA, id, piece);
          sent += piece.length;
          quietSince = Date.now();
        }
    };
    await fill();
    t.ok(sent >= WINDOW, `${sent} bytes until it stopped`);
    t.ok(credit() <= sent + LIMITS.stream_window_bytes_max - WINDOW, 'no more than consumed, and the growth');
    socket.resume();
    const before = credit();
    while (credit() === before) await frames.next();
    t.pass('goes on when the destination reads');
    while (WINDOW + credit() - sent < piece.length) await frames.next();
    let taken = socket.bytesRead;
    while (taken < sent) {
      await once(socket, 'data');
      taken = socket.bytesRead;
    }
    t.equal(taken, sent, 'every byte arrived');
    peer.send(FrameType.RESET, id, Uint8Array.of(ResetCode.CANCELLED));
  });

  await t.test('PING and WebSocket ping', async (t) => {
    const payload = Buffer.from('8 opaque');
    peer.send(FrameType.PING, 0, payload);
    const pong = await peer.session.nextWhere((f) => f.type === FrameType.PONG);
    t.same(pong.payload, payload);
    peer.socket.ping('standard');
    const [answer] = (await once(peer.socket, 'pong')) as [Buffer];
    t.equal(answer.toString(), 'standard');
  });

  await t.test('dial codes', async (t) => {
    const code = async (host: string, port: number) => (await peer.open(host, port)).code;
    t.equal(await code('127.0.0.1', nobody.port), DialCode.REFUSED);
    for (const host of [
      '10.0.0.1',
      '127.1',
      '0x7f000001',
      '2130706433',
      '0.0.0.0',
      '169.254.169.254',
      '168.63.129.16',
      '192.168.1.1',
      '100.64.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '::1',
      '::',
      '::ffff:127.0.0.1',
      '::127.0.0.1',
      '64:ff9b::7f00:1',
      '2002:7f00:1::',
      'fe80::1',
      'fd00::1',
      'ff02::1',
      'localhost',
    ])
      t.equal(await code(host, destination.port), DialCode.PROHIBITED, `${host} is prohibited`);
    t.equal(await code('127.0.0.1', 1), DialCode.PROHIBITED, 'an exemption is for one port');
    t.equal(await code('name.invalid', 80), DialCode.DNS_FAIL);
  });

  await t.test('associations, or UNSUPPORTED', async (t) => {
    // The host and port of OPEN mean nothing: a prohibited one changes nothing.
    const { id, code } = await peer.open('127.0.0.1', 1, 'udp');
    if (code === DialCode.UNSUPPORTED) return t.pass('an agent without UDP');
    t.equal(code, DialCode.OK);
    t.not(hello.udp, false, 'who says no must mean it');
    const send = (host: string, port: number, text: string) =>
      peer.send(FrameType.DATAGRAM, id, encodeDatagram({ host, port, bytes: Buffer.from(text) }));
    const answer = async () => {
      const frame = await peer.stream(id).next();
      t.equal(frame.type, FrameType.DATAGRAM);
      return decodeDatagram(frame.payload);
    };
    for (const [host, text] of [
      ['127.0.0.1', 'one'],
      ['localhost', 'two, to a name'],
      ['127.0.0.1', ''],
      ['127.0.0.1', 'x'.repeat(1_400)],
    ] as const) {
      send(host, udpEcho.port, text);
      t.equal((await udpEcho.next()).bytes.toString(), text);
      t.same(await answer(), { host: '127.0.0.1', port: udpEcho.port, bytes: Buffer.from(text) });
    }

    for (const host of [
      '127.0.0.1',
      '127.1',
      '0x7f000001',
      '::ffff:127.0.0.1',
      '10.0.0.1',
      '::1',
      'localhost',
    ])
      send(host, udpInside.port, 'prohibited');
    send('name.invalid', 53, 'does not resolve');
    peer.send(FrameType.DATAGRAM, id, Buffer.from([3, 2, 0xff, 0xfe, 0, 53, 1]));
    send('127.0.0.1', udpEcho.port, 'goes on');
    const { port } = await udpEcho.next();
    t.equal((await answer())?.bytes.toString(), 'goes on', 'refusals are silent');
    t.same(udpInside.received, []);

    udpInside.send('from a stranger', port, '127.0.0.1');
    udpEcho.send('from a friend', port, '127.0.0.1');
    t.equal((await answer())?.bytes.toString(), 'from a friend', 'a stranger gets nothing through');

    peer.send(FrameType.RESET, id, Uint8Array.of(ResetCode.CANCELLED));
    send('127.0.0.1', udpEcho.port, 'crossed on the way');
    const second = await peer.open('0.0.0.0', 1, 'udp');
    t.equal(second.code, DialCode.OK);
    udpEcho.send('after RESET', port, '127.0.0.1');
    peer.send(
      FrameType.DATAGRAM,
      second.id,
      encodeDatagram({ host: '127.0.0.1', port: udpEcho.port, bytes: Buffer.from('second') }),
    );
    t.equal((await udpEcho.next()).bytes.toString(), 'second', 'nothing goes out after RESET');
    const frame = await peer.stream(second.id).next();
    t.equal(decodeDatagram(frame.payload)?.bytes.toString(), 'second');
    peer.send(FrameType.RESET, second.id, Uint8Array.of(ResetCode.CANCELLED));
  });

  await t.test('DRAIN: comes back before it goes', async (t) => {
    const { id, socket } = await through(peer);
    peer.send(FrameType.DRAIN, 0, encodeControl({ reason: 'upgrade', deadline_ms: 10_000 }));
    const next = await gateway.greeted();
    t.equal(peer.socket.readyState, peer.socket.OPEN, 'the old tunnel is still there');
    socket.write('still here');
    t.equal(await peer.data(id, 10), 'still here');
    peer.send(FrameType.FIN, id);
    socket.end();
    const stream = await through(next.peer);
    stream.socket.destroy();
    peer.socket.close();

    next.peer.send(FrameType.GOAWAY, 0, encodeControl({ code: 'shutting_down', reason: 'test' }));
    next.peer.socket.close();
    const third = await gateway.greeted();
    t.pass('comes back after shutting_down');
    third.peer.send(FrameType.GOAWAY, 0, encodeControl({ code: 'stopped', reason: 'test' }));
    await Promise.race([exited, third.peer.closed]);
    await Promise.race([exited, moment(1_500)]);
    t.equal(gateway.peers.all.length, 3, 'does not come back after stopped');
  });
});

const openFrame = (id: number, host = '127.0.0.1', port = 1) =>
  encodeFrame(FrameType.OPEN, id, encodeControl({ host, port, network: 'tcp' }));

/** What a gateway must never send, and an agent never accept. */
const violations: readonly (readonly [string, (peer: Peer) => void])[] = [
  ['an unknown frame type', (p) => p.send(99, 0)],
  ['a frame of less than five bytes', (p) => p.sendRaw(Buffer.from([FrameType.PING, 0, 0]))],
  ['DATA on stream 0', (p) => p.send(FrameType.DATA, 0, Buffer.from('x'))],
  ['DATA on a stream that was never opened', (p) => p.send(FrameType.DATA, 77, Buffer.from('x'))],
  ['OPEN that is no msgpack', (p) => p.send(FrameType.OPEN, 1, Buffer.from([0xc1, 0xc1]))],
  [
    'OPEN without a port',
    (p) => p.send(FrameType.OPEN, 1, encodeControl({ host: 'example.com', network: 'tcp' } as never)),
  ],
  [
    'a stream id used twice',
    (p) => {
      p.sendRaw(openFrame(5));
      p.sendRaw(openFrame(5));
    },
  ],
  ['HELLO from the gateway', (p) => p.send(FrameType.HELLO, 0, encodeControl({ versions: [1] } as never))],
  ['a PING of seven bytes', (p) => p.send(FrameType.PING, 0, Buffer.alloc(7))],
  [
    'DATA before OPENED',
    (p) => {
      p.sendRaw(openFrame(1, 'name.invalid', 80));
      p.send(FrameType.DATA, 1, Buffer.from('x'));
    },
  ],
];

t.test('violations end the tunnel with 1002', async (t) => {
  // An agent waits longer each time: some agents side by side, a few violations each
  const agents = 3;
  const runs = Array.from({ length: agents }, (_, index) =>
    violations.filter((_, i) => i % agents === index),
  );
  await Promise.all(
    runs.map(async (mine) => {
      const { gateway, peer: first } = await agentUnderTest(t);
      let peer: Peer | null = first;
      for (const [name, violate] of mine) {
        peer ??= (await gateway.greeted()).peer;
        violate(peer);
        t.equal(await peer.closed, 1002, name);
        const goaway = peer.session.all.find((f) => f.type === FrameType.GOAWAY);
        const decoded = goaway === undefined ? null : decodeGoaway(goaway.payload);
        t.ok(decoded?.ok && decoded.message.code === 'protocol_error', `GOAWAY for ${name}`);
        peer = null;
      }
    }),
  );
});

t.test('DATA beyond the window or the frame, and a text message', async (t) => {
  const { gateway, peer, through } = await agentUnderTest(t);
  const { id } = await through(peer);
  // Nobody reads at the destination: this is more than the windows and the kernels can hold
  const piece = Buffer.alloc(LIMITS.frame_bytes_max);
  for (let i = 0; i < 3_000; i++) peer.send(FrameType.DATA, id, piece);
  t.equal(await peer.closed, 1002, 'DATA beyond the window');

  const second = (await gateway.greeted()).peer;
  const stream = await through(second);
  second.send(FrameType.DATA, stream.id, Buffer.alloc(LIMITS.frame_bytes_max + 1));
  t.equal(await second.closed, 1002, 'a DATA frame above frame_bytes_max');

  const third = (await gateway.greeted()).peer;
  third.sendRaw('text');
  const code = await third.closed;
  t.ok(code === 1002 || code === 1003, `a text message ends it (${code})`);
});
