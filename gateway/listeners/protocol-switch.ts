import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import { SocketDuplex } from '../../agent-protocol/socket-duplex.js';
import { httpRefusalBytes, type ProxyFailure } from '../errors.js';
import type { Soon } from '../runtime/soon.js';
import type { Certificate } from '../runtime/tls-certificate.js';
import { ClientConnection, type ClientConnectionSettings } from './client-connection.js';
import type { ClientPeer } from './client-peer.js';
import { newRequestId } from './credentials.js';
import type { HandedRequest } from './hand-over.js';
import { serveHanded } from './handed-over.js';
import { serveConnect } from './http-connect.js';
import { HttpForwarder, type HttpForwarderSettings } from './http-forward.js';
import { type HttpHeadOutcome, HttpHeadParser } from './http-head.js';
import type { ListenerContext } from './open-destination.js';
import type { PortProtocol } from './port-protocol.js';
import { type ProxyHeader, readProxyHeader } from './proxy-protocol.js';
import { NO_METHOD, refuseSocks4, serveSocks5 } from './socks5.js';
import { acceptTls, TLS_REFUSAL } from './tls-handshake.js';

const FIRST_BYTE_SOCKS4 = 0x04;
const FIRST_BYTE_SOCKS5 = 0x05;
/** The record type of a TLS handshake, RFC 8446 section 5.1. */
const FIRST_BYTE_TLS = 0x16;

/** How connections failed before they had a request, since the start. */
export interface HandshakeFailures {
  /** The deadline passed. */
  deadlines: number;
  tls: number;
  proxyHeaders: number;
}

export interface ProtocolSwitchDeps {
  context: ListenerContext;
  settings: HttpForwarderSettings;
  /** What TLS is spoken with now; null: not at all. */
  certificate: () => Certificate | null;
}

/**
 * From the first byte to the protocol that serves the connection:
 *
 *     [PROXY header] → [TLS] → SOCKS5 | HTTP
 *
 * All of it, up to a complete request, within one deadline.
 */
export class ProtocolSwitch {
  readonly failures: HandshakeFailures = { deadlines: 0, tls: 0, proxyHeaders: 0 };
  readonly #context: ListenerContext;
  readonly #settings: HttpForwarderSettings;
  readonly #clientSettings: ClientConnectionSettings;
  readonly #certificate: () => Certificate | null;
  readonly #forwarder: HttpForwarder;
  #toldThatThereIsNoCertificate = false;

