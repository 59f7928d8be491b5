import { Agent, type AgentOptions, type ClientRequestArgs } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { ProxyFailure } from '../errors.js';
import type { Connected } from './connect-pipeline.js';

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
  readonly #exits = new WeakMap<Duplex, Connected['exit']>();
  #destroyed = false;

  /** `idleStreamsMax`: idle streams kept per destination and in total; above it a finished stream is closed. */
  constructor(idleStreamsMax: number) {
    super({ keepAlive: true, maxFreeSockets: idleStreamsMax });
  }

  /** The exit that a request's stream goes out of. */
  exitOf(stream: Duplex | null): Connected['exit'] | null {
    return (stream && this.#exits.get(stream)) ?? null;
  }

  override getName(options?: AgentOptions & Partial<OriginRequestOptions>): string {
    return `${options?.host}:${options?.port}:${options?.route}`;
  }

  // node:http calls this when no idle stream of the name is there (documented; the types lag behind).
  createConnection(
    options: OriginRequestOptions,
    done: (error: Error | null, socket?: Socket) => void,
  ): undefined {
    options.openStream().then(
      (connected) => {
        if (!connected.ok) return done(new StreamRefused(connected));
        if (this.#destroyed) {
          connected.abandon();
          return done(new Error('the client went away'));
        }
        const stream = connected.duplex();
        this.#exits.set(stream, connected.exit);
        // Between requests nobody else listens: an error must not end the process, an end must end the stream.
        stream.on('error', () => {});
        done(null, asSocket(stream));
      },
      (error: unknown) => done(error as Error),
    );
  }

  override destroy(): void {
    this.#destroyed = true;
    super.destroy();
  }
}

/** node:http calls a few methods of net.Socket; on a stream through a tunnel they mean nothing. */
function asSocket(stream: Duplex): Socket {
  const socket = stream as Socket;
  for (const method of ['setKeepAlive', 'setNoDelay', 'setTimeout', 'ref', 'unref'] as const)
    if (typeof socket[method] !== 'function') Object.assign(socket, { [method]: () => socket });
  return socket;
}
