/** What Prometheus reads of an agent that relays, loses its tunnel and comes back. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import t from 'tap';
import { startAgent } from '../../../agent-protocol/agent/agent.js';
import { serveAgentMetrics } from '../../../agent-protocol/agent/agent-metrics.js';
import { agentConfig, readAgentConfig } from '../../../agent-protocol/agent/config.js';
import { silentAgentLog } from '../../../agent-protocol/agent/log.js';
import { compiledPath } from '../../helpers/compiled.js';
import { DialCode, startEcho, startGateway, TestStream } from './harness.js';

/** Of one answer: the values by series. */
async function scrape(port: number): Promise<Map<string, number>> {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
  const lines = (await answer.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, ''), Number(line.replace(/^.* /, ''))]));
}

t.test('an agent that relays', async (t) => {
  const echo = await startEcho();
  t.teardown(() => echo.stop());
  const gateway = await startGateway();
  t.teardown(() => gateway.stop());
  const devAllow = [`127.0.0.1:${echo.port}`];
  const access = { kind: 'direct', tunnelUrl: gateway.url, ticket: 'T' } as const;
  const agent = startAgent(agentConfig(access, { devAllow }), silentAgentLog, { random: () => 0 });
  t.teardown(() => agent.stop());
  const served = await serveAgentMetrics(agent, 0);
  t.teardown(() => served.stop());
  const first = await gateway.tunnels.next();
  await first.statuses.next();

  const stream = new TestStream(first.session, '127.0.0.1', echo.port);
  t.equal(await stream.opened, DialCode.OK);
  stream.send('hello');
  t.equal(await stream.received(5), 'hello');
  t.equal(await new TestStream(first.session, '10.0.0.1', 80).opened, DialCode.PROHIBITED);
  const now = await scrape(served.port);
  for (const [series, value] of [
    ['ts_agent_state{state="online"}', 1],
    ['ts_agent_state{state="waiting"}', 0],
    ['ts_agent_tunnels_total', 1],
    ['ts_agent_streams', 1],
    ['ts_agent_streams_total', 2],
    ['ts_agent_bytes_up_total', 5],
    ['ts_agent_bytes_down_total', 5],
    ['ts_agent_dials_total{result="ok"}', 1],
    ['ts_agent_dials_total{result="prohibited"}', 1],
    ['ts_agent_dials_total{result="refused"}', 0],
    ['ts_agent_datagrams_dropped_total', 0],
    ['ts_agent_credit_stalls_total{direction="up"}', 0],
  ] as const)
    t.equal(now.get(series), value, series);
  t.ok((now.get('ts_agent_loop_lag_seconds') ?? -1) >= 0);
  t.ok((now.get('process_resident_memory_bytes') ?? 0) > 0);

  first.session.close({ code: 'rebalancing', reason: 'test' });
  await gateway.tunnels.next();
  for (let tries = 0; agent.state !== 'online' && tries < 1_000; tries++)
    await new Promise((resolve) => setImmediate(resolve));
  const later = await scrape(served.port);
  t.equal(later.get('ts_agent_tunnels_total'), 2);
  t.equal(later.get('ts_agent_troubles_total{code="rebalancing"}'), 1);
  t.equal(later.get('ts_agent_bytes_up_total'), 5, 'counts go on');

  const statusOf = (path: string, host: string) =>
    new Promise<number | undefined>((resolve) => {
      const asked = request({ port: served.port, host: '127.0.0.1', path, headers: { host } });
      asked.on('response', (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.end();
    });
  t.equal(await statusOf('/metrics', `localhost:${served.port}`), 200);
  t.equal(
    await statusOf('/metrics', 'evil.example.com'),
    421,
    'a page that has its name lead here reads nothing',
  );
  t.equal(await statusOf('/', '127.0.0.1'), 404);
  await t.rejects(serveAgentMetrics(agent, served.port), { code: 'EADDRINUSE' });
});

t.test('off by default, and not loaded then', async (t) => {
  const read = (argv: string[]) =>
    readAgentConfig(['--tunnel-url', 'ws://127.0.0.1:1/', '--ticket', 'T', ...argv], {});
  t.match(read([]), { kind: 'run', metricsPort: null });
  t.match(read(['--metrics-port', '9466']), { kind: 'run', metricsPort: 9_466 });
  t.match(read(['--metrics-port', 'off']), { kind: 'run', metricsPort: null });
  t.match(read(['--metrics-port', '70000']), { kind: 'invalid' });
  const program = compiledPath('agent-protocol/agent/main');
  // prom-client is CommonJS, so what was loaded of it is in the cache
  const look = `
    import { createRequire } from 'node:module';
    await import(${JSON.stringify(program)});
    const { cache } = createRequire(${JSON.stringify(program)});
    process.stdout.write(String(Object.keys(cache).some((path) => path.includes('prom-client'))));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', look]);
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  await once(child, 'close');
  t.equal(out, 'false');
});
