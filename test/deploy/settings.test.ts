/** What is said about settings is what the code does with them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { controlPlaneSettings, readControlPlaneConfig } from '../../control-plane/config.js';
import { allSettings, environmentExample, settingsMarkdown, unitOf } from '../../deploy/commands/settings.js';
import { gatewaySettings, readGatewayConfig } from '../../gateway/config.js';
import type { EnvironmentError } from '../../gateway/runtime/environment.js';
import { projectPath } from '../../gateway/runtime/project-path.js';

const example = readFileSync(projectPath('deploy/env.example'), 'utf8');
const document = readFileSync(projectPath('deploy/SETTINGS.md'), 'utf8');

/** The assignments of a file of variables, those in comments too when asked for. */
function assignments(text: string, commented: boolean): [string, string][] {
  const pattern = commented ? /^#?((?:TS|OTEL)_[A-Z0-9_]+)=(.*)$/gm : /^(TS_[A-Z0-9_]+)=(.*)$/gm;
  return [...text.matchAll(pattern)].map(([, name = '', value = '']) => [name, value]);
}

const problemsOf = (read: () => unknown): readonly string[] => {
  try {
    read();
  } catch (error) {
    return (error as EnvironmentError).problems;
  }
  return [];
};

t.test('the documents are what the code says', async (t) => {
  t.equal(document, settingsMarkdown(), 'deploy/SETTINGS.md: npm run settings');
  t.equal(example, environmentExample(), 'deploy/env.example: npm run settings');
});

t.test('env.example has every setting of gateway and control plane once, and nothing else', async (t) => {
  const named = assignments(example, true).map(([name]) => name);
  const settings = [...Object.values(gatewaySettings), ...Object.values(controlPlaneSettings)];
  t.same(named.toSorted(), [...new Set(settings.map(({ name }) => name))].toSorted());
});

t.test('env.example is what happens without it, but for what is required', async (t) => {
  t.same(
    assignments(example, false).map(([name]) => name),
    ['TS_DATABASE_URL', 'TS_JWT_SECRET'],
  );
  t.match(
    problemsOf(() => readControlPlaneConfig(Object.fromEntries(assignments(example, false)))),
    [/^TS_DATABASE_URL is required/, /^TS_JWT_SECRET is required/],
  );
  const required = { TS_DATABASE_URL: 'postgres://u@h/d', TS_JWT_SECRET: 'x'.repeat(32) };
  const all = { ...Object.fromEntries(assignments(example, true)), ...required };
  t.same(readControlPlaneConfig(all), readControlPlaneConfig(required));
  t.same(readGatewayConfig(all), readGatewayConfig({}));
});

t.test('no variable is read that SETTINGS.md does not name', async (t) => {
  for (const path of [
    'gateway/config.ts',
    'control-plane/config.ts',
    'deploy/standalone/config.ts',
    'agent-protocol/agent/config.ts',
  ]) {
    const read = [...(await readFile(projectPath(path), 'utf8')).matchAll(/\benv\.([A-Z][A-Z0-9_]+)/g)];
    t.ok(read.length > 0, `${path} reads some`);
    for (const [, name = ''] of read) t.ok(new RegExp(`\\b${name}\\b`).test(document), `${path}: ${name}`);
  }
  for (const { process, settings } of allSettings()) {
    t.ok(document.includes(`\n## ${process}\n`), process);
    t.ok(
      settings.every(({ name, help }) => /^(TS_|OTEL_|REDIS_URL$)/.test(name) && help.length > 5),
      `${process}: all are explained`,
    );
  }
});

t.test('units are those that the names say', async (t) => {
  t.equal(unitOf('TS_DRAIN_MS'), 'ms');
  t.equal(unitOf('TS_LOGIN_DELAY_MS_MAX'), 'ms');
  t.equal(unitOf('TS_PROVIDER_PRICE_MICROS_PER_GB'), 'micro-dollars per 10^9 bytes');
  t.equal(unitOf('TS_CONNECTIONS_MAX'), null);
  t.match(document, /`TS_HOLD_TIME_S` \| whole number from -1, s \|/);
});

t.test('secrets may come from files', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ts-secrets-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const TS_DATABASE_URL_FILE = file('url', 'postgres://u:p@h/d\n');
  const TS_JWT_SECRET_FILE = file('jwt', `${'j'.repeat(40)}\n`);
  const config = readControlPlaneConfig({ TS_DATABASE_URL_FILE, TS_JWT_SECRET_FILE });
  t.equal(config.databaseUrl, 'postgres://u:p@h/d');
  t.equal(config.jwtSecret, 'j'.repeat(40), 'without the end of the line');

  const read = (env: Record<string, string>) =>
    problemsOf(() => readControlPlaneConfig({ TS_DATABASE_URL_FILE, TS_JWT_SECRET_FILE, ...env }));
  t.same(read({ TS_JWT_SECRET: 's'.repeat(32) }), [
    'TS_JWT_SECRET and TS_JWT_SECRET_FILE exclude each other',
  ]);
  t.same(read({ TS_JWT_SECRET_FILE: join(folder, 'none') }), ['TS_JWT_SECRET_FILE is not readable (ENOENT)']);
  t.same(read({ TS_JWT_SECRET_FILE: file('empty', ' \n') }), ['TS_JWT_SECRET_FILE names an empty file']);
  t.same(read({ TS_JWT_SECRET_FILE: file('short', 'short') }), ['TS_JWT_SECRET must be at least 32 bytes']);
  t.same(read({ TS_API_PORT_FILE: join(folder, 'none') }), [], 'only secrets have files');

  const secretive = /(_SECRET|_TOKEN|_PASSWORD|_KEY|_DATABASE_URL|_REDIS_URL)$/;
  for (const setting of [...Object.values(gatewaySettings), ...Object.values(controlPlaneSettings)])
    if (secretive.test(setting.name) && !setting.name.endsWith('_TLS_KEY'))
      t.equal((setting as { secret?: true }).secret, true, `${setting.name} may be in a file`);
});
