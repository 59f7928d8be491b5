/** What steers settlement. Times in ms, sizes in bytes. */
export interface SettlementSettings {
  /** Meters booked in one database transaction; more wait for the next one. */
  batchMetersMax: number;
  /** Bookings of one worker at once, each on a connection of its own. 1 reads and books in turn. */
  batchesInFlight: number;
  /** Pause between two passes over the gateways when nothing waits. */
  intervalMs: number;
  /** How long earnings stay pending before they may be withdrawn; 0: available right after booking. */
  holdMs: number;
  /** The inviter's part of an invited provider's earnings, in percent; from the platform's share. */
  referralPercent: number;
  /** How long after Stop a session is kept open at least: meters may exist that never reported. */
  completionGraceMs: number;
  /** Size of the package offered again when an allocation ended and its session goes on. */
  offerBytes: number;
  /** Pause between two full readings of all reports, which find again what was set aside or left the dirty set. */
  sweepIntervalMs: number;
}

export const SETTLEMENT_DEFAULTS: SettlementSettings = {
  batchMetersMax: 1_000,
  batchesInFlight: 2,
  intervalMs: 200,
  holdMs: 24 * 3_600_000,
  referralPercent: 10,
  completionGraceMs: 1_000,
  offerBytes: 1_000_000_000,
  sweepIntervalMs: 300_000,
};
