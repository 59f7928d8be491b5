import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { encodeControl } from '../../agent-protocol/control.js';
import { FrameType } from '../../agent-protocol/frame.js';
import type { CloseReason, MuxSession } from '../../agent-protocol/session.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { connectTunnel } from '../../agent-protocol/websocket.js';
import { muxFrame, writeFrame } from './helpers/naive-websocket.js';
import { fastHeartbeat, hello, serveTunnels, Watched, welcome } from './helpers/tunnel.js';
import { connectPeer, servePeer, type WirePeer } from './helpers/wire-peer.js';

const recording = (resets: number[]): StreamHandler => ({
  onData: () => {},
  onFin: () => {},
  onReset: (_stream, code) => resets.push(code),
  onWritable: () => {},
});

interface Scene {
  peer: WirePeer;
  session: MuxSession;
  handler: Watched;
  stream: MuxStream;
  resets: number[];
}

/** A gateway's session with a peer that has said HELLO; stream 1 is open. */
async function gatewayScene(t: Test, greeted = true): Promise<Scene> {
  const handler = new Watched({ onHello: (session) => session.welcome(welcome({ streamsMax: 3 })) });
  const { port, sessions } = await serveTunnels(t, () => handler);
  const peer = await connectPeer(t, port);
  const session = sessions[0] as MuxSession;
  const resets: number[] = [];
  if (!greeted) return { peer, session, handler, stream: null as unknown as MuxStream, resets };
  peer.sendFrame(FrameType.HELLO, 0, encodeControl(hello));
  await peer.until((frames) => frames.length >= 2);
  let isOpen!: () => void;
  const open = new Promise<void>((resolve) => {
    isOpen = resolve;
  });
  const stream = session.open(
    { host: 'example.com', port: 80, network: 'tcp' },
    { ...recording(resets), onOpened: () => isOpen() },
  );
  peer.sendFrame(FrameType.OPENED, 1, Buffer.of(0));
  await open;
  return { peer, session, handler, stream, resets };
}

/** An agent's session with a peer that has said WELCOME; stream 1 is open. */
async function agentScene(t: Test, greeted = true): Promise<Scene> {
  const { url, peer: accepted } = await servePeer(t);
  const resets: number[] = [];
  let opened!: (stream: MuxStream) => void;
  const first = new Promise<MuxStream>((resolve) => {
    opened = resolve;
  });
  const handler = new Watched({
    onOpen: (_session, stream) => {
      stream.handler = recording(resets);
      if (stream.id === 1) stream.opened(0);
      opened(stream);
    },
  });
  const session = await connectTunnel({ url, ticket: 't' }, handler);
  t.teardown(() => session.destroy());
  const peer = await accepted;
  session.hello(hello);
  if (!greeted) return { peer, session, handler, stream: null as unknown as MuxStream, resets };
  peer.sendFrame(FrameType.WELCOME, 0, encodeControl(welcome({ streamsMax: 3 })));
  peer.sendFrame(FrameType.OPEN, 1, encodeControl({ host: 'example.com', port: 80, network: 'tcp' }));
  return { peer, session, handler, stream: await first, resets };
}

/** The tunnel must end with GOAWAY protocol_error and the close code, and nothing after that. */
async function expectFault(t: Test, scene: Scene, closeCode = 1002): Promise<CloseReason> {
  const reason = await scene.handler.closed;
  await scene.peer.ended;
  const [goaway, close] = scene.peer.frames.slice(-2);
  const frame = muxFrame(goaway?.payload as Buffer);
  t.equal(frame.type, FrameType.GOAWAY);
  t.ok(frame.payload.includes('protocol_error'));
  t.equal(close?.opcode, 8);
  t.equal(close?.payload.readUInt16BE(0), closeCode);
  t.match(reason, { code: 'protocol_error', byPeer: false });
  t.equal(scene.handler.closes, 1);
  t.equal(scene.session.state, 'closed');
  t.equal(scene.session.streamCount, 0);
  return reason;
}

const credit = (bytes: number): Buffer => {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return payload;
};
const control = (message: object) => encodeControl(message as never);
const F = FrameType;

