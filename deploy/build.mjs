// Compiles the sources to dist/ when they are newer than the last build. `node deploy/build.mjs` is `npm run build`.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const stamp = join(root, 'dist', '.built');
const sources = [
  'gateway',
  'control-plane',
  'agent-protocol',
  'deploy',
  'tsconfig.json',
  'tsconfig.build.json',
  'package-lock.json',
];

function newestMs(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newestMs(join(path, name))));
}

/** Throws when the compiler finds errors. */
export function buildIfNeeded() {
  const begunMs = Date.now();
  const builtMs = existsSync(stamp) ? Number(statSync(stamp).mtimeMs) : 0;
  if (sources.every((name) => newestMs(join(root, name)) <= builtMs)) return;
  process.stderr.write('building (once after each change) …\n');
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], {
    stdio: 'inherit',
    cwd: root,
  });
  writeFileSync(stamp, `${new Date(begunMs).toISOString()}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    buildIfNeeded();
  } catch {
    process.exit(1); // the compiler has said why
  }
}
