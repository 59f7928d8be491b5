import { Agent, type ClientRequestArgs } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ProxyFailure } from '../errors.js';
import type { BuyerConnection } from '../relay/stream-duplex.js';
import type { Connected, Exit } from './connect-pipeline.js';

/** What a request of an OriginAgent carries beside node:http's own options. */
export interface OriginRequestOptions extends ClientRequestArgs {
  /** Names who asks for which route: streams are reused only under the same name. */
  route: string;
  /** A new stream to the origin. */
  openStream(): Promise<Connected | ProxyFailure>;
}

/** Thrown into a request for whose stream the pipeline said no. */
export class StreamRefused extends Error {
  readonly code = 'TS_STREAM_REFUSED';
  constructor(readonly failure: ProxyFailure) {
    super(`no stream: ${failure.code}`);
  }
}

/**
 * The keep-alive streams of **one** client connection, by destination and route: never shared between clients, gone
 * with the connection (`destroy`).
 */
export class OriginAgent extends Agent {
  readonly #exits = new WeakMap<Duplex, Exit>();
  readonly #client: BuyerConnection;
  #destroyed = false;

  /** `idleStreamsMax`: idle streams kept to all origins together; above it the oldest is closed. */
  constructor(idleStreamsMax: number, client: BuyerConnection) {
    super({ keepAlive: true, maxFreeSockets: idleStreamsMax });
    this.#client = client;
    this.on('free', () => {
      const idle = Object.values(this.freeSockets).flatMap((streams) => streams ?? []);
      if (idle.length > idleStreamsMax) idle[0]?.destroy();
    });
  }

  /** The exit that a request's stream goes out of. */
  exitOf(stream: Duplex | null): Exit | null {
    return (stream && this.#exits.get(stream)) ?? null;
  }

  override getName(options?: { host?: unknown; port?: unknown; route?: unknown }): string {
    return `${options?.host}:${options?.port}:${options?.route}`;
  }

  override createConnection(
    options: ClientRequestArgs,
    done: (error: Error | null, stream: Duplex) => void = () => {},
  ): undefined {
    const fail = done as (error: unknown) => void;
    (options as OriginRequestOptions).openStream().then((connected) => {
      if (!connected.ok) return fail(new StreamRefused(connected));
      if (this.#destroyed) {
        connected.abandon();
        return fail(new Error('the client went away'));
      }
      const stream = connected.duplex(this.#client);
      // Between requests nobody else listens: an error then must not end the process, an end must end the stream.
      const onEnd = () => stream.destroy();
      stream.on('error', () => {});
      // Reset since the device dialled: node:http listens a tick later, to a stream that has told all it had to tell.
      if (stream.destroyed) return fail(new Error('reset before it was used'));
      this.#exits.set(stream, connected.exit);
      stream.once('end', onEnd);
      stream.once('agentRemove', () => stream.removeListener('end', onEnd)); // upgraded: may be half open
      done(null, withSocketMethods(stream));
    }, fail);
    return undefined;
  }

  override destroy(): void {
    this.#destroyed = true;
    super.destroy();
  }
}

/** node:http calls a few methods of net.Socket; for a stream through a tunnel they may be missing and mean nothing. */
function withSocketMethods(stream: Duplex): Duplex {
  for (const method of ['setKeepAlive', 'setNoDelay', 'setTimeout', 'ref', 'unref'])
    if (!(method in stream)) Object.assign(stream, { [method]: () => stream });
  return stream;
}
