import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { basic, startServer } from './fake-pipeline.js';

type Test = Parameters<typeof startServer>[0];

/** The test account's login as a header line. */
export const LOGIN = `Proxy-Authorization: ${basic()}\r\n`;

/** A request for the proxy; `more`: header lines, the login among them. */
export const get = (port: number, path: string, more = LOGIN) =>
  `GET http://a.test:${port}${path} HTTP/1.1\r\nHost: a.test:${port}\r\n${more}\r\n`;

/** An origin made by hand: `answer` sees all bytes of a connection so far, each time some arrive. */
export async function startRawOrigin(t: Test, answer: (socket: Socket, received: string) => void) {
  const connections: string[] = [];
  const port = await startServer(t, createServer({ allowHalfOpen: true }), (socket) => {
    const index = connections.push('') - 1;
    socket.on('data', (chunk) => {
      connections[index] += chunk.toString('latin1');
      answer(socket, connections[index] as string);
    });
    socket.on('end', () => socket.end());
  });
  return { port, connections };
}

/** An origin on node:http. */
export const startOrigin = (t: Test, onRequest: (req: IncomingMessage, res: ServerResponse) => void) =>
  startServer(t, createHttpServer({ keepAliveTimeout: 0 }, onRequest));
