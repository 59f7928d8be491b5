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
  subUserId: string | null;
  /** Made by this booking. */
  fresh: boolean;
}

/** What is booked of one meter. Bytes and micro-dollars. */
export interface MeterState {
  id: bigint;
  bytesUp: bigint;
  bytesDown: bigint;
  chargedMicros: bigint;
  earnedMicros: bigint;
  referralMicros: bigint;
  final: boolean;
  /** An admin has given its gateway's run up; what comes all the same is booked and marked as late. */
  writtenOff: boolean;
  /** null: the buyer's own account. */
  subUserId: string | null;
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
  /** Came after the write-off of its meter. */
  late: boolean;
}
