import type { Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Agent, type AgentDependencies, startAgent } from '../../../agent-protocol/agent/agent.js';
import { type AgentConfig, agentConfig } from '../../../agent-protocol/agent/config.js';
import { silentAgentLog } from '../../../agent-protocol/agent/log.js';
import { NO_OWNER_LIMITS } from '../../../agent-protocol/agent/owner-rules.js';
import { ResetCode } from '../../../agent-protocol/frame.js';
import { DialCode, startEcho, startGateway, startTcp, TestStream } from './harness.js';

/** A gateway with one agent on it, in direct mode. */
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
  const tunnel = await gateway.tunnels.next();
  return { gateway, agent, tunnel };
}

t.test('bytes both ways, half-close both ways, counted', async (t) => {
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  const { agent, tunnel } = await connected(t, {
    devAllow: [`127.0.0.1:${echo.port}`, `localhost:${echo.port}`],
    network: 'ethernet',
    termsVersion: '7',
  });
  t.match(tunnel.hello, { agent: 'traffic-share-agent', terms_version: '7', versions: [1] });
  t.equal(tunnel.ticket, 'T');
  t.match(await tunnel.statuses.next(), { network: 'ethernet', paused: false, bytes_up: 0 });

  for (const host of ['127.0.0.1', 'localhost']) {
    const stream = new TestStream(tunnel.session, host, echo.port);
    t.equal(await stream.opened, DialCode.OK);
    t.equal(agent.counters.streamsOpen, 1);
    stream.send('hello');
    t.equal(await stream.received(5), 'hello');
    stream.stream.fin();
    await stream.finished;
    t.equal(stream.bytes.toString(), 'hello', 'echo ended after our end');
  }
  t.match(agent.counters, { bytesUp: 10, bytesDown: 10, streamsTotal: 2 });

  const cut = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  t.equal(await cut.opened, DialCode.OK);
  const [destination] = [...echo.sockets].slice(-1);
  const gone = new Promise((resolve) => destination?.once('close', resolve));
  cut.stream.reset(ResetCode.CANCELLED);
  await gone;
  t.equal(agent.counters.streamsOpen, 0, 'nothing is left of a stream that was reset');
});

/** Never too late: tap ends a test that waits for ever. */
async function nothingOpen(agent: Agent): Promise<void> {
  while (agent.counters.streamsOpen > 0) await new Promise((resolve) => setImmediate(resolve));
}

/** What a destination still reads, and how its connection ends. */
async function readToEnd(socket: Socket): Promise<{ bytes: number; end: string }> {
  let bytes = 0;
  let end = 'closed';
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? 'error';
  });
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
  return { bytes, end };
}

t.test('a tunnel that is lost: what came by it reaches its destination, which then is reset', async (t) => {
  const slow = await startTcp((socket) => socket.pause());
  t.teardown(() => slow.stop());
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  // Long enough for the second tunnel of a slow machine.
  const settings = { devAllow: [`127.0.0.1:${slow.port}`, `127.0.0.1:${echo.port}`], lingerMs: 5_000 };
  const { gateway, agent, tunnel } = await connected(t, settings);
  const stream = new TestStream(tunnel.session, '127.0.0.1', slow.port);
  t.equal(await stream.opened, DialCode.OK);
  const bytes = stream.stream.sendWindowBytes;
  t.ok(bytes > 64 * 1024, 'more than the operating system sends to one who does not read');
  stream.send('x'.repeat(bytes));
  const behind = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  t.equal(await behind.opened, DialCode.OK, 'all that was sent before has come');
  tunnel.session.destroy();
  const second = await gateway.tunnels.next();
  t.ok(agent.counters.streamsOpen > 0);
  const [destination] = [...slow.sockets];
  t.same(await readToEnd(destination as Socket), { bytes, end: 'ECONNRESET' });
  await nothingOpen(agent);

  const idle = new TestStream(second.session, '127.0.0.1', slow.port);
  t.equal(await idle.opened, DialCode.OK);
  const [other] = [...slow.sockets];
  const otherEnd = readToEnd(other as Socket);
  const stoppedAtMs = performance.now();
  await agent.stop();
  t.same(await otherEnd, { bytes: 0, end: 'ECONNRESET' });
  t.ok(performance.now() - stoppedAtMs < settings.lingerMs, 'the owner stops it: at once');
});

t.test('dial codes', async (t) => {
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  const closed = await startEcho();
  await closed.stop();
  const { tunnel } = await connected(
    t,
    {
      devAllow: [`127.0.0.1:${closed.port}`],
      owner: { ...NO_OWNER_LIMITS, blockHosts: ['blocked.example'] },
    },
    {
      resolve: async (name) => {
        if (name === 'inside.example') return { ok: true, addresses: ['127.0.0.1', '10.0.0.1', '::1'] };
        return { ok: false, code: 'ENOTFOUND' };
      },
    },
  );
  const code = (host: string, port: number) => new TestStream(tunnel.session, host, port).opened;
  t.equal(await code('127.0.0.1', echo.port), DialCode.PROHIBITED);
  t.equal(await code('localhost', echo.port), DialCode.PROHIBITED);
  t.equal(
    await code('2130706433', closed.port),
    DialCode.PROHIBITED,
    'an exemption is for the text as given',
  );
  t.equal(await code('inside.example', echo.port), DialCode.PROHIBITED, 'a name that leads inside');
  t.equal(await code('169.254.169.254', 80), DialCode.PROHIBITED);
  t.equal(await code('::ffff:7f00:1', echo.port), DialCode.PROHIBITED);
  t.equal(await code('nowhere.example', 80), DialCode.DNS_FAIL);
  t.equal(await code('127.0.0.1', closed.port), DialCode.REFUSED);
  t.equal(await code('www.blocked.example', 80), DialCode.BLOCKED);
  t.equal(echo.sockets.size, 0, 'nothing reached the inside');
});

