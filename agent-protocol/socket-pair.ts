import { type AddressInfo, createServer, type Server } from 'node:net';
import { listen } from './raw-server.js';
import { adoptSocket, dialSocket, type RawSocket } from './raw-socket.js';

/** Two ends of one connection on this machine, both paused. */
export type SocketPair = readonly [RawSocket, RawSocket];

/** Time for an accepted end to be asked for, ms; then it is not ours. */
const STRANGER_MS = 1_000;
const BACKLOG = 4_096;

/**
 * Makes connected pairs of TCP sockets: what a process can not pass on as it is (TLS, one request of several on a
 * connection) it can pass on as an end of such a pair. TCP, since Unix sockets know no RST: what was cut would look
 * whole. Others on this machine may dial the port; they are told from our own by the port they dial from, and closed.
 */
export class SocketPairs {
  #server: Promise<{ server: Server; port: number }> | null = null;
  /** Accepted ends by the port they were dialled from, until they are asked for. */
  readonly #accepted = new Map<number, { end: RawSocket; timer: NodeJS.Timeout }>();
  /** Who waits for an accepted end, by the port it was dialled from. */
  readonly #waiting = new Map<number, (end: RawSocket) => void>();

  /** Rejects when the operating system gives no sockets. */
  async make(): Promise<SocketPair> {
    this.#server ??= this.#listen();
    const { port } = await this.#server.catch((error: unknown) => {
      this.#server = null;
      throw error;
    });
    const dialled = dialSocket({ host: '127.0.0.1', port });
    const { socket } = dialled;
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('connect', () => {
        const from = (socket.address() as AddressInfo).port;
        const pair = (end: RawSocket) => {
          socket.removeListener('error', reject);
          resolve([dialled, end]);
        };
        const accepted = this.#accepted.get(from);
        if (accepted) {
          clearTimeout(accepted.timer);
          this.#accepted.delete(from);
          pair(accepted.end);
        } else this.#waiting.set(from, pair);
        socket.once('close', () => {
          this.#waiting.delete(from);
          reject(new Error('the pair was closed before it was made'));
        });
      });
    });
  }

  /** Makes no more; pairs that were made stay. */
  close(): void {
    void this.#server?.then(({ server }) => server.close());
  }

  async #listen(): Promise<{ server: Server; port: number }> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.on('connection', (socket) => {
      const from = socket.remotePort;
      const end = adoptSocket(socket);
      if (from === undefined) return end.destroy();
      const pair = this.#waiting.get(from);
      this.#waiting.delete(from);
      if (pair) return pair(end);
      const timer = setTimeout(() => {
        this.#accepted.delete(from);
        end.destroy();
      }, STRANGER_MS);
      this.#accepted.set(from, { end, timer });
    });
    const { port } = await listen(server, { host: '127.0.0.1', port: 0, backlog: BACKLOG });
    server.unref();
    return { server, port };
  }
}
