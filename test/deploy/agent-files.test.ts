/** What the agent is installed with: the systemd unit, the container image. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { EXIT_CODES } from '../../agent-protocol/agent/exit-codes.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { hasProgram } from '../helpers/programs.js';

const unitPath = projectPath('deploy/systemd/traffic-share-agent.service');

t.test('the unit: sound for systemd, and not started again when only its owner can help', async (t) => {
  const unit = await readFile(unitPath, 'utf8');
  const prevented = /^RestartPreventExitStatus=(.*)$/m.exec(unit)?.[1]?.split(' ').map(Number);
  const { owner, replaced, already_running, not_signed_in, client_too_old, banned, device_removed } =
    EXIT_CODES;
  t.same(
    prevented,
    [owner, replaced, already_running, not_signed_in, client_too_old, banned, device_removed].map(
      ([code]) => code,
    ),
  );
  if (!(await hasProgram(t, 'systemd-analyze'))) return;
  // It says what is wrong and succeeds all the same
  const runtime = await mkdtemp(join(tmpdir(), 'ts-xdg-'));
  t.teardown(() => rm(runtime, { recursive: true, force: true }));
  const { stdout, stderr } = await promisify(execFile)('systemd-analyze', ['--user', 'verify', unitPath], {
    env: { PATH: process.env.PATH, HOME: runtime, XDG_RUNTIME_DIR: runtime },
  });
  t.equal(stdout + stderr, '');
});

t.test('the image: without rights, its root read-only, nothing but its state written', async (t) => {
  const file = await readFile(projectPath('deploy/container/agent.Dockerfile'), 'utf8');
  const last = file.slice(file.lastIndexOf('\nFROM '));
  t.match(last, /\nUSER node\n/);
  t.match(last, /TS_STATE_DIR=\/state TS_PAGE_PORT=off/);
  t.match(last, /\nENTRYPOINT \["node", "\/app\/agent-protocol\/agent\/main\.js"\]/);
  const compose = await readFile(projectPath('deploy/container/agent.compose.yml'), 'utf8');
  t.match(compose, /\n {4}read_only: true\n/);
  t.match(compose, /\n {4}cap_drop: \[ALL\]\n/);
});
