import type { ProxyFailure } from '../errors.js';
import type { Log } from '../runtime/logging.js';
import type { Soon } from '../runtime/soon.js';
import type { ClientConnection } from './client-connection.js';
import type { ClientPeer } from './client-peer.js';
import type { EchoAnswer, Exit, ProxyPipeline } from './connect-pipeline.js';
import type { ProxyCredentials } from './credentials.js';
import { type Destination, isEchoHost } from './destination.js';
import { echo } from './echo.js';
import {
  type Elsewhere,
  giveAway,
  type Handed,
  type HandedRequest,
  type Login,
  place,
  type Siblings,
} from './hand-over.js';
import type { UdpListening } from './udp-associate.js';

/** What the protocols share. */
export interface ListenerContext {
  pipeline: ProxyPipeline;
  log: Log;
  /** Authenticates; a right login is noted at the peer, whose connection then no longer counts as a stranger's. */
  login(peer: ClientPeer, credentials: ProxyCredentials, handed?: Handed | null): Soon<Login | ProxyFailure>;
  /** null: there are none. */
  siblings: Siblings | null;
  /** null: UDP ASSOCIATE is answered as a command that is not supported. */
  udp: UdpListening | null;
  /** Notes a refusal in the log, at debug: who and why, no secrets. */
  refused(peer: ClientPeer, failure: ProxyFailure, requestId?: string): void;
  /** Gives the answer as the echo page on a connection that was tunnelled to it. */
  serveEcho(client: ClientConnection, answer: EchoAnswer): void;
}

/** How a protocol says yes and no. */
export interface Answers {
  /** Which protocol that is, for another worker to speak. */
  readonly answer: 'socks5' | 'connect' | 'worker';
  readonly requestId: string;
  accept(exit: Exit): Buffer;
  refuse(failure: ProxyFailure): Buffer;
}

/**
 * The end of every handshake for a tunnel: dials through the pipeline, answers, and lets the relay take the socket
 * over with the bytes that the client sent early.
 */
export async function openDestination(
  client: ClientConnection,
  context: ListenerContext,
  login: Login,
  destination: Destination,
  answers: Answers,
): Promise<void> {
  client.stopDeadline();
  const refuse = (failure: ProxyFailure): void => {
    context.refused(client.peer, failure);
    client.refuse(answers.refuse(failure));
  };
  const { pipeline, siblings } = context;
  const asks: HandedRequest['asks'] = { answer: answers.answer, destination };
  const goElsewhere = (placed: Elsewhere) =>
    giveAway(client, siblings as Siblings, login, placed, { asks, requestId: answers.requestId });
  if (isEchoHost(destination.host)) {
    const answer = await place(login, siblings, (attempts) =>
      echo(pipeline, login, destination.port, attempts),
    );
    if (answer.ok === 'elsewhere') return goElsewhere(answer);
    if (!answer.ok) return refuse(answer);
    if (client.closed) return;
    client.write(answers.accept(answer.exit));
    return context.serveEcho(client, answer);
  }
  const placed = place(login, siblings, (attempts) => pipeline.connect(login, destination, attempts));
  const connected = placed instanceof Promise ? await placed : placed;
  if (connected.ok === 'elsewhere') return goElsewhere(connected);
  if (!connected.ok) return refuse(connected);
  if (client.closed) return connected.abandon();
  client.write(answers.accept(connected.exit));
  const { socket, head } = client.release();
  connected.splice(socket, head);
}
