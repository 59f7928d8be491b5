import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type CertificateExtension, generate } from 'selfsigned';
import t from 'tap';
import { readStandaloneConfig } from '../../deploy/standalone/config.js';
import { DataFolder, lockOf } from '../../deploy/standalone/data-folder.js';
import { startDemoDestination } from '../../deploy/standalone/demo-destination.js';
import { choosePorts } from '../../deploy/standalone/ports.js';
import { tunnelUrlOf } from '../../deploy/standalone/tunnel-url.js';
import { developmentCertificate } from '../../gateway/runtime/development-certificate.js';

t.test('a port that is taken is named with the setting to change', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const free = {
    TS_PROXY_PORT: '0',
    TS_TUNNEL_PORT: '0',
    TS_METRICS_PORT: '0',
    TS_CONTROL_METRICS_PORT: '0',
    TS_DEMO_PORT: '0',
  };
  await t.rejects(choosePorts(readStandaloneConfig({ ...free, TS_API_PORT: String(port) })), {
    message: `port ${port} is taken: set TS_API_PORT to another one (0 = any free)`,
  });
  const ports = await choosePorts(readStandaloneConfig({ ...free, TS_API_PORT: '0' }));
  t.equal(new Set(Object.values(ports)).size, 6, 'six different free ports');
});

t.test('where devices dial follows the certificate of the tunnel port', async (t) => {
  t.equal(tunnelUrlOf(null, 8443), 'ws://127.0.0.1:8443/tunnel');
  const folder = t.testdir({ text: 'no certificate' });
  const { certPath } = await developmentCertificate(folder, Date.now());
  t.equal(tunnelUrlOf(certPath, 8443), 'wss://127.0.0.1:8443/tunnel');
  const drawn = async (name: string) => {
    const path = join(folder, name);
    const altName: CertificateExtension = { name: 'subjectAltName', altNames: [{ type: 2, value: name }] };
    const { cert } = await generate([{ name: 'commonName', value: name }], {
      keyType: 'ec',
      extensions: [altName],
    });
    await writeFile(path, cert);
    return path;
  };
  t.equal(tunnelUrlOf(await drawn('localhost'), 1), 'wss://localhost:1/tunnel');
  const elsewhere = await drawn('gw.example.com');
  t.throws(() => tunnelUrlOf(elsewhere, 1), /TS_TUNNEL_TLS_CERT=.*neither 127\.0\.0\.1 nor localhost/);
  t.throws(() => tunnelUrlOf(join(folder, 'text'), 1), /is no certificate in PEM/);
  t.throws(() => tunnelUrlOf(join(folder, 'none'), 1), /is no certificate in PEM: ENOENT/);
});

t.test('production is refused', async (t) => {
  t.throws(() => readStandaloneConfig({ NODE_ENV: 'production' }), { code: 'BAD_ENVIRONMENT' });
});

t.test('one system a data folder', async (t) => {
  const path = await mkdtemp(join(tmpdir(), 'ts-folder-'));
  t.teardown(() => rm(path, { recursive: true }));
  await writeFile(join(path, 'standalone.pid'), lockOf(process.ppid));
  t.throws(() => new DataFolder(path), /already running in .* stop it, or set TS_DATA_DIR/);
  await writeFile(join(path, 'standalone.pid'), `${process.ppid} 1`);
  const folder = new DataFolder(path); // that pid belongs to another process now
  const secrets = folder.secrets();
  t.same(folder.secrets(), secrets, 'drawn once');
  t.equal((await stat(join(path, 'secrets.json'))).mode & 0o777, 0o600);
  folder.release();
  t.ok(new DataFolder(path), 'free again after release');
});

t.test('what can not start says why in a line, and ends with 1', async (t) => {
  const path = await mkdtemp(join(tmpdir(), 'ts-folder-'));
  t.teardown(() => rm(path, { recursive: true }));
  await writeFile(join(path, 'standalone.pid'), lockOf(process.pid));
  const start = `import { runStandalone } from '${new URL('../../deploy/standalone/standalone.js', import.meta.url)}'; await runStandalone();`;
  const started = spawn(process.execPath, ['--input-type=module', '-e', start], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, TS_DATA_DIR: path },
  });
  const said = await text(started.stderr);
  t.match(said, /^\nTraffic Share did not start: already running in .* set TS_DATA_DIR to another folder\n$/);
  t.equal(started.exitCode ?? (await once(started, 'exit'))[0], 1);
});

t.test('what a killed run left behind is waited for', async (t) => {
  const path = await mkdtemp(join(tmpdir(), 'ts-folder-'));
  t.teardown(() => rm(path, { recursive: true }));
  const folder = new DataFolder(path);
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 500)'], { stdio: 'ignore' });
  await once(child, 'spawn');
  folder.noteProcess(child.pid as number);
  let waited = false;
  await folder.untilEarlierRunEnded(() => {
    waited = true;
  });
  t.ok(waited && child.exitCode === 0, 'until it has ended by itself');
  waited = false;
  await folder.untilEarlierRunEnded(() => {
    waited = true;
  });
  t.notOk(waited, 'nothing is left');
});

t.test('the demo destination tells what it got', async (t) => {
  const demo = await startDemoDestination(0);
  t.teardown(() => demo.stop());
  t.match(await (await fetch(demo.url, { headers: { 'x-probe': '<b>' } })).text(), '&#60;b&#62;');
  t.equal((await (await fetch(`${demo.url}bytes/1000000`)).arrayBuffer()).byteLength, 1_000_000);
  const answer = await fetch(`${demo.url}upload`, { method: 'POST', body: 'abc' });
  t.same(await answer.json(), {
    bytes: 3,
    sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  });
  t.equal((await fetch(`${demo.url}nowhere`)).status, 404);
});
