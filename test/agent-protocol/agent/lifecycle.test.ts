import t, { type Test } from 'tap';
import { type Agent, type AgentState, startAgent } from '../../../agent-protocol/agent/agent.js';
import { type AgentConfig, agentConfig } from '../../../agent-protocol/agent/config.js';
import type { AgentLog } from '../../../agent-protocol/agent/log.js';
import {
  type ApiAnswer,
  type ApiCall,
  DialCode,
  goaway,
  problem,
  startApi,
  startEcho,
  startGateway,
  type TestApi,
  TestStream,
} from './harness.js';

async function world(t: Test) {
  const gateway = await startGateway();
  t.teardown(() => gateway.stop());
  const api = await startApi(gateway);
  t.teardown(() => api.stop());
  const events: { level: string; event: string; fields: Readonly<Record<string, unknown>> | undefined }[] =
    [];
  const log: AgentLog = (level, event, fields) => void events.push({ level, event, fields });
  return { gateway, api, events, log };
}

function start(
  t: Test,
  api: TestApi,
  log: AgentLog,
  overrides: Partial<Omit<AgentConfig, 'access'>> = {},
  random: () => number = () => 0.5,
): Agent {
  const access = { kind: 'api', apiUrl: `${api.url}/`, deviceId: 'd1', deviceKey: 'secret-key' } as const;
  const agent = startAgent(agentConfig(access, overrides), log, { random });
  t.teardown(() => agent.stop());
  return agent;
}

/** Start is answered with these, one after the other, and then as usual. */
function answerInTurn(api: TestApi, answers: (() => ApiAnswer)[]): void {
  const usual = api.answers['/api/traffic/start'] as (call: ApiCall) => ApiAnswer;
  api.answers['/api/traffic/start'] = (call) => (answers.shift() ?? usual)(call);
}

/** Waits for the agent to be in the state. */
async function inState(agent: Agent, state: AgentState): Promise<void> {
  while (agent.state !== state) await new Promise((resolve) => setImmediate(resolve));
}

t.test('start, report, stop', async (t) => {
  const { gateway, api, events, log } = await world(t);
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  const agent = start(t, api, log, { reportIntervalMs: 200, devAllow: [`127.0.0.1:${echo.port}`] });
  const started = await api.calls.next();
  t.same(started.path, '/api/traffic/start');
  t.equal(started.authorization, 'Bearer secret-key');
  t.same(
    Object.keys(started.body).sort(),
    ['client_version', 'device_id'],
    'unknown fields would be refused',
  );
  const tunnel = await gateway.tunnels.next();
  t.equal(tunnel.ticket, 't1');
  const stream = new TestStream(tunnel.session, '127.0.0.1', echo.port);
  await stream.opened;
  stream.send('12345');
  await stream.received(5);
  t.equal(agent.state, 'online');
  t.equal(agent.sessionId, 's1');

  let tx = 0;
  let rx = 0;
  while (rx < 5) {
    const { path, body } = await api.calls.next();
    t.equal(path, '/api/traffic/report');
    t.same(Object.keys(body).sort(), ['bytes_rx', 'bytes_tx', 'interval_seconds', 'session_id']);
    tx += body.bytes_tx as number;
    rx += body.bytes_rx as number;
  }
  t.same([tx, rx], [5, 5], 'reports add up to what went through, each byte once');

  t.match(await agent.stop(), { exitCode: 0, code: 'stopped' });
  const stop = await api.calls.nextWhere((call) => call.path === '/api/traffic/stop');
  t.same(stop.body, { session_id: 's1', final_bytes_tx: 5, final_bytes_rx: 5 });
  t.match(await tunnel.closed, { code: 'stopped', byPeer: true });
  t.equal(agent.state, 'ended');
  t.notMatch(JSON.stringify(events), /secret-key|"t1"/, 'no secret in the log');
  t.match(await agent.stop(), { exitCode: 0 }, 'stopping twice is harmless');
});

t.test('a kept session is not stopped', async (t) => {
  const { gateway, api, log } = await world(t);
  const agent = start(t, api, log);
  const tunnel = await gateway.tunnels.next();
  t.match(await agent.stop({ keepSession: true }), { exitCode: 0 });
  t.match(await tunnel.closed, { code: 'shutting_down' });
  t.notOk(api.calls.all.some((call) => call.path === '/api/traffic/stop'));
});

