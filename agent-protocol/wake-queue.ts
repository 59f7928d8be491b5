import { BACKLOG_HIGH_WATER_BYTES, WAKE_STREAMS_MAX } from './limits.js';

/** What waits in a WakeQueue. */
export interface Waiting {
  wake(): void;
}

/**
 * Streams that stopped because the tunnel has backlog, in the order in which they stopped. After a drain a few at a
 * time may go on; each reads and sends one chunk and stops again behind the others when that makes backlog. So bulk
 * streams share the tunnel evenly, and a small one waits for about one chunk a stream at most.
 */
export class WakeQueue {
  readonly #backlogBytes: () => number;
  readonly #waiting = new Set<Waiting>();
  #scheduled = false;

  constructor(backlogBytes: () => number) {
    this.#backlogBytes = backlogBytes;
  }

  add(stream: Waiting): void {
    this.#waiting.add(stream);
  }

  remove(stream: Waiting): void {
    this.#waiting.delete(stream);
  }

  /** The backlog has drained. */
  drained(): void {
    if (this.#waiting.size === 0) return;
    let places = WAKE_STREAMS_MAX;
    for (const stream of this.#waiting) {
      if (places-- === 0 || this.#backlogBytes() > BACKLOG_HIGH_WATER_BYTES) break;
      this.#waiting.delete(stream);
      stream.wake();
    }
    // Those woken may have nothing to send; then no further drain would come for the rest.
    if (this.#waiting.size === 0 || this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#onTurn);
  }

  readonly #onTurn = (): void => {
    this.#scheduled = false;
    if (this.#backlogBytes() <= BACKLOG_HIGH_WATER_BYTES) this.drained();
  };
}
