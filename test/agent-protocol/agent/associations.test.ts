/** Datagrams through the reference agent, with real sockets on both sides. */
import t, { type Test } from 'tap';
import { type AgentDependencies, startAgent } from '../../../agent-protocol/agent/agent.js';
import { type AgentConfig, agentConfig } from '../../../agent-protocol/agent/config.js';
import { ASSOCIATION_LIMITS } from '../../../agent-protocol/agent/device-association.js';
import { silentAgentLog } from '../../../agent-protocol/agent/log.js';
import { NO_OWNER_LIMITS } from '../../../agent-protocol/agent/owner-rules.js';
import { openAssociation } from '../../../agent-protocol/control.js';
import { type Datagram, decodeDatagram, encodeDatagramHead } from '../../../agent-protocol/datagram.js';
import { DialCode, ResetCode } from '../../../agent-protocol/frame.js';
import type { MuxSession } from '../../../agent-protocol/session.js';
import type { MuxStream, StreamHandler } from '../../../agent-protocol/stream.js';
import { openUdpSockets, UdpPeer } from '../../helpers/udp-peer.js';
import { Arrivals, startGateway } from './harness.js';

async function connected(
  t: Test,
  overrides: Partial<Omit<AgentConfig, 'access'>> = {},
  dependencies: AgentDependencies = {},
) {
  const gateway = await startGateway();
  t.teardown(() => gateway.stop());
  const access = { kind: 'direct', tunnelUrl: gateway.url, ticket: 'T' } as const;
  const agent = startAgent(agentConfig(access, overrides), silentAgentLog, dependencies);
  t.teardown(() => agent.stop());
  return { gateway, agent, tunnel: await gateway.tunnels.next() };
}

/** The gateway's end of an association. */
class Association implements StreamHandler {
  readonly stream: MuxStream;
  readonly opened: Promise<DialCode>;
  readonly reset: Promise<number>;
  readonly came = new Arrivals<Datagram>();
  #onOpened: (code: DialCode) => void = () => {};
  #onReset: (code: number) => void = () => {};

  constructor(session: MuxSession) {
    this.opened = new Promise((resolve) => {
      this.#onOpened = resolve;
    });
    this.reset = new Promise((resolve) => {
      this.#onReset = resolve;
    });
    this.stream = session.open(openAssociation, this);
  }
  onOpened(_stream: MuxStream, code: DialCode): void {
    this.#onOpened(code);
  }
  onDatagram(_stream: MuxStream, payload: Buffer): void {
    this.came.add(decodeDatagram(Buffer.from(payload)) as Datagram);
  }
  onReset(_stream: MuxStream, code: number): void {
    this.#onReset(code);
  }
  onData(): void {}
  onFin(): void {}
  onWritable(): void {}
  send(host: string, port: number, bytes: Buffer | string): void {
    if (!this.stream.sendDatagram(encodeDatagramHead(host, port), Buffer.from(bytes)))
      throw new Error('dropped here');
  }
}

async function associated(t: Test, session: MuxSession): Promise<Association> {
  const association = new Association(session);
  t.equal(await association.opened, DialCode.OK);
  return association;
}