t.test('reconnects within half a second, with a fresh ticket of the same session', async (t) => {
  const { gateway, api, log, events } = await world(t);
  const agent = start(t, api, log, {}, () => 0.99);
  const waits = () => events.filter((e) => e.event === 'next attempt').map((e) => e.fields?.waitMs);
  const first = await gateway.tunnels.next();
  const lostAtMs = performance.now();
  first.session.destroy();
  const second = await gateway.tunnels.next();
  t.ok(performance.now() - lostAtMs >= 490, 'not at once: a whole fleet may have lost its gateway');
  t.same(waits(), [495]);
  t.equal(second.ticket, 't2');
  await inState(agent, 'online');
  t.equal(agent.counters.tunnelsTotal, 2);

  second.session.close({ ...goaway('shutting_down'), reconnect_after_ms: 300 });
  const third = await gateway.tunnels.next();
  t.equal(third.ticket, 't3', 'a gateway that goes away is no reason to stop');
  t.same(waits(), [495, 798], 'reconnect_after_ms comes on top, and waits grow while tunnels do not last');
});

t.test('what ends the agent, and how', async (t) => {
  for (const [code, exitCode] of [
    ['stopped', 2],
    ['consent_withdrawn', 2],
    ['banned', 2],
    ['client_too_old', 2],
    ['replaced', 3],
  ] as const) {
    const { gateway, api, log } = await world(t);
    const agent = start(t, api, log);
    const tunnel = await gateway.tunnels.next();
    tunnel.session.close(goaway(code));
    const end = await agent.ended;
    t.match({ ...end }, { exitCode, code }, `GOAWAY ${code}`);
    t.ok(end.text.length > 20, 'says what to do');
    t.equal(api.calls.all.length, 1, 'did not ask again');
  }
  for (const [status, code] of [
    [401, 'unauthorized'],
    [403, 'consent_required'],
    [403, 'banned'],
    [403, 'something_new'],
    [403, 'client_too_old'],
    [426, 'upgrade'],
  ] as const) {
    const { api, log } = await world(t);
    api.answers['/api/traffic/start'] = problem(status, code);
    const end = await start(t, api, log).ended;
    t.match({ ...end }, { exitCode: 2, code }, `start ${status} ${code}`);
    t.equal(api.calls.all.length, 1);
  }
  const { gateway, api, log } = await world(t);
  gateway.refuse = { status: 426, code: 'client_too_old' };
  t.match({ ...(await start(t, api, log).ended) }, { exitCode: 2, code: 'client_too_old' });
  gateway.refuse = { status: 401, code: 'ticket_invalid' };
  const access = { kind: 'direct', tunnelUrl: gateway.url, ticket: 'T' } as const;
  t.match({ ...(await startAgent(agentConfig(access), log).ended) }, { exitCode: 2, code: 'ticket_invalid' });
});

