/** Libraries for Node through the whole system: right content, every byte counted. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { WebSocketServer } from 'ws';
import { type Destination, startHttpDestination, startHttpsDestination } from '../../helpers/destination.js';
import { agentFor, echoByWebSocket, LIBRARIES } from './libraries.js';
import { type ClientSystem, startClientSystem } from './system.js';

let system: ClientSystem;
let ws: Destination;
let wss: Destination;

t.before(async () => {
  const echo = new WebSocketServer({ noServer: true });
  echo.on('connection', (socket) =>
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })),
  );
  const upgrade: Parameters<typeof startHttpDestination>[1] = (request, socket, head) =>
    echo.handleUpgrade(request, socket, head, (one) => echo.emit('connection', one, request));
  system = await startClientSystem(t, async () => {
    ws = await startHttpDestination((_request, response) => response.end(), upgrade);
    wss = await startHttpsDestination((_request, response) => response.end(), upgrade);
    return [ws, wss];
  });
});

t.test('pages', async (t) => {
  for (const { client, kind, page, fetch } of LIBRARIES) {
    const name = `${client}, ${kind}, ${page}`;
    await system.counted(t, name, async () => {
      const got = await fetch(system[page], system.proxy).catch((error: Error) => error.message);
      t.equal(got, system[page].sha256, `${name}: content`);
    });
  }
});

t.test('WebSockets, plain and in TLS', async (t) => {
  const messages = [Buffer.from('hello'), randomBytes(70_000), randomBytes(1_000_000)];
  for (const kind of ['connect', 'socks5', 'socks5h'] as const)
    for (const url of [`ws://localhost:${ws.port}/`, `wss://localhost:${wss.port}/`]) {
      const name = `ws, ${kind}, ${url.replace(/:\d+\//, '')}`;
      await system.counted(t, name, async () => {
        const got = await echoByWebSocket(url, agentFor(kind, system.proxy), messages);
        t.ok(
          messages.every((message, n) => message.equals(got[n] as Buffer)),
          `${name}: content`,
        );
      });
    }
});

t.test('usage, in all', async (t) => {
  await system.usageIsExact(t);
});
