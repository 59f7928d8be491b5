import { runOf, type SettledMark, type WalletKind } from '../../gateway/live/records.js';
import type { LedgerTransaction, Posting } from '../ledger/ledger.js';
import { chargeMicros } from '../ledger/money.js';
import type { BookedAllocation, BookedSession, MeterGain, MeterState } from './booked.js';
import type { MeterClaim, SetAsideReason } from './reports.js';

/** What steers one booking. */
export interface BookOptions {
  /** The inviter's part of an invited provider's earnings, percent. */
  referralPercent: number;
  /** Size of the package offered again when an allocation ended and its session goes on, bytes. */
  offerBytes: number;
}

/** What was booked before, as one reading under locks found it. The plan does not change it. */
export interface BookingState {
  /** Sessions of the claims, by id; one that is missing does not exist. */
  sessions: ReadonlyMap<string, BookedSession>;
  /** Buyers of the claims that exist. */
  buyers: ReadonlySet<string>;
  /** Sub-users of the claims that exist: id → their buyer. */
  subUsers: ReadonlyMap<string, string>;
  /** Packages named by the claims that exist. */
  packages: ReadonlySet<string>;
  /** Allocations by id; one that is missing is made. */
  allocations: ReadonlyMap<string, BookedAllocation>;
  /** Meters of the gateway by meter key; one that is missing has booked nothing and is made. */
  meters: ReadonlyMap<string, MeterState>;
  /** The id of a meter that is made. Each call gives another one; gaps do no harm. */
  nextMeterId(): bigint;
}

/** What a wallet hold was drawn on: micro-dollars for kind `buyer`, bytes for the others. */
export interface HoldSpent {
  kind: WalletKind;
  ownerId: string;
  gatewayId: string;
  run: string;
  units: bigint;
}

/** One meter with its new mark. */
export interface MeterUpdate {
  claim: MeterClaim;
  /** After the booking. */
  meter: MeterState;
  /** Its row does not exist yet. */
  fresh: boolean;
  /** Bytes that came after the write-off, with this booking. */
  lateBytes: bigint;
}

/** Everything that one transaction has to write. */
export interface BookingPlan {
  /** What will be committed of each meter: new marks, and old ones of reports that bring nothing new. */
  marks: Array<{ key: string } & SettledMark>;
  setAside: Array<{ key: string; reason: SetAsideReason }>;
  gains: MeterGain[];
  /** Allocations nobody wrote yet: made on connect, or lost before their commit. */
  newAllocations: BookedAllocation[];
  /** Every allocation of the bookable claims, new ones included: `followAllocations` moves them along. */
  allocations: Map<string, BookedAllocation>;
  meters: MeterUpdate[];
  /** One for each range of money, unique on meter, from and to. */
  transactions: LedgerTransaction[];
  /** Sorted as wallet_holds is locked. */
  holdsSpent: HoldSpent[];
  /** Bytes by sub-user. */
  subUserBytes: Map<string, bigint>;
  /** Bytes by buyer and by sub-user, for those that have quotas. */
  quotaBytes: Map<string, bigint>;
  /** The claims whose allocations and packages move along. */
  follow: MeterClaim[];
}

/**
 * What a gateway's reports add to what was booked before: f(cumulative) − booked, for bytes and for money. Pure. A
 * report that is late, repeated or older than what is booked adds nothing; reports that cannot be booked are set
 * aside one by one. Applying the plan and planning again with the same claims plans nothing.
 */
