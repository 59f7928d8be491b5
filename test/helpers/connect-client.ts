import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { basic } from './raw-http.js';

/** What an HTTP proxy said to CONNECT; `status` null: it closed before a whole answer. */
export interface ConnectAnswer {
  socket: Socket;
  status: number | null;
  /** The reason phrase, which is the error code of a refusal. */
  reason: string;
  /** Of the tunnel, what came with the answer's head. */
  early: Buffer;
}

const HEAD_BYTES_MAX = 16_384;

/** Asks an HTTP proxy for a connection, byte by byte, for tests: the socket has been read up to `early`, and is paused. */
export async function httpConnect(options: {
  proxyPort: number;
  username: string;
  password: string;
  host: string;
  port: number;
  /** Told of the socket at once, for who may want to give up before there is an answer. */
  onSocket?: (socket: Socket) => void;
}): Promise<ConnectAnswer> {
  const { proxyPort, username, password, host, port } = options;
  const socket = connect({ port: proxyPort, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  socket.on('error', () => {});
  options.onSocket?.(socket);
  await once(socket, 'connect');
  socket.write(
    `CONNECT ${host}:${port} HTTP/1.1\r\nHost: ${host}:${port}\r\nProxy-Authorization: ${basic(username, password)}\r\n\r\n`,
  );
  let head = Buffer.alloc(0);
  for (;;) {
    const piece = socket.read() as Buffer | null;
    if (piece !== null) {
      head = Buffer.concat([head, piece]);
      const end = head.indexOf('\r\n\r\n');
      if (end >= 0) {
        const [, status = '', reason = ''] =
          /^HTTP\/1\.1 (\d{3}) ([^\r]*)/.exec(head.toString('latin1', 0, end)) ?? [];
        return { socket, status: Number(status), reason, early: head.subarray(end + 4) };
      }
      if (head.length <= HEAD_BYTES_MAX) continue;
    }
    if (socket.readableEnded || socket.destroyed || head.length > HEAD_BYTES_MAX)
      return { socket, status: null, reason: 'closed', early: head };
    await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]).catch(
      () => {},
    );
  }
}
