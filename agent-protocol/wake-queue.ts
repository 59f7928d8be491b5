import { BACKLOG_HIGH_WATER_BYTES, WAKE_STREAMS_MAX } from './limits.js';

/** What waits in a WakeQueue. */
export interface Waiting {
  wake(): void;
}

/**
 * Streams that stopped because the tunnel has backlog, in the order in which they stopped. After a drain a few at a
 * time may go on; each sends until that makes backlog and stops again behind the others, for the next drain. So bulk
 * streams share the tunnel evenly, and a small one waits for about one chunk a stream at most.
 */
export class WakeQueue {
  readonly #backlogBytes: () => number;
  /** Stopped since the last drain: what they sent may not have left yet. */
  #waiting = new Set<Waiting>();
  /** Stopped before it. */
  #ready = new Set<Waiting>();
  #scheduled = false;

  constructor(backlogBytes: () => number) {
    this.#backlogBytes = backlogBytes;
  }

  add(stream: Waiting): void {
    this.#waiting.add(stream);
  }

  remove(stream: Waiting): void {
    this.#waiting.delete(stream);
    this.#ready.delete(stream);
  }

  /** The backlog has drained. */
  drained(): void {
    if (this.#waiting.size > 0) {
      if (this.#ready.size === 0) [this.#ready, this.#waiting] = [this.#waiting, this.#ready];
      else {
        for (const stream of this.#waiting) this.#ready.add(stream);
        this.#waiting.clear();
      }
    }
    this.#wakeSome();
  }

  #wakeSome(): void {
    if (this.#ready.size === 0) return;
    let places = WAKE_STREAMS_MAX;
    for (const stream of this.#ready) {
      if (places-- === 0 || this.#backlogBytes() > BACKLOG_HIGH_WATER_BYTES) break;
      this.#ready.delete(stream);
      stream.wake();
    }
    // Those woken may have nothing to send; then no further drain would come for the rest.
    if (this.#ready.size === 0 || this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#onTurn);
  }

  readonly #onTurn = (): void => {
    this.#scheduled = false;
    if (this.#backlogBytes() <= BACKLOG_HIGH_WATER_BYTES) this.#wakeSome();
  };
}
