/** SOCKS5 UDP through a real gateway, a real tunnel and the reference agent, with sockets at both ends. */
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { unpack } from 'msgpackr';
import t, { type Test } from 'tap';
import { type Agent, startAgent } from '../../agent-protocol/agent/agent.js';
import { agentConfig } from '../../agent-protocol/agent/config.js';
import { ASSOCIATION_LIMITS, type AssociationLimits } from '../../agent-protocol/agent/device-association.js';
import { silentAgentLog } from '../../agent-protocol/agent/log.js';
import { publishCommand } from '../../gateway/live/commands.js';
import type { AccountSnapshot, TicketRecord } from '../../gateway/live/records.js';
import { writeAccount } from '../../gateway/live/store.js';
import { DROP_REASONS, type DropReason } from '../../gateway/relay/datagram-totals.js';
import { startGatewayRig } from '../helpers/gateway.js';
import { PlainDevice } from '../helpers/plain-device.js';
import { socksConnect } from '../helpers/socks-client.js';
import { socksAssociate, udpReply, udpRequest } from '../helpers/socks-udp-client.js';
import { stopwatch } from '../helpers/stopwatch.js';
import { openUdpSockets, UdpPeer } from '../helpers/udp-peer.js';
import { usageBatches } from '../helpers/usage-batches.js';
import { fundsKey } from '../helpers/wallet-bank.js';

const OPEN = 4;
const OPENED = 5;
const DATAGRAM = 10;

async function until<T>(probe: () => Promise<T> | T, what: string): Promise<NonNullable<T>> {
  for (let tries = 0; tries < 400; tries++) {
    const value = await probe();
    if (value) return value as NonNullable<T>;
    await delay(10);
  }
  throw new Error(`never: ${what}`);
}

const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once('close', () => resolve());
  });

/** A gateway, and an echo on each family that gateway and device are allowed to reach. Stopping one takes seconds. */
async function startBase(t: { teardown(f: () => unknown): void }, env: Record<string, string> = {}) {
  const echo = (await UdpPeer.open(t)).echo();
  const echo6 = (await UdpPeer.open(t, '::1')).echo();
  const devAllow = [`127.0.0.1:${echo.port}`, `localhost:${echo.port}`, `[::1]:${echo6.port}`];
  const rig = await startGatewayRig({
    TS_DEV_ALLOW: devAllow.join(),
    TS_USAGE_DELIVERY_INTERVAL_MS: '20',
    TS_USAGE_SWEEP_INTERVAL_MS: '40',
    ...env,
  });
  t.teardown(() => rig.stop());
  return { rig, echo, echo6, devAllow };
}

let shared: Awaited<ReturnType<typeof startBase>>;
let version = 1;
t.before(async () => {
  shared = await startBase(t);
});

