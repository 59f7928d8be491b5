import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/**
 * `pass`: bytes go through. `stall`: nothing moves and nothing closes, as in a partition: packets are lost, and
 * neither side is told. `cut`: connections are reset and new ones are, too, as when a server is down.
 */
export type LinkMode = 'pass' | 'stall' | 'cut';

/** Sees what a client sends, before it goes on (false: it does not) and right after it was handed to the system. */
export interface Tap {
  before(chunk: Buffer, connection: number): boolean;
  after(chunk: Buffer, connection: number): void;
}

/** A TCP link on loopback between two parts of the system, which faults can disturb. */
export class Link {
  readonly #server: Server;
  readonly #pairs = new Map<number, { client: Socket; upstream: Socket }>();
  #mode: LinkMode = 'pass';
  #lastConnection = 0;
  /** null: nobody listens in. */
  tap: Tap | null = null;

  private constructor(
    server: Server,
    private readonly targetPort: number,
  ) {
    this.#server = server;
    server.on('connection', (client: Socket) => this.#accept(client));
  }

  static async to(targetPort: number): Promise<Link> {
    const server = createServer({ pauseOnConnect: true });
    const link = new Link(server, targetPort);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get mode(): LinkMode {
    return this.#mode;
  }

  set mode(mode: LinkMode) {
    this.#mode = mode;
    for (const { client, upstream } of this.#pairs.values()) {
      if (mode === 'cut') {
        client.resetAndDestroy();
        upstream.resetAndDestroy();
      } else for (const socket of [client, upstream]) mode === 'stall' ? socket.pause() : socket.resume();
    }
  }

  async close(): Promise<void> {
    this.mode = 'cut';
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    if (this.#mode === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const id = ++this.#lastConnection;
    client.setNoDelay();
    const upstream = connect({ port: this.targetPort, host: '127.0.0.1', noDelay: true });
    upstream.on('error', () => {});
    this.#pairs.set(id, { client, upstream });
    const over = () => {
      this.#pairs.delete(id);
      client.destroy();
      upstream.destroy();
    };
    client.on('close', over);
    upstream.on('close', over);
    client.on('data', (chunk: Buffer) => {
      const goesOn = this.tap?.before(chunk, id) ?? true;
      if (goesOn && !upstream.destroyed) upstream.write(chunk);
      this.tap?.after(chunk, id);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (!client.destroyed) client.write(chunk);
    });
    client.on('end', () => upstream.end());
    upstream.on('end', () => client.end());
    if (this.#mode === 'pass') client.resume();
    else upstream.pause();
  }
}