t.test('what passes is tried again', async (t) => {
  await t.test('trouble of the server, with its Retry-After', async (t) => {
    const { gateway, api, log, events } = await world(t);
    answerInTurn(api, [problem(503, 'unavailable'), problem(429, 'rate_limited', { 'retry-after': '1' })]);
    const startedAtMs = performance.now();
    start(t, api, log, {}, () => 0);
    await gateway.tunnels.next();
    const tookMs = performance.now() - startedAtMs;
    t.ok(tookMs >= 1_700, `${Math.round(tookMs)} ms: 0.25 s, then 1 s asked for plus 0.5 s`);
    t.same(
      events.filter((e) => e.event === 'start refused').map((e) => e.fields?.code),
      ['unavailable', 'rate_limited'],
    );
  });
  await t.test('a server that does not listen, answers nonsense or wants the key elsewhere', async (t) => {
    const { gateway, api, log, events } = await world(t);
    answerInTurn(api, [
      () => ({ status: 200, body: { session_id: 's1' } }),
      () => ({ status: 307, body: {}, headers: { location: 'http://127.0.0.1:1/' } }),
      () => ({ status: 404, body: {} }), // of a proxy in front of it: the device is not what is wrong
    ]);
    start(t, api, log, {}, () => 0);
    await gateway.tunnels.next();
    t.same(
      events.filter((e) => e.event === 'start refused').map((e) => e.fields?.code),
      ['bad_answer', 'network', 'http_404'],
    );
  });
  await t.test('a ticket that was not accepted', async (t) => {
    const { gateway, api, log } = await world(t);
    gateway.refuse = { status: 401, code: 'ticket_invalid' };
    start(t, api, log, {}, () => 0.1);
    await api.calls.next();
    await api.calls.next();
    gateway.refuse = null;
    const tunnel = await gateway.tunnels.next();
    t.same(gateway.tickets.slice(0, 2), ['t1', 't2']);
    t.not(tunnel.ticket, 't1', 'each try has a ticket of its own');
  });
  await t.test('a region, slowly', async (t) => {
    const { gateway, api, log, events } = await world(t);
    answerInTurn(api, [problem(403, 'region_not_allowed'), problem(403, 'vpn_detected')]);
    const agent = start(t, api, log, { refusedRetryMs: 200 });
    await api.calls.next();
    await inState(agent, 'refused');
    const tunnel = await gateway.tunnels.next();
    t.equal(events.filter((e) => e.event === 'start refused').length, 2);
    tunnel.session.close(goaway('unpaid_region'));
    await gateway.tunnels.nextWhere(() => true);
    t.pass('and after a GOAWAY for the region');
  });
});

t.test('stop during a wait, a start or a handshake is prompt', async (t) => {
  const { api, log } = await world(t);
  api.answers['/api/traffic/start'] = problem(503, 'unavailable', { 'retry-after': '600' });
  const waiting = start(t, api, log);
  await api.calls.next();
  await inState(waiting, 'waiting');
  t.match(await waiting.stop(), { exitCode: 0 });

  const silent = await startEcho(); // accepts, never speaks HTTP
  t.teardown(() => silent.stop());
  const { log: log2 } = await world(t);
  const access = { kind: 'direct', tunnelUrl: `ws://127.0.0.1:${silent.port}/`, ticket: 'T' } as const;
  const connecting = startAgent(agentConfig(access), log2);
  while (silent.sockets.size === 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(connecting.state, 'connecting');
  t.match(await connecting.stop(), { exitCode: 0 });
});

t.test('DRAIN: the new tunnel is up before the old one is gone, streams finish', async (t) => {
  const { gateway, api, log } = await world(t);
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  const agent = start(t, api, log, { devAllow: [`127.0.0.1:${echo.port}`] });
  const old = await gateway.tunnels.next();
  let oldClosed = false;
  void old.closed.then(() => {
    oldClosed = true;
  });
  const stream = new TestStream(old.session, '127.0.0.1', echo.port);
  t.equal(await stream.opened, DialCode.OK);
  old.session.drain({ reason: 'upgrade', deadline_ms: 5_000 });
  const fresh = await gateway.tunnels.next();
  t.equal(fresh.ticket, 't2');
  t.notOk(oldClosed, 'made before broken');
  stream.send('still here');
  t.equal(await stream.received(10), 'still here', 'the live stream goes on');
  t.equal(await new TestStream(fresh.session, '127.0.0.1', echo.port).opened, DialCode.OK);
  stream.stream.fin();
  await stream.finished;
  t.match(await old.closed, { code: 'shutting_down' }, 'the old one goes with its last stream');
  await inState(agent, 'online');

  // Streams that do not finish are cut at the deadline
  const stuck = new TestStream(fresh.session, '127.0.0.1', echo.port);
  await stuck.opened;
  const drainedAtMs = performance.now();
  fresh.session.drain({ reason: 'upgrade', deadline_ms: 300 });
  const third = await gateway.tunnels.next();
  await fresh.closed;
  t.ok(performance.now() - drainedAtMs >= 280);
  await stuck.reset;
  // The gateway replaces the draining one by itself: no reason to end
  third.session.drain({ reason: 'upgrade', deadline_ms: 5_000 });
  third.session.close(goaway('replaced'));
  await gateway.tunnels.next();
  t.equal(agent.state === 'ended', false);
});
