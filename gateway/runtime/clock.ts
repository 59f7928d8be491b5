/** Time as the code sees it, so that tests can move it. */
export interface Clock {
  /** Wall clock, ms since the Unix epoch; may jump. For records that people read. */
  nowMs(): number;
  /** Monotonic ms since some start; never jumps. For time-outs, leases and rates. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

/** How a timer is set; returns what cancels it. */
export type SetTimer = (afterMs: number, run: () => void) => () => void;

/** By Node, without keeping the process alive. */
export const nodeTimer: SetTimer = (afterMs, run) => {
  const timer = setTimeout(run, afterMs).unref();
  return () => clearTimeout(timer);
};

/** A clock that stands still until it is told to move. */
export class ManualClock implements Clock {
  #elapsedMs = 0;
  #wallMs: number;
  constructor(startMs = 1_700_000_000_000) {
    this.#wallMs = startMs;
  }
  nowMs(): number {
    return this.#wallMs;
  }
  monotonicMs(): number {
    return this.#elapsedMs;
  }
  advance(ms: number): void {
    this.#elapsedMs += ms;
    this.#wallMs += ms;
  }
  /** Moves the wall clock alone, as a time server or an operator would. */
  jumpWall(ms: number): void {
    this.#wallMs += ms;
  }
}
