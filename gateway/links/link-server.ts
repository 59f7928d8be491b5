import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Open } from '../../agent-protocol/control.js';
import { DialCode, WIRE_VERSIONS } from '../../agent-protocol/frame.js';
import { listen } from '../../agent-protocol/raw-server.js';
import type { MuxSession } from '../../agent-protocol/session.js';
import type { MuxStream, StreamHandler } from '../../agent-protocol/stream.js';
import { refuseUpgrade, upgradeTunnel } from '../../agent-protocol/websocket.js';
import type { Log } from '../runtime/logging.js';
import { BULK_TLS } from '../runtime/tls-certificate.js';
import { type LinkIdentity, vouchesFor } from './identity.js';
import { decodeRequest, type LinkRequest, networkOf } from './messages.js';

export const LINK_PATH = '/link';
/** Who connects; its certificate has to say the same. */
export const LINK_GATEWAY_HEADER = 'traffic-share-gateway';
/** The implementation's name in HELLO. */
export const LINK_AGENT = 'traffic-share-gateway';

/** Time for TLS, and then for the head of the request, ms. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
/** Connections that are not links yet, beside `linksMax`. */
const NEW_CONNECTIONS_MAX = 100;
/** Links of one gateway: a second one while a lost one is not noticed yet. */
const LINKS_OF_ONE_MAX = 4;

export interface LinkServerOptions {
  host: string;
  port: number;
  gatewayId: string;
  linksMax: number;
  streamsMax: number;
  /** Of what gateways ask each other, that this one speaks. */
  versions: readonly number[];
  /** As LinkClientOptions.datagramBytesMax. */
  datagramBytesMax: number;
}

/** Serves a request on its stream, which is open: the answer line, then bytes. */
export type ServeRequest = (request: LinkRequest, stream: MuxStream) => void;

/** The port that other gateways connect to. Who has no certificate of the CA gets no further than the handshake. */
export class LinkServer {
  readonly #server: Server;
  readonly #links = new Map<MuxSession, { readonly gatewayId: string; version: number }>();
  /** Connections refused: in the handshake, or as not being who they say. */
  refused = 0;
  #onEmpty: (() => void) | null = null;

