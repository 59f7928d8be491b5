// `npm start`: builds when sources are newer than the last build, then runs the standalone system.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const stamp = join(root, 'dist', '.built');

function newestMs(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newestMs(join(path, name))));
}

const sources = ['gateway', 'control-plane', 'agent-protocol', 'deploy', 'tsconfig.json', 'package.json'];
const built = existsSync(stamp) ? statSync(stamp).mtimeMs : 0;
if (sources.some((name) => newestMs(join(root, name)) > built)) {
  process.stderr.write('building (once after each change) …\n');
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], {
    stdio: 'inherit',
    cwd: root,
  });
  if (existsSync(stamp)) utimesSync(stamp, new Date(), new Date());
  else writeFileSync(stamp, '');
}
const { runStandalone } = await import('../../dist/deploy/standalone/standalone.js');
await runStandalone();