export function planBooking(
  gatewayId: string,
  claims: readonly MeterClaim[],
  state: BookingState,
  options: BookOptions,
): BookingPlan {
  const plan: BookingPlan = {
    marks: [],
    setAside: [],
    gains: [],
    newAllocations: [],
    allocations: new Map(),
    meters: [],
    transactions: [],
    holdsSpent: [],
    subUserBytes: new Map(),
    quotaBytes: new Map(),
    follow: [],
  };
  const spent = new Map<string, HoldSpent>();
  const spend = (kind: WalletKind, ownerId: string, run: string, units: bigint) => {
    if (units === 0n) return;
    const key = `${kind}|${ownerId}|${run}`;
    const before = spent.get(key);
    if (before) before.units += units;
    else spent.set(key, { kind, ownerId, gatewayId, run, units });
  };

  for (const claim of claims) {
    const before = state.meters.get(claim.key);
    const reason = whyNot(claim, state, plan.allocations, before);
    const session = state.sessions.get(claim.sessionId);
    if (reason !== null || session === undefined) {
      plan.setAside.push({ key: claim.key, reason: reason ?? 'unknown_session' });
      continue;
    }
    const up = before && before.bytesUp > claim.bytesUp ? before.bytesUp : claim.bytesUp;
    const down = before && before.bytesDown > claim.bytesDown ? before.bytesDown : claim.bytesDown;
    const gainedUp = up - (before?.bytesUp ?? 0n);
    const gainedDown = down - (before?.bytesDown ?? 0n);
    const grew = gainedUp > 0n || gainedDown > 0n;
    if (grew && before?.final) {
      plan.setAside.push({ key: claim.key, reason: 'grew_after_final' });
      continue;
    }
    const allocation = allocationOf(claim, state, plan);
    plan.follow.push(claim);
    const final = claim.final || (before?.final ?? false);
    plan.marks.push({ key: claim.key, bytesUp: Number(up), bytesDown: Number(down), final });
    if (before && !grew && final === before.final) continue;

    const fromTotal = before ? before.bytesUp + before.bytesDown : 0n;
    const toTotal = up + down;
    const earned = chargeMicros(toTotal, claim.providerPrice);
    const earnedBefore = before?.earnedMicros ?? 0n;
    const gain: MeterGain = {
      claim,
      meterId: before?.id ?? state.nextMeterId(),
      bytesUp: gainedUp,
      bytesDown: gainedDown,
      chargedMicros: chargeMicros(toTotal, claim.buyerPrice) - (before?.chargedMicros ?? 0n),
      earnedMicros: earned - earnedBefore,
      // Of cumulative earnings as well, and nothing for what was earned before there was an inviter.
      referralMicros:
        session.inviterId === null
          ? 0n
          : referral(earned, options.referralPercent) - referral(earnedBefore, options.referralPercent),
      late: grew && (before?.writtenOff ?? false),
    };
    plan.meters.push({
      claim,
      fresh: before === undefined,
      lateBytes: gain.late ? toTotal - fromTotal : 0n,
      meter: {
        id: gain.meterId,
        bytesUp: up,
        bytesDown: down,
        chargedMicros: (before?.chargedMicros ?? 0n) + gain.chargedMicros,
        earnedMicros: earned,
        referralMicros: (before?.referralMicros ?? 0n) + gain.referralMicros,
        final,
        writtenOff: before?.writtenOff ?? false,
        subUserId: claim.subUserId,
      },
    });
    if (!grew) continue;
    plan.gains.push(gain);

    const run = runOf(claim.epoch);
    const bytes = toTotal - fromTotal;
    spend('buyer', claim.buyerId, run, gain.chargedMicros);
    if (allocation.via === 'pull' || claim.packageId !== null)
      spend('package', claim.allocationId, run, bytes);
    if (claim.subUserId !== null) {
      spend('sub_user', claim.subUserId, run, bytes);
      plan.subUserBytes.set(claim.subUserId, (plan.subUserBytes.get(claim.subUserId) ?? 0n) + bytes);
    }
    for (const ownerId of claim.subUserId === null ? [claim.buyerId] : [claim.buyerId, claim.subUserId]) {
      spend('day', ownerId, run, bytes);
      spend('month', ownerId, run, bytes);
      plan.quotaBytes.set(ownerId, (plan.quotaBytes.get(ownerId) ?? 0n) + bytes);
    }
    if (gain.chargedMicros === 0n && gain.earnedMicros === 0n) continue;
    plan.transactions.push({
      kind: 'traffic',
      sourceId: `meter:${gain.meterId}:${fromTotal}:${toTotal}`,
      entries: postings(gain, session),
      ...(gain.late && { description: 'came after the write-off of its meter' }),
    });
  }
  plan.holdsSpent = [...spent.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, hold]) => hold);
  return plan;
}

/** Why a claim cannot be booked; null: it can. */
function whyNot(
  claim: MeterClaim,
  state: BookingState,
  planned: ReadonlyMap<string, BookedAllocation>,
  meter: MeterState | undefined,
): SetAsideReason | null {
  if (!state.sessions.has(claim.sessionId)) return 'unknown_session';
  if (!state.buyers.has(claim.buyerId)) return 'unknown_buyer';
  if (claim.subUserId !== null && state.subUsers.get(claim.subUserId) !== claim.buyerId)
    return 'unknown_sub_user';
  // A meter counts for one account; its bytes must not wander to another one's limit.
  if (meter && meter.subUserId !== claim.subUserId) return 'unknown_sub_user';
  const allocation = planned.get(claim.allocationId) ?? state.allocations.get(claim.allocationId);
  if (allocation && allocation.buyerId !== claim.buyerId) return 'allocation_of_another_buyer';
  return null;
}

/** The allocation as it is, or as it will be made from what the claim says. */
function allocationOf(claim: MeterClaim, state: BookingState, plan: BookingPlan): BookedAllocation {
  const planned = plan.allocations.get(claim.allocationId);
  if (planned) return planned;
  const found = state.allocations.get(claim.allocationId);
  const packageId = claim.packageId !== null && state.packages.has(claim.packageId) ? claim.packageId : null;
  const allocation: BookedAllocation = found
    ? { ...found }
    : {
        id: claim.allocationId,
        buyerId: claim.buyerId,
        packageId,
        status: 'in_progress',
        via: packageId === null ? 'connect' : 'pull',
        sessionId: claim.sessionId,
        subUserId: claim.subUserId,
        fresh: true,
      };
  plan.allocations.set(allocation.id, allocation);
  if (!found) plan.newAllocations.push(allocation);
  return allocation;
}

const referral = (earnedMicros: bigint, percent: number) => (earnedMicros * BigInt(percent)) / 100n;

function postings(gain: MeterGain, session: BookedSession): Posting[] {
  const entries: Posting[] = [
    {
      account: { kind: 'buyer_prepaid', ownerId: gain.claim.buyerId },
      entryKind: 'traffic_charge',
      amountMicros: -gain.chargedMicros,
    },
    {
      account: { kind: 'provider_pending', ownerId: session.userId },
      entryKind: 'traffic_earning',
      amountMicros: gain.earnedMicros,
    },
    {
      account: { kind: 'platform_revenue', ownerId: null },
      entryKind: 'platform_revenue',
      amountMicros: gain.chargedMicros - gain.earnedMicros - gain.referralMicros,
    },
  ];
  if (session.inviterId !== null)
    entries.push({
      account: { kind: 'provider_pending', ownerId: session.inviterId },
      entryKind: 'referral_bonus',
      amountMicros: gain.referralMicros,
    });
  return entries;
}
