/** Settings of the usage stage: unit in the name, what happens at each limit beside it. */
export interface UsageSettings {
  /** ms between two deliveries; what has ended since the last one goes with the next. */
  usageDeliveryIntervalMs: number;
  /**
   * ms between two looks at the live streams: how far behind their usage may be told, and what a killed gateway
   * may lose of it.
   */
  usageSweepIntervalMs: number;
  /** Live streams looked at in one turn of the event loop (1 000: some 3 ms); the next turn goes on. */
  usageSweepStreamsMax: number;
  /**
   * Entries (one for each destination, tag, session name … in use) held for the next deliveries. Above it new ones
   * are told under `(other)`: no byte is left out, only where it went.
   */
  usageEntriesMax: number;
  /** The same for the entries of one buyer, so that nobody uses up the room of the others. */
  usageEntriesPerBuyerMax: number;
  /**
   * Entries of refused connections (one for each buyer, code and hour) held for the next deliveries. Above it refusals
   * are only counted, in `ts_refusals_untold_total`.
   */
  usageRefusalEntriesMax: number;
  /** Entries in one batch: about a third of a kilobyte each, one value in Redis, one transaction in Postgres. */
  usageBatchEntriesMax: number;
  /**
   * Batches that wait for their booking. At the limit no further ones are made: usage goes on adding up here, within
   * `usageEntriesMax`.
   */
  usageBatchesMax: number;
  /** A batch that is not booked this long after it was sent, ms, is sent again: Redis may have been emptied. */
  usageResendMs: number;
  /** Time the last batches get at stop to reach Redis, ms; what does not is lost, and logged. */
  usageFlushTimeoutMs: number;
}

/** The defaults of every usage setting. */
export const USAGE_DEFAULTS: Readonly<UsageSettings> = Object.freeze({
  usageDeliveryIntervalMs: 2_000,
  usageSweepIntervalMs: 10_000,
  usageSweepStreamsMax: 1_000,
  usageEntriesMax: 50_000,
  usageEntriesPerBuyerMax: 5_000,
  usageRefusalEntriesMax: 10_000,
  usageBatchEntriesMax: 1_000,
  usageBatchesMax: 32,
  usageResendMs: 10_000,
  usageFlushTimeoutMs: 2_000,
});
