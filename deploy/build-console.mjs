// Builds the web console's pages with Vite into dist/control-plane/console/public, compressed copies beside them.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { worldMapPlugin } from './world-map.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
export const consolePublicDir = join(root, 'dist/control-plane/console/public');

/** Smaller files gain nothing from it. */
const COMPRESS_BYTES_MIN = 512;

/** Rejects when the sources do not build. */
export async function buildConsole() {
  const { build } = await import('vite');
  await build({
    configFile: false,
    envDir: false,
    logLevel: 'warn',
    root: join(root, 'control-plane/console/web'),
    cacheDir: join(root, 'node_modules/.vite-console'),
    plugins: [worldMapPlugin()],
    build: {
      outDir: consolePublicDir,
      emptyOutDir: true,
      target: 'es2022',
      assetsInlineLimit: 0, // data: addresses are not in the policy
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
      manifest: 'manifest.json',
    },
  });
  for (const name of readdirSync(consolePublicDir, { recursive: true, encoding: 'utf8' })) {
    if (!/\.(js|css|html|svg|json)$/.test(name)) continue;
    const path = join(consolePublicDir, name);
    const bytes = readFileSync(path);
    if (bytes.length < COMPRESS_BYTES_MIN) continue;
    writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
    writeFileSync(
      `${path}.br`,
      brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }),
    );
  }
}
