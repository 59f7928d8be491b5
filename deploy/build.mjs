// Compiles the sources to dist/, and the console's pages, each when they are newer than their last build.
// `node deploy/build.mjs` is `npm run build`.
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const web = 'control-plane/console/web';

/** What `dist/` is made of, relative to the project's root. */
export const sources = [
  'gateway',
  'control-plane',
  'agent-protocol',
  'deploy',
  'tsconfig.json',
  'tsconfig.build.json',
  'package-lock.json',
];

/** What the console's pages are made of; of the client only its code, the rest is types. */
const consoleSources = [
  web,
  'control-plane/client/client.ts',
  'deploy/build-console.mjs',
  'deploy/world-map.mjs',
  'package-lock.json',
];

/** Of the folders in `sources` and `test`, what is built otherwise, or is no source. */
const apart = [join(root, web), join(root, 'test/output')];

/** When `path`, or what is in it, was changed last. */
function newestMs(path, skipped = apart) {
  if (skipped.includes(path)) return 0;
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newestMs(join(path, name), skipped)));
}

/**
 * Runs `build` when one of `paths` (relative to the project's root; the console's pages only when they are named) is
 * newer than the file `stampPath`, which is then set to the time at which the build began.
 */
export async function buildIfNewer(stampPath, paths, what, build) {
  const stamp = join(root, stampPath);
  const begunMs = Date.now();
  const newest = Math.max(
    ...paths.map((path) => newestMs(join(root, path), paths.includes(web) ? [] : apart)),
  );
  if (existsSync(stamp) && newest <= statSync(stamp).mtimeMs) return;
  process.stderr.write(`building ${what} (once after each change) …\n`);
  await build();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, '');
  utimesSync(stamp, begunMs / 1000, begunMs / 1000); // what was edited meanwhile is newer
}

/** Runs the TypeScript compiler on a project file of the root; throws when it finds errors, which it has printed. */
export function compile(project) {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', join(root, project)], { stdio: 'inherit', cwd: root });
}

/** Runs what a command builds; ends the process with 1 when that fails. */
export async function runBuild(build) {
  try {
    await build();
  } catch (error) {
    // The compiler has said why by itself.
    if (error.status === undefined) process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

/** Rejects when the compiler, or the console's bundler, finds errors. */
export async function buildIfNeeded() {
  await buildIfNewer('dist/.built', sources, 'the programs', async () => {
    await compile('tsconfig.build.json');
    chmodSync(join(root, 'dist/deploy/cli.js'), 0o755); // what npx runs
  });
  await buildIfNewer('dist/.console-built', consoleSources, 'the console', async () => {
    const { buildConsole } = await import('./build-console.mjs');
    const before = process.env.NODE_ENV;
    await buildConsole();
    // The bundler leaves `production` behind, which the standalone system refuses to start with.
    if (before === undefined) delete process.env.NODE_ENV;
    else process.env.NODE_ENV = before;
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runBuild(buildIfNeeded);