  constructor(
    private readonly options: LinkServerOptions,
    private readonly deps: { identity: LinkIdentity; serve: ServeRequest; log: Log },
  ) {
    const { identity, log } = deps;
    const tls = {
      ca: identity.ca,
      requestCert: true,
      rejectUnauthorized: true,
      ...BULK_TLS,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    } as const;
    const { cert, key } = identity.certificate.current;
    this.#server = createServer({ cert, key, ...tls });
    identity.certificate.onChange(({ cert, key }) => this.#server.setSecureContext({ cert, key, ...tls }));
    this.#server.maxConnections = options.linksMax + NEW_CONNECTIONS_MAX;
    this.#server.headersTimeout = HANDSHAKE_TIMEOUT_MS;
    this.#server.requestTimeout = HANDSHAKE_TIMEOUT_MS;
    this.#server.on('tlsClientError', (error: NodeJS.ErrnoException) => {
      this.refused++;
      log.info({ code: error.code }, 'link_refused');
    });
    this.#server.on('request', (_request, response) => {
      response.writeHead(426, { upgrade: 'websocket', connection: 'close' }).end();
    });
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => {});
      this.#upgrade(request, socket, head);
    });
  }

  /** Links open now. */
  get size(): number {
    return this.#links.size;
  }

  /** Streams served now, and those whose answer is still to come. */
  get streamCount(): number {
    let streams = 0;
    for (const mux of this.#links.keys()) streams += mux.streamCount;
    return streams;
  }

  /** Gateways that have links here. */
  get gatewayIds(): string[] {
    return [...new Set([...this.#links.values()].map(({ gatewayId }) => gatewayId))].sort();
  }

  /** Resolves with the port. */
  async listen(): Promise<number> {
    const { host, port } = this.options;
    return (await listen(this.#server, { host, port, backlog: 512 })).port;
  }

  /** No more links; those that are open stay. */
  stopAccepting(): void {
    this.#server.close();
    this.#server.closeIdleConnections();
  }

  /** Resolves when no stream is left, or after so long. */
  async drained(graceMs: number): Promise<void> {
    if (this.streamCount === 0) return;
    await new Promise<void>((resolve) => {
      const look = setInterval(() => {
        if (this.streamCount === 0) this.#onEmpty?.();
      }, 50);
      const timer = setTimeout(() => this.#onEmpty?.(), graceMs);
      this.#onEmpty = () => {
        clearInterval(look);
        clearTimeout(timer);
        resolve();
      };
    });
  }

  close(): void {
    this.stopAccepting();
    for (const mux of [...this.#links.keys()])
      mux.close({ code: 'shutting_down', reason: 'this gateway stopped' });
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const gatewayId = request.headers[LINK_GATEWAY_HEADER];
    const certificate = (request.socket as TLSSocket).getPeerCertificate();
    if (request.url !== LINK_PATH) refuseUpgrade(socket, 404, 'not_found', `links are at ${LINK_PATH}`);
    else if (typeof gatewayId !== 'string' || !vouchesFor(certificate, gatewayId)) {
      this.refused++;
      this.deps.log.warn({ gatewayId, names: certificate.subjectaltname }, 'link_of_another_name_refused');
      refuseUpgrade(socket, 403, 'wrong_name', 'the certificate is of another gateway');
    } else if (!this.#hasRoomFor(gatewayId))
      refuseUpgrade(socket, 503, 'gateway_full', 'this gateway has no room for more links', 5);
    else this.#accept(request, socket, head, gatewayId);
  }

  #hasRoomFor(gatewayId: string): boolean {
    const ofThisOne = [...this.#links.values()].filter((link) => link.gatewayId === gatewayId).length;
    return this.#links.size < this.options.linksMax && ofThisOne < LINKS_OF_ONE_MAX;
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer, gatewayId: string): void {
    const { log } = this.deps;
    const link = { gatewayId, version: 0 };
    const mux = upgradeTunnel(
      request,
      socket,
      head,
      {
        onWelcome: (_mux, welcome) => {
          link.version = welcome.link_version ?? 1;
          log.info({ gatewayId, version: link.version }, 'link_from_gateway_opened');
        },
        onOpen: (mux, stream, open) => this.#open(mux, stream, open, link.version),
        onClose: (mux, { code, reason, byPeer }) => {
          this.#links.delete(mux);
          log.info({ gatewayId, code, reason, byPeer }, 'link_from_gateway_closed');
        },
      },
      // It has the devices: its part is that of an agent.
      { role: 'agent', datagramBytesMax: this.options.datagramBytesMax },
    );
    if (mux === null) return;
    this.#links.set(mux, link);
    mux.hello({
      agent: LINK_AGENT,
      agent_version: '1',
      os: process.platform,
      terms_version: '',
      versions: [...WIRE_VERSIONS],
      link_versions: [...this.options.versions],
    });
  }

  #open(mux: MuxSession, stream: MuxStream, open: Open, version: number): void {
    const request = open.request === undefined ? null : decodeRequest(open.request, version);
    if (request === null || networkOf(request) !== open.network) stream.opened(DialCode.UNSUPPORTED);
    else if (mux.streamCount > this.options.streamsMax) stream.opened(DialCode.PAUSED);
    else {
      stream.handler = WAITING;
      stream.opened(DialCode.OK);
      this.deps.serve(request, stream);
    }
  }
}

/** Who asks says nothing before the answer. */
const WAITING: StreamHandler = {
  onData: (stream) => stream.reset(0),
  onFin: () => {},
  onReset: () => {},
  onWritable: () => {},
};
