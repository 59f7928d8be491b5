import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import { joinSockets } from '../../agent-protocol/socket-join.js';
import type { SocketPairs } from '../../agent-protocol/socket-pair.js';
import type { ProxyFailure } from '../errors.js';
import { type Soon, soon } from '../runtime/soon.js';
import type { ClientConnection } from './client-connection.js';
import type { Attempts, Authenticated } from './connect-pipeline.js';
import type { ProxyCredentials } from './credentials.js';
import type { Destination } from './destination.js';
import type { AssociateHint } from './udp-associate.js';

/** What was tried for a request before it came here. */
export interface Handed {
  /** Workers whose devices will not do. */
  readonly tried: readonly number[];
  /** Devices that may still be dialled for it; left out: none was. */
  readonly devicesLeft?: number | undefined;
  /** It was sent to the worker that has the device of its session: that happens once. */
  readonly stays?: boolean | undefined;
}

/** Who asks, and what proved it: another worker will want to see for itself. */
export interface Login extends Authenticated {
  readonly credentials: ProxyCredentials;
  /** null: the request came from the client itself. */
  readonly handed: Handed | null;
}

/** A request with all that another worker needs to serve it, but for the connection. Plain data. */
export interface HandedRequest extends Handed {
  readonly asks:
    | {
        /** How the answer is told: as SOCKS5 or CONNECT to the client, or as a line of JSON to the worker that asks. */
        readonly answer: 'socks5' | 'connect' | 'worker';
        readonly destination: Destination;
      }
    | { readonly associate: AssociateHint }
    /** The echo page's facts, as a line of JSON. */
    | { readonly echo: number };
  /** Empty in SOCKS5. */
  readonly requestId: string;
  readonly credentials: ProxyCredentials;
  readonly clientAddress: string;
  /** The address of this machine that the client connected to; left out: the connection knows. */
  readonly localAddress?: string | undefined;
  /** What was read behind the request, base64. */
  readonly head: string;
}

/** The other workers of this gateway. Each has a part of the devices, and serves what goes through them. */
export interface Siblings {
  readonly self: number;
  /** Who the login's requests are to go to first: that worker knows where its exit is, or has devices. null: stay here. */
  homeOf(auth: Authenticated): number | null;
  /** Who may be asked when those have no device that will do; null: nobody is left. */
  next(tried: readonly number[]): number | null;
  /** As `next`, of those that have a device: what this one can not serve, another one without any can not either. */
  nextWithDevices(tried: readonly number[]): number | null;
  /** Gives a detached connection away. What can not be delivered is closed. */
  pass(to: number, request: HandedRequest, connection: SocketHandle): void;
  readonly pairs: SocketPairs;
}

/** The request is to go to another worker. */
export interface Elsewhere extends Handed {
  readonly ok: 'elsewhere';
  readonly worker: number;
}

/** Serves the request here where that can be; else says where it may be. Nobody is asked twice. */
export function place<T extends { ok: true }>(
  login: Login,
  siblings: Siblings | null,
  serve: (attempts?: Attempts) => Soon<T | ProxyFailure>,
): Soon<T | ProxyFailure | Elsewhere> {
  if (siblings === null) return serve();
  const { handed } = login;
  if (handed === null) {
    const home = siblings.homeOf(login);
    if (home !== null) return { ok: 'elsewhere', worker: home, tried: [] };
  }
  const before = handed?.tried ?? [];
  const tried = [...before, siblings.self];
  const stays = handed?.stays;
  const served = serve({
    devicesMax: handed?.devicesLeft,
    stays,
    goesOn: siblings.nextWithDevices(tried) !== null,
  });
  return soon(served, (outcome): T | ProxyFailure | Elsewhere => {
    if (outcome.ok || outcome.elsewhere === undefined) return outcome;
    const { devicesLeft, worker: holder } = outcome.elsewhere;
    // A session that can not have its device back may still have another one here.
    if (holder !== null) return { ok: 'elsewhere', worker: holder, tried: before, devicesLeft, stays: true };
    const worker = siblings.nextWithDevices(tried);
    return worker === null ? outcome : { ok: 'elsewhere', worker, tried, devicesLeft, stays };
  });
}

/**
 * Gives the client's connection to another worker with what it asks for. One in TLS stays here, where its keys are: the
 * other worker gets an end of a pair, and bytes are carried between.
 */
export async function giveAway(
  client: ClientConnection,
  siblings: Siblings,
  login: Login,
  { worker, tried, devicesLeft, stays }: Elsewhere,
  { asks, requestId }: Pick<HandedRequest, 'asks' | 'requestId'>,
): Promise<void> {
  if (client.closed) return;
  const { socket, head } = client.release();
  socket.pause();
  const request: HandedRequest = {
    asks,
    requestId,
    credentials: login.credentials,
    clientAddress: client.peer.address,
    localAddress: client.toldLocalAddress,
    head: head.toString('base64'),
    tried,
    devicesLeft,
    stays,
  };
  const connection = socket.detach();
  if (connection !== null) return siblings.pass(worker, request, connection);
  try {
    const [own, others] = await siblings.pairs.make();
    passEnd(siblings, worker, { ...request, localAddress: client.localAddress }, others);
    joinSockets(socket, own);
  } catch (error) {
    socket.reset();
    throw error;
  }
}

/** Gives an end of a fresh pair away. */
export function passEnd(
  siblings: Siblings,
  worker: number,
  request: HandedRequest,
  end: { detach(): SocketHandle | null; destroy(): void },
): void {
  const connection = end.detach();
  if (connection === null) end.destroy();
  else siblings.pass(worker, request, connection);
}