/** The shared gateway, or one of its own, for a buyer who may use UDP; its devices are gone at the end of the test. */
async function world(t: Test, own?: Awaited<ReturnType<typeof startBase>>) {
  const { rig, echo, echo6, devAllow } = own ?? shared;
  const account = async (fields: Partial<Omit<AccountSnapshot, 'limits'>>, udp = true) => {
    const limits = { ...rig.account.limits, udp };
    await writeAccount(rig.redis, { ...rig.account, ...fields, limits, version: ++version });
    await publishCommand(rig.redis, { kind: 'account_changed', account: rig.account.account });
  };
  await account({});
  const agents: Agent[] = [];
  t.teardown(async () => {
    await Promise.all(agents.map((agent) => agent.stop()));
    if (own === undefined) await until(async () => (await rig.status()).tunnels === 0, 'no device is left');
  });
  const agent = async (fields: Partial<TicketRecord> = {}, udp: Partial<AssociationLimits> = {}) => {
    const { text, record } = await rig.ticket(fields);
    const before = (await rig.status()).tunnels;
    const started = startAgent(
      agentConfig(
        { kind: 'direct', tunnelUrl: `ws://127.0.0.1:${rig.gateway.tunnelPort}/tunnel`, ticket: text },
        { devAllow, udp: { ...ASSOCIATION_LIMITS, ...udp } },
      ),
      silentAgentLog,
    );
    agents.push(started);
    await until(async () => (await rig.status()).tunnels > before, 'the tunnel is up');
    return { agent: started, record };
  };
  const associate = (options: { username?: string; dst?: { address: string; port: number } } = {}) =>
    socksAssociate({
      proxyPort: rig.gateway.proxyPort,
      username: rig.username,
      password: rig.password,
      ...options,
    });
  /** An association and the UDP socket of its client. */
  const client = async (options: Parameters<typeof associate>[0] = {}) => {
    const answer = await associate(options);
    if (answer.reply !== 0) throw new Error(`reply ${answer.reply}`);
    t.teardown(() => answer.control.destroy());
    const udp = await UdpPeer.open(t);
    return {
      ...answer,
      udp,
      send: (host: string, port: number, data: Buffer | string, frag = 0) =>
        udp.send(udpRequest(host, port, data, frag), answer.port, answer.address),
      next: async () => udpReply((await udp.next()).bytes),
    };
  };
  const metric = async (line: string) => {
    const text = await (await fetch(`http://127.0.0.1:${rig.gateway.metricsPort}/metrics`)).text();
    return Number(
      text
        .split('\n')
        .find((l) => l.startsWith(`${line} `))
        ?.slice(line.length + 1),
    );
  };
  const droppedTotal = (reason: string) => metric(`ts_datagrams_dropped_total{reason="${reason}"}`);
  const before = Object.fromEntries(
    await Promise.all(DROP_REASONS.map(async (reason) => [reason, await droppedTotal(reason)] as const)),
  );
  /** Dropped since the test began. */
  const dropped = async (reason: DropReason) => (await droppedTotal(reason)) - Number(before[reason]);
  const counted = async (sessionId: string) => {
    const meters = (await rig.meters()).filter((m) => m.sessionId === sessionId);
    return { up: sum(meters.map((m) => m.bytesUp)), down: sum(meters.map((m) => m.bytesDown)) };
  };
  return { rig, echo, echo6, account, agent, associate, client, metric, dropped, counted };
}

const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);

t.test('datagrams of every size both ways, by address and by name, metered to the byte', async (t) => {
  const { rig, echo, echo6, agent, client, metric, counted } = await world(t);
  const { record, agent: device } = await agent();
  const socketsBefore = openUdpSockets();
  const passed = async (direction: string) => metric(`ts_datagrams_total{direction="${direction}"}`);
  const passedBefore = [await passed('up'), await passed('down')];
  const { control, address, port, udp, send, next } = await client();
  t.equal(address, '127.0.0.1', 'BND.ADDR is the address the client connected to');
  t.ok(port > 0);
  t.equal(await metric('ts_associations'), 1);
  t.equal((await rig.status()).streams, 1, 'it counts as a stream');
  let bytes = 0;
  let datagrams = 0;
  for (const size of [1, 2, 3, 28, 100, 512, 1_200, 1_399, 1_400, 0, 60_000]) {
    const data = Buffer.alloc(size, size % 251);
    send('127.0.0.1', echo.port, data);
    t.same(await next(), { host: '127.0.0.1', port: echo.port, data }, `${size} bytes`);
    bytes += size;
    datagrams++;
  }
  for (const [host, destination] of [
    ['localhost', echo],
    ['LOCALHOST.', echo],
    ['::1', echo6],
  ] as const) {
    send(host, destination.port, host);
    t.same(await next(), {
      host: destination.address,
      port: destination.port,
      data: Buffer.from(host),
    });
    bytes += host.length;
    datagrams++;
  }
  await until(async () => (await counted(record.sessionId)).down === bytes, 'the counts are in Redis');
  t.same(await counted(record.sessionId), { up: bytes, down: bytes });
  t.match(device.counters, { bytesUp: bytes, bytesDown: bytes }, 'the device counted the same');
  t.same(
    [await passed('up'), await passed('down')],
    passedBefore.map((count) => count + datagrams),
  );

  control.destroy();
  await until(async () => (await rig.status()).streams === 0, 'the stream is over');
  await until(() => device.counters.streamsOpen === 0, 'at the device too');
  udp.close();
  await until(() => openUdpSockets() === socketsBefore, 'no socket is left');
  t.equal(await metric('ts_associations'), 0);

  const told = async () => {
    const byHost: Record<string, { up: number; down: number; associations: number }> = {};
    for (const entry of (await usageBatches(rig.redis, 'test')).flatMap(({ entries }) => entries)) {
      if (entry.sessionId !== record.sessionId) continue;
      const host = `${entry.host} ${entry.port}`;
      byHost[host] ??= { up: 0, down: 0, associations: 0 };
      byHost[host].up += entry.bytesUp;
      byHost[host].down += entry.bytesDown;
      byHost[host].associations += entry.streams;
    }
    return byHost;
  };
  await until(async () => sum(Object.values(await told()).map(({ down }) => down)) === bytes, 'all is told');
  const byName = 'localhost'.length + 'LOCALHOST.'.length;
  t.same(
    await told(),
    {
      [`127.0.0.1 ${echo.port}`]: {
        up: bytes - byName - '::1'.length,
        down: bytes - '::1'.length,
        associations: 1,
      },
      [`localhost ${echo.port}`]: { up: byName, down: 0, associations: 1 },
      [`::1 ${echo6.port}`]: { up: '::1'.length, down: '::1'.length, associations: 1 },
    },
    'up by what was asked for, down by what sent it',
  );
  await until(async () => (await metric('ts_usage_flows')) === 0, 'what is over is let go of');
});

