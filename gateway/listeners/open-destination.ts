import type { ProxyFailure } from '../errors.js';
import type { Log } from '../runtime/logging.js';
import type { ClientConnection } from './client-connection.js';
import type { ClientPeer } from './client-peer.js';
import type { Authenticated, EchoAnswer, Exit, ProxyPipeline } from './connect-pipeline.js';
import type { ProxyCredentials } from './credentials.js';
import { type Destination, isEchoHost } from './destination.js';
import { echo } from './echo.js';
import type { UdpListening } from './udp-associate.js';

/** What the protocols share. */
export interface ListenerContext {
  pipeline: ProxyPipeline;
  log: Log;
  /** Authenticates; a right login is noted at the peer, whose connection then no longer counts as a stranger's. */
  login(peer: ClientPeer, credentials: ProxyCredentials): Promise<Authenticated | ProxyFailure>;
  /** null: UDP ASSOCIATE is answered as a command that is not supported. */
  udp: UdpListening | null;
  /** Notes a refusal in the log, at debug: who and why, no secrets. */
  refused(peer: ClientPeer, failure: ProxyFailure, requestId?: string): void;
  /** Gives the answer as the echo page on a connection that was tunnelled to it. */
  serveEcho(client: ClientConnection, answer: EchoAnswer): void;
}

/** How a protocol says yes and no. */
export interface Answers {
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
  auth: Authenticated,
  destination: Destination,
  answers: Answers,
): Promise<void> {
  client.stopDeadline();
  const refuse = (failure: ProxyFailure): void => {
    context.refused(client.peer, failure);
    client.refuse(answers.refuse(failure));
  };
  if (isEchoHost(destination.host)) {
    const answer = await echo(context.pipeline, auth, destination.port);
    if (!answer.ok) return refuse(answer);
    if (client.closed) return;
    client.write(answers.accept(answer.exit));
    return context.serveEcho(client, answer);
  }
  const connected = await context.pipeline.connect(auth, destination);
  if (!connected.ok) return refuse(connected);
  if (client.closed) return connected.abandon();
  client.write(answers.accept(connected.exit));
  const { socket, head } = client.release();
  connected.splice(socket, head);
}
