/** UDP of a client at one gateway through a device at another one, with sockets at both ends. */
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Agent, startAgent } from '../../../agent-protocol/agent/agent.js';
import { agentConfig } from '../../../agent-protocol/agent/config.js';
import { silentAgentLog } from '../../../agent-protocol/agent/log.js';
import { openOnLink } from '../../../agent-protocol/control.js';
import { encodeDatagram } from '../../../agent-protocol/datagram.js';
import { FrameType, LINK_VERSIONS, ResetCode } from '../../../agent-protocol/frame.js';
import { DATAGRAM_PAYLOAD_BYTES_MAX, defaultLimits } from '../../../agent-protocol/limits.js';
import type { Gateway } from '../../../gateway/gateway-contract.js';
import { openIdentity } from '../../../gateway/links/identity.js';
import { LinkClient } from '../../../gateway/links/link-client.js';
import { ANSWER_HEAD, encodeRequest } from '../../../gateway/links/messages.js';
import type { LinkConfig } from '../../../gateway/links/settings.js';
import { publishCommand } from '../../../gateway/live/commands.js';
import { liveKeys } from '../../../gateway/live/keys.js';
import type { AccountSnapshot, MeterReport, TicketRecord } from '../../../gateway/live/records.js';
import { writeAccount } from '../../../gateway/live/store.js';
import type { GatewayStatus } from '../../../gateway/private-server.js';
import type { DropReason } from '../../../gateway/relay/datagram-totals.js';
import { systemClock } from '../../../gateway/runtime/clock.js';
import { silentLog } from '../../../gateway/runtime/logging.js';
import { Link } from '../../faults/link.js';
import { type GatewayRig, startGatewayRig } from '../../helpers/gateway.js';
import { type LinkCa, startLinkCa } from '../../helpers/link-certificates.js';
import { PlainDevice } from '../../helpers/plain-device.js';
import { freePort } from '../../helpers/services.js';
import { socksConnect } from '../../helpers/socks-client.js';
import { socksAssociate, udpReply, udpRequest } from '../../helpers/socks-udp-client.js';
import { openUdpSockets, UdpPeer } from '../../helpers/udp-peer.js';
import { fundsKey } from '../../helpers/wallet-bank.js';

const { OPEN, OPENED, RESET, DATAGRAM } = FrameType;
/** Time without a datagram after which the far gateway ends an association. */
const IDLE_MS = 4_000;
/** What a UDP client can send at most: IPv4's 65 507 less the ten bytes that SOCKS5 puts in front. */
const LARGEST = 65_497;
/** What kernels and TLS hold of a link that does not move, each way; far above what they take. */
const SOCKETS_HOLD_MAX = 32 * 1024 * 1024;
/** Associations on one link that does not move. */
const ASSOCIATIONS = 4;
/** Of all associations of a link: less than three of them may have waiting. */
const LINK_DATAGRAM_BYTES = 2 * DATAGRAM_PAYLOAD_BYTES_MAX;

t.setTimeout(180_000);

let ca: LinkCa;
let rig: GatewayRig;
/** The entry gateway is the rig's; this one has the devices. Between them is `way`. */
let far: Gateway;
let way: Link;
let echo: UdpPeer;
let version = 1;

async function until<T>(probe: () => Promise<T> | T, what: string): Promise<NonNullable<T>> {
  for (let tries = 0; tries < 600; tries++) {
    const value = await probe();
    if (value) return value as NonNullable<T>;
    await delay(20);
  }
  throw new Error(`never: ${what}`);
}

const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once('close', () => resolve());
  });

const statusOf = async ({ metricsPort }: Pick<Gateway, 'metricsPort'>) =>
  (await (await fetch(`http://127.0.0.1:${metricsPort}/status`)).json()) as Required<GatewayStatus>;