/** What a peer may not send once stream 1 is open: name, frames, and words of the reason. */
const inBoth: Array<[string, (peer: WirePeer) => void, RegExp]> = [
  ['unknown type', (p) => p.sendFrame(99, 0), /unknown frame type 99/],
  ['type 0', (p) => p.sendFrame(0, 0), /unknown frame type 0/],
  ['DATA on stream 0', (p) => p.sendFrame(F.DATA, 0, Buffer.from('x')), /DATA on stream 0/],
  ['PING on stream 1', (p) => p.sendFrame(F.PING, 1, Buffer.alloc(8)), /PING on stream 1/],
  [
    'DATA on a stream never opened',
    (p) => p.sendFrame(F.DATA, 9, Buffer.from('x')),
    /stream 9, which was never/,
  ],
  [
    'RESET on a stream never opened',
    (p) => p.sendFrame(F.RESET, 9, Buffer.of(0)),
    /stream 9, which was never/,
  ],
  ['empty DATA', (p) => p.sendFrame(F.DATA, 1), /DATA shorter than 1/],
  [
    'DATA above frame_bytes_max',
    (p) => p.sendFrame(F.DATA, 1, Buffer.alloc(256 * 1024 + 1)),
    /frame_bytes_max|window/,
  ],
  [
    'DATA beyond the window',
    (p) => {
      for (let i = 0; i < 9; i++) p.sendFrame(F.DATA, 1, Buffer.alloc(32 * 1024));
    },
    /DATA beyond the window/,
  ],
  ['FIN with payload', (p) => p.sendFrame(F.FIN, 1, Buffer.from('x')), /FIN longer than 0/],
  [
    'DATA after FIN',
    (p) => {
      p.sendFrame(F.FIN, 1);
      p.sendFrame(F.DATA, 1, Buffer.from('x'));
    },
    /DATA in state finReceived/,
  ],
  [
    'second FIN',
    (p) => {
      p.sendFrame(F.FIN, 1);
      p.sendFrame(F.FIN, 1);
    },
    /FIN in state finReceived/,
  ],
  ['CREDIT of 3 bytes', (p) => p.sendFrame(F.CREDIT, 1, Buffer.alloc(3)), /CREDIT shorter than 4/],
  ['CREDIT of 0', (p) => p.sendFrame(F.CREDIT, 1, credit(0)), /CREDIT of 0/],
  ['CREDIT above the maximum', (p) => p.sendFrame(F.CREDIT, 1, credit(16 * 1024 * 1024)), /CREDIT beyond/],
  ['CREDIT of 2^32-1', (p) => p.sendFrame(F.CREDIT, 1, credit(0xffff_ffff)), /CREDIT beyond/],
  ['RESET without code', (p) => p.sendFrame(F.RESET, 1), /RESET shorter than 1/],
  ['PING of 7 bytes', (p) => p.sendFrame(F.PING, 0, Buffer.alloc(7)), /PING shorter than 8/],
  [
    'DATAGRAM on a tcp stream',
    (p) => p.sendFrame(F.DATAGRAM, 1, Buffer.alloc(12)),
    /DATAGRAM on a tcp stream/,
  ],
  ['GOAWAY that is no map', (p) => p.sendFrame(F.GOAWAY, 0, Buffer.of(0x93, 1, 2, 3)), /not a map/],
  ['GOAWAY without code', (p) => p.sendFrame(F.GOAWAY, 0, control({ reason: 'x' })), /code missing/],
  [
    'message without a header',
    (p) => p.send(writeFrame({ final: true, opcode: 2, payload: Buffer.alloc(4) }, p.key)),
    /shorter than a frame header/,
  ],
  [
    'empty message',
    (p) => p.send(writeFrame({ final: true, opcode: 2, payload: Buffer.alloc(0) }, p.key)),
    /shorter than a frame header/,
  ],
  [
    'flood of PING',
    (p) => {
      for (let i = 0; i < 2_000; i++) p.sendFrame(F.PING, 0, Buffer.alloc(8));
    },
    /flood of session frames/,
  ],
  [
    'flood of WebSocket pings',
    (p) => {
      for (let i = 0; i < 2_000; i++)
        p.send(writeFrame({ final: true, opcode: 9, payload: Buffer.alloc(0) }, p.key));
    },
    /flood of WebSocket pings/,
  ],
  [
    'flood of RESET',
    (p) => {
      const one = Buffer.from([8, 0, 0, 0, 1, 0]);
      const message = writeFrame({ final: true, opcode: 2, payload: one }, p.key);
      p.send(Buffer.concat(Array(50_000).fill(message)));
    },
    /flood of RESET/,
  ],
];

