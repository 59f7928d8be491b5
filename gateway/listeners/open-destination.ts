import type { ProxyFailure } from '../errors.js';
import type { Log } from '../runtime/logging.js';
import type { ClientConnection } from './client-connection.js';
import type { Authenticated, Connected, ProxyPipeline } from './connect-pipeline.js';
import { type Destination, ECHO_HOST } from './destination.js';
import type { UdpListening } from './udp-associate.js';

/** What the protocols share. */
export interface ListenerContext {
  pipeline: ProxyPipeline;
  log: Log;
  /** null: UDP ASSOCIATE is answered as a command that is not supported. */
  udp: UdpListening | null;
  /** Notes a refusal in the log, at debug: who and why, no secrets. */
  refused(client: { clientAddress: string }, failure: ProxyFailure, requestId?: string): void;
  /** Answers the echo page on a connection that was tunnelled to it. */
  serveEcho(client: ClientConnection, auth: Authenticated): void;
}

/** How a protocol says yes and no. */
export interface Answers {
  accept(exit: Connected['exit'] | null): Buffer;
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
  if (destination.host.toLowerCase() === ECHO_HOST && destination.port === 80 && context.pipeline.echo) {
    client.write(answers.accept(null));
    return context.serveEcho(client, auth);
  }
  const connected = await context.pipeline.connect(auth, destination);
  if (!connected.ok) {
    context.refused(client, connected);
    return client.refuse(answers.refuse(connected));
  }
  if (client.closed) return connected.abandon();
  client.write(answers.accept(connected.exit));
  const { socket, head } = client.release();
  connected.splice(socket, head);
}