async function metric({ metricsPort }: Pick<Gateway, 'metricsPort'>, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const line = text.split('\n').find((line) => line.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}
const dropped = (gateway: Pick<Gateway, 'metricsPort'>, reason: DropReason) =>
  metric(gateway, `ts_datagrams_dropped_total{reason="${reason}"}`);

/** What of the session's meters (null: of all) lies in Redis, of whichever gateway. */
async function counted(sessionId: string | null, gatewayId = 'far'): Promise<{ up: number; down: number }> {
  const reports = Object.values(await rig.redis.hgetall(liveKeys.meters(gatewayId))).map(
    (text) => JSON.parse(text) as MeterReport,
  );
  const own = reports.filter((report) => sessionId === null || report.sessionId === sessionId);
  const sum = (of: 'bytesUp' | 'bytesDown') => own.reduce((all, report) => all + Number(report[of]), 0);
  return { up: sum('bytesUp'), down: sum('bytesDown') };
}

async function account(fields: Partial<Omit<AccountSnapshot, 'limits'>>, udp = true): Promise<void> {
  const limits = { ...rig.account.limits, udp };
  await writeAccount(rig.redis, { ...rig.account, ...fields, limits, version: ++version });
  await publishCommand(rig.redis, { kind: 'account_changed', account: rig.account.account });
}

/** The reference agent, sharing at a gateway. */
async function agentAt(t: Test, gateway: Gateway, fields: Partial<TicketRecord> = {}) {
  const { text, record } = await rig.ticket({ country: 'FR', ...fields });
  const before = (await statusOf(gateway)).tunnels;
  const agent: Agent = startAgent(
    agentConfig(
      { kind: 'direct', tunnelUrl: `ws://127.0.0.1:${gateway.tunnelPort}/tunnel`, ticket: text },
      { devAllow: [`127.0.0.1:${echo.port}`, `localhost:${echo.port}`] },
    ),
    silentAgentLog,
  );
  t.teardown(() => agent.stop());
  await until(async () => (await statusOf(gateway)).tunnels > before, 'the tunnel is up');
  return { agent, ...record };
}

/** A device that the test speaks for, which takes every association. */
async function plainAt(t: Test, gateway: Gateway, fields: Partial<TicketRecord> = {}) {
  const { text, record } = await rig.ticket({ country: 'FR', ...fields });
  const device = await PlainDevice.connect(gateway.tunnelPort, text);
  t.teardown(() => device.socket.terminate());
  await device.greet();
  const arrived: Buffer[] = [];
  const streamIds = new Set<number>();
  device.onFrame = (frame) => {
    device.frames.length = 0; // it would keep all that ever came
    if (frame.type === OPEN) {
      streamIds.add(frame.streamId);
      device.send(OPENED, frame.streamId, Buffer.of(0));
    }
    if (frame.type === DATAGRAM) arrived.push(frame.payload);
    if (frame.type === RESET) streamIds.delete(frame.streamId);
  };
  /** On each of its associations. */
  const send = (bytes: Buffer) => {
    for (const streamId of streamIds)
      device.send(DATAGRAM, streamId, encodeDatagram({ host: '8.8.8.8', port: 53, bytes }));
  };
  return { device, arrived, send, streamIds, ...record };
}

const associate = (at: Pick<Gateway, 'proxyPort'> = rig.gateway, username = `${rig.username}-cc-fr`) =>
  socksAssociate({ proxyPort: at.proxyPort, username, password: rig.password });

/** An association and the UDP socket of its client; asked for until it is given. */
async function client(t: Test, ...of: Parameters<typeof associate>) {
  const answer = await until(async () => {
    const answer = await associate(...of);
    if (answer.reply === 0) return answer;
    answer.control.destroy();
    return null;
  }, 'an association');
  t.teardown(() => answer.control.destroy());
  const udp = await UdpPeer.open(t);
  return {
    ...answer,
    udp,
    send: (host: string, port: number, data: Buffer | string) =>
      udp.send(udpRequest(host, port, data), answer.port, answer.address),
    next: async () => udpReply((await udp.next()).bytes),
  };
}

async function nothingIsLeft(): Promise<void> {
  await until(async () => {
    const [here, there] = [await statusOf(rig.gateway), await statusOf(far)];
    return here.links.streamsOut + there.links.streamsIn + here.streams + there.streams === 0;
  }, 'nothing is left of the association');
  await until(async () => (await statusOf(far)).tunnels === 0, 'no device is left');
}

t.before(async () => {
  ca = await startLinkCa(t);
  echo = (await UdpPeer.open(t)).echo();
  const linkPort = await freePort();
  way = await Link.to(linkPort);
  const shared = {
    TS_DEV_ALLOW: `127.0.0.1:${echo.port},localhost:${echo.port}`,
    TS_ALLOCATION_IDLE_MS: '1000',
  };
  rig = await startGatewayRig({
    ...shared,
    ...(await ca.settings('test')),
    TS_GATEWAY_LINK_CONNECT_TIMEOUT_MS: '500',
    TS_GATEWAY_LINK_DATAGRAM_BYTES_MAX: String(LINK_DATAGRAM_BYTES),
  });
  far = await rig.another('far', {
    ...shared,
    ...(await ca.settings('far')),
    TS_DEV_LOOPBACK_COUNTRY: 'FR',
    TS_UDP_IDLE_MS: String(IDLE_MS),
    TS_GATEWAY_LINK_PORT: String(linkPort),
    TS_GATEWAY_LINK_ADDRESS: `127.0.0.1:${way.port}`,
    TS_GATEWAY_LINK_DATAGRAM_BYTES_MAX: String(LINK_DATAGRAM_BYTES),
  });
  t.teardown(async () => {
    await rig.stop();
    await way.close();
  });
  await account({});
});

t.test(
  'datagrams of every size both ways, by address and by name, metered once and to the byte',
  async (t) => {
    const { agent, sessionId } = await agentAt(t, far);
    const socketsBefore = openUdpSockets();
    const { control, address, udp, send, next } = await client(t);
    t.equal(address, '127.0.0.1', 'the client sends to the gateway that it asked');
    const [here, there] = [await statusOf(rig.gateway), await statusOf(far)];
    t.same([here.streams, here.links.streamsOut], [0, 1]);
    t.same([there.streams, there.links.streamsIn], [1, 1], 'it counts where the device is');
    let bytes = 0;
    let datagrams = 0;
    for (const [host, size] of [
      ['127.0.0.1', 0],
      ['127.0.0.1', 1],
      ['localhost', 1_200],
      ['LOCALHOST.', 1_472],
      ['127.0.0.1', 9_000],
      ['127.0.0.1', LARGEST],
    ] as const) {
      const data = Buffer.alloc(size, `${size}`);
      send(host, echo.port, data);
      const came = await next();
      t.ok(came.data.equals(data) && came.port === echo.port && came.host === '127.0.0.1', `${size} bytes`);
      bytes += size;
      datagrams++;
    }
    await until(async () => (await counted(sessionId)).down === bytes, 'the counts are in Redis');
    t.same(await counted(sessionId), { up: bytes, down: bytes });
    t.same(await counted(sessionId, 'test'), { up: 0, down: 0 }, 'the entry gateway counts nothing');
    t.match(agent.counters, { bytesUp: bytes, bytesDown: bytes }, 'the device counted the same');
    const passed = async (gateway: Gateway) =>
      Promise.all(['up', 'down'].map((way) => metric(gateway, `ts_datagrams_total{direction="${way}"}`)));
    t.same(await passed(far), [datagrams, datagrams]);
    t.same(await passed(rig.gateway), [0, 0]);
    control.destroy();
    await until(() => agent.counters.streamsOpen === 0, 'the device hears that the client has gone');
    udp.close();
    await until(() => openUdpSockets() === socketsBefore, 'no socket is left');
    await agent.stop();
    await nothingIsLeft();
  },
);

t.test('each datagram is under the policy of the gateway with the device', async (t) => {
  const { device, arrived } = await plainAt(t, far);
  const { send, control } = await client(t);
  const before = await dropped(far, 'policy');
  const refused = [
    ['10.0.0.1', 53],
    ['169.254.169.254', 53],
    ['::1', 53],
    ['::ffff:127.0.0.1', 53],
    ['localhost', 53],
    ['0x7f.1', 53],
    ['8.8.8.8', 1900],
    ['example.org', 4_433],
  ] as const;
  for (const [host, port] of refused) send(host, port, 'no');
  send('8.8.8.8', 53, 'dns');
  send('example.org', 443, 'http/3');
  await until(() => arrived.length === 2, 'what is allowed arrives');
  t.same(
    arrived.map((payload) => payload.toString('latin1')),
    ['\x01\x08\x08\x08\x08\x00\x35dns', '\x03\x0bexample.org\x01\xbbhttp/3'],
  );
  t.equal((await dropped(far, 'policy')) - before, refused.length);
  control.destroy();
  device.socket.terminate();
  await nothingIsLeft();
});

t.test('the grant, kill by destination, stop of the session: cut within a second', async (t) => {
  const { agent, sessionId } = await agentAt(t, far);
  await account({}, false);
  await until(async () => {
    const { reply, control } = await associate();
    control.destroy();
    return reply === 2;
  }, 'not allowed without a grant');
  t.equal(agent.counters.streamsTotal, 0, 'no device was asked');
  await account({});
  for (const [what, cut] of [
    ['the grant is withdrawn', () => account({}, false)],
    ['kill', () => publishCommand(rig.redis, { kind: 'kill', scope: 'destination', id: 'localhost' })],
    ['stop', () => publishCommand(rig.redis, { kind: 'stop_session', sessionId, reason: 'stopped' })],
  ] as const) {
    const { control, send, next } = await client(t);
    send('localhost', echo.port, 'hello');
    await next();
    const sinceMs = performance.now();
    await cut();
    await closed(control);
    t.ok(performance.now() - sinceMs < 1_000, what);
    await account({});
  }
  await nothingIsLeft();
});

t.test('a package used up, and a balance: it ends, and no byte is counted beyond', async (t) => {
  const small = await agentAt(t, far, { offerBytes: 10_000 });
  const one = await client(t);
  for (let i = 0; i < 5; i++) {
    one.send('127.0.0.1', echo.port, Buffer.alloc(1_000));
    await one.next();
  }
  one.send('127.0.0.1', echo.port, Buffer.alloc(1));
  await closed(one.control);
  await until(async () => (await counted(small.sessionId)).up === 5_000, 'exactly its size');
  t.same(await counted(small.sessionId), { up: 5_000, down: 5_000 });
  await small.agent.stop();
  await nothingIsLeft();

  const { sessionId, agent } = await agentAt(t, far);
  const two = await client(t);
  // 2 USD a GB: 0.002 micro-dollars a byte. What was granted before is part of it.
  const more = 100_000;
  const bank = rig.bankOf('far');
  const owner = { kind: 'buyer', ownerId: rig.account.buyerId } as const;
  const before = bank.granted(owner);
  bank.funds.set(fundsKey(owner), before + more / 500);
  let over = false;
  const end = closed(two.control).then(() => {
    over = true;
  });
  let sent = 0;
  while (!over) {
    two.send('127.0.0.1', echo.port, Buffer.alloc(10_000));
    sent += 10_000;
    await delay(1);
  }
  await end;
  await until(async () => (await counted(sessionId)).up > 0, 'the counts');
  const { up, down } = await counted(null);
  t.ok(up + down <= (before + more / 500) * 500, `${up + down} bytes counted in all`);
  t.ok(sent > 0 && up + down > (before + more / 500) * 500 * 0.5);
  bank.funds.delete(fundsKey(owner));
  await bank.answer();
  await agent.stop();
  await nothingIsLeft();
});

t.test('it ends when nobody uses it, and when its device goes', async (t) => {
  const { agent } = await agentAt(t, far);
  const idle = await client(t);
  const sinceMs = performance.now();
  await closed(idle.control);
  t.ok(performance.now() - sinceMs > IDLE_MS / 2, 'after the time of the gateway with the device');
  const { control, send, next } = await client(t);
  send('127.0.0.1', echo.port, 'hello');
  await next();
  await agent.stop();
  await closed(control);
  await nothingIsLeft();
});

t.test(
  'the link is cut: it ends at once at both, and the next one is served by the link that comes',
  async (t) => {
    const { agent, sessionId } = await agentAt(t, far);
    const { control, send, next } = await client(t);
    send('127.0.0.1', echo.port, 'before');
    await next();
    way.mode = 'cut';
    const sinceMs = performance.now();
    await closed(control);
    t.ok(performance.now() - sinceMs < 2_000, 'the client is told');
    await until(() => agent.counters.streamsOpen === 0, 'so is the device');
    const refused = await associate();
    t.equal(refused.reply, 3, 'what only the other gateway has is refused');
    way.mode = 'pass';
    const again = await client(t);
    again.send('127.0.0.1', echo.port, 'after!');
    t.equal((await again.next()).data.toString(), 'after!');
    await until(async () => (await counted(sessionId)).down === 12, 'nothing is counted twice');
    t.same(await counted(sessionId), { up: 12, down: 12 });
    again.control.destroy();
    await agent.stop();
    await nothingIsLeft();
  },
);

t.test(
  'a link that does not move: the newest is dropped uncounted, memory stays, all that is counted arrives',
  async (t) => {
    const { device, arrived, send: sendDown, streamIds, sessionId } = await plainAt(t, far);
    const { control, send: sendUp, udp } = await client(t);
    sendUp('8.8.8.8', 53, 'first');
    await until(() => arrived.length === 1, 'it is there');
    const before = { here: await dropped(rig.gateway, 'backlog'), there: await dropped(far, 'backlog') };
    const held = process.memoryUsage().rss;
    way.mode = 'stall';
    const data = Buffer.alloc(9_000, 'x');
    let down = 0;
    await until(async () => {
      for (let i = 0; i < 40; i++) {
        sendUp('8.8.8.8', 53, data);
        sendDown(data);
        down++;
      }
      const [here, there] = [await dropped(rig.gateway, 'backlog'), await dropped(far, 'backlog')];
      return here > before.here && there > before.there;
    }, 'kernels hold all they want to');
    const grown = process.memoryUsage().rss - held;
    t.ok(grown < SOCKETS_HOLD_MAX, `${grown} bytes more are held`);
    t.equal(streamIds.size, 1, 'it lives');
    way.mode = 'pass';
    const count = await until(async () => {
      const counts = await counted(sessionId);
      const sum = arrived.reduce((all, payload) => all + payload.length - 7, 0);
      const droppedDown = (await dropped(far, 'backlog')) - before.there;
      return counts.up === sum &&
        counts.up > data.length &&
        counts.down === (down - droppedDown) * data.length
        ? counts
        : null;
    }, 'counted is what went on: up to the device, down into the link');
    t.ok(count.down > 0 && count.down < down * data.length);
    const seen = udp.received.length;
    sendUp('8.8.8.8', 53, 'goes on');
    await until(() => arrived.at(-1)?.toString('latin1').endsWith('goes on'), 'it goes on');
    await until(() => {
      sendDown(Buffer.from('back'));
      return udp.received.length > seen && udp.received.at(-1)?.bytes.toString('latin1').endsWith('back');
    }, 'and back');
    control.destroy();
    device.socket.terminate();
    await nothingIsLeft();
  },
);

t.test('several on a link that does not move: every byte that is counted comes over it', async (t) => {
  const { device, send, streamIds, sessionId } = await plainAt(t, far);
  // The entry gateway is this test: a UDP socket's buffer would overflow when the link moves again.
  const files = await ca.settings('probe');
  const identity = await openIdentity(
    {
      linkCert: files.TS_GATEWAY_LINK_TLS_CERT,
      linkKey: files.TS_GATEWAY_LINK_TLS_KEY,
      linkCa: files.TS_GATEWAY_LINK_TLS_CA,
    } as unknown as LinkConfig,
    silentLog,
  );
  t.teardown(() => identity.certificate.close());
  const links = new LinkClient(
    {
      gatewayId: 'probe',
      limits: defaultLimits,
      versions: LINK_VERSIONS,
      datagramBytesMax: LINK_DATAGRAM_BYTES,
      connectTimeoutMs: 5_000,
      pingMs: 5_000,
      idleMs: 60_000,
    },
    { identity, clock: systemClock, log: silentLog },
  );
  t.teardown(() => links.close());
  const mux = await links.to({ gatewayId: 'far', host: '127.0.0.1', port: way.port });
  const request = encodeRequest({
    asks: { associate: true },
    login: { username: `${rig.username}-cc-fr`, password: rig.password, clientAddress: '127.0.0.1' },
  });
  const answers: string[] = [];
  let received = 0;
  const streams = Array.from({ length: ASSOCIATIONS }, () => {
    let answered = false;
    return mux?.open(openOnLink(request, 'udp'), {
      onData: () => {},
      onFin: () => {},
      onReset: () => {},
      onWritable: () => {},
      onDatagram: (_stream, payload) => {
        const bytes = payload.subarray(ANSWER_HEAD.length);
        if (answered) received += bytes.length;
        else answers.push(bytes.toString());
        answered = true;
      },
    });
  });
  await until(() => answers.length === ASSOCIATIONS, 'all are answered');
  for (const answer of answers) t.match(JSON.parse(answer), { ok: true, exit: { country: 'FR' } });
  const before = await dropped(far, 'backlog');
  way.mode = 'stall';
  const data = Buffer.alloc(9_000, 'x');
  await until(async () => {
    for (let i = 0; i < 40; i++) send(data);
    return (await dropped(far, 'backlog')) > before + 100;
  }, 'the link takes no more');
  way.mode = 'pass';
  await until(
    async () => received > 0 && (await counted(sessionId)).down === received,
    'what was counted comes',
  );
  t.equal(received % data.length, 0);
  send(Buffer.from('goes on'));
  const sum = received + ASSOCIATIONS * 'goes on'.length;
  await until(async () => (await counted(sessionId)).down === sum && received === sum, 'it goes on');
  for (const stream of streams) stream?.reset(ResetCode.CANCELLED);
  await until(() => streamIds.size === 0, 'the device hears of the end');
  device.socket.terminate();
  await nothingIsLeft();
});

t.test(
  'a named session keeps its exit, whichever network asks, and the gateway that has it is asked',
  async (t) => {
    const one = await agentAt(t, far);
    const two = await agentAt(t, far);
    const username = `${rig.username}-cc-fr-session-udp1-strict-1`;
    const tcp = await until(async () => {
      const answer = await socksConnect({
        proxyPort: rig.gateway.proxyPort,
        username,
        password: rig.password,
        host: '127.0.0.1',
        port: echo.port,
      });
      // Nobody listens there by TCP: which device says so is what counts.
      return answer.reply === 5 ? answer : null;
    }, 'the session is bound');
    tcp.socket.destroy();
    const [its, other] = one.agent.counters.streamsTotal > 0 ? [one, two] : [two, one];
    for (let i = 0; i < 3; i++) {
      const { control, send, next } = await client(t, rig.gateway, username);
      send('127.0.0.1', echo.port, 'mine');
      await next();
      control.destroy();
    }
    t.equal(other.agent.counters.streamsTotal, 0, 'always the same one');
    t.equal(its.agent.counters.bytesUp, 12);
    await Promise.all([one, two].map(({ agent }) => agent.stop()));
    await nothingIsLeft();
  },
);

t.test('gateways that are old, drain or are full are passed over', async (t) => {
  const start = async (name: string, env: Record<string, string> = {}) =>
    rig.another(name, {
      TS_DEV_ALLOW: `127.0.0.1:${echo.port}`,
      TS_DEV_LOOPBACK_COUNTRY: 'DE',
      ...(await ca.settings(name)),
      ...env,
    });
  const german = `${rig.username}-cc-de`;
  const old = await start('old', { TS_GATEWAY_LINK_VERSION_MAX: '1' });
  const atOld = await agentAt(t, old);
  await until(async () => {
    const { socket, reply } = await socksConnect({
      proxyPort: rig.gateway.proxyPort,
      username: german,
      password: rig.password,
      host: '127.0.0.1',
      port: echo.port,
    });
    socket.destroy();
    return reply === 5; // the device's answer: nobody listens there by TCP
  }, 'what version 1 has is asked of it');
  const before = atOld.agent.counters.streamsTotal;
  const refused = await associate(rig.gateway, german);
  t.equal(refused.reply, 3, 'NO_PEER: it does not know associations, and nobody else has a device');
  t.equal(atOld.agent.counters.streamsTotal, before, 'its device is not asked');
  t.ok((await metric(rig.gateway, 'ts_link_requests_total{outcome="unspoken"}')) >= 1);
  t.equal((await associate(old, `${rig.username}-cc-fr`)).reply, 3, 'nor does it ask others');
  const own = await client(t, old, german);
  own.send('127.0.0.1', echo.port, 'its own');
  t.equal((await own.next()).data.toString(), 'its own', 'it serves its own clients');
  own.control.destroy();

  const newer = await start('newer');
  const atNewer = await agentAt(t, newer);
  for (let i = 0; i < 3; i++) {
    const { control, send, next } = await client(t, rig.gateway, german);
    send('127.0.0.1', echo.port, 'newer');
    t.equal((await next()).data.toString(), 'newer', 'a newer gateway serves it');
    control.destroy();
  }
  t.ok(atNewer.agent.counters.streamsTotal >= 3);

  const full = await start('full', { TS_UDP_ASSOCIATIONS_MAX: '0' });
  const atFull = await agentAt(t, full);
  await until(async () => {
    const { control, send, next } = await client(t, rig.gateway, german);
    send('127.0.0.1', echo.port, 'newer');
    t.equal((await next()).data.toString(), 'newer');
    control.destroy();
    return (await metric(rig.gateway, 'ts_link_requests_total{outcome="DRAINING"}')) > 0;
  }, 'one without room is asked, and another one serves');
  t.equal(atFull.agent.counters.streamsTotal, 0);
  await Promise.all([atFull.agent.stop(), full.stop(0)]);

  const narrow = await start('narrow', { TS_UDP_ASSOCIATIONS_MAX: '1', TS_DEV_LOOPBACK_COUNTRY: 'US' });
  const first = await client(t, narrow, german);
  t.equal((await associate(narrow, german)).reply, 1, 'CONN_LIMIT of the entry gateway');
  first.control.destroy();
  const second = await client(t, narrow, german);
  second.send('127.0.0.1', echo.port, 'a place is free again');
  await second.next();

  // What is under way at a gateway that drains goes on for the time there is; what is new goes elsewhere.
  const third = await start('third');
  const atThird = await agentAt(t, third);
  const stopped = newer.stop(4_000);
  await until(async () => {
    const { reply, control } = await associate(rig.gateway, german);
    control.destroy();
    return reply === 0 && atThird.agent.counters.streamsTotal > 0;
  }, 'another gateway serves');
  second.send('127.0.0.1', echo.port, 'during');
  t.equal((await second.next()).data.toString(), 'during');
  await closed(second.control);
  await stopped;

  // And at one that drains itself.
  const last = await client(t, narrow, german);
  const sinceMs = performance.now();
  const left = narrow.stop(1_500);
  last.send('127.0.0.1', echo.port, 'still there');
  t.equal((await last.next()).data.toString(), 'still there');
  await closed(last.control);
  t.ok(performance.now() - sinceMs >= 1_000, 'for the time there is');
  await left;
  await until(() => atThird.agent.counters.streamsOpen === 0, 'the device hears of it');
  await Promise.all([atOld, atNewer, atThird].map(({ agent }) => agent.stop()));
});
