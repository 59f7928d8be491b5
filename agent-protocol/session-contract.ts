import type { Drain, Hello, Open, Status, Welcome } from './control.js';
import type { Heartbeat } from './heartbeat.js';
import type { SessionTimings } from './limits.js';
import type { MuxSession } from './session.js';
import type { MuxStream } from './stream.js';

/**
 * A session:
 *
 * | state | holds | frames allowed | left by |
 * |---|---|---|---|
 * | greeting | the WebSocket is up | HELLO, WELCOME, PING, PONG, GOAWAY | WELCOME → open |
 * | open | streams come and go | all but HELLO, WELCOME | GOAWAY, close, loss, silence, fault → closed |
 * | closed | streams are cut; last frames leave | what comes is discarded | – |
 */
export type SessionState = 'greeting' | 'open' | 'closed';

/** Why a tunnel is over. */
export interface CloseReason {
  /**
   * The code of the GOAWAY that was sent or came; else `connection_closed` (WebSocket close without GOAWAY),
   * `connection_lost` (socket gone), `dead_peer` (silence), `destroyed` (`destroy()` here).
   */
  code: string;
  /** For logs. */
  reason: string;
  byPeer: boolean;
  /** From the peer's GOAWAY: the earliest time to connect again. */
  reconnectAfterMs: number | null;
}

/** What becomes of a session. */
export interface SessionHandler {
  /** Gateway: the agent's first frame; answer with `session.welcome` or `session.close`. */
  onHello?(session: MuxSession, message: Hello): void;
  /** Agent: the tunnel is open and `session.limits` are in force. */
  onWelcome?(session: MuxSession, message: Welcome): void;
  onStatus?(session: MuxSession, message: Status): void;
  onDrain?(session: MuxSession, message: Drain): void;
  /** Agent: give the stream a handler and answer with `stream.opened`. */
  onOpen?(session: MuxSession, stream: MuxStream, open: Open): void;
  /** Exactly once, after every stream was told. */
  onClose(session: MuxSession, reason: CloseReason): void;
}

/**
 * `gateway` opens streams and answers HELLO with WELCOME; `agent` says HELLO and answers OPEN. Independent of who is
 * the WebSocket client: on a link between gateways the one that has the buyers is the `gateway`.
 */
export type SessionRole = 'gateway' | 'agent';

export interface SessionOptions {
  readonly role: SessionRole;
  /** Whether this end is the WebSocket client and therefore sets the mask bit. */
  readonly isClient: boolean;
  readonly handler: SessionHandler;
  readonly timings?: Partial<SessionTimings> | undefined;
  readonly heartbeat?: Heartbeat | undefined;
  /** Gateway: versions of the wire it takes, of those that it knows (WIRE_VERSIONS, the default). */
  readonly wireVersions?: readonly number[] | undefined;
  /** Bytes of datagrams, headers included, that may wait in its socket; default TUNNEL_DATAGRAM_BYTES_MAX. */
  readonly datagramBytesMax?: number | undefined;
}

/** @internal A CloseReason of its parts. */
export function over(
  code: string,
  reason: string,
  byPeer = false,
  reconnectAfterMs: number | null = null,
): CloseReason {
  return { code, reason, byPeer, reconnectAfterMs };
}
