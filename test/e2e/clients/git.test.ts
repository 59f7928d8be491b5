/** git over HTTP and HTTPS: clone and push through the proxy, with a push larger than git sends in one piece. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type Destination, startHttpDestination, startHttpsDestination } from '../../helpers/destination.js';
import { hasProgram, runProgram } from '../../helpers/programs.js';
import { testCertificate } from '../../helpers/test-certificate.js';
import { gitHttpBackend } from './git-server.js';
import { startClientSystem } from './system.js';

t.test('clone, push, and clone what was pushed', async (t) => {
  if (!(await hasProgram(t, 'git'))) return;
  const folder = await mkdtemp(join(tmpdir(), 'ts-git-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const repositories = join(folder, 'repositories');
  const ca = join(folder, 'ca.pem');
  await writeFile(ca, testCertificate.cert);
  const git = async (args: string[], cwd = folder) => {
    const { code, err } = await runProgram('git', args, {
      cwd,
      env: {
        HOME: folder,
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_TERMINAL_PROMPT: '0',
        GIT_SSL_CAINFO: ca,
        GIT_AUTHOR_NAME: 'a',
        GIT_AUTHOR_EMAIL: 'a@example.org',
        GIT_COMMITTER_NAME: 'a',
        GIT_COMMITTER_EMAIL: 'a@example.org',
      },
    });
    if (code !== 0) throw new Error(`git ${args.join(' ')}: ${err.slice(-2_000)}`);
  };

  await git(['init', '-q', '--bare', '-b', 'main', join(repositories, 'project.git')]);
  await git(['config', 'http.receivepack', 'true'], join(repositories, 'project.git'));
  const first = join(folder, 'first');
  await git(['init', '-q', '-b', 'main', first]);
  await writeFile(join(first, 'large'), randomBytes(1_500_000));
  await git(['add', '.'], first);
  await git(['commit', '-q', '-m', 'first'], first);
  await git(['push', '-q', join(repositories, 'project.git'), 'main'], first);

  let http: Destination | undefined;
  let https: Destination | undefined;
  const system = await startClientSystem(t, async () => {
    http = await startHttpDestination(gitHttpBackend(repositories));
    https = await startHttpsDestination(gitHttpBackend(repositories));
    return [http, https];
  });
  const ways = [
    ['http', `http://127.0.0.1:${http?.port}`],
    ['http', `https://127.0.0.1:${https?.port}`],
    ['socks5h', `http://localhost:${http?.port}`],
    ['socks5h', `https://localhost:${https?.port}`],
  ] as const;
  for (const [scheme, origin] of ways) {
    const name = `${scheme} to ${origin.replace(/:\d+$/, '')}`;
    const url = `${origin}/project.git`;
    const proxied = ['-c', `http.proxy=${system.proxy.url(scheme)}`];
    const work = await mkdtemp(join(folder, 'work-'));
    await system.counted(t, name, async () => {
      await git([...proxied, 'clone', '-q', url, join(work, 'clone')]);
      t.ok(
        (await readFile(join(work, 'clone', 'large'))).length === 1_500_000,
        `${name}: the clone has what was there`,
      );
      // Above http.postBuffer (1 MiB) git sends the pack in chunks.
      const pushed = randomBytes(2_500_000);
      await writeFile(join(work, 'clone', 'pushed'), pushed);
      await git(['add', '.'], join(work, 'clone'));
      await git(['commit', '-q', '-m', name], join(work, 'clone'));
      await git([...proxied, 'push', '-q', 'origin', 'main'], join(work, 'clone'));
      await git(['clone', '-q', join(repositories, 'project.git'), join(work, 'again')]);
      t.ok(pushed.equals(await readFile(join(work, 'again', 'pushed'))), `${name}: the push arrived whole`);
    });
  }
  await system.usageIsExact(t);
});