t.test('a dial that is reset or answered late leaves nothing behind', async (t) => {
  let asked = 0;
  const { agent, tunnel } = await connected(
    t,
    { dialTimeoutMs: 150 },
    {
      resolve: () => {
        asked++;
        return new Promise(() => {});
      },
    },
  );
  const late = new TestStream(tunnel.session, 'slow.example', 80);
  t.equal(await late.opened, DialCode.TIMEOUT);
  const cancelled = new TestStream(tunnel.session, 'slow.example', 80);
  while (asked < 2) await new Promise((resolve) => setImmediate(resolve));
  t.equal(agent.counters.streamsOpen, 1);
  cancelled.stream.reset(ResetCode.CANCELLED);
  const next = new TestStream(tunnel.session, '127.0.0.1', 1);
  t.equal(await next.opened, DialCode.PROHIBITED);
  t.equal(agent.counters.streamsOpen, 0);
});

t.test('a day cap cuts open streams, refuses new ones and survives a restart', async (t) => {
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  const stateDir = join(t.testdir({}), 'state');
  const limits = { owner: { ...NO_OWNER_LIMITS, capBytesDay: 1_000 }, stateDir };
  const devAllow = [`127.0.0.1:${echo.port}`];
  const { agent, tunnel } = await connected(t, { ...limits, devAllow });
  const idle = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  const busy = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  t.equal(await idle.opened, DialCode.OK);
  t.equal(await busy.opened, DialCode.OK);
  busy.send('x'.repeat(400));
  await busy.received(400);
  t.equal(agent.counters.capBytesLeft, 200);
  busy.send('x'.repeat(201));
  await busy.reset;
  t.equal(await idle.reset, ResetCode.CAP_REACHED, 'the idle one is cut as well');
  t.equal(agent.counters.bytesUp + agent.counters.bytesDown, 800, 'not a byte over the cap');
  t.ok(
    await tunnel.statuses.nextWhere((s) => s.cap_bytes_left === 0 && s.paused === true),
    'the gateway is told',
  );
  t.equal(await new TestStream(tunnel.session, '127.0.0.1', echo.port).opened, DialCode.CAP_REACHED);
  await agent.stop();

  const again = await connected(t, { ...limits, devAllow });
  t.equal(await new TestStream(again.tunnel.session, '127.0.0.1', echo.port).opened, DialCode.CAP_REACHED);
});

t.test('pause, hours and streams at once', async (t) => {
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  let hour = 12;
  const { agent, tunnel } = await connected(
    t,
    {
      devAllow: [`127.0.0.1:${echo.port}`],
      owner: { ...NO_OWNER_LIMITS, hours: { fromMinute: 720, toMinute: 780 }, streamsMax: 1 },
    },
    { now: () => new Date(2025, 10, 22, hour, 30) },
  );
  const first = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  t.equal(await first.opened, DialCode.OK);
  t.equal(await new TestStream(tunnel.session, '127.0.0.1', echo.port).opened, DialCode.CAP_REACHED);
  agent.setPaused(true);
  t.equal(await first.reset, ResetCode.PAUSED);
  t.ok(await tunnel.statuses.nextWhere((s) => s.paused === true));
  t.equal(await new TestStream(tunnel.session, '127.0.0.1', echo.port).opened, DialCode.PAUSED);
  agent.setPaused(false);
  t.ok(await tunnel.statuses.nextWhere((s) => s.paused === false));
  const second = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  t.equal(await second.opened, DialCode.OK);
  hour = 13;
  t.equal(await second.reset, ResetCode.PAUSED, 'the hour is over');
  t.ok(await tunnel.statuses.nextWhere((s) => s.paused === true));
});

t.test('every connection of the device is closed when the tunnel dies', async (t) => {
  const destination = await startTcp((socket) => socket.resume());
  t.teardown(() => destination.stop());
  const { agent, gateway, tunnel } = await connected(t, { devAllow: [`127.0.0.1:${destination.port}`] });
  const streams = Array.from(
    { length: 20 },
    () => new TestStream(tunnel.session, '127.0.0.1', destination.port),
  );
  for (const stream of streams) t.equal(await stream.opened, DialCode.OK);
  const gone = Promise.all(
    [...destination.sockets].map((s) => new Promise((resolve) => s.once('close', resolve))),
  );
  tunnel.session.destroy();
  await gone;
  await gateway.tunnels.next();
  await nothingOpen(agent);
});