/** Waits for what no event tells. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

t.test('every size, both families and names, counted exactly', async (t) => {
  const echo = (await UdpPeer.open(t)).echo();
  const echo6 = (await UdpPeer.open(t, '::1')).echo();
  const { agent, tunnel } = await connected(t, {
    devAllow: [`127.0.0.1:${echo.port}`, `localhost:${echo.port}`, `[::1]:${echo6.port}`],
  });
  t.equal(tunnel.hello.udp, undefined);
  const before = openUdpSockets();
  const association = await associated(t, tunnel.session);
  t.equal(openUdpSockets(), before, 'no socket before there is something to send');
  let bytes = 0;
  for (const size of [0, 1, 2, 100, 512, 1_200, 1_400, 9_000, 65_507]) {
    const payload = Buffer.alloc(size, size % 251);
    association.send('127.0.0.1', echo.port, payload);
    t.same(await association.came.next(), { host: '127.0.0.1', port: echo.port, bytes: payload });
    bytes += size;
  }
  association.send('localhost', echo.port, 'by name');
  t.same(
    await association.came.next(),
    { host: '127.0.0.1', port: echo.port, bytes: Buffer.from('by name') },
    'an answer comes from an address, never a name',
  );
  association.send('::1', echo6.port, 'by IPv6');
  t.same(await association.came.next(), { host: '::1', port: echo6.port, bytes: Buffer.from('by IPv6') });
  bytes += 14;
  t.match(agent.counters, { bytesUp: bytes, bytesDown: bytes, streamsOpen: 1, datagramsDropped: 0 });
  t.equal(new Set(echo.received.map(({ port }) => port)).size, 1, 'one socket for all destinations');
  t.equal(openUdpSockets(), before + 2);

  association.stream.reset(ResetCode.CANCELLED);
  await until(() => agent.counters.streamsOpen === 0);
  await until(() => openUdpSockets() === before);
  t.pass('nothing is left of it');
});

t.test('each datagram is under the address policy, and refusals are silent', async (t) => {
  const inside = await UdpPeer.open(t);
  const open = await UdpPeer.open(t);
  const { agent, tunnel } = await connected(
    t,
    {
      devAllow: [`127.0.0.1:${open.port}`],
      owner: { ...NO_OWNER_LIMITS, blockHosts: ['blocked.example', '192.88.98.1'] },
    },
    {
      resolve: async (name) => {
        if (name === 'inside.example') return { ok: true, addresses: ['127.0.0.1', '10.0.0.1', '::1'] };
        if (name === 'to-blocked.example') return { ok: true, addresses: ['192.88.98.1'] };
        return { ok: false, code: 'ENOTFOUND' };
      },
    },
  );
  const association = await associated(t, tunnel.session);
  const refused = [
    '127.0.0.1',
    '127.1',
    '0x7f.1',
    '2130706433',
    'localhost',
    'router.lan',
    '::ffff:127.0.0.1',
    '::1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
    '10.0.0.1',
    '169.254.169.254',
    '255.255.255.255',
    '224.0.0.251',
    'ff02::fb',
    'inside.example',
    'nowhere.example',
    'blocked.example',
    'www.blocked.example',
    '192.88.98.1',
    'to-blocked.example',
    'not a host',
  ];
  for (const host of refused) association.send(host, inside.port, 'must not arrive');
  for (const port of ASSOCIATION_LIMITS.blockPorts) association.send('8.8.8.8', port, 'blocked port');
  association.send('127.0.0.1', open.port, 'may');
  t.equal((await open.next()).bytes.toString(), 'may');
  await until(
    () => agent.counters.datagramsDropped === refused.length + ASSOCIATION_LIMITS.blockPorts.length,
  );
  t.same(inside.received, [], 'nothing reached the inside');
  t.equal(agent.counters.bytesUp, 3, 'what was dropped is not counted');
  t.equal(association.stream.state, 'open');
});

t.test('only those who were sent to may answer, and only for a while', async (t) => {
  const known = await UdpPeer.open(t);
  const stranger = await UdpPeer.open(t);
  const { agent, tunnel } = await connected(t, {
    devAllow: [`127.0.0.1:${known.port}`],
    udp: { ...ASSOCIATION_LIMITS, flowIdleMs: 400 },
  });
  const association = await associated(t, tunnel.session);
  association.send('127.0.0.1', known.port, 'hello');
  const { port } = await known.next();
  stranger.send('from the same address, another port', port, '127.0.0.1');
  await until(() => agent.counters.datagramsDropped === 1);
  known.send('answer', port);
  t.equal((await association.came.next()).bytes.toString(), 'answer');

  await new Promise((resolve) => setTimeout(resolve, 450));
  known.send('too late', port);
  await until(() => agent.counters.datagramsDropped === 2);
  association.send('127.0.0.1', known.port, 'hello again');
  t.equal((await known.next()).port, port, 'the same socket still');
  known.send('in time', port);
  t.equal((await association.came.next()).bytes.toString(), 'in time');
  t.equal(association.came.all.length, 2);
  t.equal(agent.counters.bytesDown, 'answer'.length + 'in time'.length);
});

t.test('limits: associations, flows, idle time', async (t) => {
  const a = await UdpPeer.open(t);
  const b = await UdpPeer.open(t);
  const { agent, tunnel } = await connected(t, {
    devAllow: [`127.0.0.1:${a.port}`, `127.0.0.1:${b.port}`],
    udp: { ...ASSOCIATION_LIMITS, associationsMax: 1, flowsMax: 1, flowIdleMs: 300, idleMs: 900 },
  });
  const association = await associated(t, tunnel.session);
  t.equal(await new Association(tunnel.session).opened, DialCode.CAP_REACHED, 'one too many');
  association.send('127.0.0.1', a.port, '1');
  await a.next();
  association.send('127.0.0.1', b.port, '2');
  await until(() => agent.counters.datagramsDropped === 1);
  // Once the first flow is forgotten there is room for another
  let tries = 0;
  while (b.received.length === 0) {
    association.send('127.0.0.1', b.port, String(tries++));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.ok(tries > 1);
  t.equal(await association.reset, ResetCode.TIMEOUT, 'nobody used it');
  t.equal(agent.counters.streamsOpen, 0);
  const next = await associated(t, tunnel.session);
  next.stream.reset(ResetCode.CANCELLED);
});

t.test('switched off: the gateway is told at once', async (t) => {
  const { tunnel } = await connected(t, { udp: { ...ASSOCIATION_LIMITS, enabled: false } });
  t.equal(tunnel.hello.udp, false);
  t.equal(await new Association(tunnel.session).opened, DialCode.UNSUPPORTED);
});

t.test("the owner's cap and pause", async (t) => {
  const echo = (await UdpPeer.open(t)).echo();
  const { agent, tunnel } = await connected(t, {
    devAllow: [`127.0.0.1:${echo.port}`],
    owner: { ...NO_OWNER_LIMITS, capBytesDay: 250, streamsMax: 2 },
  });
  const association = await associated(t, tunnel.session);
  const second = await associated(t, tunnel.session);
  t.equal(await new Association(tunnel.session).opened, DialCode.CAP_REACHED, 'as many streams as allowed');
  agent.setPaused(true);
  t.equal(await second.reset, ResetCode.PAUSED);
  t.equal(await association.reset, ResetCode.PAUSED);
  t.equal(await new Association(tunnel.session).opened, DialCode.PAUSED);
  agent.setPaused(false);

  const third = await associated(t, tunnel.session);
  third.send('127.0.0.1', echo.port, Buffer.alloc(100));
  await third.came.next();
  third.send('127.0.0.1', echo.port, Buffer.alloc(100));
  t.equal(await third.reset, ResetCode.CAP_REACHED);
  t.match(agent.counters, { bytesUp: 100, bytesDown: 100, capBytesLeft: 0 });
  t.equal(await new Association(tunnel.session).opened, DialCode.CAP_REACHED);
});

t.test('datagrams wait for a name, in order and not too many', async (t) => {
  const echo = (await UdpPeer.open(t)).echo();
  let answer: () => void = () => {};
  const { agent, tunnel } = await connected(
    t,
    { devAllow: [`127.0.0.1:${echo.port}`, `localhost:${echo.port}`] },
    {
      resolve: () =>
        new Promise((resolve) => {
          answer = () => resolve({ ok: true, addresses: ['127.0.0.1'] });
        }),
    },
  );
  const association = await associated(t, tunnel.session);
  const waiting = Array.from({ length: 16 }, (_, i) => `${i}`);
  // In one turn of the event loop, so that all of them meet the name unresolved
  for (const text of [...waiting, 'one', 'too', 'many']) association.send('localhost', echo.port, text);
  for (const text of waiting) t.equal((await association.came.next()).bytes.toString(), text);
  await until(() => agent.counters.datagramsDropped === 3);

  for (const text of waiting) association.send('slow.example', 4_433, text);
  association.send('127.0.0.1', echo.port, 'others do not wait');
  await association.came.next();
  const { bytesUp } = agent.counters;
  answer();
  await until(() => agent.counters.datagramsDropped === 3 + 16);
  association.send('slow.example', 4_433, 'asks again');
  association.send('127.0.0.1', echo.port, '!');
  await association.came.next();
  association.stream.reset(ResetCode.CANCELLED);
  await until(() => agent.counters.streamsOpen === 0);
  answer();
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(agent.counters.bytesUp, bytesUp + 1, 'what was prohibited or came too late is not counted');
});