const toGateway: typeof inBoth = [
  [
    'WELCOME from the agent',
    (p) => p.sendFrame(F.WELCOME, 0, control(welcome())),
    /WELCOME from the wrong end/,
  ],
  [
    'OPEN from the agent',
    (p) => p.sendFrame(F.OPEN, 5, control({ host: 'h', port: 1, network: 'tcp' })),
    /OPEN from/,
  ],
  [
    'DRAIN from the agent',
    (p) => p.sendFrame(F.DRAIN, 0, control({ reason: '', deadline_ms: 1 })),
    /DRAIN from/,
  ],
  ['second HELLO', (p) => p.sendFrame(F.HELLO, 0, control(hello)), /second HELLO/],
  ['second OPENED', (p) => p.sendFrame(F.OPENED, 1, Buffer.of(0)), /OPENED in state open/],
  [
    'STATUS of the wrong type',
    (p) => p.sendFrame(F.STATUS, 0, control({ battery_percent: '80' })),
    /battery_percent/,
  ],
  [
    'STATUS out of range',
    (p) => p.sendFrame(F.STATUS, 0, control({ battery_percent: 101 })),
    /battery_percent/,
  ],
  [
    'STATUS with an extension',
    (p) => p.sendFrame(F.STATUS, 0, Buffer.from('81a177d40000', 'hex')),
    /not plain msgpack/,
  ],
  [
    'STATUS with bytes behind it',
    (p) => p.sendFrame(F.STATUS, 0, Buffer.from('8080', 'hex')),
    /not plain msgpack/,
  ],
  [
    'STATUS of 16 KiB + 1',
    (p) => p.sendFrame(F.STATUS, 0, Buffer.alloc(16 * 1024 + 1)),
    /STATUS longer than 16384/,
  ],
];

const open = (host: string, port: unknown, network: string) => control({ host, port, network });
const toAgent: typeof inBoth = [
  ['HELLO from the gateway', (p) => p.sendFrame(F.HELLO, 0, control(hello)), /HELLO from the wrong end/],
  ['STATUS from the gateway', (p) => p.sendFrame(F.STATUS, 0, control({})), /STATUS from/],
  ['OPENED from the gateway', (p) => p.sendFrame(F.OPENED, 1, Buffer.of(0)), /OPENED from/],
  ['second WELCOME', (p) => p.sendFrame(F.WELCOME, 0, control(welcome())), /WELCOME out of turn/],
  [
    'OPEN of an id used before',
    (p) => p.sendFrame(F.OPEN, 1, open('h', 1, 'tcp')),
    /OPEN of stream 1 after 1/,
  ],
  ['OPEN with port 0', (p) => p.sendFrame(F.OPEN, 2, open('h', 0, 'tcp')), /port not allowed/],
  ['OPEN with port 1.5', (p) => p.sendFrame(F.OPEN, 2, open('h', 1.5, 'tcp')), /port not allowed/],
  ['OPEN of another network', (p) => p.sendFrame(F.OPEN, 2, open('h', 1, 'sctp')), /network not allowed/],
  ['OPEN without host', (p) => p.sendFrame(F.OPEN, 2, open('', 1, 'tcp')), /host not allowed/],
  [
    'OPEN above streams_max',
    (p) => {
      for (const id of [2, 3, 4]) p.sendFrame(F.OPEN, id, open('h', 1, 'tcp'));
    },
    /OPEN above streams_max/,
  ],
  [
    'DATA before OPENED',
    (p) => {
      p.sendFrame(F.OPEN, 2, open('h', 1, 'tcp'));
      p.sendFrame(F.DATA, 2, Buffer.from('x'));
    },
    /DATA in state opening/,
  ],
  [
    'flood of OPEN',
    (p) => {
      const messages: Buffer[] = [];
      for (let id = 2; id < 40_000; id++) {
        const frame = Buffer.concat([Buffer.from([4, 0, 0, id >> 8, id & 255]), open('h', 1, 'tcp')]);
        const reset = Buffer.from([8, 0, 0, id >> 8, id & 255, 0]);
        messages.push(writeFrame({ final: true, opcode: 2, payload: frame }, null));
        if (id % 2 === 0) messages.push(writeFrame({ final: true, opcode: 2, payload: reset }, null));
      }
      p.send(Buffer.concat(messages));
    },
    /flood of OPEN|streams_max/,
  ],
];

