import type { AddressInfo, Server } from 'node:net';
import { type Accepted, createRawServer, listen } from '../../agent-protocol/raw-server.js';
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import type { Log } from '../runtime/logging.js';
import { WaitingRoom } from './waiting-room.js';

export interface ListeningPortOptions {
  host: string;
  /** 0: any free one. */
  port: number;
  /** As for `listen` of raw-server.ts. It is shared with others: whom this process can not serve, they may. */
  bound?: SocketHandle | undefined;
  /** As for WaitingRoom, at which the port is closed for a while; 0: they are served as they come. */
  waitMsMax: number;
  onAccepted: (accepted: Accepted) => void;
  /** The port was closed, as too many waited. */
  onFull: () => void;
  log: Log;
}

/** A client that vanished without a word is noticed within minutes, and its stream is freed. */
const KEEP_ALIVE_AFTER_MS = 60_000;
/** Connections that wait to be accepted, and those that wait to be served; the kernel bounds the former as well (somaxconn). */
const BACKLOG = 4_096;
/** Pause before a port that could not be had again is tried again. */
const RETRY_MS = 100;

/** One port of the buyers, open from `open` to `close`. */
export class ListeningPort {
  readonly #options: ListeningPortOptions;
  readonly #room: WaitingRoom | null;
  #server: Server | null = null;
  #address: AddressInfo | null = null;
  #closed = false;
  /** The room wants nobody more at the moment. */
  #shut = false;
  #opening = false;

  constructor(options: ListeningPortOptions) {
    this.#options = options;
    this.#room = options.waitMsMax === 0 || options.bound ? null : this.#openRoom();
  }

  /** Connections that wait to be served. */
  get waitingCount(): number {
    return this.#room?.count ?? 0;
  }

  /** Resolves with the address, rejects when it can not be had. */
  async open(): Promise<AddressInfo> {
    this.#address = await this.#listen(this.#options.port);
    return this.#address;
  }

  /** Accepts no more. */
  close(): void {
    this.#closed = true;
    this.#server?.close();
    this.#room?.empty();
  }

  #openRoom(): WaitingRoom {
    const { waitMsMax, onAccepted: serve, onFull } = this.#options;
    return new WaitingRoom({
      waitMsMax,
      waitingMax: BACKLOG,
      nowMs: () => performance.now(),
      serve,
      closeDoor: () => {
        this.#shut = true;
        if (!this.#opening) this.#server?.close();
        onFull();
      },
      openDoor: () => {
        this.#shut = false;
        void this.#openAgain();
      },
    });
  }

  async #listen(port: number): Promise<AddressInfo> {
    const { host, bound, onAccepted, log } = this.#options;
    const server = createRawServer({
      keepAliveAfterMs: KEEP_ALIVE_AFTER_MS,
      onAccepted: (accepted) => {
        if (this.#room) this.#room.enter(accepted);
        else onAccepted(accepted);
      },
    });
    this.#server = server;
    const address = await listen(server, { host, port, backlog: BACKLOG, bound });
    server.on('error', (error) => log.error({ err: error, port }, 'proxy port failed'));
    return address;
  }

  async #openAgain(): Promise<void> {
    if (this.#closed || this.#shut || this.#opening || this.#server?.listening) return;
    const { port } = this.#address as AddressInfo;
    this.#opening = true;
    try {
      await this.#listen(port);
      // A name takes a while to become an address: enough for the door to be closed again.
      if (this.#closed || this.#shut) this.#server?.close();
    } catch (error) {
      this.#options.log.error({ err: error, port }, 'proxy_port_not_open_again');
      setTimeout(() => void this.#openAgain(), RETRY_MS).unref();
    } finally {
      this.#opening = false;
    }
  }
}
