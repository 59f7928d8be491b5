import type { MeterReport, SettledMark } from '../live/records.js';

/**
 * Where a gateway's meters are delivered: the live state, or whatever else brings them to settlement. Every call may
 * be repeated and may arrive late; every call may reject while the other side is away.
 */
export interface MeterSink {
  /** Brings reports there, keeping the larger of each count and whatever was final. */
  report(gatewayId: string, reports: MeterReport[]): Promise<void>;
  /** What Postgres has committed of these meters, in their order; null where nothing is known. */
  settled(gatewayId: string, keys: string[]): Promise<Array<SettledMark | null>>;
  /** These meters' slots are free: their marks are not needed any more. */
  forget(gatewayId: string, keys: string[]): Promise<void>;
  /**
   * Some of the keys that have marks, from a cursor ('0' begins), and the next cursor ('0': the round is over). For
   * clearing marks that were written after they had been forgotten.
   */
  marked(gatewayId: string, cursor: string): Promise<{ cursor: string; keys: string[] }>;
}
