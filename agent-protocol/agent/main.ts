import { runAgentCli } from './cli.js';

// The agent as a process of its own: `node agent/main.js --help`. Ready at once; a parent learns of the tunnel elsewhere.
process.send?.({ ready: true });
process.exit(await runAgentCli(process.argv.slice(2), process.env));