t.test('a client that only ends its side of the connection ends the association', async (t) => {
  const { rig, agent, client } = await world(t);
  await agent();
  const { control } = await client();
  control.end();
  await closed(control);
  await until(async () => (await rig.status()).streams === 0, 'the stream is over');
});

t.test('each datagram is under the policy, and the association goes on', async (t) => {
  const { rig, echo, client, dropped } = await world(t);
  const { text } = await rig.ticket();
  const device = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  t.teardown(() => device.socket.terminate());
  await device.greet();
  const arrived: string[] = [];
  device.onFrame = ({ type, streamId, payload }) => {
    if (type === OPEN) device.send(OPENED, streamId, Buffer.of(0));
    if (type === DATAGRAM) arrived.push(payload.toString('latin1'));
  };
  const { send } = await client();
  const open = await device.next((frame) => frame.type === OPEN);
  t.match(unpack(open.payload), { host: '0.0.0.0', port: 1, network: 'udp' });
  const refused: Array<[string, number]> = [
    ['127.0.0.1', 53],
    ['10.0.0.1', 53],
    ['192.168.1.1', 443],
    ['100.64.0.1', 53],
    ['169.254.169.254', 53],
    ['224.0.0.251', 53],
    ['255.255.255.255', 53],
    ['::1', 53],
    ['::ffff:10.0.0.1', 53],
    ['::ffff:127.0.0.1', 53],
    ['64:ff9b::a00:1', 53],
    ['2002:a00:1::', 53],
    ['fe80::1', 53],
    ['fd00::1', 53],
    ['localhost', 53],
    ['router.lan', 53],
    ['0x7f.1', 53],
    ['2130706433', 53],
    ['0177.0.0.1', 53],
    ['8.8.8.8', 80],
    ['8.8.8.8', 123],
    ['8.8.8.8', 1900],
    ['8.8.8.8', 5353],
    ['example.org', 4_433],
  ];
  for (const [host, port] of refused) send(host, port, 'no');
  send('8.8.8.8', 53, 'dns');
  send('example.org', 443, 'http/3');
  send('127.0.0.1', echo.port, 'exempt');
  await until(() => arrived.length === 3, 'what is allowed arrives');
  t.same(arrived, [
    '\x01\x08\x08\x08\x08\x00\x35dns',
    '\x03\x0bexample.org\x01\xbbhttp/3',
    `\x01\x7f\x00\x00\x01${String.fromCharCode(echo.port >> 8, echo.port & 255)}exempt`,
  ]);
  t.equal(await dropped('policy'), refused.length);

  // The lists and ports of now count, not those of when the association began.
  const limits = { ...rig.account.limits, udp: true, extraPorts: [4_433], grantedPorts: [123] };
  await writeAccount(rig.redis, { ...rig.account, limits, version: 9 });
  await publishCommand(rig.redis, { kind: 'account_changed', account: rig.account.account });
  await until(() => {
    send('example.org', 4_433, 'extra');
    return arrived.some((text) => text.endsWith('extra'));
  }, 'an extra port is open');
  send('8.8.8.8', 123, 'granted');
  await until(() => arrived.some((text) => text.endsWith('granted')), 'so is a granted one');
});

