import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';

const run = promisify(execFile);
const cli = (...words: string[]) => run(process.execPath, [projectPath('dist/deploy/cli.js'), ...words]);

t.test('help, for each command', async (t) => {
  const { stdout } = await cli('--help');
  for (const command of ['start', 'gateway', 'control-plane', 'agent', 'migrate', 'ledger', 'journal'])
    t.match(stdout, new RegExp(`^ +${command} `, 'm'), command);
  t.match((await cli('gateway', '--help')).stdout, /TS_PROXY_PORT .*default 8080/);
  t.match((await cli('control-plane', '--help')).stdout, /TS_JWT_SECRET .*required/);
  t.match((await cli('agent', '--help')).stdout, /--device-id/);
});

t.test('the program is one that npx can run', async (t) => {
  t.match((await run(projectPath('dist/deploy/cli.js'), ['--help'])).stdout, /^Usage: traffic-share/);
});

t.test('metrics and dashboards are written as they are checked in', async (t) => {
  t.equal((await cli('metrics')).stdout, readFileSync(projectPath('deploy/METRICS.md'), 'utf8'));
  const folder = join(t.testdir(), 'new');
  const { stdout } = await cli('dashboards', folder);
  t.same(readdirSync(folder).sort(), readdirSync(projectPath('deploy/grafana/dashboards')).sort());
  t.equal(stdout.trim().split('\n').length, 6);
});

t.test('mistakes end with 1 and say what to do', async (t) => {
  await t.rejects(cli('bogus'), { code: 1, stderr: /unknown command 'bogus'/ });
  await t.rejects(run(process.execPath, [projectPath('dist/deploy/cli.js'), 'control-plane'], { env: {} }), {
    code: 1,
    stderr: /TS_DATABASE_URL is required[\s\S]*TS_JWT_SECRET is required/,
  });
  await t.rejects(
    run(process.execPath, [projectPath('dist/deploy/cli.js'), 'gateway'], {
      env: { NODE_ENV: 'production', TS_DEV_ALLOW: '127.0.0.1:80', TS_DEV_LOOPBACK_COUNTRY: 'US' },
    }),
    { code: 1, stderr: /TS_DEV_ALLOW is refused in production\n +TS_DEV_LOOPBACK_COUNTRY is refused/ },
  );
});
