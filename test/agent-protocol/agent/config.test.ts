import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type AgentConfig, readAgentConfig } from '../../../agent-protocol/agent/config.js';
import { splitHostPort } from '../../../agent-protocol/agent/setting-values.js';
import { AGENT_VERSION } from '../../../agent-protocol/agent/version.js';
import { projectPath } from '../../../gateway/runtime/project-path.js';

const DIRECT = ['--tunnel-url', 'ws://127.0.0.1:1/tunnel', '--ticket', 'T'];

function config(argv: string[], env: Record<string, string> = {}): AgentConfig {
  const command = readAgentConfig(argv, env);
  if (command.kind !== 'run') throw new Error(JSON.stringify(command));
  return command.config;
}
function problems(argv: string[], env: Record<string, string> = {}): readonly string[] {
  const command = readAgentConfig(argv, env);
  return command.kind === 'invalid' ? command.problems : [];
}

t.test('flags win over variables, variables over defaults', async (t) => {
  const env = {
    TS_API_URL: 'https://api.example',
    TS_DEVICE_ID: 'from-env',
    TS_DEVICE_KEY: 'key-env',
    TS_CAP_BYTES_DAY: '1000',
    TS_HOURS: '22-06',
    TS_KEEP_SESSION: '1',
    TS_BLOCK_HOSTS: 'a.example, b.example',
  };
  const fromEnv = config([], env);
  t.same(fromEnv.access, {
    kind: 'api',
    apiUrl: 'https://api.example',
    deviceId: 'from-env',
    deviceKey: 'key-env',
  });
  t.equal(fromEnv.owner.capBytesDay, 1000);
  t.same(fromEnv.owner.hours, { fromMinute: 22 * 60, toMinute: 6 * 60 });
  t.same(fromEnv.owner.blockHosts, ['a.example', 'b.example']);
  t.equal(fromEnv.keepSession, true);
  t.equal(fromEnv.dialTimeoutMs, 10_000);

  const both = config(['--device-id', 'from-flag', '--cap-bytes-day=5', '--hours', '9:30-17'], env);
  t.match(both.access, { deviceId: 'from-flag', deviceKey: 'key-env' });
  t.equal(both.owner.capBytesDay, 5);
  t.same(both.owner.hours, { fromMinute: 570, toMinute: 1020 });
});

t.test('direct mode needs a ticket and nothing else', async (t) => {
  t.same(config(DIRECT).access, { kind: 'direct', tunnelUrl: 'ws://127.0.0.1:1/tunnel', ticket: 'T' });
  t.same(config([], { TS_TUNNEL_URL: 'wss://gw.example/tunnel', TS_TICKET: 'S' }).access, {
    kind: 'direct',
    tunnelUrl: 'wss://gw.example/tunnel',
    ticket: 'S',
  });
  t.match(problems(['--tunnel-url', 'ws://x']), [/--ticket \(TS_TICKET\) is required/]);
});

t.test('the key may come from a file', async (t) => {
  const path = join(t.testdir({ key: 'from-file\n' }), 'key');
  const rest = ['--api-url', 'http://127.0.0.1:1', '--device-id', 'd'];
  t.match(config([...rest, '--key-file', path]).access, { deviceKey: 'from-file' });
  t.match(config(rest, { TS_DEVICE_KEY_FILE: path }).access, { deviceKey: 'from-file' });
  t.match(problems([...rest, '--key-file', `${path}.none`]), [/not readable \(ENOENT\)/]);
  writeFileSync(path, '\n');
  t.match(problems([...rest, '--key-file', path]), [/--key \(TS_DEVICE_KEY\) is required/]);
});

t.test('every problem is told, secrets are not', async (t) => {
  const told = problems(['--cap-bytes-day', 'lots'], {
    TS_HOURS: 'late',
    TS_DEVICE_KEY: 'very-secret',
    TS_API_URL: 'ftp://very-secret',
  });
  t.equal(told.length, 5);
  t.match(told.join('\n'), /--cap-bytes-day must be a whole number/);
  t.match(told.join('\n'), /TS_HOURS must be hours such as 22-06/);
  t.match(told.join('\n'), /TS_API_URL must be an http/);
  t.match(told.join('\n'), /--device-id \(TS_DEVICE_ID\) is required/);
  t.notMatch(told.join('\n'), /very-secret/);
  t.match(problems(['--no-such-flag']), [/no-such-flag/]);
  t.match(problems(['positional']), [/positional/]);
  t.match(problems([...DIRECT, '--hours', '25-26']), [/hours/]);
  t.match(problems([...DIRECT, '--hours', '9:75-10']), [/hours/]);
  t.match(problems([...DIRECT, '--network', 'pigeon']), [/one of wifi/]);
  t.match(problems([...DIRECT, '--block-hosts', 'a b']), [/host names/]);
  t.match(problems([...DIRECT, '--state-dir', '']), [/--state-dir must be not empty/]);
});

t.test('exemptions are refused in production', async (t) => {
  const argv = [...DIRECT, '--dev-allow', 'localhost:80,[::1]:8080'];
  t.same(config(argv).devAllow, ['localhost:80', '[::1]:8080']);
  t.match(problems(argv, { NODE_ENV: 'production' }), [/refused when NODE_ENV=production/]);
  t.match(problems(DIRECT, { NODE_ENV: 'production', TS_DEV_ALLOW: 'a:1' }), [
    /refused when NODE_ENV=production/,
  ]);
  t.match(problems([...DIRECT, '--dev-allow', 'localhost']), [/host:port/]);
  t.same(splitHostPort('[::1]:8080'), { host: '::1', port: 8080 });
  t.same(splitHostPort('localhost:1'), { host: 'localhost', port: 1 });
  for (const wrong of ['::1:80', '[x]:1', 'a:0', 'a:65536', 'a:', ':80', 'a:1:2'])
    t.equal(splitHostPort(wrong), null, wrong);
});

t.test('help lists every option with its variable', async (t) => {
  const help = readAgentConfig(['--help'], {});
  t.equal(help.kind, 'help');
  if (help.kind !== 'help') return;
  const source = readFileSync(projectPath('agent-protocol/agent/options.ts'), 'utf8');
  const variables = new Set(source.match(/'TS_[A-Z_]+'/g)?.map((name) => name.slice(1, -1)));
  t.ok(variables.size >= 28);
  for (const name of variables) t.match(help.text, new RegExp(`\\n  --[a-z-]+.* ${name} `), name);
  t.match(help.text, /Exit codes: 0/);
  t.equal(readAgentConfig(['-h', ...DIRECT], {}).kind, 'help');
});

t.test('the agent says the version of the package', async (t) => {
  const { version } = JSON.parse(readFileSync(projectPath('package.json'), 'utf8'));
  t.equal(AGENT_VERSION, version);
});
