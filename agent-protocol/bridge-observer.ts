import { READ_BUFFER_BYTES_MAX } from './limits.js';
import { Verdict } from './verdict.js';

/**
 * Sees every byte before it goes on, in pieces of less than COUNT_BYTES_MAX. `out` is socket to tunnel, `in` tunnel to
 * socket; at a gateway bytesUp and bytesDown. A piece is offered only when those before it in its direction are with
 * the operating system or among the tunnel's `heldDataBytes`, and what is not with it, of both directions, never exceeds
 * COUNT_BYTES_MAX. After GO it goes on at once; after WAIT the bytes stay here until `Bridge.retry`, which offers them
 * again; after REFUSE both sides are reset and the bytes do not go on.
 */
export interface BridgeObserver {
  /**
   * For ends where nobody pays by these counts: a device sends whole reads, which spares both ends frames, and writes all
   * that one read of the tunnel brought of a stream at once. Each direction then has pieces of up to this many bytes,
   * whatever the other does.
   */
  readonly pieceBytesMax?: number;
  /**
   * For the end at the destination: what came by a tunnel that is lost goes on to the socket, for so long, ms; then the
   * socket is reset. It has been counted and paid for, and a reset would throw away also what the operating system
   * has not sent. Unset: the socket is reset at once.
   */
  readonly lingerMs?: number;
  onBytesOut(bytes: number): Verdict;
  onBytesIn(bytes: number): Verdict;
  /**
   * Exactly once, after which nothing is counted. `finished`: both directions were closed in order and every byte
   * counted was delivered; `reset`: cut by either side or with the tunnel; `refused`: by this observer.
   */
  onEnd(how: 'finished' | 'reset' | 'refused'): void;
}

/** Nobody counts. */
export const unobserved: BridgeObserver = {
  pieceBytesMax: READ_BUFFER_BYTES_MAX,
  onBytesOut: () => Verdict.GO,
  onBytesIn: () => Verdict.GO,
  onEnd: () => {},
};