t.test('what an agent may not send', async (t) => {
  for (const [name, send, words] of [...inBoth, ...toGateway]) {
    await t.test(name, async (t) => {
      const scene = await gatewayScene(t);
      send(scene.peer);
      t.match((await expectFault(t, scene)).reason, words);
      if (scene.stream.state === 'closed' && !name.includes('RESET')) t.same(scene.resets, [255]);
    });
  }
});

t.test('what a gateway may not send', async (t) => {
  for (const [name, send, words] of [...inBoth, ...toAgent]) {
    await t.test(name, async (t) => {
      const scene = await agentScene(t);
      send(scene.peer);
      t.match((await expectFault(t, scene)).reason, words);
    });
  }
});

t.test('WebSocket faults close with their own code', async (t) => {
  const cases: Array<[string, (peer: WirePeer) => Buffer, number]> = [
    ['text', (p) => writeFrame({ final: true, opcode: 1, payload: Buffer.from('hi') }, p.key), 1003],
    [
      'message above 1 MiB',
      (p) => writeFrame({ final: true, opcode: 2, payload: Buffer.alloc(1024 * 1024 + 1) }, p.key),
      1009,
    ],
    [
      'reserved bit',
      (p) => writeFrame({ final: true, opcode: 2, payload: Buffer.alloc(5) }, p.key, 0x40),
      1002,
    ],
  ];
  for (const [name, bytes, closeCode] of cases) {
    for (const scene of [await gatewayScene(t), await agentScene(t)]) {
      scene.peer.send(bytes(scene.peer));
      await expectFault(t, scene, closeCode);
      t.pass(name);
    }
  }
});

t.test('before WELCOME only the greeting is allowed', async (t) => {
  const toGatewayEarly: typeof inBoth = [
    ['STATUS', (p) => p.sendFrame(F.STATUS, 0, control({})), /STATUS before WELCOME/],
    ['RESET', (p) => p.sendFrame(F.RESET, 1, Buffer.of(0)), /RESET before WELCOME/],
    ['DATA', (p) => p.sendFrame(F.DATA, 1, Buffer.from('x')), /DATA before WELCOME/],
    [
      'HELLO without versions',
      (p) => p.sendFrame(F.HELLO, 0, control({ ...hello, versions: [] })),
      /versions/,
    ],
    [
      'HELLO without agent',
      (p) => p.sendFrame(F.HELLO, 0, control({ ...hello, agent: undefined })),
      /agent missing/,
    ],
  ];
  for (const [name, send, words] of toGatewayEarly) {
    const scene = await gatewayScene(t, false);
    send(scene.peer);
    t.match((await expectFault(t, scene)).reason, words, name);
  }
  const bad = welcome();
  const toAgentEarly: typeof inBoth = [
    ['OPEN', (p) => p.sendFrame(F.OPEN, 1, open('h', 1, 'tcp')), /OPEN before WELCOME/],
    [
      'DRAIN',
      (p) => p.sendFrame(F.DRAIN, 0, control({ reason: '', deadline_ms: 1 })),
      /DRAIN before WELCOME/,
    ],
    ['version 2', (p) => p.sendFrame(F.WELCOME, 0, control({ ...bad, version: 2 })), /version/],
    [
      'limits that contradict each other',
      (p) =>
        p.sendFrame(
          F.WELCOME,
          0,
          control({ ...bad, limits: { ...bad.limits, stream_window_bytes_max: 17_000 } }),
        ),
      /stream_window_bytes_max below/,
    ],
    [
      'limits of the wrong type',
      (p) => p.sendFrame(F.WELCOME, 0, control({ ...bad, limits: { ...bad.limits, streams_max: '3' } })),
      /limits not allowed/,
    ],
  ];
  for (const [name, send, words] of toAgentEarly) {
    const scene = await agentScene(t, false);
    send(scene.peer);
    t.match((await expectFault(t, scene)).reason, words, name);
  }
});

