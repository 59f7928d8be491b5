import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { adoptSocket, type RawSocket } from '../../agent-protocol/raw-socket.js';
import { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import { httpRefusalBytes, type ProxyFailure } from '../errors.js';
import type { Log } from '../runtime/logging.js';
import { ClientConnection } from './client-connection.js';
import type { ProxyPipeline } from './connect-pipeline.js';
import { newRequestId } from './credentials.js';
import { EchoServer } from './echo.js';
import { serveConnect } from './http-connect.js';
import { HttpForwarder, type HttpForwarderSettings } from './http-forward.js';
import { type HttpHeadOutcome, HttpHeadParser } from './http-head.js';
import type { ListenerContext } from './open-destination.js';
import { refuseSocks4, serveSocks5 } from './socks5.js';
import type { UdpListening } from './udp-associate.js';

/** Limits of the port. Of a tunnel's early payload no more than about `headBytesMax` is read ahead. */
export interface ProxyListenerSettings extends HttpForwarderSettings {
  /** Client connections at once; above it new ones are closed unread. */
  connectionsMax: number;
  /** Time a client has to state its request, login included, ms; then it is closed without an answer. */
  handshakeTimeoutMs: number;
}

export const proxyListenerDefaults: ProxyListenerSettings = {
  connectionsMax: 50_000,
  handshakeTimeoutMs: 10_000,
  headBytesMax: 16_384,
  lingerTimeoutMs: 2_000,
  keepAliveTimeoutMs: 60_000,
  pipelinedMax: 16,
  idleStreamsMax: 4,
  originHeadBytesMax: 65_536,
};

const FIRST_BYTE_SOCKS4 = 0x04;
const FIRST_BYTE_SOCKS5 = 0x05;
/** The record type of a TLS handshake, RFC 8446 section 5.1. */
const FIRST_BYTE_TLS = 0x16;

/** The buyers' port: SOCKS5 and HTTP on one, told apart by the first byte. Knows nothing of devices. */
export class ProxyListener {
  readonly #settings: ProxyListenerSettings;
  readonly #log: Log;
  readonly #context: ListenerContext;
  readonly #forwarder: HttpForwarder;
  readonly #server: Server;
  readonly #connections = new Set<RawSocket>();
  #draining = false;
  #droppedTotal = 0;
  #onEmpty: (() => void) | null = null;

  /** `udp` left out: no UDP ASSOCIATE. */
  constructor(deps: {
    pipeline: ProxyPipeline;
    settings: ProxyListenerSettings;
    log: Log;
    udp?: UdpListening;
  }) {
    this.#settings = deps.settings;
    this.#log = deps.log;
    const pipeline = this.#guard(deps.pipeline);
    const echo = new EchoServer(pipeline);
    this.#context = {
      pipeline,
      log: deps.log,
      udp: deps.udp ?? null,
      refused: (client, failure, requestId) => this.#noteRefusal(client.clientAddress, failure, requestId),
      serveEcho: (client, auth) => {
        const { socket, head } = client.release();
        echo.serve(asStream(socket, head), auth, this.#settings.keepAliveTimeoutMs);
      },
    };
    this.#forwarder = new HttpForwarder(this.#context, deps.settings, (socket, clientAddress, unread) => {
      const client = new ClientConnection(socket, clientAddress, this.#clientSettings(), unread);
      this.#settle(client, this.#serveHttp(client));
    });
    this.#server = createServer({
      allowHalfOpen: true,
      pauseOnConnect: true,
      // A client that vanished without a word is noticed within minutes, and its stream is freed.
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    });
    this.#server.on('connection', (socket) => this.#accept(socket));
  }

  /** Client connections open now, relayed ones included. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Connections closed unread since the start because `connectionsMax` were open. */
  get droppedTotal(): number {
    return this.#droppedTotal;
  }

  /** Starts accepting; resolves with the address, rejects when it can not be had. Port 0: any free one. */
  listen(options: { host: string; port: number }): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ ...options, backlog: 4096 }, () => {
        this.#server.removeListener('error', reject);
        this.#server.on('error', (error) => this.#log.error({ err: error }, 'proxy port failed'));
        resolve(this.#server.address() as AddressInfo);
      });
    });
  }

  /**
   * Accepts no more; requests on open connections get DRAINING; what is relayed may finish within `graceMs`, then it
   * is dropped. Resolves when the last connection is gone.
   */
  async close(graceMs: number): Promise<void> {
    this.#draining = true;
    if (this.#server.listening) this.#server.close();
    this.#forwarder.drain();
    if (this.#connections.size === 0) return;
    const timer = setTimeout(() => {
      for (const socket of this.#connections) socket.reset();
    }, graceMs);
    await new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    clearTimeout(timer);
  }

  #accept(accepted: Socket): void {
    const address = accepted.remoteAddress;
    if (this.#connections.size >= this.#settings.connectionsMax || address === undefined) {
      if (address !== undefined) this.#droppedTotal += 1;
      accepted.destroy();
      return;
    }
    const socket = adoptSocket(accepted);
    this.#connections.add(socket);
    socket.socket.once('close', () => {
      this.#connections.delete(socket);
      if (this.#connections.size === 0) this.#onEmpty?.();
    });
    const clientAddress = address.startsWith('::ffff:') ? address.slice(7) : address;
    const client = new ClientConnection(socket, clientAddress, this.#clientSettings());
    this.#settle(client, this.#serve(client));
  }

  /** A broken invariant costs one connection, not the gateway. */
  #settle(client: ClientConnection, serving: Promise<void>): void {
    serving.catch((error: unknown) => {
      this.#log.error({ err: error, clientAddress: client.clientAddress }, 'proxy connection failed');
      client.destroy();
    });
  }

  async #serve(client: ClientConnection): Promise<void> {
    const firstByte = await client.read((unread) => ({ value: unread[0], bytes: 0 }));
    if (firstByte === null) return;
    if (firstByte === FIRST_BYTE_SOCKS5) return serveSocks5(client, this.#context);
    if (firstByte === FIRST_BYTE_SOCKS4) return refuseSocks4(client);
    // A certificate for this port is not configurable yet; with one, the handshake goes here and #serve is run again
    // on what is inside.
    if (firstByte === FIRST_BYTE_TLS) return client.destroy();
    return this.#serveHttp(client);
  }

  async #serveHttp(client: ClientConnection): Promise<void> {
    for (;;) {
      client.startDeadline();
      const parser = new HttpHeadParser(this.#settings.headBytesMax);
      const outcome = await client.read<HttpHeadOutcome>((unread) => {
        const parsed = parser.parse(unread);
        if (!parsed) return null;
        // The head of a plain request stays unread: node:http reads it again.
        return { value: parsed, bytes: parsed.ok && parsed.head.method === 'CONNECT' ? parsed.bytes : 0 };
      });
      if (outcome === null) return;
      if (!outcome.ok) {
        const requestId = newRequestId();
        this.#noteRefusal(client.clientAddress, outcome, requestId);
        return client.refuse(httpRefusalBytes(outcome, requestId));
      }
      if (outcome.head.method !== 'CONNECT') {
        const { socket, head } = client.release();
        return this.#forwarder.serve(asStream(socket, head), client.clientAddress);
      }
      const goesOn = await serveConnect(client, outcome.head, this.#context);
      if (!goesOn) return;
    }
  }

  #clientSettings() {
    const { handshakeTimeoutMs, headBytesMax, lingerTimeoutMs } = this.#settings;
    return { handshakeTimeoutMs, lingerTimeoutMs, unreadBytesMax: headBytesMax };
  }

  /** While draining nobody gets in; a stage that throws is INTERNAL to the client and an error in the log. */
  #guard(pipeline: ProxyPipeline): ProxyPipeline {
    const failed = (error: unknown): ProxyFailure => {
      this.#log.error({ err: error }, 'proxy pipeline failed');
      return { ok: false, code: 'INTERNAL' };
    };
    const guarded: ProxyPipeline = {
      authenticate: async (credentials) => {
        if (this.#draining) return { ok: false, code: 'DRAINING' };
        return pipeline.authenticate(credentials).catch(failed);
      },
      connect: (auth, destination) => pipeline.connect(auth, destination).catch(failed),
    };
    const { associate } = pipeline;
    if (associate) guarded.associate = (auth) => associate.call(pipeline, auth).catch(failed);
    if (pipeline.echo) guarded.echo = pipeline.echo.bind(pipeline);
    return guarded;
  }

  #noteRefusal(clientAddress: string, failure: ProxyFailure, requestId?: string): void {
    const { code, detail } = failure;
    this.#log.debug({ clientAddress, refusal: code, detail, requestId }, 'proxy request refused');
  }
}

/** The socket as a stream that begins with `head`. */
function asStream(socket: RawSocket, head: Buffer): SocketDuplex {
  const stream = new SocketDuplex(socket);
  if (head.length > 0) stream.unshift(head);
  return stream;
}
