import type { MeterClaim } from './reports.js';

/** A traffic session as booking needs it; its row is locked. */
export interface BookedSession {
  id: string;
  userId: string;
  status: string;
  country: string;
  city: string | null;
  asn: bigint | null;
  exitIp: string;
  inviterId: string | null;
}

/** An allocation as booking found or made it; its row is locked. */
export interface BookedAllocation {
  id: string;
  buyerId: string;
  packageId: string | null;
  status: string;
  via: 'pull' | 'connect';
  sessionId: string | null;
  /** Made by this booking. */
  fresh: boolean;
}

/** What one meter gained with this booking. */
export interface MeterGain {
  claim: MeterClaim;
  meterId: bigint;
  bytesUp: bigint;
  bytesDown: bigint;
  chargedMicros: bigint;
  earnedMicros: bigint;
  referralMicros: bigint;
}
