import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { testCertificate } from './test-certificate.js';

/** A destination that knows exactly how many payload bytes it got and sent, whatever the protocol on top. */
export interface Destination {
  port: number;
  /** Bytes it received: what a buyer's `up` must equal. Exact once every connection is closed. */
  bytesIn: () => number;
  /** Bytes it sent: what a buyer's `down` must equal. */
  bytesOut: () => number;
  connections: Set<Socket>;
  stop: () => Promise<void>;
}

/** A TCP destination on loopback; `onConnection` speaks whatever the test wants. Half-open connections are allowed. */
export async function startTcpDestination(onConnection: (socket: Socket) => void): Promise<Destination> {
  const server = createServer({ allowHalfOpen: true });
  return watch(server, onConnection);
}

/** Takes a connection over that asks for another protocol. */
type OnUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/** An HTTP destination on loopback. */
export async function startHttpDestination(
  listener: RequestListener,
  onUpgrade?: OnUpgrade,
): Promise<Destination> {
  const server = createHttpServer(listener);
  if (onUpgrade) server.on('upgrade', onUpgrade);
  return watch(server, () => {});
}

/** An HTTPS destination on loopback; counts TCP payload, so TLS records. */
export async function startHttpsDestination(
  listener: RequestListener,
  onUpgrade?: OnUpgrade,
): Promise<Destination> {
  const server = createHttpsServer(testCertificate, listener);
  if (onUpgrade) server.on('upgrade', onUpgrade);
  return watch(server, () => {});
}

async function watch(
  server: ReturnType<typeof createServer>,
  onConnection: (socket: Socket) => void,
): Promise<Destination> {
  const connections = new Set<Socket>();
  let bytesIn = 0;
  let bytesOut = 0;
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => {
      connections.delete(socket);
      bytesIn += socket.bytesRead;
      bytesOut += socket.bytesWritten;
    });
    onConnection(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const live = (of: 'bytesRead' | 'bytesWritten') => [...connections].reduce((sum, s) => sum + s[of], 0);
  return {
    port: (server.address() as AddressInfo).port,
    bytesIn: () => bytesIn + live('bytesRead'),
    bytesOut: () => bytesOut + live('bytesWritten'),
    connections,
    stop: async () => {
      for (const socket of connections) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
