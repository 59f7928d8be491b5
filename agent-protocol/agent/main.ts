import { pathToFileURL } from 'node:url';
import { runAgentCli } from './cli.js';

// The agent as a process of its own: `node agent/main.js --help`. Ready at once: whether it has a tunnel shows elsewhere.
if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.send?.({ ready: true });
  process.exit(await runAgentCli(process.argv.slice(2)));
}
