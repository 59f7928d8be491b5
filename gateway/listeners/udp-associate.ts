import { encodeDatagramHead } from '../../agent-protocol/datagram.js';
import type { RawSink, RawSocket } from '../../agent-protocol/raw-socket.js';
import type { UdpSink, UdpSocket } from '../../agent-protocol/udp-socket.js';
import { type ProxyFailure, proxyErrors, SOCKS_REPLY, socksReplyBytes } from '../errors.js';
import type { AssociationClient, DatagramWay } from '../relay/association.js';
import type { DatagramTotals } from '../relay/datagram-totals.js';
import { plainAddress } from '../runtime/addresses.js';
import type { ClientConnection } from './client-connection.js';
import { giveAway, type Login, place, type Siblings } from './hand-over.js';
import type { ListenerContext } from './open-destination.js';
import { readUdpMessage, udpMessage } from './udp-header.js';
import type { UdpPorts } from './udp-ports.js';

/** What ASSOCIATE needs of the gateway. */
export interface UdpListening {
  readonly ports: UdpPorts;
  /** Told to clients as BND.ADDR instead of the address they connected to; null: that. For gateways behind NAT. */
  readonly publicAddress: string | null;
  readonly totals: DatagramTotals;
}

/** DST.ADDR and DST.PORT of ASSOCIATE: where the client says it will send from. */
export interface AssociateHint {
  /** null: no host at all. */
  host: string | null;
  /** 0: not known yet. */
  port: number;
}

/**
 * UDP ASSOCIATE (RFC 1928 sections 4, 6 and 7): a UDP port of the gateway for this client, for as long as its TCP
 * connection lives, from which nothing more is read. Errors are those of `associate`, and CONN_LIMIT when no UDP port
 * is free.
 */
export async function openAssociation(
  client: ClientConnection,
  context: ListenerContext,
  login: Login,
  hint: AssociateHint,
): Promise<void> {
  const { udp, pipeline, siblings } = context;
  const associate = pipeline.associate?.bind(pipeline);
  if (udp === null || associate === undefined)
    return client.refuse(socksReplyBytes(SOCKS_REPLY.commandNotSupported));
  client.stopDeadline();
  const refuse = (failure: ProxyFailure) => {
    context.refused(client.peer, failure);
    client.refuse(socksReplyBytes(proxyErrors[failure.code].socksReply));
  };
  const associated = await place(login, siblings, (attempts) => associate(login, attempts));
  if (associated.ok === 'elsewhere') {
    const asks = { asks: { associate: hint }, requestId: '' };
    return giveAway(client, siblings as Siblings, login, associated, asks);
  }
  if (!associated.ok) return refuse(associated);

  const side = new ClientSide(client.peer.address, hint, udp.totals);
  const opened = await udp.ports.bind(plainAddress(client.localAddress) ?? client.localAddress, side);
  if (opened instanceof Error) {
    associated.abandon();
    const inUse = opened.code === 'EADDRINUSE';
    context.log.warn({ error: opened.message }, 'udp_port_not_bound');
    return refuse({ ok: false, code: inUse ? 'CONN_LIMIT' : 'INTERNAL', detail: 'udp port' });
  }
  const { socket, bound } = opened;
  if (client.closed) {
    socket.close();
    return associated.abandon();
  }
  const address = udp.publicAddress ?? bound.address;
  client.write(
    Buffer.concat([Buffer.of(5, SOCKS_REPLY.succeeded, 0), encodeDatagramHead(address, bound.port)]),
  );
  side.start(client.release().socket, socket, associated.start(side));
}

/**
 * The client's TCP connection and UDP port. Only datagrams from the client's address are taken, and only from one port
 * of it: the one that ASSOCIATE named together with that very address, else the one the first datagram came from.
 *
 * | state | holds | leaves to |
 * |---|---|---|
 * | starting | a UDP port nobody knows of | live |
 * | live | TCP connection, UDP port, association | over (TCP ended, association ended, UDP socket failed) |
 * | over | nothing | |
 */
class ClientSide implements UdpSink, RawSink, AssociationClient {
  readonly #plainAddress: string | null;
  readonly #totals: DatagramTotals;
  /** As the operating system writes it, zone included: where answers go. */
  #address: string;
  #port: number | null;
  #control: RawSocket | null = null;
  #socket: UdpSocket | null = null;
  #association: DatagramWay | null = null;
  #over = false;

  constructor(clientAddress: string, hint: AssociateHint, totals: DatagramTotals) {
    this.#address = clientAddress;
    this.#plainAddress = plainAddress(clientAddress);
    // Behind a NAT the client's own address, and with it its port, is another one than we see.
    const named = hint.host === null ? null : plainAddress(hint.host);
    this.#port = hint.port !== 0 && named === this.#plainAddress ? hint.port : null;
    this.#totals = totals;
  }

  start(control: RawSocket, socket: UdpSocket, association: DatagramWay): void {
    if (this.#over) {
      // The association ended while it was handed over: its tunnel had gone.
      socket.close();
      control.destroy();
      return;
    }
    this.#control = control;
    this.#socket = socket;
    this.#association = association;
    control.setSink(this);
    control.resume();
  }

  // ---- the UDP port -----------------------------------------------------------------------------------------------

  onReceived(message: Buffer, address: string, port: number): void {
    if (this.#association === null) return;
    if (!this.#isClient(address) || (this.#port !== null && port !== this.#port)) {
      this.#totals.drop('stranger');
      return;
    }
    const datagram = readUdpMessage(message);
    if (typeof datagram === 'string') {
      this.#totals.drop(datagram);
      return;
    }
    this.#port = port;
    this.#address = address;
    this.#association.send(datagram.host, datagram.port, datagram.bytes);
  }

  #isClient(address: string): boolean {
    return address === this.#address || plainAddress(address) === this.#plainAddress;
  }

  onSocketError(): void {
    this.#end();
  }

  get isReachable(): boolean {
    return this.#port !== null && this.#socket !== null;
  }
  get unsentBytes(): number {
    return this.#socket?.unsentBytes ?? 0;
  }
  takes(): boolean {
    return true;
  }
  deliver(payload: Buffer): void {
    if (this.#port !== null) this.#socket?.send(udpMessage(payload), this.#address, this.#port);
  }
  onAssociationEnd(): void {
    this.#association = null;
    this.#end();
  }

  // ---- the TCP connection -----------------------------------------------------------------------------------------

  /** Nothing is to come; whatever does says nothing. */
  onBytes(): boolean {
    return false;
  }
  onDrain(): void {}
  onEnd(): void {
    this.#end();
  }
  onClose(): void {
    this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#association?.close();
    this.#association = null;
    this.#socket?.close();
    this.#control?.destroy();
  }
}
