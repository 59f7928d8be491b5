// `npm start`: builds when sources have changed, then runs the standalone system.
import { buildIfNeeded } from '../build.mjs';

await buildIfNeeded();
const { runStandalone } = await import('../../dist/deploy/standalone/standalone.js');
await runStandalone();
