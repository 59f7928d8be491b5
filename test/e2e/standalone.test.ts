/** `npm start` with nothing but Node: what it prints, what it writes, and that its data outlives it. */
import { mkdtemp, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { ProxyAgent, request } from 'undici';
import { developmentCertificate } from '../../gateway/runtime/development-certificate.js';
import { removeData, type Standalone, startStandalone } from '../helpers/standalone.js';
import { testCertificate } from '../helpers/test-certificate.js';
import { startTraceCollector } from '../helpers/trace-collector.js';

/** A PATH on which there is only node: no redis-server, no curl, no postgres. */
async function bareEnvironment(): Promise<Record<string, string>> {
  const folder = await mkdtemp(join(tmpdir(), 'ts-path-'));
  t.teardown(() => removeData(folder));
  await symlink(process.execPath, join(folder, 'node'));
  return { PATH: folder };
}

async function fetchDemo(system: Standalone, scheme: 'http' | 'https' = 'http'): Promise<string> {
  const { username, password } = system.file.buyer;
  const dispatcher = new ProxyAgent({
    uri: `${scheme}://127.0.0.1:${system.file.proxy_port}`,
    token: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
    proxyTls: { ca: await readFile(system.file.proxy_tls_cert_path) },
  });
  const { body } = await request(system.file.demo_destination_url, { dispatcher });
  const text = await body.text();
  await dispatcher.close();
  return text;
}

t.test('from nothing, again after Ctrl-C, and again after kill -9', async (t) => {
  const collector = await startTraceCollector(t);
  const env = {
    ...(await bareEnvironment()),
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_TRACES_SAMPLER_ARG: '1',
  };
  let system = await startStandalone({ env });
  const { dataDir } = system;
  t.teardown(async () => {
    await system.stop();
    await removeData(dataDir);
  });
  t.same(Object.keys(system.file).sort(), [
    'admin',
    'api_url',
    'buyer',
    'console_url',
    'demo_destination_url',
    'metrics_urls',
    'provider',
    'proxy_host',
    'proxy_port',
    'proxy_tls_cert_path',
    'proxy_url',
    'tunnel_url',
  ]);
  t.same(Object.keys(system.file.buyer).sort(), ['id', 'password', 'token', 'username']);
  t.same(Object.keys(system.file.provider).sort(), ['access_token', 'device_id', 'user_id']);
  t.equal((await stat(join(dataDir, 'standalone.json'))).mode & 0o777, 0o600);
  t.match(system.output(), `curl -x ${system.file.proxy_url} ${system.file.demo_destination_url}`);
  t.match(await fetchDemo(system), /It works/);
  t.match(await fetchDemo(system, 'https'), /It works/, 'in TLS, on the same port');
  const exposed = await Promise.all(
    system.file.metrics_urls.map(async (url) =>
      (await fetch(url, { headers: { connection: 'close' } })).text(),
    ),
  );
  t.equal(exposed.length, 2, 'gateway and control plane');
  t.match(exposed[0], /^ts_tunnel_wire_bytes_total [1-9]/m);
  t.match(exposed[1], /^ts_settlement_passes_total [1-9]/m);

  const balances = async () => {
    const provider = await system.api('/api/balance', system.file.provider.access_token);
    const buyer = await system.api('/api/buyer/me/balance', system.file.buyer.token);
    return [provider.lifetime, buyer.balance];
  };
  const booked = async () => {
    const usage = await system.api('/api/buyer/me/usage', system.file.buyer.token);
    const { bytes_up, bytes_down } = usage.total as unknown as { bytes_up: number; bytes_down: number };
    const { bytesUp, bytesDown, streams } = await system.status();
    return streams === 0 && bytesUp > 0 && bytes_up === bytesUp && bytes_down === bytesDown;
  };
  for (let tries = 0; !(await booked()) && tries < 200; tries++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  const before = await balances();
  t.not(before[1], '100.000000', 'the page was charged');

  t.equal(await system.stop(), 0, 'Ctrl-C ends it cleanly');
  await t.rejects(stat(join(dataDir, 'standalone.json')), { code: 'ENOENT' });
  const traced = collector.spans.map(({ service, name, status }) => `${service}: ${name}, ${status}`);
  for (const expected of [
    'gateway: proxy connection, 0',
    'control-plane: GET /api/balance, 0',
    'control-plane: settlement batch, 0',
  ])
    t.ok(traced.includes(expected), `${expected} is traced`);

  system = await startStandalone({ env, dataDir });
  t.same(await balances(), before, 'balances are kept');
  t.match(await fetchDemo(system), /It works/);

  await system.kill();
  system = await startStandalone({ env, dataDir });
  t.match(await fetchDemo(system), /It works/, 'after kill -9 it starts again and serves');
  const after = await balances();
  t.ok(String(after[1]) < String(before[1]), 'and goes on with the same money');
});

t.test('with a certificate at the tunnel port its own device dials in TLS', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ts-tunnel-tls-'));
  const { certPath, keyPath } = await developmentCertificate(folder, Date.now());
  // Whoever starts it trusts others as well.
  const others = join(folder, 'others.pem');
  await writeFile(others, testCertificate.cert);
  const env = {
    ...(await bareEnvironment()),
    TS_TUNNEL_TLS_CERT: certPath,
    TS_TUNNEL_TLS_KEY: keyPath,
    NODE_EXTRA_CA_CERTS: others,
  };
  const system = await startStandalone({ env });
  t.teardown(async () => {
    await system.stop();
    await removeData(system.dataDir);
    await removeData(folder);
  });
  t.match(system.file.tunnel_url, /^wss:\/\/127\.0\.0\.1:\d+\/tunnel$/);
  t.match(await fetchDemo(system), /It works/);
  // Printed once the file is written. Never too late: tap ends a test that waits for ever.
  while (!system.output().includes(`tunnels   ${system.file.tunnel_url}`)) await delay(20);
});
