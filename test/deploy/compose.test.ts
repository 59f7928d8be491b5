/** deploy/compose: what docker compose, HAProxy and Caddy say of it, and what they can not know. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { controlPlaneSettings } from '../../control-plane/config.js';
import { gatewaySettings } from '../../gateway/config.js';
import type { Setting } from '../../gateway/runtime/environment.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { hasProgram, runProgram } from '../helpers/programs.js';

interface Service {
  build?: unknown;
  command?: string | string[];
  environment?: Record<string, string>;
  secrets?: string[];
  read_only?: boolean;
  cap_drop?: string[];
  ports?: string[];
  volumes?: string[];
  networks?: string[] | Record<string, { ipv4_address?: string }>;
}
interface Compose {
  services: Record<string, Service>;
  secrets: Record<string, { file: string }>;
}

const folder = mkdtempSync(join(tmpdir(), 'ts-compose-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const file = projectPath('deploy/compose/compose.yml');
const compose = parse(readFileSync(file, 'utf8'), { merge: true }) as Compose;
const prepare = () => runProgram(projectPath('deploy/compose/prepare.sh'), ['--folder', folder]);

t.test('prepare.sh makes what is missing, and only that', async (t) => {
  t.match(await prepare(), { code: 0, err: '', out: /bot's token/ });
  writeFileSync(join(folder, 'secrets/bot_token'), '1:x\n');
  const secrets = Object.values(compose.secrets).map((secret) => secret.file);
  const contents = () => secrets.map((path) => readFileSync(join(folder, path), 'utf8'));
  const before = contents();
  t.ok(
    before.every((text) => text.trim().length > 0),
    'every secret that compose.yml names',
  );
  t.equal(statSync(join(folder, 'secrets')).mode & 0o777, 0o700);
  const again = await prepare();
  t.match(again, { code: 0, err: '' });
  t.notMatch(again.out, /^made /m);
  t.same(contents(), before);
});

t.test('docker compose takes it', async (t) => {
  // The first is docker's own, the second what Debian has
  const plugin = await runProgram('docker', ['compose', 'version']).catch(() => ({ code: 1 }));
  const [command, ...first] = plugin.code === 0 ? ['docker', 'compose'] : ['docker-compose'];
  if (command === undefined || (plugin.code !== 0 && !(await hasProgram(t, 'docker-compose')))) return;
  const config = (path: string) =>
    runProgram(command, [...first, '-f', path, '--env-file', join(folder, '.env'), 'config'], {
      cwd: folder,
    });
  const good = await config(file);
  t.match(good, { code: 0 }, good.err);
  t.equal(Object.keys(parse(good.out).services).length, Object.keys(compose.services).length);
  const bad = join(folder, 'bad.yml');
  writeFileSync(bad, readFileSync(file, 'utf8').replaceAll('read_only:', 'read_onyl:'));
  t.not((await config(bad)).code, 0, 'a misspelled word is found');
});

t.test('HAProxy and Caddy take their files', async (t) => {
  if (await hasProgram(t, 'haproxy', ['haproxy', '-v'])) {
    const ran = await runProgram('haproxy', ['-c', '-f', projectPath('deploy/compose/haproxy.cfg')]);
    t.match(ran, { code: 0 }, ran.err);
  }
  if (await hasProgram(t, 'caddy', ['caddy', 'version'])) {
    const env = {
      HOME: folder,
      ACME_EMAIL: 'a@example.org',
      API_DOMAIN: 'a.example.org',
      TUNNEL_DOMAIN: 't.example.org',
    };
    const args = [
      'adapt',
      '--validate',
      '--config',
      projectPath('deploy/compose/Caddyfile'),
      '--adapter',
      'caddyfile',
    ];
    const ran = await runProgram('caddy', args, { env });
    t.match(ran, { code: 0 }, ran.err);
  }
});

t.test('every variable is a setting of the process that gets it', async (t) => {
  const tables: Record<string, Record<string, Setting<unknown>>> = {
    'gateway-1': gatewaySettings,
    'gateway-2': gatewaySettings,
    'control-plane': controlPlaneSettings,
  };
  for (const [service, table] of Object.entries(tables)) {
    const { environment = {}, secrets = [] } = compose.services[service] ?? {};
    const names = Object.values(table).flatMap(({ name, secret }) =>
      secret ? [name, `${name}_FILE`] : [name],
    );
    for (const [name, value] of Object.entries(environment)) {
      t.ok(name === 'NODE_ENV' || names.includes(name), `${service}: ${name}`);
      if (value.startsWith('/run/secrets/'))
        t.ok(secrets.includes(value.replace('/run/secrets/', '')), `${name} is mounted`);
      else t.notOk(/secret|password/i.test(value), `${name} is no secret`);
    }
    for (const secret of secrets)
      t.ok(Object.values(environment).includes(`/run/secrets/${secret}`), `${service} needs ${secret}`);
  }
});

t.test('who may do and reach what', async (t) => {
  const { services } = compose;
  t.same(
    Object.keys(services).filter((name) => services[name]?.build),
    ['gateway-1', 'gateway-2', 'control-plane'],
  );
  for (const name of ['gateway-1', 'gateway-2', 'control-plane'])
    t.match(services[name], { read_only: true, cap_drop: ['ALL'] }, name);
  t.not(services['gateway-1']?.volumes?.[0], services['gateway-2']?.volumes?.[0], 'journals of their own');
  // Of the private ports, Postgres, Redis and Prometheus nothing is reached from outside
  t.same(
    Object.fromEntries(
      Object.entries(services).flatMap(([name, { ports }]) => (ports ? [[name, ports]] : [])),
    ),
    {
      haproxy: ['8080:8080'],
      caddy: ['80:80', '443:443', '443:443/udp'],
      'gateway-1': ['20000-20099:20000-20099/udp'],
      'gateway-2': ['20100-20199:20100-20199/udp'],
      grafana: ['127.0.0.1:3001:3000'],
    },
  );
  const addressOf = (name: string) =>
    (services[name]?.networks as Record<string, { ipv4_address?: string }> | undefined)?.edge?.ipv4_address;
  for (const gateway of ['gateway-1', 'gateway-2'])
    t.match(services[gateway]?.environment, {
      TS_PROXY_PROTOCOL_FROM: addressOf('haproxy'),
      TS_TRUSTED_PROXIES: addressOf('caddy'),
      TS_UDP_PORTS: services[gateway]?.ports?.[0]?.split(':')[0] as string,
    });
  t.equal(services['control-plane']?.environment?.TS_TRUSTED_PROXIES, addressOf('caddy'));
});