t.test('an agent that speaks no common version is told so', async (t) => {
  const scene = await gatewayScene(t, false);
  scene.peer.sendFrame(F.HELLO, 0, control({ ...hello, versions: [2, 3] }));
  t.match(await scene.handler.closed, { code: 'gateway_too_old', byPeer: false });
  await scene.peer.ended;
  t.ok(scene.peer.frames.at(-2)?.payload.includes('gateway_too_old'));
  t.equal(scene.peer.frames.at(-1)?.payload.readUInt16BE(0), 1000);
});

t.test('frames for a stream closed here are let through', async (t) => {
  const scene = await gatewayScene(t);
  scene.stream.reset(0);
  scene.peer.sendFrame(F.DATA, 1, Buffer.alloc(200 * 1024));
  scene.peer.sendFrame(F.DATA, 1, Buffer.alloc(200 * 1024));
  scene.peer.sendFrame(F.CREDIT, 1, credit(1));
  scene.peer.sendFrame(F.OPENED, 1, Buffer.of(0));
  scene.peer.sendFrame(F.FIN, 1);
  scene.peer.sendFrame(F.RESET, 1, Buffer.of(0));
  scene.peer.sendFrame(F.PING, 0, Buffer.from('stillup!'));
  await scene.peer.until((frames) => frames.some(({ payload }) => payload.includes('stillup!')));
  t.equal(scene.session.state, 'open');
  t.same(scene.resets, []);
});

t.test('silence: no HELLO, no WELCOME, a dead peer live and idle', async (t) => {
  const heartbeat = fastHeartbeat();
  const handler = new Watched();
  const { port } = await serveTunnels(t, () => handler, { heartbeat, timings: { greetingTimeoutMs: 60 } });
  await connectPeer(t, port);
  t.match(await handler.closed, { code: 'protocol_error', reason: 'no HELLO in time' });

  for (const live of [true, false]) {
    const watched = new Watched({
      onHello: (session) => session.welcome(welcome({}, live ? { ping_live_ms: 50 } : { ping_idle_ms: 50 })),
    });
    const tunnels = await serveTunnels(t, () => watched, { heartbeat });
    const peer = await connectPeer(t, tunnels.port);
    peer.sendFrame(F.HELLO, 0, control(hello));
    await peer.until((frames) => frames.length >= 2);
    const resets: number[] = [];
    if (live) tunnels.sessions[0]?.open({ host: 'h', port: 1, network: 'tcp' }, recording(resets));
    const startedMs = performance.now();
    t.match(await watched.closed, { code: 'dead_peer' });
    const tookMs = performance.now() - startedMs;
    t.ok(tookMs >= 60 && tookMs < 5_000, `${tookMs} ms`);
    t.same(resets, live ? [255] : []);
    const pings = peer.frames.filter(({ payload }) => payload[0] === F.PING).length;
    t.ok(pings >= 2, 'it was asked before it was given up');
  }
});

t.test('any sign of life keeps a tunnel, and PONG measures it', async (t) => {
  const watched = new Watched({ onHello: (session) => session.welcome(welcome({}, { ping_idle_ms: 40 })) });
  const tunnels = await serveTunnels(t, () => watched, { heartbeat: fastHeartbeat() });
  const peer = await connectPeer(t, tunnels.port);
  peer.sendFrame(F.HELLO, 0, control(hello));
  for (let answered = 0; answered < 8; answered++) {
    const frames = await peer.until(
      (all) => all.filter(({ payload }) => payload[0] === F.PING).length > answered,
    );
    const ping = frames.filter(({ payload }) => payload[0] === F.PING)[answered];
    if (answered === 4) await sleep(30);
    peer.sendFrame(F.PONG, 0, muxFrame(ping?.payload as Buffer).payload);
  }
  peer.sendFrame(F.PONG, 0, Buffer.alloc(8));
  const session = tunnels.sessions[0] as MuxSession;
  t.equal(session.state, 'open');
  t.ok(session.rttMs > 0.5 && session.rttMs < 1_000, `${session.rttMs} ms`);
});
