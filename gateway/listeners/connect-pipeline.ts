import type { Duplex } from 'node:stream';
import type { RawSocket } from '../../agent-protocol/raw-socket.js';
import type { BuyerAccess } from '../buyers/directory.js';
import type { RouteParams } from '../buyers/username.js';
import type { ProxyFailure } from '../errors.js';
import type { AssociationClient, DatagramWay } from '../relay/association.js';
import type { BuyerConnection } from '../relay/stream-duplex.js';
import type { Soon } from '../runtime/soon.js';

/**
 * What the listeners need of the stages behind them. They speak protocols to clients and know nothing of devices;
 * the composition root gives the implementation. What needs nobody else's answer is told at once.
 */
export interface ProxyPipeline {
  /**
   * Who is this, and may they send traffic now. `username` and `password` are as the client sent them; password
   * null: none was given, which only an allowlisted `clientAddress` makes good.
   */
  authenticate(asked: AskedLogin): Soon<Authenticated | ProxyFailure>;
  /**
   * A connection to the destination through a device, dialled before it resolves. `host` is a name or an IP address
   * without brackets; nothing of it is resolved here. Exactly one of the outcome's methods is to be called.
   */
  connect(
    auth: Authenticated,
    destination: { host: string; port: number },
    attempts?: Attempts,
  ): Soon<Connected | ProxyFailure>;
  /**
   * What the echo page tells, free of charge: allocates (or keeps) the exit that a connection of this login would get,
   * without dialling. Refused as such a connection would be.
   */
  echo(auth: Authenticated, attempts?: Attempts): Promise<EchoAnswer | ProxyFailure>;
  /**
   * An association through a device, which then carries datagrams to any destination the buyer may reach. Exactly one
   * of the outcome's methods is to be called. UDP_NOT_ALLOWED: the buyer has no grant. Absent: there is no UDP here.
   */
  associate?(auth: Authenticated, attempts?: Attempts): Soon<Associated | ProxyFailure>;
}

/** How far a request may go. */
export interface Attempts {
  /** Devices that may be dialled for it, at least 1; left out: as many as for any. */
  devicesMax?: number | undefined;
  /** The worker that has the device of its session was asked already. */
  stays?: boolean | undefined;
  /** Only devices where the request wants them: what its `fallback` allows comes later. */
  exact?: boolean | undefined;
  /** A failure with `elsewhere` is not its end: another worker is asked. */
  goesOn: boolean;
  /** Nobody is asked after it, although it goes on: whoever asks tells the buyer. Left out: where it does not go on. */
  isLast?: boolean | undefined;
}

/** What a buyer may know of the exit: never the device, its owner or an address. */
export interface EchoAnswer {
  ok: true;
  exit: Exit;
  city: string | null;
  asn: number | null;
  /** Bytes the login may still use, as far as this gateway knows; null: its bytes cost nothing. */
  bytesLeft: number | null;
}

/** A login as the client sent it; password null: none was given. */
export interface AskedLogin {
  readonly username: string;
  readonly password: string | null;
  readonly clientAddress: string;
}

/**
 * Who was let in. Always written field by field, here and where it grows: of a copy (`{...auth}`) V8 makes a hidden class of its
 * own each time, more bytes than the object has.
 */
export interface Authenticated {
  ok: true;
  buyer: BuyerAccess;
  params: RouteParams;
  /** What was asked: another gateway will want to see for itself. */
  asked: AskedLogin;
}

/** The device a buyer's bytes go through, as the buyer is told of it. */
export interface Exit {
  /** Opaque to the buyer; changes when the exit changes. */
  id: string;
  country: string;
  session: string | null;
}

export interface Associated {
  ok: true;
  exit: Exit;
  /** Carries datagrams for the client from now on. */
  start(client: AssociationClient): DatagramWay;
  /** The client went away before the association was used. */
  abandon(): void;
}

export interface Connected {
  ok: true;
  exit: Exit;
  /** Relays raw bytes of this buyer socket, which it takes over; `head` is what was read past the request. */
  splice(socket: RawSocket, head: Buffer): void;
  /**
   * The same stream as a Duplex, for plain HTTP forwarding; counted by the same meter. `buyer` is the connection that
   * gets what is read there: no more is counted while it still holds something.
   */
  duplex(buyer: BuyerConnection): Duplex;
  /** The client went away before the connection was used. */
  abandon(): void;
}
