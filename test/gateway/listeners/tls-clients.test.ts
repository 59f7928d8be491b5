/** Clients the project did not write, to an https:// proxy. */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { join } from 'node:path';
import { HttpsProxyAgent } from 'https-proxy-agent';
import t from 'tap';
import { ProxyAgent, request as undiciRequest } from 'undici';
import { testCertificate } from '../../helpers/test-certificate.js';
import { ACCOUNT, basic, certificate, PASSWORD, startListener, startServer } from './fake-pipeline.js';

const tlsOn = { certificate: () => certificate };
const startOrigin = (t: Parameters<typeof startServer>[0]) =>
  startServer(
    t,
    createServer((req, res) => res.end(`<${req.method} ${req.url}>`)),
  );

function curl(args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('curl', ['-sS', '-m', '10', ...args], { env: { PATH: process.env.PATH } });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
  });
}

t.test('curl', async (t) => {
  const version = await curl(['--version']).catch(() => null);
  if (!version?.out.includes('HTTPS-proxy')) {
    t.comment('no curl with HTTPS proxies on PATH: this test did not run');
    if (process.env.CI) t.fail('curl is required where CI is set');
    return;
  }
  const originPort = await startOrigin(t);
  const { port, pipeline } = await startListener(t, tlsOn);
  const caPath = join(t.testdir(), 'ca.pem');
  writeFileSync(caPath, testCertificate.cert);
  const proxy = ['--proxy', `https://${ACCOUNT}:${PASSWORD}@localhost:${port}`];
  const trusted = [...proxy, '--proxy-cacert', caPath];
  const url = (path: string) => `http://example.test:${originPort}${path}`;
  for (const way of [[], ['-p']])
    t.same(
      await curl([...trusted, ...way, url('/1'), url('/2')]),
      { code: 0, out: '<GET /1><GET /2>', err: '' },
      way.length === 0 ? 'plain HTTP' : 'CONNECT',
    );
  t.ok(pipeline.destinations.every(({ host }) => host === 'example.test'));
  t.equal(
    (await curl([...proxy, url('/')])).code,
    60,
    'who does not trust the certificate sends no password',
  );
  const denied = await curl([
    '--proxy-cacert',
    caPath,
    '-p',
    '-x',
    `https://a:b@localhost:${port}`,
    url('/'),
  ]);
  t.match(denied.err, /400|407/);
});

t.test('https-proxy-agent', async (t) => {
  const originPort = await startOrigin(t);
  const { port } = await startListener(t, tlsOn);
  const agent = new HttpsProxyAgent(`https://${ACCOUNT}:${PASSWORD}@localhost:${port}`, {
    ca: testCertificate.cert,
  });
  t.teardown(() => agent.destroy());
  const text = await new Promise<string>((resolve, reject) => {
    const req = request({ agent, host: 'example.test', port: originPort, path: '/x' }, (res) => {
      let body = '';
      res.on('data', (chunk: Buffer) => {
        body += chunk;
      });
      res.on('end', () => resolve(body));
    });
    req.on('error', reject);
    req.end();
  });
  t.equal(text, '<GET /x>');
});

t.test('undici, tunnelling and forwarding', async (t) => {
  const originPort = await startOrigin(t);
  const { port } = await startListener(t, tlsOn);
  for (const proxyTunnel of [true, false]) {
    const dispatcher = new ProxyAgent({
      uri: `https://localhost:${port}`,
      token: basic(),
      proxyTunnel,
      proxyTls: { ca: testCertificate.cert },
    });
    for (let i = 0; i < 3; i++) {
      const { body } = await undiciRequest(`http://example.test:${originPort}/${i}`, { dispatcher });
      t.equal(await body.text(), `<GET /${i}>`);
    }
    await dispatcher.close();
  }
});