  constructor({ context, settings, certificate }: ProtocolSwitchDeps) {
    this.#context = context;
    this.#settings = settings;
    this.#certificate = certificate;
    const { handshakeTimeoutMs, headBytesMax, lingerTimeoutMs } = settings;
    const onDeadline = () => {
      this.failures.deadlines += 1;
    };
    this.#clientSettings = { handshakeTimeoutMs, lingerTimeoutMs, unreadBytesMax: headBytesMax, onDeadline };
    this.#forwarder = new HttpForwarder(context, settings, (socket, peer, unread) => {
      const client = new ClientConnection(socket, peer, this.#clientSettings, { unread });
      void this.#guard(client, this.#serveHttp(client));
    });
  }

  /** Serves a connection of which nothing was read. Never rejects. */
  serve(socket: RawSocket, peer: ClientPeer, accepts: PortProtocol): void {
    const client = new ClientConnection(socket, peer, this.#clientSettings);
    void this.#guard(client, this.#serve(client, accepts));
  }

  /**
   * Serves a connection of a load balancer, which begins with a PROXY header. `enter` makes a peer of the address it
   * announces, or of the balancer's own when it announces none (null); its answer null: that client is turned away.
   */
  serveAnnounced(
    socket: RawSocket,
    balancer: ClientPeer,
    accepts: PortProtocol,
    enter: (clientAddress: string | null) => ClientPeer | null,
  ): void {
    const client = new ClientConnection(socket, balancer, this.#clientSettings);
    void this.#guard(client, this.#serveAnnounced(client, accepts, enter));
  }

  /** Serves what another worker has handed over; `refusal`: tells it instead. Never rejects. */
  serveHanded(
    socket: RawSocket,
    peer: ClientPeer,
    request: HandedRequest,
    refusal: ProxyFailure | null,
  ): void {
    const { head, localAddress } = request;
    const unread = Buffer.from(head, 'base64');
    const client = new ClientConnection(socket, peer, this.#clientSettings, { unread, localAddress });
    void this.#guard(client, serveHanded(client, request, this.#context, refusal));
  }

  /** Tells a client whose connection is not taken why, where its first byte says how; else closes it. */
  turnAway(socket: RawSocket, peer: ClientPeer): void {
    const { lingerTimeoutMs: timeLeftMs } = this.#settings;
    const client = new ClientConnection(socket, peer, this.#clientSettings, { timeLeftMs });
    void this.#guard(client, this.#turnAway(client));
  }

  async #turnAway(client: ClientConnection): Promise<void> {
    const firstByte = await this.#firstByte(client);
    if (firstByte === null) return;
    // SOCKS could say it only after a login, TLS only after a handshake: closing costs less.
    if (firstByte < 0x20) client.destroy();
    else this.#refuseHttp(client, { ok: false, code: 'DRAINING', detail: 'overloaded' });
  }

  /** No further plain HTTP requests. */
  drain(): void {
    this.#forwarder.drain();
  }

  /** A broken invariant costs one connection, not the gateway. */
  async #guard(client: ClientConnection, serving: Promise<void>): Promise<void> {
    try {
      await serving;
    } catch (error) {
      const clientAddress = client.peer.address;
      this.#context.log.error({ err: error, clientAddress }, 'proxy connection failed');
      client.destroy();
    }
  }

  #firstByte(client: ClientConnection): Soon<number | null> {
    return client.read((unread) => ({ value: unread[0] as number, bytes: 0 }));
  }

  async #serveAnnounced(
    balancer: ClientConnection,
    accepts: PortProtocol,
    enter: (clientAddress: string | null) => ClientPeer | null,
  ): Promise<void> {
    const header = await balancer.read<ProxyHeader>(readProxyHeader);
    if (header === null) return;
    if (!header.ok) {
      this.failures.proxyHeaders += 1;
      const { problem } = header;
      this.#context.log.warn({ balancer: balancer.peer.address, problem }, 'proxy_header_refused');
      return balancer.destroy();
    }
    const peer = enter(header.clientAddress);
    if (peer === null) return balancer.destroy();
    const { timeLeftMs } = balancer;
    const { socket, head } = balancer.release();
    const client = new ClientConnection(socket, peer, this.#clientSettings, { unread: head, timeLeftMs });
    return this.#guard(client, this.#serve(client, accepts));
  }

  async #serve(client: ClientConnection, accepts: PortProtocol): Promise<void> {
    const firstByte = await this.#firstByte(client);
    if (firstByte === null) return;
    if (firstByte === FIRST_BYTE_TLS) {
      const certificate = this.#certificate();
      if (accepts === 'socks5' || accepts === 'http') return client.refuse(TLS_REFUSAL);
      if (certificate === null) return this.#refuseTls(client);
      return this.#serveTls(client, certificate);
    }
    if (firstByte === FIRST_BYTE_SOCKS4) return refuseSocks4(client);
    if (firstByte === FIRST_BYTE_SOCKS5) {
      if (accepts === 'http' || accepts === 'tls') return client.refuse(NO_METHOD);
      return serveSocks5(client, this.#context);
    }
    if (accepts === 'socks5' || accepts === 'tls')
      return this.#refuseHttp(client, { ok: false, code: 'BAD_PARAM', detail: 'protocol' });
    return this.#serveHttp(client);
  }

  async #serveTls(tcp: ClientConnection, { context }: Certificate): Promise<void> {
    const { timeLeftMs, peer } = tcp;
    const startedAtMs = performance.now();
    const { socket, head } = tcp.release();
    const { onDeadline } = this.#clientSettings;
    const handshake = await acceptTls(socket, head, { context, timeLeftMs, onDeadline });
    if (!handshake.ok) {
      this.failures.tls += 1;
      const { problem } = handshake;
      this.#context.log.debug({ clientAddress: peer.address, problem }, 'tls_handshake_failed');
      return;
    }
    const client = new ClientConnection(handshake.socket, peer, this.#clientSettings, {
      timeLeftMs: timeLeftMs - (performance.now() - startedAtMs),
    });
    return this.#guard(client, this.#serveInside(client));
  }

  /** What is inside TLS: not TLS again. */
  async #serveInside(client: ClientConnection): Promise<void> {
    const firstByte = await this.#firstByte(client);
    if (firstByte === null) return;
    if (firstByte === FIRST_BYTE_TLS) return client.destroy();
    if (firstByte === FIRST_BYTE_SOCKS4) return refuseSocks4(client);
    if (firstByte === FIRST_BYTE_SOCKS5) return serveSocks5(client, this.#context);
    return this.#serveHttp(client);
  }

  #refuseTls(client: ClientConnection): void {
    this.failures.tls += 1;
    const { log } = this.#context;
    const fields = { clientAddress: client.peer.address };
    // Once for the operator; whoever sends more of it does not fill the log.
    if (this.#toldThatThereIsNoCertificate) log.debug(fields, 'tls_refused_no_certificate');
    else log.warn(fields, 'tls_refused_no_certificate');
    this.#toldThatThereIsNoCertificate = true;
    client.refuse(TLS_REFUSAL);
  }

  #refuseHttp(client: ClientConnection, failure: ProxyFailure): void {
    const requestId = newRequestId();
    this.#context.refused(client.peer, failure, requestId);
    client.refuse(httpRefusalBytes(failure, requestId));
  }

  async #serveHttp(client: ClientConnection): Promise<void> {
    for (;;) {
      const parser = new HttpHeadParser(this.#settings.headBytesMax);
      const outcome = await client.read<HttpHeadOutcome>((unread) => {
        const parsed = parser.parse(unread);
        if (!parsed) return null;
        // The head of a plain request stays unread: node:http reads it again.
        return { value: parsed, bytes: parsed.ok && parsed.head.method === 'CONNECT' ? parsed.bytes : 0 };
      });
      if (outcome === null) return;
      if (!outcome.ok) return this.#refuseHttp(client, outcome);
      if (outcome.head.method !== 'CONNECT') {
        const { socket, head } = client.release();
        return this.#forwarder.serve(asStream(socket, head), client.peer);
      }
      const goesOn = await serveConnect(client, outcome.head, this.#context);
      if (!goesOn) return;
      client.startDeadline();
    }
  }
}

/** The socket as a stream that begins with `head`. */
export function asStream(socket: RawSocket, head: Buffer): SocketDuplex {
  const stream = new SocketDuplex(socket);
  if (head.length > 0) stream.unshift(head);
  return stream;
}