t.test('datagrams that are no datagrams of this client are ignored', async (t) => {
  const { echo, agent, client, dropped } = await world(t);
  const { agent: device } = await agent();
  const { port, send, next, udp } = await client();
  const stranger = await UdpPeer.open(t);
  const elsewhere = await UdpPeer.open(t, '127.0.0.2');
  elsewhere.send(udpRequest('127.0.0.1', echo.port, 'spoofed'), port, '127.0.0.1');
  await until(async () => (await dropped('stranger')) === 1, 'another address');
  send('127.0.0.1', echo.port, 'first');
  await next();
  stranger.send(udpRequest('127.0.0.1', echo.port, 'spoofed'), port, '127.0.0.1');
  await until(async () => (await dropped('stranger')) === 2, 'another port, once the port is known');

  for (const frag of [1, 2, 0x81, 0xff]) send('127.0.0.1', echo.port, 'fragment', frag);
  const raw = (hex: string) => udp.send(Buffer.from(hex, 'hex'), port, '127.0.0.1');
  const malformed = [
    '00',
    '000000',
    '00000001',
    '000000017f000001',
    '000000017f0000010000ff',
    '010000017f00000100350a',
    '00000002000000000035',
    '0000000300003500',
    '00000003ff61626300350a',
    '000000030261200035',
    '00000004000000000000000000000000',
  ];
  for (const hex of malformed) raw(hex);
  send('127.0.0.1', echo.port, 'still here');
  t.equal((await next()).data.toString(), 'still here');
  t.equal(await dropped('fragment'), 4);
  t.equal(await dropped('malformed'), malformed.length);
  t.equal(device.counters.bytesUp, 'firststill here'.length, 'nothing of it went on');
  t.equal(udp.received.length, 2);
});

t.test('DST.PORT of ASSOCIATE binds the client to that port, when DST.ADDR is its address', async (t) => {
  const { echo, agent, associate, dropped } = await world(t);
  await agent();
  const own = await UdpPeer.open(t);
  const other = await UdpPeer.open(t);
  const answer = await associate({ dst: { address: '127.0.0.1', port: own.port } });
  other.send(udpRequest('127.0.0.1', echo.port, 'first, but not from there'), answer.port);
  await until(async () => (await dropped('stranger')) === 1, 'refused');
  own.send(udpRequest('127.0.0.1', echo.port, 'mine'), answer.port);
  t.equal(udpReply((await own.next()).bytes).data.toString(), 'mine');
  answer.control.destroy();

  const behindNat = await associate({ dst: { address: '192.168.0.7', port: 5_000 } });
  other.send(udpRequest('127.0.0.1', echo.port, 'translated'), behindNat.port);
  t.equal(udpReply((await other.next()).bytes).data.toString(), 'translated', 'another address says nothing');
  behindNat.control.destroy();
});

t.test('the grant: none, given, withdrawn', async (t) => {
  const { rig, echo, agent, account, associate, client } = await world(t);
  const { agent: device } = await agent();
  await account({}, false);
  await until(async () => (await associate()).reply === 2, 'not allowed');
  t.equal(device.counters.streamsTotal, 0, 'no device was asked');
  await account({}, true);
  await until(async () => {
    const { reply, control } = await associate();
    control.destroy();
    return reply === 0;
  }, 'allowed');
  const { control, send, next, port } = await client();
  send('127.0.0.1', echo.port, 'hello');
  await next();
  const tcp = await socksConnect({
    proxyPort: rig.gateway.proxyPort,
    username: rig.username,
    password: rig.password,
    host: '127.0.0.1',
    port: echo.port, // nobody listens there by TCP
  });
  t.equal(tcp.reply, 5);
  const tookMs = stopwatch();
  await account({}, false);
  await closed(control);
  t.ok(tookMs() < 1_000, 'cut within a second');
  const again = await UdpPeer.open(t, '127.0.0.1', port);
  t.equal(again.port, port, 'its UDP port is free');
  t.equal((await associate()).reply, 2);
});

