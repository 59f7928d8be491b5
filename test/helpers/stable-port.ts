import { once } from 'node:events';
import { createServer } from 'node:net';

/** Ports below those that systems give to outgoing connections (32768 and up on Linux). */
const PORTS_FROM = 12_000;
const PORTS_TO = 30_000;

/**
 * A free port that stays free while its server is down: a killed program must get it again. Random, so that systems
 * side by side do not choose the same one.
 */
export async function stablePort(): Promise<number> {
  for (;;) {
    const port = PORTS_FROM + Math.floor(Math.random() * (PORTS_TO - PORTS_FROM));
    const server = createServer().listen(port, '127.0.0.1');
    const free = await new Promise<boolean>((resolve) => {
      server.once('listening', () => resolve(true));
      server.once('error', () => resolve(false));
    });
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
