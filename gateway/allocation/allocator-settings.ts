/** Times in ms. */
export interface AllocatorSettings {
  /** An allocation without a session name ends this long after its last stream. */
  idleMs: number;
  /** Exits one buyer's connections without a session name rotate over; with so many, no more are taken. */
  rotatingAllocationsMax: number;
  /** An exit held by somebody else is not tried again for this long. */
  takenRetryMs: number;
  /** The same where the device hangs here, and whoever held its exit at the gateway before is to let go of it. */
  passingRetryMs: number;
  /** A connection that nobody else can serve waits this long for an exit that is about to come free. */
  waitMs: number;
  /** When nothing is free, an exit idle for this long is taken from a buyer who holds several. */
  reclaimIdleMs: number;
  /** Named sessions remembered; with one more, the oldest is left to its copy in Redis. */
  sessionsMax: number;
  /** Attempts to get an exit for one connection; then it is refused. Bounds what a crowded place costs. */
  triesMax: number;
}

export const allocatorDefaults: AllocatorSettings = {
  idleMs: 60_000,
  rotatingAllocationsMax: 100,
  takenRetryMs: 5_000,
  passingRetryMs: 250,
  waitMs: 2_000,
  reclaimIdleMs: 5_000,
  sessionsMax: 100_000,
  triesMax: 8,
};