t.test('cut by commands: kill by destination, stop of the session, suspension', async (t) => {
  const { rig, echo, agent, account, client } = await world(t);
  const { record } = await agent();
  const reaching = await client();
  const other = await client();
  reaching.send('localhost', echo.port, 'hello');
  await reaching.next();
  await publishCommand(rig.redis, { kind: 'kill', scope: 'destination', id: 'localhost' });
  await closed(reaching.control);
  other.send('127.0.0.1', echo.port, 'not concerned');
  t.equal((await other.next()).data.toString(), 'not concerned');
  await account({ status: 'suspended' });
  await closed(other.control);
  await account({ status: 'active' });
  const third = await until(() => client().catch(() => null), 'let in again');
  third.send('127.0.0.1', echo.port, 'hello');
  await third.next();
  await publishCommand(rig.redis, { kind: 'stop_session', sessionId: record.sessionId, reason: 'stopped' });
  await closed(third.control);
  await until(async () => (await rig.status()).streams === 0, 'nothing is left');
});

t.test('balance at zero: it stops, and no byte is counted beyond it', async (t) => {
  const { rig, echo, agent, client, counted } = await world(t, await startBase(t));
  const { record } = await agent();
  // 2 USD a GB: 0.002 micro-dollars a byte
  const funded = 100_000;
  const owner = fundsKey({ kind: 'buyer', ownerId: rig.account.buyerId });
  rig.bank.funds.set(owner, funded / 500);
  const { control, send } = await client();
  let over = false;
  const end = closed(control).then(() => {
    over = true;
  });
  while (!over) {
    send('127.0.0.1', echo.port, Buffer.alloc(1_000));
    await delay(2);
  }
  await end;
  const bytes = await until(async () => {
    const { up, down } = await counted(record.sessionId);
    return up + down > funded * 0.9 ? up + down : null;
  }, 'the counts of all that was let through');
  t.ok(bytes <= funded, `${bytes} of ${funded} bytes`);
});

t.test(
  'a device that does not read: the newest is dropped uncounted, and all that is counted arrives',
  async (t) => {
    const { rig, client, dropped, counted } = await world(t);
    const { text, record } = await rig.ticket();
    const device = await PlainDevice.connect(rig.gateway.tunnelPort, text);
    t.teardown(() => device.socket.terminate());
    await device.greet();
    let arrived = 0;
    device.onFrame = ({ type, streamId, payload }) => {
      if (type === OPEN) device.send(OPENED, streamId, Buffer.of(0));
      // Address of 4 bytes and port in front
      if (type === DATAGRAM) arrived += payload.length - 7;
    };
    const { send } = await client();
    device.socket.pause();
    const data = Buffer.alloc(9_000);
    await until(async () => {
      for (let i = 0; i < 20; i++) send('8.8.8.8', 53, data);
      device.status({}); // a sign of life: it reads no PING
      return (await dropped('backlog')) > 0;
    }, 'the kernels hold all they want to');
    device.socket.resume();
    const { up } = await until(async () => {
      const counts = await counted(record.sessionId);
      return counts.up > 0 && counts.up === arrived ? counts : null;
    }, 'what was counted arrives, to the byte');
    t.equal(up % data.length, 0);
    send('8.8.8.8', 53, 'goes on');
    await until(() => arrived === up + 'goes on'.length, 'it goes on');
  },
);

t.test('a package that is used up ends it', async (t) => {
  const { echo, agent, client, counted } = await world(t);
  const { record } = await agent({ offerBytes: 10_000 });
  const { control, send, next } = await client();
  for (let i = 0; i < 5; i++) {
    send('127.0.0.1', echo.port, Buffer.alloc(1_000));
    await next();
  }
  send('127.0.0.1', echo.port, Buffer.alloc(1));
  await closed(control);
  await until(async () => (await counted(record.sessionId)).up === 5_000, 'exactly its size');
  t.same(await counted(record.sessionId), { up: 5_000, down: 5_000 });
});

