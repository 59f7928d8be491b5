import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** What a SOCKS5 proxy said: `auth` is the RFC 1929 status, `reply` the RFC 1928 reply; null: not reached. */
export interface SocksAnswer {
  socket: Socket;
  auth: number | null;
  reply: number | null;
}

/**
 * Asks a SOCKS5 proxy for a connection. Written from the RFCs for tests, byte by byte: it hands over a socket that
 * has read nothing past the reply. `allowHalfOpen`, so tests can close one direction.
 */
export async function socksConnect(options: {
  proxyPort: number;
  username: string;
  password: string;
  /** A name; or the 4 or 16 bytes of an address. */
  host: string | readonly number[];
  port: number;
  /** Inside TLS, whoever the proxy is. */
  tls?: boolean;
  /** Told of the socket at once, for who may want to give up before there is an answer. */
  onSocket?: (socket: Socket) => void;
}): Promise<SocksAnswer> {
  const at = { port: options.proxyPort, host: '127.0.0.1', allowHalfOpen: true, noDelay: true };
  const socket = options.tls ? connectTls({ ...at, rejectUnauthorized: false }) : connect(at);
  socket.on('error', () => {});
  options.onSocket?.(socket);
  await once(socket, options.tls ? 'secureConnect' : 'connect');
  socket.write(Buffer.from([5, 1, 2]));
  const method = await take(socket, 2);
  if (method === null || method[1] !== 2) return { socket, auth: null, reply: null };
  const user = Buffer.from(options.username);
  const pass = Buffer.from(options.password);
  socket.write(Buffer.concat([Buffer.from([1, user.length]), user, Buffer.from([pass.length]), pass]));
  const auth = await take(socket, 2);
  if (auth === null || auth[1] !== 0) return { socket, auth: auth?.[1] ?? null, reply: null };
  const { host } = options;
  const address = Buffer.from(host as string); // of bytes it makes the same
  const addressType = typeof host === 'string' ? [3, address.length] : [address.length === 4 ? 1 : 4];
  const port = Buffer.from([options.port >> 8, options.port & 255]);
  socket.write(Buffer.concat([Buffer.from([5, 1, 0, ...addressType]), address, port]));
  const head = await take(socket, 4);
  if (head === null) return { socket, auth: 0, reply: null };
  await take(socket, (head[3] === 4 ? 16 : 4) + 2);
  return { socket, auth: 0, reply: head[1] ?? null };
}

/** Reads exactly n bytes; null when the peer closed before. */
async function take(socket: Socket, n: number): Promise<Buffer | null> {
  for (;;) {
    const bytes = socket.read(n) as Buffer | null;
    if (bytes !== null) return bytes.length === n ? bytes : null;
    if (socket.readableEnded || socket.destroyed) return null;
    await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]).catch(
      () => {},
    );
  }
}

/** Sends to an echo, half-closes, and reads what comes to its end: whether that is what was sent. */
export async function echoedWhole(socket: Socket, sent: Buffer): Promise<boolean> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => {});
  socket.resume();
  socket.end(sent);
  await closed;
  return Buffer.concat(chunks).equals(sent);
}
