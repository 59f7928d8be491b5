import { once } from 'node:events';
import { createServer } from 'node:net';

/** Ports below those that systems give to outgoing connections (32768 and up on Linux, 49152 elsewhere). */
const PORTS_FROM = 12_000;
const PORTS_TO = 30_000;

/** What this process was given already: asked for several before the first is bound, it gets different ones. */
const given = new Set<number>();

/**
 * A TCP port of 127.0.0.1 that was free a moment ago: for servers that can not bind port 0 themselves, or that are to
 * get the same port again after they were killed. Drawn at random where no outgoing connection takes it in between and
 * programs side by side do not choose the same one; never twice for one process.
 */
export async function freePort(): Promise<number> {
  if (given.size > (PORTS_TO - PORTS_FROM) / 2) given.clear();
  for (;;) {
    const port = PORTS_FROM + Math.floor(Math.random() * (PORTS_TO - PORTS_FROM));
    if (given.has(port)) continue;
    const server = createServer().listen(port, '127.0.0.1');
    const free = await new Promise<boolean>((resolve) => {
      server.once('listening', () => resolve(true));
      server.once('error', () => resolve(false));
    });
    if (!free) continue;
    given.add(port);
    server.close();
    await once(server, 'close');
    return port;
  }
}