t.test('limits: datagrams a second, idle time, associations, ports', async (t) => {
  const range = await UdpPeer.open(t);
  range.close();
  const base = await startBase(t, {
    TS_UDP_DATAGRAMS_PER_SECOND_MAX: '20',
    TS_UDP_IDLE_MS: '1500',
    TS_UDP_ASSOCIATIONS_MAX: '1',
    TS_UDP_PORTS: `${range.port}-${range.port}`,
  });
  const { rig, echo, agent, associate, client, dropped } = await world(t, base);
  await agent();
  const { control, port, send, udp } = await client();
  t.equal(port, range.port);
  t.equal((await associate()).reply, 1, 'one too many: CONN_LIMIT');
  for (let i = 0; i < 200; i++) send('127.0.0.1', echo.port, 'flood');
  await until(async () => (await dropped('rate')) > 150, 'the flood is dropped');
  const passed = udp.received.length;
  t.ok(passed >= 10 && passed < 60, `${passed} of 200 came back`);
  const startMs = performance.now();
  await closed(control);
  t.ok(performance.now() - startMs >= 750, 'idle, it ends by itself');
  await until(async () => (await rig.status()).streams === 0, 'the stream is over');
  const next = await client();
  t.equal(next.port, range.port, 'the port is free again');
});

t.test('no port of TS_UDP_PORTS is free: CONN_LIMIT, and nothing is left of the attempt', async (t) => {
  const range = await UdpPeer.open(t);
  const base = await startBase(t, { TS_UDP_PORTS: `${range.port}-${range.port}` });
  const { rig, agent, associate, client } = await world(t, base);
  const { agent: device } = await agent();
  t.equal((await associate()).reply, 1);
  await until(() => device.counters.streamsTotal === 1 && device.counters.streamsOpen === 0, 'abandoned');
  t.equal((await rig.status()).streams, 0);
  range.close();
  t.equal((await client()).port, range.port);
});

t.test('a device without UDP is passed over, and asked only once', async (t) => {
  const { rig, echo, agent, associate, client } = await world(t);
  const { text } = await rig.ticket();
  const old = await PlainDevice.connect(rig.gateway.tunnelPort, text);
  t.teardown(() => old.socket.terminate());
  await old.greet();
  old.onFrame = ({ type, streamId }) => {
    if (type === OPEN) old.send(OPENED, streamId, Buffer.of(8));
  };
  t.equal((await associate()).reply, 3, 'NO_PEER');
  t.equal((await associate()).reply, 3);
  t.equal((await associate({ username: `${rig.username}-session-a1-strict-1` })).reply, 3);
  t.equal(old.frames.filter(({ type }) => type === OPEN).length, 1);
  await agent({}, { enabled: false });
  t.equal((await associate()).reply, 3, 'an agent that says so is not even asked');
  const { agent: device } = await agent();
  const { send, next } = await client();
  send('127.0.0.1', echo.port, 'hello');
  t.equal((await next()).data.toString(), 'hello');
  t.equal(device.counters.streamsOpen, 1);
});

t.test('the device goes: the client hears of it', async (t) => {
  const { rig, echo, agent, client } = await world(t);
  const { agent: device } = await agent();
  const { control, send, next } = await client();
  send('127.0.0.1', echo.port, 'hello');
  await next();
  await device.stop();
  await closed(control);
  await until(async () => (await rig.status()).streams === 0, 'the stream is over');
});

t.test('drain: an association goes on for the time there is, then ends', async (t) => {
  const { rig, echo, agent, associate, client } = await world(t, await startBase(t));
  await agent();
  const { control, send, next } = await client();
  send('127.0.0.1', echo.port, 'before');
  await next();
  const stopped = rig.gateway.stop(1_500);
  send('127.0.0.1', echo.port, 'during');
  t.equal((await next()).data.toString(), 'during');
  await closed(control);
  await stopped;
  await t.rejects(associate(), { code: 'ECONNREFUSED' });
});
